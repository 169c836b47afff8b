/*
 * generator.c
 *	  Text by a transformer, with the keys and values of earlier tokens and of a source kept.
 *
 * A pass takes up to CHUNK_ROWS rows, of a bidirectional network a whole text: tokens of one
 * sequence that follow each other, or one token each of several.  Keys and values go to the cache
 * (layer, sequence, kv head, position, head_dim), where a head's lie one behind the other, before
 * attention reads them, so a row sees those before it.  What an encoder makes of a source, a whole
 * one in a pass, is kept as keys and values of each layer that attends to it: (layer, sequence,
 * source token, 2 kv heads, head_dim).  The numbers are those of transformer.c's graph, by the same kernels.
 */
#include "generator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blas.h"
#include "cpu_attention.h"
#include "transformer.h"

#define CHUNK_ROWS 128
#define FEW_ROWS 8 /* up to so many go through the matrix-vector kernels */

struct generator
{
	const net *n;
	const float *weights;
	transformer_tensors numbers;
	attention_shape shape, source_shape; /* between tokens; in a source and to it */
	const simd_kernels *simd;
	llm_poll poll;
	void *poll_arg;
	int32_t sequences, positions, sources;
	int32_t *length;        /* (sequences) */
	int32_t *source_length; /* (sequences), 0: it has none */
	int32_t *row;           /* (sequences): of its logits, in the last call */
	void *memory;           /* of all that follows */
	float *keys, *values;
	float *source; /* keys and values */
	float *angles; /* (positions, head_dim), rotary */
	/* one pass: (pass_rows(), ...) */
	float *stream, *normed, *qkv, *attended, *up, *gated, *added;
	float *log_sum;
	float *logits; /* (FEW_ROWS or sequences, vocab) */
};

/* Rows of a pass: where each one is. */
typedef struct pass
{
	const transformer_stack *stack; /* which the rows go through */
	int32_t rows;
	const int32_t *ids;       /* (rows) */
	const int32_t *sequences; /* (rows), or NULL: all are of one */
	int32_t sequence, first;  /* that one, and the position of row 0 */
} pass;

static const transformer_config *
config_of(const generator *g)
{
	return &g->n->config.text;
}

static int64_t
kv_width(const transformer_config *c)
{
	return (int64_t) c->kv_heads * c->head_dim;
}

/* Most tokens of one sequence in a pass: a bidirectional network must see a text at once. */
static int32_t
chunk_rows(const transformer_config *c, int32_t positions)
{
	return c->bidirectional ? positions : CHUNK_ROWS;
}

static int64_t
pass_rows(const transformer_config *c, int32_t sequences, int32_t positions, int32_t sources)
{
	int32_t rows = chunk_rows(c, positions);

	if (sequences > rows)
		rows = sequences;
	return sources > rows ? sources : rows;
}

static int64_t
logit_rows(int32_t sequences)
{
	return sequences > FEW_ROWS ? sequences : FEW_ROWS;
}

/* ---- memory ---- */

/* One array of `rows` rows behind those before; *at counts floats. */
static bool
reserve(size_t *at, int64_t rows, int64_t columns, size_t *begin)
{
	size_t count;

	*begin = *at;
	return !__builtin_mul_overflow((size_t) rows, (size_t) columns, &count) && count < SIZE_MAX / 8 &&
		   !__builtin_add_overflow(*at, (count + 15) & ~(size_t) 15, at) && *at < SIZE_MAX / 8;
}

#define ARRAYS 13

/* Where arrays begin, in floats, and how many floats there are. */
static bool
lay_out(const transformer_config *c, int32_t sequences, int32_t positions, int32_t sources, size_t begin[ARRAYS],
		size_t *floats)
{
	int64_t cached = (int64_t) c->depth * sequences;
	int64_t qkv = (c->heads + 2 * (int64_t) c->kv_heads) * c->head_dim;
	int64_t rows = pass_rows(c, sequences, positions, sources);

	*floats = 0;
	return reserve(floats, cached, positions * kv_width(c), &begin[0]) &&
		   reserve(floats, cached, positions * kv_width(c), &begin[1]) &&
		   reserve(floats, c->rotary ? positions : 0, c->head_dim, &begin[2]) &&
		   reserve(floats, rows, c->width, &begin[3]) && reserve(floats, rows, c->width, &begin[4]) &&
		   reserve(floats, rows, qkv, &begin[5]) &&
		   reserve(floats, rows, (int64_t) c->heads * c->head_dim, &begin[6]) &&
		   reserve(floats, rows, (c->gated ? 2 : 1) * (int64_t) c->ffn, &begin[7]) &&
		   reserve(floats, rows, c->ffn, &begin[8]) && reserve(floats, rows, c->width, &begin[9]) &&
		   reserve(floats, rows, c->heads, &begin[10]) &&
		   reserve(floats, logit_rows(sequences), c->vocab, &begin[11]) &&
		   reserve(floats, cached, sources * 2 * kv_width(c), &begin[12]);
}

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

bool
generator_memory(const net *n, int32_t sequences, int32_t positions, int32_t sources, size_t *bytes, llm_error *err)
{
	size_t begin[ARRAYS], floats;

	if (!check_room(n, sequences, positions, sources, err))
		return false;
	if (!lay_out(&n->config.text, sequences, positions, sources, begin, &floats))
		return llm_fail(err, LLM_MEMORY, "network is too large");
	*bytes = floats * sizeof(float) + sizeof(generator) + 3 * (size_t) sequences * sizeof(int32_t);
	return true;
}

static void
place(generator *g, const size_t begin[ARRAYS])
{
	float **arrays[ARRAYS] = {&g->keys, &g->values, &g->angles, &g->stream,  &g->normed, &g->qkv,   &g->attended,
							  &g->up,   &g->gated,  &g->added,  &g->log_sum, &g->logits, &g->source};

	for (int i = 0; i < ARRAYS; i++)
		*arrays[i] = (float *) g->memory + begin[i];
}

generator *
generator_new(const net *n, const float *weights, int32_t sequences, int32_t positions, int32_t sources,
			  llm_error *err)
{
	size_t begin[ARRAYS], floats, bytes;
	generator *g;

	if (!generator_memory(n, sequences, positions, sources, &bytes, err))
		return NULL;
	lay_out(&n->config.text, sequences, positions, sources, begin, &floats);
	g = calloc(1, sizeof(generator));
	if (g)
	{
		g->length = calloc(sequences, sizeof(int32_t));
		g->source_length = calloc(sequences, sizeof(int32_t));
		g->row = calloc(sequences, sizeof(int32_t));
		g->memory = aligned_alloc(64, floats * sizeof(float));
	}
	if (!g || !g->length || !g->source_length || !g->row || !g->memory)
	{
		generator_free(g);
		llm_fail(err, LLM_MEMORY, "out of memory: generation needs %zu bytes", bytes);
		return NULL;
	}
	g->n = n;
	g->weights = weights;
	g->simd = simd_best();
	g->shape = g->source_shape = transformer_attention(config_of(g));
	g->source_shape.causal = false;
	g->sequences = sequences;
	g->positions = positions;
	g->sources = sources;
	transformer_tensors_of(config_of(g), &g->numbers);
	place(g, begin);
	for (int32_t i = 0; config_of(g)->rotary && i < positions; i++)
		rotary_angles(config_of(g)->rope_theta, config_of(g)->head_dim, i, g->angles + i * config_of(g)->head_dim);
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
	free(g->memory);
	free(g);
}

void
generator_set_poll(generator *g, llm_poll poll, void *arg)
{
	g->poll = poll;
	g->poll_arg = arg;
}

int32_t
generator_length(const generator *g, int32_t sequence)
{
	return g->length[sequence];
}

void
generator_truncate(generator *g, int32_t sequence, int32_t length)
{
	if (length < g->length[sequence])
		g->length[sequence] = length;
}

static const float *
logits_of_row(const generator *g, int32_t row)
{
	return g->logits + (int64_t) row * config_of(g)->vocab;
}

const float *
generator_logits(const generator *g, int32_t sequence)
{
	return logits_of_row(g, g->row[sequence]);
}

/* ---- one pass ---- */

static const float *
tensor_of(const generator *g, int32_t number)
{
	return number == TENSOR_NONE ? NULL : g->weights + g->n->tensors[number].offset;
}

/* y (rows, n) = x (rows, k) w^T + bias */
static void
multiply(const generator *g, const float *x, int64_t rows, int64_t k, const float *w, const float *bias, float *y,
		 int64_t n)
{
	if (rows <= FEW_ROWS)
	{
		g->simd->gemv(x, rows, k, w, bias, y, n, n);
		return;
	}
	for (int64_t i = 0; bias && i < rows; i++)
		memcpy(y + i * n, bias, n * sizeof(float));
	gemm(g->simd, false, true, rows, n, k, x, k, w, k, bias ? 1 : 0, y, n);
}

static void
linear(const generator *g, const float *x, int64_t rows, const int32_t numbers[2], float *y)
{
	const net_tensor_info *w = &g->n->tensors[numbers[0]];

	multiply(g, x, rows, w->dims[1], tensor_of(g, numbers[0]), tensor_of(g, numbers[1]), y, w->dims[0]);
}

static void
norm(const generator *g, const float *x, int64_t rows, const int32_t numbers[2], float *y)
{
	const transformer_config *c = config_of(g);
	const float *gamma = tensor_of(g, numbers[0]), *beta = tensor_of(g, numbers[1]);
	float stats[2];

	for (int64_t i = 0; i < rows; i++, x += c->width, y += c->width)
		if (c->rms_norm)
			g->simd->rms_norm(x, gamma, c->norm_epsilon, y, c->width);
		else
			g->simd->layer_norm(x, gamma, beta, c->norm_epsilon, y, stats, c->width);
}

/* What a half of a layer reads of the stream. */
static const float *
norm_before(const generator *g, int64_t rows, const int32_t numbers[2])
{
	if (config_of(g)->post_norm)
		return g->stream;
	norm(g, g->stream, rows, numbers, g->normed);
	return g->normed;
}

/* Add what it made to the stream. */
static void
add_to_stream(const generator *g, int64_t rows, const int32_t numbers[2])
{
	g->simd->add(g->stream, g->added, g->stream, rows * config_of(g)->width);
	if (config_of(g)->post_norm)
		norm(g, g->stream, rows, numbers, g->stream);
}

static int32_t
sequence_of(const pass *p, int32_t row)
{
	return p->sequences ? p->sequences[row] : p->sequence;
}

static int32_t
position_of_row(const generator *g, const pass *p, int32_t row)
{
	return p->sequences ? g->length[p->sequences[row]] : p->first + row;
}

/* Of a layer and sequence: (kv heads, positions, head_dim). */
static float *
cache_of(const generator *g, float *cache, int32_t layer, int32_t sequence)
{
	return cache + ((int64_t) layer * g->sequences + sequence) * g->positions * kv_width(config_of(g));
}

/* One token's (kv heads, head_dim) into the cache of its layer and sequence. */
static void
keep(const generator *g, float *cache, int64_t position, const float *x)
{
	const transformer_config *c = config_of(g);

	for (int64_t head = 0; head < c->kv_heads; head++)
		memcpy(cache + (head * g->positions + position) * c->head_dim, x + head * c->head_dim,
			   c->head_dim * sizeof(float));
}

/* Of a layer and sequence: (sources, 2 kv heads, head_dim). */
static float *
source_of(const generator *g, int32_t layer, int32_t sequence)
{
	return g->source + ((int64_t) layer * g->sequences + sequence) * g->sources * 2 * kv_width(config_of(g));
}

static bool
encodes(const generator *g, const pass *p)
{
	return p->stack == &g->numbers.encoder;
}

/* Norm and turn the heads of a row's queries and keys, and keep its keys and values unless it is of a source. */
static void
finish_qkv(const generator *g, const pass *p, int32_t layer, int32_t row)
{
	const transformer_config *c = config_of(g);
	const transformer_layer *l = &p->stack->layers[layer];
	int64_t d = c->head_dim, kv = kv_width(c);
	float *q = g->qkv + row * (c->heads * d + 2 * kv), *k = q + c->heads * d;
	int64_t position = position_of_row(g, p, row);
	int32_t sequence = sequence_of(p, row);

	for (float *head = q; head < k + kv; head += d)
	{
		if (c->qk_norm)
			g->simd->rms_norm(head, tensor_of(g, head < k ? l->q_norm : l->k_norm), c->norm_epsilon, head, d);
		if (c->rotary)
			g->simd->rotate(head, g->angles + position * d, g->angles + position * d + d / 2, 1, head, false, d / 2);
	}
	if (encodes(g, p))
		return;
	keep(g, cache_of(g, g->keys, layer, sequence), position, k);
	keep(g, cache_of(g, g->values, layer, sequence), position, k + kv);
}

/* Rows [first, first + count) follow each other in one sequence. */
static void
attend(const generator *g, const pass *p, int32_t layer, int32_t first, int32_t count)
{
	const transformer_config *c = config_of(g);
	int32_t sequence = sequence_of(p, first);
	int64_t q_width = (int64_t) c->heads * c->head_dim, step = q_width + 2 * kv_width(c);
	const float *keys = cache_of(g, g->keys, layer, sequence), *values = cache_of(g, g->values, layer, sequence);
	attention_row r = {.queries = count,
					   .keys = position_of_row(g, p, first) + count,
					   .q = g->qkv + first * step,
					   .q_step = step,
					   .kv_step = c->head_dim,
					   .bias = tensor_of(g, g->numbers.stack.relative),
					   .out = g->attended + first * q_width,
					   .log_sum = g->log_sum + (int64_t) first * c->heads};

	for (int32_t head = 0; head < c->heads; head++)
	{
		int64_t kv_head = head / (c->heads / c->kv_heads);
		int64_t at = kv_head * (g->positions - 1) * c->head_dim; /* attention adds kv_head * head_dim */

		r.k = keys + at;
		r.v = values + at;
		attention_forward(g->simd, &g->shape, &r, head);
	}
}

/* The tokens of a source to each other; their keys and values lie where they were made. */
static void
attend_in_source(const generator *g, const pass *p)
{
	const transformer_config *c = config_of(g);
	int64_t q_width = (int64_t) c->heads * c->head_dim, step = q_width + 2 * kv_width(c);
	attention_row r = {.queries = p->rows,
					   .keys = p->rows,
					   .q = g->qkv,
					   .k = g->qkv + q_width,
					   .v = g->qkv + q_width + kv_width(c),
					   .q_step = step,
					   .kv_step = step,
					   .bias = tensor_of(g, p->stack->relative),
					   .out = g->attended,
					   .log_sum = g->log_sum};

	for (int32_t head = 0; head < c->heads; head++)
		attention_forward(g->simd, &g->source_shape, &r, head);
}

/* Rows [first, first + count) of one sequence to its source, by queries (rows, heads head_dim). */
static void
attend_to_source(const generator *g, const pass *p, int32_t layer, int32_t first, int32_t count)
{
	const transformer_config *c = config_of(g);
	int32_t sequence = sequence_of(p, first);
	int64_t q_width = (int64_t) c->heads * c->head_dim;
	const float *source = source_of(g, layer, sequence);
	attention_row r = {.queries = count,
					   .keys = g->source_length[sequence],
					   .q = g->qkv + first * q_width,
					   .k = source,
					   .v = source + kv_width(c),
					   .q_step = q_width,
					   .kv_step = 2 * kv_width(c),
					   .out = g->attended + first * q_width,
					   .log_sum = g->log_sum + (int64_t) first * c->heads};

	for (int32_t head = 0; head < c->heads; head++)
		attention_forward(g->simd, &g->source_shape, &r, head);
}

/* How rows of one sequence attend. */
typedef void (*attention)(const generator *g, const pass *p, int32_t layer, int32_t first, int32_t count);

static void
attend_by_sequence(const generator *g, const pass *p, int32_t layer, attention one)
{
	for (int32_t i = 0; i < p->rows && p->sequences; i++)
		one(g, p, layer, i, 1);
	if (!p->sequences)
		one(g, p, layer, 0, p->rows);
}

static void
self_attention(const generator *g, const pass *p, int32_t layer)
{
	const transformer_layer *l = &p->stack->layers[layer];

	linear(g, norm_before(g, p->rows, l->attn_norm), p->rows, l->qkv, g->qkv);
	for (int32_t i = 0; i < p->rows; i++)
		finish_qkv(g, p, layer, i);
	if (encodes(g, p))
		attend_in_source(g, p);
	else
		attend_by_sequence(g, p, layer, attend);
	linear(g, g->attended, p->rows, l->out, g->added);
	add_to_stream(g, p->rows, l->attn_norm);
}

static void
cross_attention(const generator *g, const pass *p, int32_t layer)
{
	const transformer_layer *l = &p->stack->layers[layer];

	linear(g, norm_before(g, p->rows, l->cross_norm), p->rows, l->cross_q, g->qkv);
	attend_by_sequence(g, p, layer, attend_to_source);
	linear(g, g->attended, p->rows, l->cross_out, g->added);
	add_to_stream(g, p->rows, l->cross_norm);
}

static void
feed_forward(const generator *g, const pass *p, int32_t layer)
{
	const transformer_config *c = config_of(g);
	const transformer_layer *l = &p->stack->layers[layer];
	int64_t up = (c->gated ? 2 : 1) * (int64_t) c->ffn;

	linear(g, norm_before(g, p->rows, l->ffn_norm), p->rows, l->up, g->up);
	for (int64_t i = 0; i < p->rows && c->gated; i++)
		g->simd->glu(c->activation, g->up + i * up, g->gated + i * c->ffn, c->ffn);
	if (!c->gated)
		g->simd->act(c->activation, g->up, g->gated, p->rows * up);
	linear(g, g->gated, p->rows, l->down, g->added);
	add_to_stream(g, p->rows, l->ffn_norm);
}

static void
run_layer(const generator *g, const pass *p, int32_t layer)
{
	self_attention(g, p, layer);
	if (p->stack->layers[layer].cross_q[0] != TENSOR_NONE)
		cross_attention(g, p, layer);
	feed_forward(g, p, layer);
}

static bool
go_on(const generator *g, llm_error *err)
{
	return !g->poll || !g->poll(g->poll_arg) || llm_fail(err, LLM_CANCELLED, "canceled");
}

/* Rows through all layers and norms, into g->normed. */
static bool
run_pass(const generator *g, const pass *p, llm_error *err)
{
	const transformer_config *c = config_of(g);
	const float *embed = tensor_of(g, g->numbers.embed), *position = tensor_of(g, g->numbers.position);

	if (p->rows > FEW_ROWS)
		blas_open();
	for (int32_t i = 0; i < p->rows; i++)
	{
		float *x = g->stream + (int64_t) i * c->width;

		memcpy(x, embed + (int64_t) p->ids[i] * c->width, c->width * sizeof(float));
		if (position)
			g->simd->add(x, position + (int64_t) position_of_row(g, p, i) * c->width, x, c->width);
	}
	if (c->post_norm)
		norm(g, g->stream, p->rows, p->stack->norm, g->stream);
	for (int32_t i = 0; i < p->stack->depth; i++)
	{
		if (!go_on(g, err))
			return false;
		run_layer(g, p, i);
	}
	if (c->post_norm)
		memcpy(g->normed, g->stream, (size_t) p->rows * c->width * sizeof(float));
	else
		norm(g, g->stream, p->rows, p->stack->norm, g->normed);
	return true;
}

/* Logits behind rows [first, first + count) of the pass, into those from 0. */
static bool
make_logits(const generator *g, int32_t first, int32_t count, llm_error *err)
{
	const transformer_config *c = config_of(g);

	if (!go_on(g, err))
		return false;
	multiply(g, g->normed + (int64_t) first * c->width, count, c->width, tensor_of(g, g->numbers.head), NULL,
			 g->logits, c->vocab);
	if (c->head_scale)
		g->simd->scale(1 / sqrtf((float) c->width), g->logits, g->logits, (int64_t) count * c->vocab);
	return true;
}

static bool
check_ids(const generator *g, const int32_t *ids, int32_t count, llm_error *err)
{
	for (int32_t i = 0; i < count; i++)
		if (ids[i] < 0 || ids[i] >= config_of(g)->vocab)
			return llm_fail(err, LLM_INVALID, "token %d is not between 0 and %d", ids[i], config_of(g)->vocab - 1);
	return true;
}

static bool
check_writes(const generator *g, llm_error *err)
{
	return (!config_of(g)->bidirectional && !config_of(g)->headless) ||
		   llm_fail(err, LLM_INVALID, "the network embeds texts, it does not write or score them");
}

static bool
check_sequence(const generator *g, int32_t sequence, llm_error *err)
{
	return (sequence >= 0 && sequence < g->sequences) ||
		   llm_fail(err, LLM_INVALID, "sequence %d is not between 0 and %d", sequence, g->sequences - 1);
}

static bool
check_encoder(const generator *g, llm_error *err)
{
	return g->sources > 0 || llm_fail(err, LLM_INVALID, "the network has no encoder to read a source");
}

/* What is written must have something to attend to. */
static bool
check_has_source(const generator *g, int32_t sequence, llm_error *err)
{
	return g->sources == 0 || g->source_length[sequence] > 0 ||
		   llm_fail(err, LLM_INVALID, "sequence %d has no source", sequence);
}

static bool
check_source(const generator *g, const int32_t *ids, int32_t count, llm_error *err)
{
	if (count < 1 || count > g->sources)
		return llm_fail(err, LLM_INVALID, "a source of %d tokens does not fit into %d", count, g->sources);
	return check_ids(g, ids, count, err);
}

static bool
check_length(const generator *g, int32_t sequence, int32_t count, llm_error *err)
{
	if (count >= 1 && count <= g->positions - g->length[sequence])
		return true;
	return llm_fail(err, LLM_INVALID, "%d tokens more than %d do not fit into a context of %d", count,
					g->length[sequence], g->positions);
}

/* What is made of the rows of a chunk, while g->normed holds them. */
typedef bool (*chunk_done)(generator *g, const pass *p, void *arg, llm_error *err);

/* Tokens that were checked, chunk by chunk; the sequence's length is left to the caller. */
static bool
run_tokens(generator *g, int32_t sequence, const int32_t *ids, int32_t count, chunk_done each, void *arg,
		   llm_error *err)
{
	int32_t chunk = chunk_rows(config_of(g), g->positions);

	for (int32_t done = 0; done < count; done += chunk)
	{
		pass p = {.stack = &g->numbers.stack,
				  .rows = count - done < chunk ? count - done : chunk,
				  .ids = ids + done,
				  .sequence = sequence,
				  .first = g->length[sequence] + done};

		if (!run_pass(g, &p, err) || (each && !each(g, &p, arg, err)))
			return false;
	}
	return true;
}

/* The encoder's stream into g->normed. */
static bool
encode(const generator *g, const int32_t *ids, int32_t count, pass *p, llm_error *err)
{
	*p = (pass) {.stack = &g->numbers.encoder, .rows = count, .ids = ids};
	return run_pass(g, p, err);
}

bool
generator_source(generator *g, int32_t sequence, const int32_t *ids, int32_t count, llm_error *err)
{
	const transformer_stack *stack = &g->numbers.stack;
	pass p;

	if (!check_encoder(g, err) || !check_sequence(g, sequence, err) || !check_source(g, ids, count, err))
		return false;
	g->length[sequence] = g->source_length[sequence] = 0;
	if (!encode(g, ids, count, &p, err))
		return false;
	for (int32_t i = 0; i < stack->depth; i++)
	{
		if (!go_on(g, err))
			return false;
		linear(g, g->normed, count, stack->layers[i].cross_kv, source_of(g, i, sequence));
	}
	g->source_length[sequence] = count;
	return true;
}

bool
generator_append(generator *g, int32_t sequence, const int32_t *ids, int32_t count, llm_error *err)
{
	if (!check_writes(g, err) || !check_sequence(g, sequence, err) || !check_has_source(g, sequence, err) ||
		!check_length(g, sequence, count, err) || !check_ids(g, ids, count, err) ||
		!run_tokens(g, sequence, ids, count, NULL, NULL, err) || !make_logits(g, (count - 1) % CHUNK_ROWS, 1, err))
		return false;
	g->row[sequence] = 0;
	g->length[sequence] += count;
	return true;
}

/* Different sequences with room for one more token each; leaves their rows behind. */
static bool
check_step(generator *g, const int32_t *sequences, int32_t count, llm_error *err)
{
	if (count < 1 || count > g->sequences)
		return llm_fail(err, LLM_INVALID, "%d sequences are not between 1 and %d", count, g->sequences);
	for (int32_t i = 0; i < g->sequences; i++)
		g->row[i] = -1;
	for (int32_t i = 0; i < count; i++)
	{
		if (!check_sequence(g, sequences[i], err) || !check_has_source(g, sequences[i], err) ||
			!check_length(g, sequences[i], 1, err))
			return false;
		if (g->row[sequences[i]] >= 0)
			return llm_fail(err, LLM_INVALID, "sequence %d is given twice", sequences[i]);
		g->row[sequences[i]] = i;
	}
	return true;
}

bool
generator_step(generator *g, const int32_t *sequences, const int32_t *ids, int32_t count, llm_error *err)
{
	pass p = {.stack = &g->numbers.stack, .rows = count, .ids = ids, .sequences = sequences};

	if (!check_writes(g, err) || !check_step(g, sequences, count, err) || !check_ids(g, ids, count, err) ||
		!run_pass(g, &p, err) || !make_logits(g, 0, count, err))
		return false;
	for (int32_t i = 0; i < count; i++)
		g->length[sequences[i]]++;
	return true;
}

/* ---- whole texts ---- */

typedef struct scoring
{
	const int32_t *ids;
	int32_t count;
	float *logprob;
} scoring;

static float
log_probability(const generator *g, const float *logits, int32_t token)
{
	int64_t n = config_of(g)->vocab;
	float largest = g->simd->max(logits, n);

	return logits[token] - largest - logf(g->simd->exp_sum(logits, largest, NULL, n));
}

/* A few rows' logits at a time. */
static bool
score_chunk(generator *g, const pass *p, void *arg, llm_error *err)
{
	const scoring *s = arg;

	for (int32_t i = 0; i < p->rows; i += FEW_ROWS)
	{
		int32_t rows = p->rows - i < FEW_ROWS ? p->rows - i : FEW_ROWS;

		if (!make_logits(g, i, rows, err))
			return false;
		for (int32_t k = 0; k < rows && p->first + i + k + 1 < s->count; k++)
			s->logprob[p->first + i + k] = log_probability(g, logits_of_row(g, k), s->ids[p->first + i + k + 1]);
	}
	return true;
}

/* Sequence 0 anew. */
static bool
run_text(generator *g, const int32_t *ids, int32_t count, chunk_done each, void *arg, llm_error *err)
{
	if (count < 1 || count > g->positions)
		return llm_fail(err, LLM_INVALID, "%d tokens do not fit into a context of %d", count, g->positions);
	if (!check_ids(g, ids, count, err))
		return false;
	g->length[0] = 0;
	if (!run_tokens(g, 0, ids, count, each, arg, err))
		return false;
	g->length[0] = count;
	return true;
}

bool
generator_score(generator *g, const int32_t *ids, int32_t count, float *logprob, llm_error *err)
{
	scoring s = {ids, count, logprob};

	return check_writes(g, err) && check_has_source(g, 0, err) && run_text(g, ids, count, score_chunk, &s, err);
}

typedef struct pooling
{
	text_pool pool;
	int32_t count;
	float *out;
} pooling;

static bool
pool_chunk(generator *g, const pass *p, void *arg, llm_error *err)
{
	const pooling *s = arg;
	int64_t width = config_of(g)->width;

	for (int32_t i = 0; i < p->rows; i++)
	{
		const float *x = g->normed + i * width;
		int32_t position = p->first + i;

		if (s->pool == POOL_MEAN)
			g->simd->axpy(1.0f / s->count, x, s->out, width);
		else if (position == (s->pool == POOL_FIRST ? 0 : s->count - 1))
			memcpy(s->out, x, width * sizeof(float));
	}
	return true;
}

bool
generator_embed(generator *g, const int32_t *ids, int32_t count, text_pool pool, float *out, llm_error *err)
{
	pooling s = {pool, count, out};

	memset(out, 0, config_of(g)->width * sizeof(float));
	if (g->sources > 0)
	{
		pass p;

		return check_source(g, ids, count, err) && encode(g, ids, count, &p, err) && pool_chunk(g, &p, &s, err);
	}
	return run_text(g, ids, count, pool_chunk, &s, err);
}
