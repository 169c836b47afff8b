/*
 * image_rows.h
 *	  Where the decoders of pictures put their rows, and the decoders.
 *
 * A decoder reads the header, calls image_rows_begin(), and then for every row from the top
 * fills `row` and calls image_rows_add().  Rows are brought to the wanted size and colours
 * as they come: no decoder keeps a picture unless its format makes it.
 */
#ifndef LLMAPP_IMAGE_ROWS_H
#define LLMAPP_IMAGE_ROWS_H

#include "image.h"

/* How the pixels of one axis make those of the result: out[o] = sum of weights[at[o] + i] * in[first[o] + i]. */
typedef struct image_axis
{
	int32_t *first; /* (out) does not fall */
	int32_t *count; /* (out) at least 1 */
	int32_t *at;    /* (out) */
	float *weights;
} image_axis;

typedef struct image_rows
{
	/* set by the caller of a decoder */
	image_shape wanted;
	float *pixels; /* wanted.channels x height x width; NULL: the header alone is wanted */
	llm_poll poll; /* may be NULL */
	void *poll_arg;

	/* set by image_rows_begin() */
	image_shape picture;
	float *row; /* (picture.width x picture.channels), 0 .. 1, for the decoder to fill */

	/* own */
	float *line;    /* (planes x wanted.width): a row at the wanted width */
	int32_t planes; /* channels that are computed: the fewer of picture and wanted */
	int32_t done;   /* rows added */
	int32_t lowest; /* first row of the result that is not complete */
	image_axis across;
	image_axis down;
} image_rows;

/* Check what a header says and prepare for the rows; without pixels only the check. */
extern bool image_rows_begin(image_rows *rows, int64_t width, int64_t height, int32_t channels, llm_error *err);

/* Take the row that was put into rows->row. */
extern bool image_rows_add(image_rows *rows, llm_error *err);

/* After the last row: what remains to be done to the pixels. */
extern void image_rows_end(image_rows *rows);

extern void image_rows_free(image_rows *rows);

/* The failure of a picture that ends before it is complete. */
extern bool image_truncated(const char *format, size_t size, llm_error *err);

/* Decoders.  Each returns right after image_rows_begin() when rows->pixels is NULL. */
extern bool image_png(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err);
extern bool image_jpeg(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err);
extern bool image_netpbm(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err);

#endif /* LLMAPP_IMAGE_ROWS_H */
