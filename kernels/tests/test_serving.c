/*
 * test_serving.c
 *	  The steps of serving.def against sums in double: products and tables with weights in every type, heads made ready
 *	  and put into pages, attention to pages, rows picked out, and steps that are refused.
 *
 * Each runs three times, with the emulator in three orders of threads and blocks, which must make the same bytes.  Sums
 * in float32 are within 1e-12; of more rows than the matrix-vector kernels have, they are compared with sums of numbers
 * that are rounded as the product's are: to bf16, or those that meet f16 to tf32.
 */
#include "bench.h"

#include "../../src/engine/cpu_attention.h"
#include "../../src/engine/quant.h"

#define LENGTH(x) ((int) (sizeof(x) / sizeof(*(x))))

static float *
random_floats(int64_t n)
{
	float *x = malloc(n * sizeof(float));

	for (int64_t i = 0; i < n; i++)
		x[i] = next_normal();
	return x;
}

/* A tensor of so many bytes of data, which goes to the device; columns 0: one dimension. */
static llmapp_cuda_tensor
tensor_on_device(const void *data, size_t bytes, int32_t axis, int64_t rows, int64_t columns)
{
	return (llmapp_cuda_tensor) {device_copy(data, bytes), axis, columns > 0 ? 2 : 1, {rows, columns}};
}

static llmapp_cuda_tensor
floats_on_device(const float *x, int32_t axis, int64_t rows, int64_t columns)
{
	return tensor_on_device(x, rows * (columns > 0 ? columns : 1) * sizeof(float), axis, rows, columns);
}

static llmapp_cuda_tensor
ints_on_device(const int32_t *x, int32_t axis, int64_t count)
{
	return tensor_on_device(x, count * sizeof(int32_t), axis, count, 0);
}

/* Memory that is in several places is released once. */
static void
release_tensors(const llmapp_cuda_step *s)
{
	for (int i = 0; i < LLMAPP_CUDA_OUTPUTS; i++)
		if (s->out[i].data && s->out[i].data != s->in[0].data)
			api->release(device, s->out[i].data);
	for (int i = 0; i < LLMAPP_CUDA_INPUTS; i++)
		if (s->in[i].data)
			api->release(device, s->in[i].data);
}

/* One step in each order; y is what it starts from and ends with, `bytes` of out[0]. */
static void
run_step(const llmapp_cuda_step *s, const llmapp_cuda_batch *batch, const int64_t *bucket, void *y, size_t bytes)
{
	llmapp_cuda_program *p;
	char *start = memcpy(malloc(bytes), y, bytes), *first = malloc(bytes);

	if (!check_code(api->program_new(device, s, 1, bucket, &p)))
		exit(1);
	for (int order = 0; order < ORDERS; order++)
	{
		if (emulate_set_order)
			emulate_set_order(order);
		check_code(api->copy_to(device, s->out[0].data, start, bytes));
		check_code(api->program_run(p, batch));
		check_code(api->copy_from(device, y, s->out[0].data, bytes));
		if (order == 0)
			memcpy(first, y, bytes);
		CHECK_BYTES((char *) y, first, bytes);
	}
	api->program_free(p);
	free(start);
	free(first);
}

/* ---- weights in every type ---- */

static float
rounded_to_bf16(float x)
{
	uint16_t word;

	weight_encode(WEIGHT_BF16, &x, 1, &word);
	weight_decode(WEIGHT_BF16, &word, 0, 1, &x);
	return x;
}

static float
rounded_to_tf32(float x)
{
	double step = ldexp(1, ilogb(x) - 10);

	return (float) (nearbyint(x / step) * step);
}

/* Numbers as they are kept, and what they are then. */
static void *
kept(weight_type type, float *x, int64_t n)
{
	void *bytes = malloc(weight_bytes(type, n));

	CHECK(weight_encode(type, x, n, bytes));
	weight_decode(type, bytes, 0, n, x);
	return bytes;
}

typedef struct linear_case
{
	int64_t rows, k, n;
	bool bias, accumulate;
	int64_t panel; /* rows of w */
} linear_case;

static void
test_linear(weight_type type, const linear_case *c)
{
	float *x = random_floats(c->rows * c->k), *w = random_floats(c->n * c->k), *bias = random_floats(c->n);
	float *y = random_floats(c->rows * c->n);
	double *expected = calloc(c->rows * c->n, sizeof(double));
	bool rounded = c->rows > 8 && type != WEIGHT_F32 && type != WEIGHT_F16;
	void *bytes = kept(type, w, c->n * c->k), *panel = calloc(c->panel * c->k, 4);
	int64_t bucket[LLMAPP_CUDA_AXES] = {0, 1, c->rows, 1};
	llmapp_cuda_step s = {.op = api->op("kept_linear"), .axis = AXIS_TOKEN, .attr.index = type};

	s.in[0] = floats_on_device(x, AXIS_TOKEN, c->rows, c->k);
	s.in[1] = tensor_on_device(bytes, weight_bytes(type, c->n * c->k), AXIS_NONE, c->n, c->k);
	if (c->bias)
		s.in[2] = floats_on_device(bias, AXIS_NONE, c->n, 0);
	s.in[3] = tensor_on_device(panel, c->panel * c->k * 4, AXIS_NONE, c->panel * c->k * (rounded ? 2 : 4), 0);
	s.out[0] = floats_on_device(y, AXIS_TOKEN, c->rows, c->n);
	s.accumulate[0] = c->accumulate;
	for (int64_t i = 0; i < c->rows * c->k && c->rows > 8 && type != WEIGHT_F32; i++)
		x[i] = rounded ? rounded_to_bf16(x[i]) : rounded_to_tf32(x[i]);
	for (int64_t i = 0; i < c->n * c->k && rounded; i++)
		w[i] = rounded_to_bf16(w[i]);
	for (int64_t r = 0; r < c->rows; r++)
		for (int64_t j = 0; j < c->n; j++)
		{
			double *to = expected + r * c->n + j;

			*to = (c->bias ? bias[j] : 0) + (c->accumulate ? y[r * c->n + j] : 0);
			for (int64_t i = 0; i < c->k; i++)
				*to += (double) x[r * c->k + i] * w[j * c->k + i];
		}
	run_step(&s, &(llmapp_cuda_batch) {.rows[AXIS_TOKEN] = c->rows}, bucket, y, c->rows * c->n * sizeof(float));
	CHECK_CLOSE(y, expected, c->rows * c->n, 1e-12);
	release_tensors(&s);
	free(x);
	free(w);
	free(bias);
	free(y);
	free(expected);
	free(bytes);
	free(panel);
}

/* Every number of rows that has a kernel; columns that fill no block; panels that do not divide the columns. */
static void
test_linears(void)
{
	const linear_case cases[] = {
		{1, 2080, 37, false, false, 1}, {2, 96, 5, true, true, 1},     {3, 32, 9, true, false, 1},
		{8, 160, 33, false, true, 1},   {9, 64, 21, true, true, 8},    {20, 96, 40, false, false, 64},
		{5, 320, 18, true, false, 1},   {12, 32, 17, false, true, 17},
	};

	for (int type = 0; type < WEIGHT_TYPES; type++)
		for (int i = 0; i < LENGTH(cases); i++)
			test_linear(type, &cases[i]);
	/* rows of float32 of any length */
	test_linear(WEIGHT_F32, &(linear_case) {1, 33, 7, true, false, 1});
	test_linear(WEIGHT_F32, &(linear_case) {7, 131, 10, false, true, 1});
	test_linear(WEIGHT_F32, &(linear_case) {11, 35, 10, true, true, 1});
}

#define TABLE_ROWS 19
#define TABLE_WIDTH 64
#define IDS 5

static void
test_table(weight_type type, bool with_positions)
{
	const int32_t id[IDS] = {3, 0, 18, 3, 7}, position[IDS] = {0, 6, 2, 2, 1};
	float *table = random_floats(TABLE_ROWS * TABLE_WIDTH), *positions = random_floats(7 * TABLE_WIDTH);
	float y[IDS * TABLE_WIDTH];
	double expected[IDS * TABLE_WIDTH];
	void *bytes = kept(type, table, TABLE_ROWS * TABLE_WIDTH);
	int64_t bucket[LLMAPP_CUDA_AXES] = {0, 1, IDS, 1};
	llmapp_cuda_step s = {.op = api->op("kept_embed"), .axis = AXIS_TOKEN, .attr.index = type, .attr.number = 1.5f};

	memset(y, 0, sizeof(y));
	s.in[0] = ints_on_device(id, AXIS_TOKEN, IDS);
	s.in[1] =
		tensor_on_device(bytes, weight_bytes(type, TABLE_ROWS * TABLE_WIDTH), AXIS_NONE, TABLE_ROWS, TABLE_WIDTH);
	s.in[2] = ints_on_device(position, AXIS_TOKEN, IDS);
	if (with_positions)
		s.in[3] = floats_on_device(positions, AXIS_NONE, 7, TABLE_WIDTH);
	s.out[0] = floats_on_device(y, AXIS_TOKEN, IDS, TABLE_WIDTH);
	for (int i = 0; i < IDS * TABLE_WIDTH; i++)
		expected[i] = 1.5 * table[id[i / TABLE_WIDTH] * TABLE_WIDTH + i % TABLE_WIDTH] +
					  (with_positions ? positions[position[i / TABLE_WIDTH] * TABLE_WIDTH + i % TABLE_WIDTH] : 0);
	run_step(&s, &(llmapp_cuda_batch) {.rows[AXIS_TOKEN] = IDS}, bucket, y, sizeof(y));
	CHECK_CLOSE(y, expected, IDS * TABLE_WIDTH, 1e-13);
	release_tensors(&s);
	free(table);
	free(positions);
	free(bytes);
}

/* ---- pages ---- */

#define PAGE 16
#define PAGES 40
#define ROWS 5
#define COLUMNS 33 /* of a text's pages, at most */

typedef struct page_case
{
	int heads, kv_heads, n, turned; /* turned 0: no rotary positions */
	bool half, norm;
	int buckets; /* 0: no relative positions */
	int64_t bucket;
} page_case;

/* Of rows in texts of these many tokens; the second and third are of one text. */
static const int32_t positions[ROWS] = {0, 298, 299, 516, 16}, text_of[ROWS] = {0, 1, 1, 2, 3};

/* Where a token of a row lies, in heads of n numbers. */
static int64_t
token_at(const page_case *c, const int32_t *pages, int row, int token, int kv_head)
{
	int64_t page = pages[text_of[row] * COLUMNS + token / PAGE];

	return (page * c->kv_heads + kv_head) * PAGE + token % PAGE;
}

static void
fill_table(int32_t *pages, int32_t *first)
{
	for (int i = 0; i < 4 * COLUMNS; i++)
		pages[i] = (i * 7 + i / COLUMNS * 3) % PAGES;
	for (int i = 0; i < ROWS; i++)
		first[i] = text_of[i] * COLUMNS;
}

static void
describe_table(llmapp_cuda_step *s, int at, int64_t capacity, const int32_t *first, const int32_t *pages)
{
	int32_t *padded = calloc(capacity, sizeof(int32_t));

	s->in[at] = ints_on_device(memcpy(padded, positions, sizeof(positions)), AXIS_TOKEN, capacity);
	s->in[at + 1] = ints_on_device(memcpy(padded, first, ROWS * sizeof(int32_t)), AXIS_TOKEN, capacity);
	s->in[at + 2] = ints_on_device(pages, AXIS_NONE, 4 * COLUMNS);
	free(padded);
}

static llmapp_cuda_step
page_step(const page_case *c, const char *name)
{
	llmapp_cuda_step s = {.op = api->op(name), .axis = AXIS_TOKEN};

	s.attr = (llmapp_cuda_attr) {.heads = c->heads,
								 .kv_heads = c->kv_heads,
								 .head_dim = c->n,
								 .flag = c->half,
								 .count = PAGE,
								 .index = 517,
								 .number = 1e-5f,
								 .scale = 0.3f,
								 .buckets = c->buckets,
								 .distance = 40};
	return s;
}

/* Keys or values, as they are kept in pages, and what they are then. */
static llmapp_cuda_tensor
random_pages(const page_case *c, float *x)
{
	int64_t n = (int64_t) PAGES * c->kv_heads * PAGE * c->n;
	weight_type type = c->half ? WEIGHT_F16 : WEIGHT_F32;
	void *bytes = kept(type, x, n);
	llmapp_cuda_tensor t = tensor_on_device(bytes, weight_bytes(type, n), AXIS_NONE, PAGES, n / PAGES);

	free(bytes);
	return t;
}

/* As the engine has it. */
static int32_t
bucket_of_distance(const page_case *c, int distance)
{
	attention_shape shape = {.causal = true, .buckets = c->buckets, .distance = 40};

	return relative_bucket(&shape, distance);
}

static void
test_attention(const page_case *c)
{
	int64_t kv = (int64_t) PAGES * c->kv_heads * PAGE * c->n, width = (c->heads + 2 * c->kv_heads) * c->n;
	int64_t outputs = (int64_t) c->heads * c->n, bucket[LLMAPP_CUDA_AXES] = {0, 1, c->bucket, 1};
	float *k = random_floats(kv), *v = random_floats(kv), *q = random_floats(c->bucket * width);
	float *bias = random_floats(64 * c->heads), *y = calloc(c->bucket * outputs, sizeof(float));
	double *expected = calloc(ROWS * outputs, sizeof(double));
	int32_t pages[4 * COLUMNS], first[ROWS];
	llmapp_cuda_step s = page_step(c, "page_attention");

	fill_table(pages, first);
	s.in[0] = floats_on_device(q, AXIS_TOKEN, c->bucket, width);
	s.in[1] = random_pages(c, k);
	s.in[2] = random_pages(c, v);
	describe_table(&s, 3, c->bucket, first, pages);
	if (c->buckets)
		s.in[6] = floats_on_device(bias, AXIS_NONE, c->buckets, c->heads);
	s.out[0] = floats_on_device(y, AXIS_TOKEN, c->bucket, outputs);
	for (int r = 0; r < ROWS; r++)
		for (int h = 0; h < c->heads; h++)
		{
			double sum = 0, *to = expected + r * outputs + h * c->n;

			for (int t = 0; t <= positions[r]; t++)
			{
				int64_t at = token_at(c, pages, r, t, h / (c->heads / c->kv_heads)) * c->n;
				double score = 0, p;

				for (int j = 0; j < c->n; j++)
					score += (double) q[r * width + h * c->n + j] * k[at + j];
				score = 0.3f * score;
				if (c->buckets)
					score += bias[bucket_of_distance(c, t - positions[r]) * c->heads + h];
				p = exp(score);
				sum += p;
				for (int j = 0; j < c->n; j++)
					to[j] += p * v[at + j];
			}
			for (int j = 0; j < c->n; j++)
				to[j] /= sum;
		}
	run_step(&s, &(llmapp_cuda_batch) {.rows[AXIS_TOKEN] = ROWS}, bucket, y, c->bucket * outputs * sizeof(float));
	CHECK_CLOSE(y, expected, ROWS * outputs, 1e-11);
	release_tensors(&s);
	free(k);
	free(v);
	free(q);
	free(bias);
	free(y);
	free(expected);
}

/* A head normalised and turned. */
static void
finish_head(const page_case *c, float *x, const float *gain, const float *angles)
{
	double squares = 0;
	int half = c->turned / 2;

	for (int j = 0; j < c->n; j++)
		squares += (double) x[j] * x[j];
	for (int j = 0; j < c->n && c->norm; j++)
		x[j] = (float) (x[j] * gain[j] / sqrt(squares / c->n + 1e-5f));
	for (int j = 0; j < half; j++)
	{
		double a = x[j], b = x[half + j];

		x[j] = (float) (a * angles[j] - b * angles[half + j]);
		x[half + j] = (float) (b * angles[j] + a * angles[half + j]);
	}
}

/* What a step left in pages, as floats. */
static float *
fetched_pages(const page_case *c, const llmapp_cuda_tensor *t)
{
	int64_t n = t->dims[0] * t->dims[1];
	weight_type type = c->half ? WEIGHT_F16 : WEIGHT_F32;
	void *bytes = malloc(weight_bytes(type, n));
	float *x = malloc(n * sizeof(float));

	check_code(api->copy_from(device, bytes, t->data, weight_bytes(type, n)));
	weight_decode(type, bytes, 0, n, x);
	free(bytes);
	return x;
}

static void
check_pages(const page_case *c, const llmapp_cuda_tensor *t, const float *expected)
{
	float *got = fetched_pages(c, t);
	double error = 0, norm = 0;
	char text[64];

	for (int64_t i = 0; i < t->dims[0] * t->dims[1]; i++)
	{
		error += ((double) got[i] - expected[i]) * ((double) got[i] - expected[i]);
		norm += (double) expected[i] * expected[i];
	}
	snprintf(text, sizeof(text), "pages: error %.2g", error / norm);
	test_check(error <= 1e-11 * norm, text, __FILE__, __LINE__);
	free(got);
}

/* Tokens into pages that keep what else they have. */
static void
test_heads(const page_case *c)
{
	int64_t kv = (int64_t) PAGES * c->kv_heads * PAGE * c->n, width = (c->heads + 2 * c->kv_heads) * c->n;
	int64_t bucket[LLMAPP_CUDA_AXES] = {0, 1, ROWS + 1, 1};
	float *k = random_floats(kv), *v = random_floats(kv), *qkv = random_floats((ROWS + 1) * width);
	float *got = memcpy(malloc((ROWS + 1) * width * sizeof(float)), qkv, (ROWS + 1) * width * sizeof(float));
	float *gain = random_floats(2 * c->n), *angles = random_floats(517 * (c->turned ? c->turned : 1));
	double *expected = malloc(ROWS * width * sizeof(double));
	int32_t pages[4 * COLUMNS], first[ROWS];
	llmapp_cuda_step s = page_step(c, "page_heads");

	fill_table(pages, first);
	s.in[0] = s.out[0] = floats_on_device(qkv, AXIS_TOKEN, ROWS + 1, width);
	if (c->norm)
	{
		s.in[1] = floats_on_device(gain, AXIS_NONE, c->n, 0);
		s.in[2] = floats_on_device(gain + c->n, AXIS_NONE, c->n, 0);
	}
	if (c->turned)
		s.in[3] = floats_on_device(angles, AXIS_NONE, 517, c->turned);
	describe_table(&s, 4, ROWS + 1, first, pages);
	s.out[1] = random_pages(c, k);
	s.out[2] = random_pages(c, v);
	run_step(&s, &(llmapp_cuda_batch) {.rows[AXIS_TOKEN] = ROWS}, bucket, got, (ROWS + 1) * width * sizeof(float));
	for (int r = 0; r < ROWS; r++)
	{
		float *row = qkv + r * width;

		for (int h = 0; h < c->heads; h++)
			finish_head(c, row + h * c->n, gain, angles + positions[r] * c->turned);
		for (int64_t j = 0; j < width; j++)
			expected[r * width + j] = row[j];
		for (int h = 0; h < c->kv_heads; h++)
		{
			int64_t at = token_at(c, pages, r, positions[r], h) * c->n;
			float *from = row + (c->heads + h) * c->n;

			finish_head(c, from, gain + c->n, angles + positions[r] * c->turned);
			memcpy(k + at, from, c->n * sizeof(float));
			memcpy(v + at, from + c->kv_heads * c->n, c->n * sizeof(float));
			if (c->half)
			{
				free(kept(WEIGHT_F16, k + at, c->n));
				free(kept(WEIGHT_F16, v + at, c->n));
			}
		}
	}
	for (int r = 0; r < ROWS; r++)
		CHECK_CLOSE(got + r * width, expected + r * width, c->heads * c->n, 1e-12);
	check_pages(c, &s.out[1], k);
	check_pages(c, &s.out[2], v);
	release_tensors(&s);
	free(k);
	free(v);
	free(qkv);
	free(got);
	free(gain);
	free(angles);
	free(expected);
}

/* Heads of every kernel's size, some that fill no lane; many splits of a row, one, and rows that are not there. */
static void
test_pages(void)
{
	const page_case cases[] = {
		{4, 4, 8, 8, false, false, 0, 8},     {6, 1, 40, 20, false, true, 0, 5}, {8, 4, 128, 128, true, true, 0, 6},
		{1, 1, 256, 0, false, false, 0, 5},   {5, 1, 96, 64, true, false, 0, 9}, {3, 3, 5, 2, false, true, 16, 5},
		{2, 2, 32, 32, true, false, 8, 1100},
	};

	for (int i = 0; i < LENGTH(cases); i++)
	{
		test_attention(&cases[i]);
		test_heads(&cases[i]);
	}
}

static void
test_gather(void)
{
	const int32_t which[3] = {6, 0, 3};
	float *x = random_floats(7 * 11), y[3 * 11] = {0};
	int64_t bucket[LLMAPP_CUDA_AXES] = {0, 3, 7, 1};
	llmapp_cuda_step s = {.op = api->op("gather_rows"), .axis = AXIS_ROW};

	s.in[0] = floats_on_device(x, AXIS_TOKEN, 7, 11);
	s.in[1] = ints_on_device(which, AXIS_ROW, 3);
	s.out[0] = floats_on_device(y, AXIS_ROW, 3, 11);
	run_step(&s, &(llmapp_cuda_batch) {.rows[AXIS_TOKEN] = 7, .rows[AXIS_ROW] = 3}, bucket, y, sizeof(y));
	for (int i = 0; i < 3; i++)
		CHECK_BYTES(y + i * 11, x + which[i] * 11, 11 * sizeof(float));
	release_tensors(&s);
	free(x);
}

/* ---- what is refused ---- */

static void
test_refused(void)
{
	int64_t bucket[LLMAPP_CUDA_AXES] = {0, 1, 9, 1};
	float *x = random_floats(16 * 64);
	llmapp_cuda_step s = {.op = api->op("kept_linear"), .axis = AXIS_TOKEN, .attr.index = WEIGHT_Q4_0};
	llmapp_cuda_program *p;

	s.in[0] = floats_on_device(x, AXIS_TOKEN, 16, 64);
	s.in[1] = floats_on_device(x, AXIS_NONE, 16, 64);
	s.in[3] = tensor_on_device(x, 64, AXIS_NONE, 64, 0);
	s.out[0] = floats_on_device(x, AXIS_TOKEN, 16, 16);
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_FAILED);
	CHECK(!p && strstr(api->error(device), "no room"));
	s.attr.index = WEIGHT_TYPES;
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_FAILED);
	CHECK(strstr(api->error(device), "impossible form"));
	s.attr.index = WEIGHT_Q8_0;
	s.in[1].dims[1] = 63;
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_FAILED);
	s.op = api->op("page_attention");
	s.attr = (llmapp_cuda_attr) {.heads = 1, .kv_heads = 1, .head_dim = 257, .count = 64};
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_FAILED);
	CHECK(strstr(api->error(device), "impossible shape"));
	s.attr.head_dim = 16;
	s.attr.flag = true; /* f16 has whole blocks */
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_FAILED);
	release_tensors(&s);
	free(x);
}

int
main(int argc, char **argv)
{
	if (bench_open(argc, argv))
	{
		test_linears();
		for (int type = 0; type < WEIGHT_TYPES; type++)
			test_table(type, type % 2 == 0);
		test_pages();
		test_gather();
		test_refused();
		api->close(device);
	}
	return test_summary();
}
