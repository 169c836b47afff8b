/*
 * batch.h
 *	  The rows of one step, as src/feature writes them and a network reads them.
 *
 * A row has up to three inputs: dense numbers, one index per embedded column, and a
 * bag of (index, value) pairs (one-hot categories and hashed n-grams) that selects
 * rows of the first layer's table instead of being multiplied with it; or it is a text, the
 * tokens of all rows lying end to end, and maybe a second one, the source that an encoder reads.
 * A batch owns its arrays; rows < capacity is legal, the rest of the arrays is then ignored.
 */
#ifndef LLMAPP_BATCH_H
#define LLMAPP_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* What one row holds; fixed for a model. */
typedef struct batch_shape
{
	int32_t dense;          /* numbers in the dense part */
	int32_t embed_columns;  /* columns with a learned embedding */
	int32_t embed_rows;     /* rows of the embedding table, all columns together */
	int32_t bag_rows;       /* rows of the bag's table, 0 = no bag */
	int32_t bag_max;        /* most pairs that one row may have */
	int32_t outputs;        /* classes, or numbers to predict; 1 for two classes */
	bool class_target;      /* target is one class index per row, not outputs numbers */
	bool token_target;      /* target is one token per token; outputs is 1 and class_target false */
	int32_t vocab;          /* ids of tokens are below, 0: rows have no text */
	int32_t context;        /* most tokens of a row */
	int32_t source_context; /* most tokens of its source, 0: rows have none */
	int32_t labels;         /* token targets are labels below, 0: they are tokens */
} batch_shape;

typedef struct batch
{
	batch_shape shape;
	int64_t capacity;
	int64_t rows;
	float *dense;          /* (capacity, dense) */
	int32_t *embed;        /* (capacity, embed_columns), each in [0, embed_rows) */
	int32_t *bag_start;    /* (capacity + 1): pairs of row r are [start[r], start[r+1]) */
	int32_t *bag_index;    /* (capacity * bag_max), each in [0, bag_rows) */
	float *bag_value;      /* (capacity * bag_max) */
	int32_t *target_class; /* (capacity), when class_target */
	float *target_number;  /* (capacity, outputs), otherwise; standardised.  Of pairs: which text of its side */
	float *weight;         /* (capacity), >= 0: class weight times row weight */
	int32_t *token_start;  /* (capacity + 1): tokens of row r are [start[r], start[r+1]), at least one */
	int32_t *token;        /* (capacity * context) */
	int32_t *token_target; /* (capacity * context), when token_target */
	float *token_weight;   /* (capacity * context), then; >= 0 */
	int32_t *source_start; /* (capacity + 1), of sources as token_start */
	int32_t *source;       /* (capacity * source_context) */
} batch;

/* Allocate a batch (malloc, 64-byte aligned arrays).  LLM_MEMORY, LLM_INVALID. */
extern batch *batch_new(const batch_shape *shape, int64_t capacity, llm_error *err);
extern void batch_free(batch *b);
/*
 * Check that b has this shape and at most max_rows rows, and that every index it holds
 * (targets only when asked for) is in range.  LLM_INVALID.
 */
extern bool batch_check(const batch *b, const batch_shape *shape, int64_t max_rows, bool targets, llm_error *err);
/*
 * Inputs of rows in memory that processes share: bytes for so many of them, and a batch without targets or rows whose
 * arrays lie there, which is not to be freed.
 */
extern size_t batch_input_bytes(const batch_shape *shape, int64_t capacity);
extern void batch_map(batch *b, const batch_shape *shape, int64_t capacity, void *memory);
/*
 * Put the inputs of the first `rows` rows of `from`, of the same shape, behind those of b.  False when they do not fit,
 * or counts of pairs or tokens are out of range; b is then as before.  Another process may change `from` meanwhile: b
 * stays sound, and batch_check() has to see its indexes afterwards.
 */
extern bool batch_append(batch *b, const batch *from, int64_t rows);

#endif /* LLMAPP_BATCH_H */
