/*
 * test_quant.c
 *	  Weights in fewer bits: encodings, every set of kernels against sums in double, how networks keep them, and
 *	  generation with them beside float32.
 */
#include <float.h>
#include <stdlib.h>

#include "../../src/engine/generator.h"
#include "../../src/engine/quant.h"
#include "../../src/engine/quant_panels.h"
#include "net_check.h"

#define MOST_K 416 /* 13 blocks */
#define MOST_N 11

/* ---- encodings ---- */

static void
test_f16(void)
{
	for (int h = 0; h < 65536; h++)
	{
		float x = f16_value((uint16_t) h), next = f16_value((uint16_t) (h + 1));

		if (isnan(x))
			CHECK(isnan(f16_value(f16_of(x))));
		else if (f16_of(x) != h)
			CHECK_INT(f16_of(x), h);
		if (!isfinite(x) || !isfinite(next))
			continue;
		/* between two neighbours to the even one, else to the nearer */
		if (f16_of((float) ((double) x + next) / 2) != h + (h & 1))
			CHECK_INT(f16_of((float) ((double) x + next) / 2), h + (h & 1));
		if (f16_of(0.75f * x + 0.25f * next) != h)
			CHECK_INT(f16_of(0.75f * x + 0.25f * next), h);
	}
	CHECK_INT(f16_of(65519.9f), 0x7bff);
	CHECK_INT(f16_of(65520), 0x7c00);
	CHECK_INT(f16_of(-INFINITY), 0xfc00);
	CHECK_INT(f16_of(1e-10f), 0);
}

/*
 * Mean squared error of normal numbers over their mean square, a twelfth of the square of a step.  Steps of f16 and
 * bf16 are 2^-10 and 2^-7 of the power of two below a number: 4.3e-8 and 2.8e-6.  The largest of 32 normal numbers is
 * about 2.2, so a step of q8_0 is 2.2 / 127, of q4_0 2.2 / 8: 2.5e-5 and 6.3e-3.
 */
static void
test_encodings(void)
{
	static const double limits[WEIGHT_TYPES] = {0, 5e-8, 3e-6, 3e-5, 7e-3};
	enum
	{
		COUNT = 8192
	};
	static float x[COUNT], y[COUNT];
	static double expected[COUNT];
	static uint8_t bytes[COUNT * 4];

	for (int i = 0; i < COUNT; i++)
		expected[i] = x[i] = next_normal();
	for (int t = 0; t < WEIGHT_TYPES; t++)
	{
		weight_type parsed;

		CHECK(weight_encode((weight_type) t, x, COUNT, bytes));
		weight_decode((weight_type) t, bytes, 0, COUNT, y);
		CHECK_CLOSE(y, expected, COUNT, limits[t]);
		/* parts of blocks */
		for (int begin = 0; begin < 80; begin += 7)
		{
			float part[100];

			weight_decode((weight_type) t, bytes, begin, 100 - begin, part);
			CHECK_BYTES(part, y + begin, (100 - begin) * sizeof(float));
		}
		/* encoding what was decoded changes nothing where the scale is that of the extreme number */
		if (t != WEIGHT_Q4_0)
		{
			static uint8_t again[COUNT * 4];

			CHECK(weight_encode((weight_type) t, y, COUNT, again));
			weight_decode((weight_type) t, again, 0, COUNT, x);
			CHECK_CLOSE(x, expected, COUNT, 2 * limits[t] + 1e-30);
			for (int i = 0; i < COUNT; i++)
				x[i] = (float) expected[i];
		}
		CHECK(weight_type_parse(weight_type_name((weight_type) t), &parsed) && parsed == (weight_type) t);
	}
	CHECK(!weight_type_parse("q5_0", &(weight_type) {0}));
	CHECK_INT(weight_bytes(WEIGHT_Q8_0, 64), 68);
	CHECK_INT(weight_bytes(WEIGHT_Q4_0, 64), 36);
}

static void
test_limits(void)
{
	static const float largest[WEIGHT_TYPES] = {FLT_MAX, 65504, 3.38e38f, 127 * 65504.0f, 7 * 65504.0f};
	float x[QUANT_BLOCK], y[QUANT_BLOCK];
	uint8_t bytes[sizeof(x)];

	for (int t = 0; t < WEIGHT_TYPES; t++)
	{
		memset(x, 0, sizeof(x));
		CHECK(weight_encode((weight_type) t, x, QUANT_BLOCK, bytes));
		weight_decode((weight_type) t, bytes, 0, QUANT_BLOCK, y);
		CHECK_BYTES(x, y, sizeof(x));
		x[3] = -largest[t];
		CHECK(weight_encode((weight_type) t, x, QUANT_BLOCK, bytes));
		weight_decode((weight_type) t, bytes, 0, QUANT_BLOCK, y);
		CHECK_NEAR(y[3], x[3], 0.08 * largest[t]);
		x[3] = 1e-38f;
		CHECK(weight_encode((weight_type) t, x, QUANT_BLOCK, bytes));
		x[3] = NAN;
		CHECK(weight_encode((weight_type) t, x, QUANT_BLOCK, bytes) == (t == WEIGHT_F32));
		x[3] = INFINITY;
		CHECK(weight_encode((weight_type) t, x, QUANT_BLOCK, bytes) == (t == WEIGHT_F32));
	}
}

/* ---- kernels ---- */

typedef struct product
{
	int64_t k;
	float x[QUANT_ROWS * MOST_K], bias[MOST_N];
	uint8_t w[MOST_N * MOST_K * 4];
	float decoded[MOST_N * MOST_K];
	char scratch[QUANT_ROWS * 3 * (MOST_K + 64)] __attribute__((aligned(64)));
} product;

static void
make_product(product *p, weight_type t, int64_t k)
{
	float w[MOST_N * MOST_K];

	p->k = k;
	for (int64_t i = 0; i < MOST_N * k; i++)
		w[i] = next_normal() * (i % 97 == 0 ? 5 : 1);
	for (int64_t i = 0; i < QUANT_ROWS * k; i++)
		p->x[i] = i / QUANT_BLOCK % 7 == 3 ? 0 : next_normal();
	for (int j = 0; j < MOST_N; j++)
		p->bias[j] = next_normal();
	CHECK(weight_encode(t, w, (size_t) (MOST_N * k), p->w));
	quant_portable.decode[t](p->w, MOST_N * k, p->decoded);
}

static void
multiply(const quant_kernels *kernels, product *p, weight_type t, int64_t from, int64_t rows, int64_t first,
		 int64_t n, const float *bias, float *y, int64_t ldy)
{
	quant_rows x = quant_prepare(kernels, t, p->x + from * p->k, rows, p->k, p->scratch);

	kernels->gemv[t](&x, p->w + (size_t) first * weight_bytes(t, (size_t) p->k), bias ? bias + first : NULL, y, ldy,
					 n);
}

/* x as a kernel for blocks reads it. */
static void
rounded(const product *p, weight_type t, float *x)
{
	for (int64_t i = 0; i < QUANT_ROWS * p->k; i += QUANT_BLOCK)
	{
		int8_t q[QUANT_BLOCK];
		int32_t start[QUANT_BLOCK / 4];
		float scale[QUANT_BLOCK / 4];

		quant_portable.round_block(p->x + i, -1, q, start, scale);
		for (int j = 0; j < QUANT_BLOCK; j++)
			x[i + j] = t == WEIGHT_Q8_0 || t == WEIGHT_Q4_0 ? q[j] * scale[0] : p->x[i + j];
	}
}

/*
 * Against sums in double of what was decoded and rounded only the order of sums is left.  Rounding x to bytes makes an
 * error of 2.5e-5 of it, as q8_0 does, and so of a sum.
 */
static void
test_sums(const quant_kernels *kernels, weight_type t, int64_t k)
{
	static product p;
	static float x[QUANT_ROWS * MOST_K];
	float y[QUANT_ROWS * (MOST_N + 3)];
	double expected[QUANT_ROWS * (MOST_N + 3)], exact[QUANT_ROWS * (MOST_N + 3)];

	make_product(&p, t, k);
	rounded(&p, t, x);
	for (int i = 0; i < QUANT_ROWS * (MOST_N + 3); i++)
		y[i] = (float) (exact[i] = expected[i] = i);
	for (int r = 0; r < QUANT_ROWS; r++)
		for (int j = 0; j < MOST_N; j++)
		{
			double sum = p.bias[j], whole = p.bias[j];

			for (int64_t i = 0; i < k; i++)
			{
				sum += (double) x[r * k + i] * p.decoded[j * k + i];
				whole += (double) p.x[r * k + i] * p.decoded[j * k + i];
			}
			expected[r * (MOST_N + 3) + j] = sum;
			exact[r * (MOST_N + 3) + j] = whole;
		}
	multiply(kernels, &p, t, 0, QUANT_ROWS, 0, MOST_N, p.bias, y, MOST_N + 3);
	for (int r = 0; r < QUANT_ROWS; r++)
	{
		CHECK_CLOSE(y + r * (MOST_N + 3), expected + r * (MOST_N + 3), MOST_N, 1e-12);
		CHECK_CLOSE(y + r * (MOST_N + 3), exact + r * (MOST_N + 3), MOST_N, 1e-3);
		CHECK(y[r * (MOST_N + 3) + MOST_N] == r * (MOST_N + 3) + MOST_N); /* nothing behind them */
	}
}

/* The same bytes for each number of rows, and wherever the weights are cut. */
static void
test_alone(const quant_kernels *kernels, weight_type t, int64_t k)
{
	static product p;
	float alone[QUANT_ROWS * MOST_N], together[QUANT_ROWS * MOST_N], cut[QUANT_ROWS * MOST_N];

	make_product(&p, t, k);
	for (int r = 0; r < QUANT_ROWS; r++)
		multiply(kernels, &p, t, r, 1, 0, MOST_N, NULL, alone + r * MOST_N, MOST_N);
	for (int rows = 1; rows <= QUANT_ROWS; rows++)
	{
		multiply(kernels, &p, t, 0, rows, 0, MOST_N, NULL, together, MOST_N);
		CHECK_BYTES(together, alone, rows * MOST_N * sizeof(float));
		for (int first = 0; first < MOST_N; first += 3)
			multiply(kernels, &p, t, 0, rows, first, MOST_N - first < 3 ? MOST_N - first : 3, NULL, cut + first,
					 MOST_N);
		CHECK_BYTES(cut, alone, rows * MOST_N * sizeof(float));
	}
}

/* Any bytes are numbers of blocks; all sets decode them, and round, to the same. */
static void
test_same(const quant_kernels *kernels)
{
	uint8_t bytes[34 * 64];
	float x[QUANT_BLOCK * 64], y[QUANT_BLOCK * 64];

	for (int t = WEIGHT_F16; t < WEIGHT_TYPES; t++)
	{
		int64_t count = QUANT_BLOCK * (t == WEIGHT_F16 || t == WEIGHT_BF16 ? 32 : 64);

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t) next_below(256);
		quant_portable.decode[t](bytes, count, x);
		kernels->decode[t](bytes, count, y);
		for (int64_t i = 0; i < count; i++)
			if (!isnan(x[i]) || !isnan(y[i]))
				CHECK_BYTES(x + i, y + i, sizeof(float));
	}
	for (int i = 0; i < 1000; i++)
	{
		int8_t q[2][QUANT_BLOCK];
		int32_t start[2][QUANT_BLOCK / 4];
		float scale[2][QUANT_BLOCK / 4];

		for (int j = 0; j < QUANT_BLOCK; j++)
			x[j] = i == 0 ? 0 : next_normal() * powf(10, (float) (i % 60 - 30));
		quant_portable.round_block(x, -128, q[0], start[0], scale[0]);
		kernels->round_block(x, -128, q[1], start[1], scale[1]);
		CHECK_BYTES(q[0], q[1], sizeof(q[0]));
		CHECK_BYTES(start[0], start[1], sizeof(start[0]));
		CHECK_BYTES(scale[0], scale[1], sizeof(scale[0]));
	}
}

/* Keys and values: into f16 as one by one, and sums of rows. */
static void
test_f16_rows(const quant_kernels *kernels)
{
	enum
	{
		ROWS = 9
	};
	float x[ROWS * 160], p[ROWS], y[160];
	uint16_t h[ROWS * 160];
	double expected[160];

	for (int n = 32; n <= 160; n += 32)
		for (int rows = 1; rows <= ROWS; rows += 4)
		{
			for (int i = 0; i < rows * n; i++)
				x[i] = next_normal();
			for (int r = 0; r < rows; r++)
				p[r] = next_normal();
			kernels->to_f16(x, rows * n, h);
			for (int i = 0; i < rows * n; i++)
				if (h[i] != f16_of(x[i]))
					CHECK_INT(h[i], f16_of(x[i]));
			for (int add = 0; add < 2; add++)
			{
				for (int i = 0; i < n; i++)
				{
					expected[i] = y[i] = add ? next_normal() : 0;
					for (int r = 0; r < rows; r++)
						expected[i] += (double) p[r] * f16_value(h[r * n + i]);
				}
				if (!add)
					y[0] = NAN;
				kernels->add_f16_rows(h, p, rows, add, y, n);
				CHECK_CLOSE(y, expected, n, 1e-12);
			}
		}
}

/* Bytes of -128, which no encoder writes, do not overflow. */
static void
test_extremes(const quant_kernels *kernels)
{
	static product p;
	float y[1];

	p.k = 64;
	for (int i = 0; i < 64; i++)
		p.x[i] = -127;
	for (int b = 0; b < 2; b++)
	{
		memset(p.w + 34 * b, 0x80, 34);
		p.w[34 * b] = 0;
		p.w[34 * b + 1] = 0x3c; /* 1 in f16 */
	}
	multiply(kernels, &p, WEIGHT_Q8_0, 0, 1, 0, 1, NULL, y, 1);
	CHECK_NEAR(y[0], 64.0 * 127 * 128, 1);
}

/* ---- many rows ---- */

#define PANEL_ROWS 16
#define PANEL_N 75 /* two panels and a part */

/* As test_sums() and test_alone(): each row, whatever is beside it, and any part of the weights. */
static void
test_panels(weight_type t, int64_t k)
{
	static float w[PANEL_N * MOST_K], decoded[PANEL_N * MOST_K], x[PANEL_ROWS * MOST_K];
	static uint8_t kept[PANEL_N * MOST_K * 2];
	static quant_block rounded[PANEL_ROWS * MOST_K / QUANT_BLOCK];
	static char panel[MOST_K / QUANT_BLOCK * QUANT_PANEL_BYTES] __attribute__((aligned(64)));
	static float y[PANEL_ROWS * (PANEL_N + 2)], alone[PANEL_ROWS * (PANEL_N + 2)];
	float bias[PANEL_N];
	double expected[PANEL_N];
	int64_t blocks = k / QUANT_BLOCK;

	for (int64_t i = 0; i < PANEL_N * k; i++)
		w[i] = next_normal() * (i % 97 == 0 ? 5 : 1);
	for (int64_t i = 0; i < PANEL_ROWS * k; i++)
		x[i] = i / QUANT_BLOCK % 7 == 3 ? 0 : next_normal();
	for (int j = 0; j < PANEL_N; j++)
		bias[j] = next_normal();
	CHECK(weight_encode(t, w, (size_t) (PANEL_N * k), kept));
	quant_portable.decode[t](kept, PANEL_N * k, decoded);
	panels_round(t, x, PANEL_ROWS * k, rounded);
	for (int r = 0; r < PANEL_ROWS; r++)
	{
		float *row = alone + r * (PANEL_N + 2);

		row[PANEL_N] = (float) r;
		panels_multiply(t, rounded + r * blocks, 1, k, kept, bias, row, 0, PANEL_N, panel);
		CHECK(row[PANEL_N] == r); /* nothing behind them */
		for (int j = 0; j < PANEL_N; j++)
		{
			expected[j] = bias[j];
			for (int64_t i = 0; i < k; i++)
			{
				const quant_block *b = rounded + r * blocks + i / QUANT_BLOCK;

				expected[j] += decoded[j * k + i] * ((double) b->scale * b->q[i % QUANT_BLOCK] + b->middle);
			}
		}
		CHECK_CLOSE(row, expected, PANEL_N, 1e-12);
	}
	for (int rows = 2; rows <= PANEL_ROWS; rows++)
		for (int n = 1; n <= PANEL_N; n += 37)
		{
			int64_t from = PANEL_N - n;

			panels_multiply(t, rounded, rows, k, kept + (size_t) from * weight_bytes(t, (size_t) k), bias + from, y,
							PANEL_N + 2, n, panel);
			for (int r = 0; r < rows; r++)
				CHECK_BYTES(y + r * (PANEL_N + 2), alone + r * (PANEL_N + 2) + from, n * sizeof(float));
		}
	panels_multiply(t, rounded, 2, k, kept, NULL, y, PANEL_N, PANEL_N, panel);
	CHECK_NEAR(y[PANEL_N + 3] + bias[3], alone[PANEL_N + 2 + 3], 1e-4);
}

/* Blocks of zeros, of one number and of numbers on one side of 0, to half a step. */
static void
test_round(weight_type t)
{
	float x[8 * QUANT_BLOCK];
	quant_block blocks[8];

	for (int i = 0; i < 8 * QUANT_BLOCK; i++)
		x[i] = i < QUANT_BLOCK       ? 0
			   : i < 2 * QUANT_BLOCK ? 5
			   : i < 3 * QUANT_BLOCK ? 9 + next_uniform()
									 : next_normal();
	panels_round(t, x, 8 * QUANT_BLOCK, blocks);
	for (int b = 0; b < 8; b++)
	{
		int32_t sum = 0;

		for (int i = 0; i < QUANT_BLOCK; i++)
		{
			sum += blocks[b].q[i];
			CHECK_NEAR(blocks[b].q[i] * blocks[b].scale + blocks[b].middle, x[b * QUANT_BLOCK + i],
					   0.501 * blocks[b].scale);
		}
		CHECK_INT(blocks[b].start, sum * (t == WEIGHT_Q8_0 ? -128 : -8));
		CHECK(b > 1 || blocks[b].scale == 0);
	}
}

static void
test_many_rows(void)
{
	if (!panels_supported(WEIGHT_Q8_0))
	{
		printf("skipped: this CPU does not multiply panels of bytes\n");
		return;
	}
	CHECK(!panels_supported(WEIGHT_BF16));
	for (weight_type t = WEIGHT_Q8_0; t <= WEIGHT_Q4_0; t++)
	{
		test_round(t);
		for (int64_t k = QUANT_BLOCK; k <= MOST_K; k += QUANT_BLOCK)
			test_panels(t, k);
	}
}

static void
test_kernels(void)
{
	int count;
	const quant_kernels *const *all = quant_all(&count);
	static const int64_t widths[] = {32, 64, 96, 128, 160, 192, 256, MOST_K};

	for (int s = 0; s < count; s++)
	{
		if (!all[s]->supported())
		{
			printf("skipped: this CPU does not run %s\n", all[s]->name);
			continue;
		}
		test_same(all[s]);
		test_extremes(all[s]);
		test_f16_rows(all[s]);
		for (int t = WEIGHT_F16; t < WEIGHT_TYPES; t++)
			for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
			{
				test_sums(all[s], (weight_type) t, widths[i]);
				test_alone(all[s], (weight_type) t, widths[i]);
			}
	}
}

/* ---- networks ---- */

#define VOCAB 61
#define CONTEXT 64
#define PROMPT (CONTEXT - 6)

static net_config
blocks_config(const char *family)
{
	net_config c = small_transformer(family, VOCAB, CONTEXT);

	c.text.width = 64;
	c.text.heads = c.text.kv_heads = 2;
	c.text.head_dim = 32;
	c.text.ffn = 96;
	return c;
}

static void
test_layout(const char *family)
{
	net_config c = blocks_config(family);
	llm_error err = {0};
	net *n = net_new(&c, &err);
	size_t end = 0;

	CHECK_INT(net_kept_bytes(n), net_weight_bytes(n));
	CHECK_INT(net_kept_type(n), WEIGHT_F32);
	net_keep_all(n, WEIGHT_Q4_0);
	CHECK_INT(net_kept_type(n), WEIGHT_Q4_0);
	for (int32_t i = 0; i < net_tensor_count(n); i++)
	{
		const net_tensor_info *t = net_tensor(n, i);
		bool matrix = t->ndim == 2 && strncmp(t->name, "position", 8) != 0 && strstr(t->name, "relative") == NULL;

		CHECK_INT(t->type, matrix ? WEIGHT_Q4_0 : WEIGHT_F32);
		CHECK(t->place % 64 == 0 && t->place >= end && t->place < end + 64);
		end = t->place + weight_bytes(t->type, t->count);
	}
	CHECK(net_kept_bytes(n) >= end && net_kept_bytes(n) % 64 == 0);
	net_keep(n, 0, WEIGHT_Q8_0);
	CHECK_INT(net_tensor(n, 1)->place, (VOCAB * 68 + 63) / 64 * 64);
	net_free(n);
}

/* Rows that are no whole blocks, and networks on rows, stay float32. */
static void
test_not_kept(void)
{
	net_config c = blocks_config("gpt"), rows = small_config(LOSS_CROSS_ENTROPY);
	llm_error err = {0};
	net *n;

	c.text.ffn = 100;
	n = net_new(&c, &err);
	net_keep_all(n, WEIGHT_Q8_0);
	for (int32_t i = 0; i < net_tensor_count(n); i++)
		if (strstr(net_tensor(n, i)->name, "down") != NULL)
			CHECK_INT(net_tensor(n, i)->type, WEIGHT_F32);
	CHECK_INT(net_kept_type(n), WEIGHT_Q8_0);
	net_free(n);
	n = net_new(&rows, &err);
	net_keep_all(n, WEIGHT_BF16);
	CHECK_INT(net_kept_type(n), WEIGHT_F32);
	CHECK_INT(net_kept_bytes(n), net_weight_bytes(n));
	net_free(n);
}

typedef struct kept_model
{
	net *plain, *kept; /* the same network */
	void *bytes;
	float *decoded; /* their numbers */
	int32_t ids[CONTEXT];
} kept_model;

static kept_model
make_model(const net_config *c, weight_type t)
{
	llm_error err = {0};
	kept_model m = {net_new(c, &err), net_new(c, &err)};

	net_keep_all(m.kept, t);
	m.decoded = aligned_alloc(64, net_weight_bytes(m.plain));
	m.bytes = aligned_alloc(64, net_kept_bytes(m.kept));
	random_weights(m.plain, m.decoded, 0.1f);
	CHECK(net_encode(m.kept, m.decoded, m.bytes, &err));
	for (int32_t i = 0; i < net_tensor_count(m.plain); i++)
		net_decode_tensor(m.kept, i, 0, net_tensor(m.plain, i)->count, m.bytes,
						  m.decoded + net_tensor(m.plain, i)->offset);
	for (int i = 0; i < CONTEXT; i++)
		m.ids[i] = next_below(VOCAB);
	return m;
}

static void
free_model(kept_model *m)
{
	net_free(m->plain);
	net_free(m->kept);
	free(m->bytes);
	free(m->decoded);
}

/*
 * Beside float32 with the same numbers: products of f16 and bf16 by few rows differ in the order of sums alone, and
 * keys and values in f16 by 2^-12; rounding x to bytes or bf16 makes errors of 2.5e-5 or 1e-6 in each product.
 */
static void
test_generation(const net_config *c, weight_type t)
{
	static const double limits[WEIGHT_TYPES] = {1e-12, 1e-5, 1e-4, 2e-3, 2e-3};
	kept_model m = make_model(c, t);
	llm_error err = {0};
	generator *plain = generator_new(m.plain, m.decoded, 8, CONTEXT, 0, &err);
	generator *kept = generator_new(m.kept, m.bytes, 8, CONTEXT, 0, &err);
	double expected[VOCAB];

	if (!CHECK(plain != NULL && kept != NULL))
		exit(1);
	for (int step = 0; step < 6; step++)
	{
		int32_t at = step == 0 ? 0 : PROMPT - 1 + step,
				count = step == 0 ? PROMPT : 1; /* many rows, then single ones */

		CHECK(generator_append(plain, 0, m.ids + at, count, &err));
		CHECK(generator_append(kept, 0, m.ids + at, count, &err));
		for (int i = 0; i < VOCAB; i++)
			expected[i] = generator_logits(plain, 0)[i];
		CHECK_CLOSE(generator_logits(kept, 0), expected, VOCAB, limits[t]);
	}
	generator_free(plain);
	generator_free(kept);
	free_model(&m);
}

/* What goes through beside a sequence changes nothing. */
static void
test_beside(const net_config *c, weight_type t)
{
	kept_model m = make_model(c, t);
	llm_error err = {0};
	generator *together = generator_new(m.kept, m.bytes, 8, CONTEXT, 0, &err);
	generator *alone = generator_new(m.kept, m.bytes, 1, CONTEXT, 0, &err);
	int32_t sequences[8] = {0, 1, 2, 3, 4, 5, 6, 7}, zero = 0;

	for (int step = 0; step < CONTEXT / 8; step++)
		CHECK(generator_step(together, sequences, m.ids + 8 * step, 8, &err));
	for (int s = 0; s < 8; s++)
	{
		generator_truncate(alone, 0, 0);
		for (int step = 0; step < CONTEXT / 8; step++)
			CHECK(generator_step(alone, &zero, m.ids + 8 * step + s, 1, &err));
		CHECK_BYTES(generator_logits(together, s), generator_logits(alone, 0), VOCAB * sizeof(float));
	}
	generator_free(together);
	generator_free(alone);
	free_model(&m);
}

int
main(void)
{
	net_config gpt = blocks_config("gpt"), llama = blocks_config("llama"), wide = llama;

	wide.text.ffn = 4096; /* rows of which a few fill the cache, so that products have blocks of them */
	test_f16();
	test_encodings();
	test_limits();
	test_kernels();
	test_many_rows();
	test_layout("gpt");
	test_layout("llama");
	test_layout("bert");
	test_not_kept();
	for (int t = 0; t < WEIGHT_TYPES; t++)
	{
		test_generation(&gpt, (weight_type) t);
		test_generation(&llama, (weight_type) t);
		test_generation(&wide, (weight_type) t);
		test_beside(&llama, (weight_type) t);
	}
	return test_summary();
}
