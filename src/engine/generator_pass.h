/*
 * generator_pass.h
 *	  What a generator holds, and one pass of tokens through its network; for generator.c.
 */
#ifndef LLMAPP_GENERATOR_PASS_H
#define LLMAPP_GENERATOR_PASS_H

#include "cpu_attention.h"
#include "generator.h"
#include "simd.h"
#include "transformer.h"

#define FEW_ROWS 8 /* up to so many meet weights as they are kept; for more these are decoded */

/* Tokens of one sequence that follow each other, in a pass. */
typedef struct span
{
	int32_t sequence;
	const int32_t *pages; /* of its tokens, up to the last of these */
	int32_t position;     /* of the first */
	int32_t row;          /* of the first */
	int32_t rows;
} span;

/* What memory is for. */
typedef struct generator_room
{
	int32_t sequences, positions, sources;
	int32_t pages; /* of keys and values, for all sequences together */
	int32_t rows;  /* of a pass */
} generator_room;

struct generator
{
	const net *n;
	const void *weights; /* as n says that they are kept */
	transformer_tensors numbers;
	attention_shape shape[2];     /* between tokens: of layers that see all, and of those with a window */
	attention_shape source_shape; /* in a source and to it */
	int32_t turned;               /* numbers of a head */
	const simd_kernels *simd;
	const quant_kernels *quant;
	llm_poll poll;
	void *poll_arg;
	generator_room room;
	int32_t *pages;         /* (sequences, pages of one): of generator_new(), a row for each sequence */
	int32_t *length;        /* (sequences) */
	int32_t *source_length; /* (sequences), 0: it has none */
	int32_t *row;           /* (sequences): of its logits, in the last call */
	span *spans;            /* (sequences), of a pass */
	void *memory;           /* of all that follows */
	void *keys, *values;    /* (depth, pages, kv heads, ATTENTION_PAGE, head_dim), */
	bool half;              /* in f16 */
	float *source;          /* keys and values */
	float *angles[2];       /* (positions, turned), as shape */
	/* one pass: (room.rows, ...) */
	float *stream, *normed, *qkv, *attended, *up, *gated, *added;
	float *log_sum;
	float *last;      /* (sequences, width): what the last tokens of a call became */
	float *pooled[2]; /* (sequences, width or that of a dense layer): what dense layers read and make, in turn */
	float *logits;    /* (FEW_ROWS or sequences, transformer_outputs()) */
	float *scratch;   /* of products with weights that are not float32: rows of x rounded, weights decoded */
};

typedef struct pass
{
	const transformer_stack *stack; /* which the rows go through */
	int32_t rows;
	const int32_t *ids; /* (rows) */
	int32_t span_count;
	const span *spans; /* of different sequences */
} pass;

static inline const transformer_config *
config_of(const generator *g)
{
	return &g->n->config.text;
}

/*
 * Keys and values are kept in f16 where the weights are not float32, whose rounding is larger, in whole blocks as the
 * kernels read them.
 */
static inline bool
keeps_half(const net *n)
{
	return net_kept_type(n) != WEIGHT_F32 && n->config.text.head_dim % QUANT_BLOCK == 0;
}

static inline int64_t
kv_width(const transformer_config *c)
{
	return (int64_t) c->kv_heads * c->head_dim;
}

static inline bool
encodes(const generator *g, const transformer_stack *stack)
{
	return stack == &g->numbers.encoder;
}

/* What a row of the last pass became, (width). */
static inline const float *
normed_row(const generator *g, int32_t row)
{
	return g->normed + (int64_t) row * config_of(g)->width;
}

/* ---- generator_memory.c ---- */

extern bool generator_room_bytes(const net *n, const generator_room *room, size_t *bytes, llm_error *err);
/* Arguments are right.  All but pages, which are left to the caller. */
extern generator *generator_make(const net *n, const void *weights, const generator_room *room, llm_error *err);

/* ---- generator_pass.c ---- */

/* All return false with LLM_CANCELLED when the poll asks to stop, and find room for what they are given. */

/* Rows through all layers and norms, into g->normed; the decoder's keys and values into the cache. */
extern bool pass_run(const generator *g, const pass *p, llm_error *err);
/* Floats of scratch that a product of more than FEW_ROWS rows takes with weights of rows of k numbers. */
extern int64_t product_scratch(int64_t k);
/* g->logits of x (rows, width), at most FEW_ROWS or sequences. */
extern bool pass_logits(const generator *g, const float *x, int32_t rows, llm_error *err);
/* g->pooled[0] through all dense layers, which there are: (rows, net_embedding_width()). */
extern void pass_dense(const generator *g, int32_t rows, float *out);
/* Keys and values of a source, whose rows went through the encoder in the last pass. */
extern bool pass_keep_source(const generator *g, const span *s, llm_error *err);

#endif /* LLMAPP_GENERATOR_PASS_H */
