/*
 * tensor_shape.h
 *	  Shapes of the SQL type tensor: limits, element count, nesting of lists, and the
 *	  32-bit code of a shape that SQL keeps as type modifier.
 *
 * A shape is 1 to 4 lengths of at least 1 whose product is at most TENSOR_MAX_ELEMENTS.
 * Elements are float, row-major, and always finite.
 */
#ifndef LLMAPP_TENSOR_SHAPE_H
#define LLMAPP_TENSOR_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#define TENSOR_MAX_DIMS 4
#define TENSOR_MAX_ELEMENTS (16 * 1024 * 1024)

/* What is wrong with a shape, a text or a message; src/type/tensor_error.c holds the words. */
typedef enum tensor_status
{
	TENSOR_OK = 0,
	TENSOR_NO_DIMS,  /* fewer than 1 dimension */
	TENSOR_TOO_DEEP, /* more than TENSOR_MAX_DIMS */
	TENSOR_EMPTY,    /* a length below 1 */
	TENSOR_TOO_MANY, /* more than TENSOR_MAX_ELEMENTS */
	TENSOR_RAGGED,   /* two lists of one level differ in length */
	TENSOR_MIXED,    /* a number beside a list */
	TENSOR_NO_LIST,  /* the text does not start with "[" */
	TENSOR_NO_VALUE, /* "," or "]" where an element is due */
	TENSOR_NO_COMMA, /* an element right after another */
	TENSOR_UNCLOSED, /* the text ends inside a list */
	TENSOR_JUNK,     /* something after the last "]" */
	TENSOR_BAD_NUMBER,
	TENSOR_NOT_FINITE,
	TENSOR_OUT_OF_RANGE, /* beyond float */
	TENSOR_BAD_FLAGS,    /* header of an unknown form */
	TENSOR_BAD_LENGTH    /* bytes do not match the shape */
} tensor_status;

/* Elements of a shape of ndim lengths, checked: 1 .. TENSOR_MAX_ELEMENTS in *count, or why not. */
extern tensor_status tensor_count(int32_t ndim, const int32_t *dims, int32_t *count);

/* TENSOR_NOT_FINITE when any of the elements is NaN or infinite. */
extern tensor_status tensor_check_finite(const float *values, int32_t count);

/*
 * The shape of nested lists, found while they are read in order: one call per "[", number
 * and "]".  Start from a zeroed structure; it is complete when depth is back at 0.
 */
typedef struct tensor_nest
{
	int32_t depth;                   /* lists now open */
	int32_t ndim;                    /* depth of the numbers; 0 before the first */
	int32_t dims[TENSOR_MAX_DIMS];   /* 0 before the first list of the level is closed */
	int32_t filled[TENSOR_MAX_DIMS]; /* elements so far in the open list of each level */
	int32_t count;                   /* numbers so far */
} tensor_nest;

extern tensor_status tensor_nest_open(tensor_nest *nest);
extern tensor_status tensor_nest_value(tensor_nest *nest);
/* TENSOR_RAGGED leaves the length of the refused list in filled[depth], the one expected in dims[depth]. */
extern tensor_status tensor_nest_close(tensor_nest *nest);

/*
 * Code of a valid shape, >= 0; -1 when 31 bits cannot hold it.  Every shape of one or two
 * dimensions has a code, of three up to 4 Mi elements, of four up to 256 Ki; many beyond.
 * Codes stand in the catalogs of databases: what one means never changes.
 */
extern int32_t tensor_shape_encode(int32_t ndim, const int32_t *dims);
/* The shape of a code; its rank, or 0 when the code is of no valid shape. */
extern int32_t tensor_shape_decode(int32_t code, int32_t dims[TENSOR_MAX_DIMS]);

#endif /* LLMAPP_TENSOR_SHAPE_H */
