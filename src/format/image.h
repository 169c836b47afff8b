/*
 * image.h
 *	  Pictures from their files' bytes: PNG, JPEG, PGM and PPM to float pixels.
 *
 * Pixels are planes: channels x height x width, each value a sample divided by the largest
 * one its file can hold, so 0 .. 1; no gamma, colour profile or EXIF orientation is applied.
 * Transparent pixels are laid over white.  Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601),
 * as in JPEG.  An axis that shrinks is averaged over areas, one that grows is interpolated
 * linearly between the centres of pixels.
 *
 * The bytes are hostile: what a header claims is held against the limits below before
 * memory is taken for it, a picture that ends early or is damaged is refused.
 */
#ifndef LLMAPP_IMAGE_H
#define LLMAPP_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "../engine/net.h"

#define IMAGE_MAX_SIDE 65535
#define IMAGE_MAX_PIXELS (64 * 1024 * 1024)  /* width x height of a file */
#define IMAGE_MAX_MEMORY (256 * 1024 * 1024) /* bytes that decoding may take besides the result */

typedef struct image_shape
{
	int32_t width;    /* 1 .. IMAGE_MAX_SIDE */
	int32_t height;   /* 1 .. IMAGE_MAX_SIDE */
	int32_t channels; /* 1 grey, 3 red, green, blue */
} image_shape;

/* Shape of a picture by its header; LLM_INVALID for other formats and for too large ones, LLM_CORRUPT for damage. */
extern bool image_probe(const uint8_t *bytes, size_t size, image_shape *picture, llm_error *err);

/*
 * Complete what is wanted of a picture: a field that is 0 is taken from it, one side alone
 * keeps the ratio of the sides.  LLM_INVALID when the result is no tensor.
 */
extern bool image_fit(const image_shape *picture, image_shape *wanted, llm_error *err);

/*
 * Decode into pixels, which holds wanted->channels x height x width floats; wanted comes from
 * image_fit().  poll (may be NULL) is asked once a row; when it says so: LLM_CANCELLED.
 */
extern bool image_decode(const uint8_t *bytes, size_t size, const image_shape *wanted, float *pixels, llm_poll poll,
						 void *poll_arg, llm_error *err);

#endif /* LLMAPP_IMAGE_H */
