/*
 * generator_memory.c
 *	  What a generator holds: one block of arrays, and the pages of keys and values that sequences have.
 */
#include "generator_pass.h"

#include <stdlib.h>

#define PASS_ROWS 128
#define TEXTS_ROWS 512 /* of texts that are read once, so that weights come from memory less often */

/* One array of `rows` rows behind those before; *at counts floats. */
static bool
reserve(size_t *at, int64_t rows, int64_t columns, size_t *begin)
{
	size_t count;

	*begin = *at;
	return !__builtin_mul_overflow((size_t) rows, (size_t) columns, &count) && count < SIZE_MAX / 8 &&
		   !__builtin_add_overflow(*at, (count + 15) & ~(size_t) 15, at) && *at < SIZE_MAX / 8;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Of products with weights in fewer bits, as much as one of them needs. */
static int64_t
scratch_floats(const net *n)
{
	int64_t most = 0;

	for (int32_t i = 0; i < n->tensor_count; i++)
		if (n->tensors[i].type != WEIGHT_F32)
		{
			int64_t k = n->tensors[i].dims[1], few = quant_scratch_bytes(k) / sizeof(float),
					many = product_scratch(k);

			most = larger(most, larger(few, many));
		}
	return most;
}

/* Numbers of a text before and behind each dense layer; 0: there are none. */
static int64_t
pooled_floats(const net_config *c)
{
	int64_t most = c->dense_count > 0 ? c->text.width : 0;

	for (int32_t i = 0; i < c->dense_count; i++)
		most = larger(most, c->dense[i].width);
	return most;
}

static int64_t
logit_rows(int32_t sequences)
{
	return larger(sequences, FEW_ROWS);
}

#define ARRAYS 18

/* Where arrays begin, in floats, and how many floats there are. */
static bool
lay_out(const net *n, const generator_room *r, size_t begin[ARRAYS], size_t *floats)
{
	const transformer_config *c = &n->config.text;
	int64_t cached = (int64_t) c->depth * r->pages;
	int64_t numbers = ATTENTION_PAGE * kv_width(c) / (keeps_half(n) ? 2 : 1);
	int64_t qkv = (c->heads + 2 * (int64_t) c->kv_heads) * c->head_dim, pooled = pooled_floats(&n->config);

	*floats = 0;
	return reserve(floats, cached, numbers, &begin[0]) && reserve(floats, cached, numbers, &begin[1]) &&
		   reserve(floats, c->rotary ? r->positions : 0, transformer_rotary(c, false).dim, &begin[2]) &&
		   reserve(floats, r->rows, c->width, &begin[3]) && reserve(floats, r->rows, c->width, &begin[4]) &&
		   reserve(floats, r->rows, qkv, &begin[5]) &&
		   reserve(floats, r->rows, (int64_t) c->heads * c->head_dim, &begin[6]) &&
		   reserve(floats, r->rows, (c->gated ? 2 : 1) * (int64_t) c->ffn, &begin[7]) &&
		   reserve(floats, r->rows, c->ffn, &begin[8]) && reserve(floats, r->rows, c->width, &begin[9]) &&
		   reserve(floats, r->rows, c->heads, &begin[10]) &&
		   reserve(floats, logit_rows(r->sequences), transformer_outputs(c), &begin[11]) &&
		   reserve(floats, (int64_t) c->depth * r->sequences, r->sources * 2 * kv_width(c), &begin[12]) &&
		   reserve(floats, r->sequences, c->width, &begin[13]) && reserve(floats, 1, scratch_floats(n), &begin[14]) &&
		   reserve(floats, r->sequences, pooled, &begin[15]) && reserve(floats, r->sequences, pooled, &begin[16]) &&
		   reserve(floats, c->window_theta > 0 ? r->positions : 0, transformer_rotary(c, true).dim, &begin[17]);
}

bool
generator_room_bytes(const net *n, const generator_room *r, size_t *bytes, llm_error *err)
{
	size_t begin[ARRAYS], floats;

	if (!lay_out(n, r, begin, &floats))
		return llm_fail(err, LLM_MEMORY, "network is too large");
	*bytes = floats * sizeof(float) + sizeof(generator) +
			 (size_t) r->sequences * (3 * sizeof(int32_t) + sizeof(span)) + (size_t) r->pages * sizeof(int32_t);
	return true;
}

static void
place(generator *g, const size_t begin[ARRAYS])
{
	float *memory = g->memory;
	float **arrays[ARRAYS - 2] = {&g->angles[0], &g->stream,    &g->normed,    &g->qkv,      &g->attended, &g->up,
								  &g->gated,     &g->added,     &g->log_sum,   &g->logits,   &g->source,   &g->last,
								  &g->scratch,   &g->pooled[0], &g->pooled[1], &g->angles[1]};

	g->keys = memory + begin[0];
	g->values = memory + begin[1];
	for (int i = 2; i < ARRAYS; i++)
		*arrays[i - 2] = memory + begin[i];
}

static bool
allocate(generator *g, const generator_room *r, size_t floats)
{
	g->length = calloc(r->sequences, sizeof(int32_t));
	g->source_length = calloc(r->sequences, sizeof(int32_t));
	g->row = calloc(r->sequences, sizeof(int32_t));
	g->spans = calloc(r->sequences, sizeof(span));
	g->pages = calloc(r->pages, sizeof(int32_t));
	g->memory = aligned_alloc(64, floats * sizeof(float));
	return g->length && g->source_length && g->row && g->spans && g->pages && g->memory;
}

static void
fill_angles(generator *g)
{
	const transformer_config *c = config_of(g);

	g->turned = transformer_rotary(c, false).dim;
	if (c->window_theta == 0)
		g->angles[1] = g->angles[0];
	for (int window = 0; c->rotary && window < (c->window_theta > 0 ? 2 : 1); window++)
	{
		rotary_shape shape = transformer_rotary(c, window);

		rotary_angles(&shape, 0, g->room.positions, g->angles[window]);
	}
}

generator *
generator_make(const net *n, const void *weights, const generator_room *r, llm_error *err)
{
	size_t begin[ARRAYS], floats, bytes;
	generator *g;

	if (!generator_room_bytes(n, r, &bytes, err))
		return NULL;
	lay_out(n, r, begin, &floats);
	g = calloc(1, sizeof(generator));
	if (!g || !allocate(g, r, floats))
	{
		generator_free(g);
		llm_fail(err, LLM_MEMORY, "out of memory: generation needs %zu bytes", bytes);
		return NULL;
	}
	g->n = n;
	g->weights = weights;
	g->room = *r;
	g->simd = simd_best();
	g->quant = quant_best();
	g->half = keeps_half(n);
	g->shape[0] = g->source_shape = transformer_attention(config_of(g), false);
	g->shape[1] = transformer_attention(config_of(g), true);
	g->source_shape.causal = false;
	transformer_tensors_of(config_of(g), &g->numbers);
	place(g, begin);
	fill_angles(g);
	return g;
}

void
generator_free(generator *g)
{
	if (!g)
		return;
	free(g->length);
	free(g->source_length);
	free(g->row);
	free(g->spans);
	free(g->pages);
	free(g->memory);
	free(g);
}

/* ---- sequences with pages of their own ---- */

static bool
check_room(const net *n, int32_t sequences, int32_t positions, int32_t sources, llm_error *err)
{
	const transformer_config *c = &n->config.text;

	if (c->vocab == 0)
		return llm_fail(err, LLM_INVALID, "the network is no language model");
	if (sources == 0 && c->encoder_depth > 0)
		return llm_fail(err, LLM_INVALID, "the network has an encoder, for whose sources there is no room");
	if (sources < 0 || sources > c->source_context)
		return llm_fail(err, LLM_INVALID, "sources of %d tokens are not possible with a source context of %d",
						sources, c->source_context);
	if (sequences < 1 || positions < 1 || positions > c->context)
		return llm_fail(err, LLM_INVALID, "%d sequences of %d tokens are not possible with a context of %d",
						sequences, positions, c->context);
	return true;
}

/* A bidirectional network and an encoder must see a text at once.  False when there cannot be so many pages. */
static bool
room_of(const net *n, int32_t sequences, int32_t positions, int32_t sources, generator_room *r, llm_error *err)
{
	int32_t rows = n->config.text.bidirectional ? (int32_t) larger(positions, TEXTS_ROWS) : PASS_ROWS;

	if (!check_room(n, sequences, positions, sources, err))
		return false;
	if (rows < sequences)
		rows = sequences;
	*r = (generator_room) {sequences, positions, sources, .rows = rows < sources ? sources : rows};
	return !__builtin_mul_overflow(sequences, (positions - 1) / ATTENTION_PAGE + 1, &r->pages) ||
		   llm_fail(err, LLM_MEMORY, "network is too large");
}

bool
generator_memory(const net *n, int32_t sequences, int32_t positions, int32_t sources, size_t *bytes, llm_error *err)
{
	generator_room r;

	return room_of(n, sequences, positions, sources, &r, err) && generator_room_bytes(n, &r, bytes, err);
}

generator *
generator_new(const net *n, const void *weights, int32_t sequences, int32_t positions, int32_t sources,
			  llm_error *err)
{
	generator_room r;
	generator *g = room_of(n, sequences, positions, sources, &r, err) ? generator_make(n, weights, &r, err) : NULL;

	for (int32_t i = 0; g && i < r.pages; i++)
		g->pages[i] = i;
	return g;
}
