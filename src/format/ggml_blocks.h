/*
 * ggml_blocks.h
 *	  Number types of GGML, as GGUF files hold them: plain numbers, and blocks of quantised ones.
 *
 * Layouts: ggml-common.h and ggml-quants.c of github.com/ggml-org/ggml; the types' numbers are
 * those of enum ggml_type.  All parts are little-endian; blocks may begin at any byte.
 */
#ifndef LLMAPP_GGML_BLOCKS_H
#define LLMAPP_GGML_BLOCKS_H

#include "tensor_source.h"

typedef struct ggml_type
{
	uint32_t number; /* in files */
	const char *name;
	source_type source;
	size_t length; /* numbers in a block, 1 for plain types */
	size_t bytes;  /* of a block */
	/* Blocks to float32; NULL for integers and for quantisations that are not read. */
	void (*decode)(const void *blocks, size_t count, float *out);
	/* Finite float32 to blocks, rounded as GGML's reference does; NULL for types that are not written. */
	void (*encode)(const float *numbers, size_t count, void *blocks);
} ggml_type;

extern const ggml_type *ggml_type_numbered(uint32_t number); /* NULL: no such type, or one of the removed ones */
extern const ggml_type *ggml_type_of(source_type source);    /* NULL for SOURCE_OTHER */

#endif /* LLMAPP_GGML_BLOCKS_H */
