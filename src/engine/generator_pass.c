/*
 * generator_pass.c
 *	  Tokens through the layers of a generator's network.
 *
 * Keys and values go to pages of the cache (layer, page, kv head, position in it, head_dim), where a head's
 * lie one behind the other, before attention reads them, so a row sees those before it.  What the
 * encoder makes of a source is kept as keys and values of each layer that attends to it: (layer,
 * sequence, source token, 2 kv heads, head_dim).  The numbers are those of transformer.c's graph,
 * by the same kernels.
 */
#include "generator_pass.h"

#include <math.h>
#include <string.h>

#include "bf16.h"
#include "bf16_tiles.h"
#include "cpu_attention.h"
#include "quant_panels.h"

#define DECODED_ROWS 16          /* of weights, for a product in float32: they stay in the first two caches */
#define ROUNDED_ROWS 32          /* of weights in bf16, of half the size */
#define BLOCK_FLOATS (64 * 1024) /* of rows that stay in the second cache */
#define LEAST_BLOCK 24           /* rows, whatever their length */

/* As it is kept. */
static const void *
kept_of(const generator *g, int32_t number)
{
	return (const char *) g->weights + g->n->tensors[number].place;
}

/* One that is float32 whatever type the weights are kept in. */
static const float *
tensor_of(const generator *g, int32_t number)
{
	return number == TENSOR_NONE ? NULL : kept_of(g, number);
}

/* Rows of a matrix from the j-th on. */
static const void *
rows_from(const generator *g, int32_t number, int64_t j)
{
	const net_tensor_info *t = &g->n->tensors[number];

	return (const char *) kept_of(g, number) + weight_bytes(t->type, (size_t) (j * t->dims[1]));
}

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * Products of numbers rounded to bf16, where there are any, are as exact as rows rounded for weights in blocks; of f16,
 * which has three bits more, they are not.
 */
static bool
multiplies_bf16(weight_type type)
{
	return type != WEIGHT_F32 && type != WEIGHT_F16 && bf16_supported();
}

static int64_t
rows_of_block(int64_t k)
{
	return k * LEAST_BLOCK < BLOCK_FLOATS ? BLOCK_FLOATS / k : LEAST_BLOCK;
}

int64_t
product_scratch(int64_t k)
{
	return DECODED_ROWS * k + (ROUNDED_ROWS + 2 * rows_of_block(k)) * k / 2;
}

/* Some rows of weights in bf16, decoded piece by piece. */
static void
decode_bf16(const generator *g, int32_t number, int64_t j, int64_t rows, uint16_t *rounded)
{
	const net_tensor_info *t = &g->n->tensors[number];
	int64_t k = t->dims[1];

	for (int64_t i = 0; i < rows; i += DECODED_ROWS)
	{
		int64_t count = smaller(DECODED_ROWS, rows - i) * k;

		g->quant->decode[t->type](rows_from(g, number, j + i), count, g->scratch);
		round_bf16(g->scratch, count, rounded + i * k);
	}
}

/*
 * In bf16, of half the size; scratch has decoded weights, or a panel of them when they are rounded, those rounded, and
 * rounded rows of x.
 */
static void
many_rows_bf16(const generator *g, const float *x, int64_t rows, int32_t number, const float *bias, float *y)
{
	const net_tensor_info *t = &g->n->tensors[number];
	int64_t n = t->dims[0], k = t->dims[1], block = 2 * rows_of_block(k),
			panel = t->type == WEIGHT_BF16 ? n : ROUNDED_ROWS;
	uint16_t *rounded = (void *) (g->scratch + DECODED_ROWS * k), *from = rounded + ROUNDED_ROWS * k;

	for (int64_t i = 0; i < rows; i += block)
	{
		int64_t here = smaller(block, rows - i);

		round_bf16(x + i * k, here * k, from);
		for (int64_t j = 0; j < n; j += panel)
		{
			int64_t columns = smaller(panel, n - j);
			const void *w = rounded;

			if (t->type == WEIGHT_BF16)
				w = kept_of(g, number);
			else
				decode_bf16(g, number, j, columns, rounded);
			dots_bf16(from, here, k, w, bias ? bias + j : NULL, y + i * n + j, n, columns, g->scratch);
		}
	}
}

/* By bytes, of a quarter of the size; scratch has a panel of weights and rounded rows of x. */
static void
many_rows_bytes(const generator *g, const float *x, int64_t rows, int32_t number, const float *bias, float *y)
{
	const net_tensor_info *t = &g->n->tensors[number];
	int64_t n = t->dims[0], k = t->dims[1], block = 2 * rows_of_block(k);
	quant_block *from = (void *) (g->scratch + DECODED_ROWS * k);

	_Static_assert(QUANT_PANEL_BYTES <= DECODED_ROWS * QUANT_BLOCK * sizeof(float), "a panel is no larger");
	for (int64_t i = 0; i < rows; i += block)
	{
		int64_t here = smaller(block, rows - i);

		panels_round(t->type, x + i * k, here * k, from);
		panels_multiply(t->type, from, here, k, kept_of(g, number), bias, y + i * n, n, n, g->scratch);
	}
}

/* Rows of x stay in the second-level cache while the weights pass, which are decoded for them a panel at a time. */
static void
many_rows(const generator *g, const float *x, int64_t rows, int32_t number, const float *bias, float *y)
{
	const net_tensor_info *t = &g->n->tensors[number];
	int64_t n = t->dims[0], k = t->dims[1], block = rows_of_block(k),
			panel = t->type == WEIGHT_F32 ? n : DECODED_ROWS;

	for (int64_t i = 0; i < rows; i += block)
		for (int64_t j = 0; j < n; j += panel)
		{
			int64_t columns = smaller(panel, n - j);
			const void *w = rows_from(g, number, j);

			if (t->type != WEIGHT_F32)
			{
				g->quant->decode[t->type](w, columns * k, g->scratch);
				w = g->scratch;
			}
			g->simd->gemv(x + i * k, smaller(block, rows - i), k, w, bias ? bias + j : NULL, y + i * n + j, n,
						  columns);
		}
}

/* y (rows, n) = x (rows, k) w^T + bias; w by its number */
static void
multiply(const generator *g, const float *x, int64_t rows, int32_t number, const float *bias, float *y)
{
	const net_tensor_info *t = &g->n->tensors[number];
	quant_rows prepared;

	if (rows > FEW_ROWS || t->type == WEIGHT_F32)
	{
		if (panels_supported(t->type) && !tiles_supported())
			many_rows_bytes(g, x, rows, number, bias, y);
		else if (multiplies_bf16(t->type))
			many_rows_bf16(g, x, rows, number, bias, y);
		else
			many_rows(g, x, rows, number, bias, y);
		return;
	}
	prepared = quant_prepare(g->quant, t->type, x, rows, t->dims[1], g->scratch);
	g->quant->gemv[t->type](&prepared, kept_of(g, number), bias, y, t->dims[0], t->dims[0]);
}

static void
linear(const generator *g, const float *x, int64_t rows, const int32_t numbers[2], float *y)
{
	multiply(g, x, rows, numbers[0], tensor_of(g, numbers[1]), y);
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

/* What it made, as it is added. */
static void
norm_added(const generator *g, int64_t rows, const int32_t numbers[2])
{
	if (numbers[0] != TENSOR_NONE)
		norm(g, g->added, rows, numbers, g->added);
}

/* Add it to the stream. */
static void
add_to_stream(const generator *g, int64_t rows, const int32_t numbers[2])
{
	g->simd->add(g->stream, g->added, g->stream, rows * config_of(g)->width);
	if (config_of(g)->post_norm)
		norm(g, g->stream, rows, numbers, g->stream);
}

/* Numbers before those of a layer, page and kv head, (ATTENTION_PAGE, head_dim). */
static int64_t
cache_offset(const generator *g, int32_t layer, int64_t page, int64_t kv_head)
{
	const transformer_config *c = config_of(g);

	return (((int64_t) layer * g->room.pages + page) * c->kv_heads + kv_head) * ATTENTION_PAGE * c->head_dim;
}

/* One token's (kv heads, head_dim) into its place of a page. */
static void
keep(const generator *g, void *cache, int32_t layer, int32_t page, int64_t place, const float *x)
{
	const transformer_config *c = config_of(g);
	int64_t n = c->head_dim;
	uint16_t *half = cache;
	float *whole = cache;

	for (int64_t head = 0; head < c->kv_heads; head++)
	{
		int64_t at = cache_offset(g, layer, page, head) + place * n;

		if (g->half)
			g->quant->to_f16(x + head * n, n, half + at);
		else
			memcpy(whole + at, x + head * n, n * sizeof(float));
	}
}

/* Of a layer and sequence: (sources, 2 kv heads, head_dim). */
static float *
source_of(const generator *g, int32_t layer, int32_t sequence)
{
	return g->source +
		   ((int64_t) layer * g->room.sequences + sequence) * g->room.sources * 2 * kv_width(config_of(g));
}

/* Norm and turn the heads of a row's queries and keys, and keep its keys and values unless it is of a source. */
static void
finish_row(const generator *g, const pass *p, int32_t layer, const span *s, int32_t i)
{
	const transformer_config *c = config_of(g);
	const transformer_layer *l = &p->stack->layers[layer];
	int64_t d = c->head_dim, kv = kv_width(c), position = s->position + i;
	int64_t turned = g->turned;
	const float *angles = g->angles[transformer_has_window(c, layer)] + position * turned;
	float *q = g->qkv + (s->row + i) * (c->heads * d + 2 * kv), *k = q + c->heads * d;

	for (float *head = q; head < k + kv; head += d)
	{
		if (c->qk_norm)
			g->simd->rms_norm(head, tensor_of(g, head < k ? l->q_norm : l->k_norm), c->norm_epsilon, head, d);
		if (c->rotary)
			g->simd->rotate(head, angles, angles + turned / 2, 1, head, false, turned / 2);
	}
	if (encodes(g, p->stack))
		return;
	keep(g, g->keys, layer, s->pages[position / ATTENTION_PAGE], position % ATTENTION_PAGE, k);
	keep(g, g->values, layer, s->pages[position / ATTENTION_PAGE], position % ATTENTION_PAGE, k + kv);
}

/* Tokens to those before them in their sequence. */
static void
attend(const generator *g, int32_t layer, const span *s)
{
	const transformer_config *c = config_of(g);
	int64_t q_width = (int64_t) c->heads * c->head_dim, step = q_width + 2 * kv_width(c);
	const uint16_t *half[2] = {g->keys, g->values};
	const float *whole[2] = {g->keys, g->values};
	attention_row r = {.queries = s->rows,
					   .keys = s->position + s->rows,
					   .q = g->qkv + s->row * step,
					   .q_step = step,
					   .kv_step = c->head_dim,
					   .quant = g->quant,
					   .pages = s->pages,
					   .page_step = (int64_t) c->kv_heads * ATTENTION_PAGE * c->head_dim,
					   .bias = tensor_of(g, g->numbers.stack.relative),
					   .out = g->attended + s->row * q_width,
					   .log_sum = g->log_sum + (int64_t) s->row * c->heads};

	for (int32_t head = 0; head < c->heads; head++)
	{
		int64_t kv_head = head / (c->heads / c->kv_heads);
		int64_t at = cache_offset(g, layer, 0, kv_head);

		if (g->half)
		{
			r.k_f16 = half[0] + at;
			r.v_f16 = half[1] + at;
		}
		else
		{
			r.k = whole[0] + at - kv_head * c->head_dim; /* attention adds that much */
			r.v = whole[1] + at - kv_head * c->head_dim;
		}
		attention_forward(g->simd, &g->shape[transformer_has_window(c, layer)], &r, head);
	}
}

/* The tokens of a source to each other; their keys and values lie where they were made. */
static void
attend_in_source(const generator *g, const span *s)
{
	const transformer_config *c = config_of(g);
	int64_t q_width = (int64_t) c->heads * c->head_dim, step = q_width + 2 * kv_width(c);
	const float *q = g->qkv + s->row * step;
	attention_row r = {.queries = s->rows,
					   .keys = s->rows,
					   .q = q,
					   .k = q + q_width,
					   .v = q + q_width + kv_width(c),
					   .q_step = step,
					   .kv_step = step,
					   .bias = tensor_of(g, g->numbers.encoder.relative),
					   .out = g->attended + s->row * q_width,
					   .log_sum = g->log_sum + (int64_t) s->row * c->heads};

	for (int32_t head = 0; head < c->heads; head++)
		attention_forward(g->simd, &g->source_shape, &r, head);
}

/* Tokens to the source of their sequence, by queries (rows, heads head_dim). */
static void
attend_to_source(const generator *g, int32_t layer, const span *s)
{
	const transformer_config *c = config_of(g);
	int64_t q_width = (int64_t) c->heads * c->head_dim;
	const float *source = source_of(g, layer, s->sequence);
	attention_row r = {.queries = s->rows,
					   .keys = g->source_length[s->sequence],
					   .q = g->qkv + s->row * q_width,
					   .k = source,
					   .v = source + kv_width(c),
					   .q_step = q_width,
					   .kv_step = 2 * kv_width(c),
					   .out = g->attended + s->row * q_width,
					   .log_sum = g->log_sum + (int64_t) s->row * c->heads};

	for (int32_t head = 0; head < c->heads; head++)
		attention_forward(g->simd, &g->source_shape, &r, head);
}

/* What tokens make of each other, into g->attended. */
static void
self_attention(const generator *g, const pass *p, int32_t layer)
{
	const transformer_layer *l = &p->stack->layers[layer];

	linear(g, norm_before(g, p->rows, l->attn_norm), p->rows, l->qkv, g->qkv);
	for (const span *s = p->spans; s < p->spans + p->span_count; s++)
	{
		for (int32_t i = 0; i < s->rows; i++)
			finish_row(g, p, layer, s, i);
		if (encodes(g, p->stack))
			attend_in_source(g, s);
		else
			attend(g, layer, s);
	}
}

static void
add_attention(const generator *g, const pass *p, int32_t layer)
{
	const transformer_layer *l = &p->stack->layers[layer];

	linear(g, g->attended, p->rows, l->out, g->added);
	norm_added(g, p->rows, l->attn_added);
	add_to_stream(g, p->rows, l->attn_norm);
}

static void
cross_attention(const generator *g, const pass *p, int32_t layer)
{
	const transformer_layer *l = &p->stack->layers[layer];

	linear(g, norm_before(g, p->rows, l->cross_norm), p->rows, l->cross_q, g->qkv);
	for (const span *s = p->spans; s < p->spans + p->span_count; s++)
		attend_to_source(g, layer, s);
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
	norm_added(g, p->rows, l->ffn_added);
	add_to_stream(g, p->rows, l->ffn_norm);
}

/* Of parallel halves the second must read the stream before the first is added to it. */
static void
run_layer(const generator *g, const pass *p, int32_t layer)
{
	self_attention(g, p, layer);
	if (config_of(g)->parallel)
	{
		feed_forward(g, p, layer);
		add_attention(g, p, layer);
		return;
	}
	add_attention(g, p, layer);
	if (p->stack->layers[layer].cross_q[0] != TENSOR_NONE)
		cross_attention(g, p, layer);
	feed_forward(g, p, layer);
}

static bool
go_on(const generator *g, llm_error *err)
{
	return !g->poll || !g->poll(g->poll_arg) || llm_fail(err, LLM_CANCELLED, "canceled");
}

/* Tokens, with their types and positions; a network with types sees a text at once. */
static void
embed(const generator *g, const pass *p)
{
	const transformer_config *c = config_of(g);
	int64_t width = c->width, type = 0;
	const net_tensor_info *table = &g->n->tensors[g->numbers.embed];
	const float *position = tensor_of(g, g->numbers.position), *types = tensor_of(g, g->numbers.types);

	for (const span *s = p->spans; s < p->spans + p->span_count; s++, type = 0)
		for (int64_t i = 0; i < s->rows; i++)
		{
			float *x = g->stream + (s->row + i) * width;
			int32_t id = p->ids[s->row + i];
			const void *from = rows_from(g, g->numbers.embed, id);

			if (table->type == WEIGHT_F32)
				memcpy(x, from, width * sizeof(float));
			else
				g->quant->decode[table->type](from, width, x);
			if (c->embed_scale)
				g->simd->scale(sqrtf((float) width), x, x, width);
			if (types)
				g->simd->add(x, types + type * width, x, width);
			if (position)
				g->simd->add(x, position + (s->position + i) * width, x, width);
			type += id == c->separator && type < c->types - 1;
		}
}

bool
pass_run(const generator *g, const pass *p, llm_error *err)
{
	const transformer_config *c = config_of(g);

	embed(g, p);
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

/* What the head reads of a few rows, into g->added. */
static void
transform_head(const generator *g, const float *x, int32_t rows)
{
	const transformer_config *c = config_of(g);

	linear(g, x, rows, g->numbers.transform, g->added);
	g->simd->act(c->activation, g->added, g->added, rows * (int64_t) c->width);
	norm(g, g->added, rows, g->numbers.transform_norm, g->added);
}

bool
pass_logits(const generator *g, const float *x, int32_t rows, llm_error *err)
{
	const transformer_config *c = config_of(g);

	if (!go_on(g, err))
		return false;
	if (c->head_transform)
		transform_head(g, x, rows);
	multiply(g, c->head_transform ? g->added : x, rows, g->numbers.head, tensor_of(g, g->numbers.head_bias),
			 g->logits);
	if (c->head_scale)
		g->simd->scale(1 / sqrtf((float) c->width), g->logits, g->logits, (int64_t) rows * c->vocab);
	if (transformer_logit_cap(c) > 0)
		simd_cap(g->simd, transformer_logit_cap(c), g->logits, (int64_t) rows * c->vocab);
	return true;
}

void
pass_dense(const generator *g, int32_t rows, float *out)
{
	const net_config *c = &g->n->config;

	for (int32_t i = 0; i < c->dense_count; i++)
	{
		float *y = i == c->dense_count - 1 ? out : g->pooled[(i + 1) % 2];
		int32_t numbers[2];

		net_dense_tensors(g->n, i, numbers);
		linear(g, g->pooled[i % 2], rows, numbers, y);
		if (c->dense[i].activation != ACT_IDENTITY)
			g->simd->act(c->dense[i].activation, y, y, (int64_t) rows * c->dense[i].width);
	}
}

bool
pass_keep_source(const generator *g, const span *s, llm_error *err)
{
	const transformer_stack *stack = &g->numbers.stack;

	for (int32_t i = 0; i < stack->depth; i++)
	{
		if (!go_on(g, err))
			return false;
		linear(g, normed_row(g, s->row), s->rows, stack->layers[i].cross_kv, source_of(g, i, s->sequence));
	}
	return true;
}
