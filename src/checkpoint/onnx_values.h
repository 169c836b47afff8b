/*
 * onnx_values.h
 *	  What the nodes of an ONNX graph hand to each other, for the files that make layers of them.
 *
 * A value is numbers of a row, which a layer or the input of the network makes; or integers that the graph computes
 * from shapes.  Everything else that a node reads is a constant: a tensor of the file.
 */
#ifndef LLMAPP_ONNX_VALUES_H
#define LLMAPP_ONNX_VALUES_H

#include "../format/onnx.h"
#include "onnx_network.h"

#define MADE_DIMS 3
#define MADE_INTEGERS_MAX 64
#define BATCH INT64_MIN /* as an integer: rows of the batch */

typedef enum made_kind
{
	MADE_ROWS,
	MADE_GROUPED, /* numbers of an image as (groups, rest), to be normalised by group */
	MADE_GATE,    /* the sigmoid of what `from` makes, which the next node multiplies with it */
	MADE_GELU,    /* step `groups` of what older graphs have in place of Gelu of what `from` makes */
	MADE_CLASSES, /* probabilities of what `from` makes, with which the graph ends */
	MADE_INTEGERS
} made_kind;

typedef struct made
{
	made_kind kind;
	int32_t from;            /* a layer from 0, FROM_IMAGE or FROM_COLUMNS */
	bool vector;             /* what makes it makes no image, whatever the dimensions are */
	bool fresh;              /* no other node sees what the layer makes, so the layer may still be changed */
	int32_t ndim;            /* without the batch */
	int64_t dims[MADE_DIMS]; /* of an image (channels, height, width) */
	int64_t groups;
	int32_t count; /* integers */
	int64_t integers[MADE_INTEGERS_MAX];
} made;

typedef struct translator
{
	onnx_network *n;
	const json_t *graph;
	const tensor_source *source;
	const char *task; /* NULL: the graph decides */
	bool classes;
	int64_t batch;   /* rows that the file declares, 0: any number */
	json_t *numbers; /* by name of a value: its place in values */
	made *values;
	int32_t value_count;
	json_t *aliases; /* by name: that of the constant which it is */
	json_t *readers; /* by name of a value: how often it is read */
	bool *used;      /* by tensor of the source */
	const json_t *node;
	llm_error *err;
} translator;

/* LLM_INVALID 'node "name" (Op) ...' */
#define NODE_FAIL(t, ...) node_fail((t), __VA_ARGS__)
extern bool node_fail(translator *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- names of the node at hand; NULL: it has none there ---- */
extern const char *node_input(const translator *t, int i);
extern const char *node_output(const translator *t, int i);
extern int32_t count_readers(const translator *t, const char *name);
/* The only node that reads a value; NULL when there is none, or several. */
extern const json_t *only_reader(const translator *t, const char *name);

/* ---- values ---- */

/* What input i is; NULL: a constant, or nothing. */
extern made *find_made(const translator *t, int i);
/* The same, of this kind: its absence is an error. */
extern made *take_rows(translator *t, int i);
/* Let output 0 of the node be this; it is copied. */
extern bool put_made(translator *t, const made *v);
/* Let it be what input 0 is, but for what `v` says of its shape. */
extern bool put_alias(translator *t, made v);
/* Numbers of a row that it holds. */
extern int64_t made_count(const made *v);
/* An image of channels, height and width that a layer can see as one. */
extern bool made_image(const made *v);

/* ---- constants ---- */

/* Tensor i that the file has, of numbers; its absence is an error unless *out may be NULL. */
extern bool take_constant(translator *t, int i, bool optional, const source_tensor **out);
/* Is it that? */
extern bool is_constant(const translator *t, int i);
/* Let output 0 be the constant that input 0 is. */
extern bool put_constant(translator *t);
/* Its dimensions are these. */
extern bool has_dims(const source_tensor *c, int32_t ndim, const int64_t *dims);
/* Integers of input i, computed or constant; *count -1 when the node has no such input. */
extern bool take_integers(translator *t, int i, int64_t *out, int32_t *count);

/* By number of TensorProto.DataType: float32, or a type that is computed in float32 here. */
extern bool is_float_type(int64_t type);

/* ---- attributes: the default where there is none, LLM_INVALID where it is of another kind ---- */
extern bool attribute_integer(translator *t, const char *key, int64_t fallback, int64_t *out);
extern bool attribute_number(translator *t, const char *key, double fallback, double *out);
extern bool attribute_text(translator *t, const char *key, const char *fallback, const char **out);
extern bool attribute_list(translator *t, const char *key, int32_t count, int64_t fallback, int64_t *out);
extern bool has_attribute(const translator *t, const char *key);

/* ---- layers ---- */

/*
 * Add a layer {"type": type, "input": of v} and let v be what it makes, of unchanged shape.  Returns it, for its
 * other keys; NULL when there are too many.
 */
extern json_t *add_layer(translator *t, const char *type, made *v);
/* The part of the layer that makes v. */
extern onnx_part *part_of(translator *t, const made *v, layer_part part);
/* An input as layers.h names it. */
extern json_t *from_json(const made *v);

#endif /* LLMAPP_ONNX_VALUES_H */
