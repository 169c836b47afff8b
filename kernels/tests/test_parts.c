/*
 * test_parts.c
 *	  What of the CUDA interface is no operation: optimizers against the CPU's, attention to a paged
 *	  cache and products with quantised weights against sums in double, and calls that are refused.
 */
#include "bench.h"

#include "../../src/engine/optim.h"

/* ---- optimizers ---- */

#define PARAM_FLOATS 40000
#define TABLE_ROWS 90
#define TABLE_WIDTH 21

typedef struct optim_case
{
	train_optimizer optimizer;
	double clip_norm, share;
	bool average;
} optim_case;

/* A large tensor, a small one that does not decay, and a table of which a batch used some rows. */
static const optim_tensor tensors[] = {
	{.offset = 0, .rows = 170, .width = 200, .decay = true},
	{.offset = 34000, .rows = 37, .width = 1},
	{.offset = 34048, .rows = 30, .width = TABLE_WIDTH, .decay = true, .table_rows = TABLE_ROWS},
};

static const int32_t used[31] = {7, 2, 3, 17, 40, 41, 88, 89};

static void
random_fill(float *x, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		x[i] = next_normal();
}

static void
check_floats(const float *got, const float *expected, int64_t n, double limit, const char *what)
{
	double error = 0, norm = 0;
	char text[128];

	for (int64_t i = 0; i < n; i++)
	{
		error += ((double) got[i] - expected[i]) * ((double) got[i] - expected[i]);
		norm += (double) expected[i] * expected[i];
	}
	snprintf(text, sizeof(text), "%s: error %.2g", what, norm > 0 ? error / norm : error);
	test_check(error <= limit * norm, text, __FILE__, __LINE__);
}

/* Weights, two moments and an average lie end to end. */
static void
test_optim(const optim_case *c)
{
	train_config config = small_training(1);
	float *host = malloc(4 * PARAM_FLOATS * sizeof(float)), *got = malloc(4 * PARAM_FLOATS * sizeof(float));
	float *gradient[3], *device_gradient[3], *memory;
	optim_tensor list[3];
	llmapp_cuda_param params[3] = {{0}};
	llm_error err = {0};
	llmapp_cuda_optim *o;
	optim *expected;
	int32_t *device_used;
	double *norm, got_norm;

	config.optimizer = c->optimizer;
	random_fill(host, PARAM_FLOATS);
	memset(host + PARAM_FLOATS, 0, 2 * PARAM_FLOATS * sizeof(float));
	memcpy(host + 3 * PARAM_FLOATS, host, PARAM_FLOATS * sizeof(float));
	memory = device_copy(host, 4 * PARAM_FLOATS * sizeof(float));
	device_used = device_copy(used, sizeof(used));
	norm = device_copy(&(double) {0}, sizeof(double));
	for (int i = 0; i < 3; i++)
	{
		int64_t n = tensors[i].rows * tensors[i].width;

		list[i] = tensors[i];
		list[i].gradient = gradient[i] = malloc(n * sizeof(float));
		list[i].used = tensors[i].table_rows ? used : NULL;
		random_fill(gradient[i], n);
		device_gradient[i] = device_copy(gradient[i], n * sizeof(float));
		params[i] = (llmapp_cuda_param) {
			.offset = list[i].offset,
			.rows = list[i].rows,
			.width = list[i].width,
			.decay = list[i].decay,
			.gradient = device_gradient[i],
			.used = list[i].used ? device_used : NULL,
		};
	}
	expected = optim_new(list, 3, &err);
	check_code(api->optim_new(device, params, 3, &o));
	for (int64_t step = 1; step <= 3; step++)
	{
		double sum = c->share * optim_norm(expected, simd_best(), NULL);
		optim_update u = {
			.config = &config,
			.step = step,
			.learning_rate = 0.01 * step,
			.gradient_scale = c->share * (c->clip_norm > 0 && sum > c->clip_norm ? c->clip_norm / sum : 1),
			.weights = host,
			.moments = {host + PARAM_FLOATS, host + 2 * PARAM_FLOATS},
		};
		llmapp_cuda_update d = {
			.adamw = c->optimizer == OPT_ADAMW,
			.step = step,
			.learning_rate = u.learning_rate,
			.weight_decay = config.weight_decay,
			.beta1 = config.beta1,
			.beta2 = config.beta2,
			.epsilon = config.epsilon,
			.momentum = config.momentum,
			.share = c->share,
			.clip_norm = c->clip_norm,
			.ema_decay = 0.9,
			.weights = memory,
			.moments = {memory + PARAM_FLOATS, memory + 2 * PARAM_FLOATS},
			.average = c->average ? memory + 3 * PARAM_FLOATS : NULL,
			.floats = PARAM_FLOATS,
		};

		optim_apply(expected, &u, simd_best(), NULL);
		if (c->average)
			simd_best()->average(host + 3 * PARAM_FLOATS, host, 0.9f, PARAM_FLOATS);
		if (emulate_set_order)
			emulate_set_order((int) step - 1);
		check_code(api->optim_run(o, &d, norm));
		check_code(api->copy_from(device, &got_norm, norm, sizeof(double)));
		CHECK_NEAR(got_norm, sum, 1e-6 * sum);
	}
	check_code(api->copy_from(device, got, memory, 4 * PARAM_FLOATS * sizeof(float)));
	for (int i = 0; i < 4; i++)
		check_floats(got + i * PARAM_FLOATS, host + i * PARAM_FLOATS, PARAM_FLOATS, 1e-12, "optimizer");

	/* a gradient that is not finite changes nothing but the norm */
	gradient[1][5] = INFINITY;
	check_code(api->copy_to(device, device_gradient[1], gradient[1], 37 * sizeof(float)));
	check_code(api->optim_run(
		o, &(llmapp_cuda_update) {.step = 4, .share = 1, .weights = memory, .moments = {memory + PARAM_FLOATS}},
		norm));
	check_code(api->copy_from(device, &got_norm, norm, sizeof(double)));
	CHECK(isinf(got_norm));
	check_code(api->copy_from(device, host, memory, 4 * PARAM_FLOATS * sizeof(float)));
	CHECK_BYTES(host, got, 4 * PARAM_FLOATS * sizeof(float));

	api->optim_free(o);
	optim_free(expected);
	for (int i = 0; i < 3; i++)
	{
		api->release(device, device_gradient[i]);
		free(gradient[i]);
	}
	api->release(device, memory);
	api->release(device, device_used);
	api->release(device, norm);
	free(host);
	free(got);
}

/* ---- attention to a cache ---- */

#define PAGE 16
#define PAGES 80
#define SEQUENCES 4

static uint16_t
to_bf16(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float
from_bf16(uint16_t x)
{
	uint32_t bits = (uint32_t) x << 16;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static void
test_decode(int heads, int kv_heads, int n, bool bf16)
{
	const int32_t lengths[SEQUENCES] = {0, 1, 300, 517};
	int64_t q_floats = SEQUENCES * heads * n, kv_floats = (int64_t) PAGES * PAGE * kv_heads * n;
	float *q = malloc(q_floats * sizeof(float)), *k = malloc(kv_floats * sizeof(float));
	float *v = malloc(kv_floats * sizeof(float)), *out = malloc(q_floats * sizeof(float));
	uint16_t *k16 = malloc(kv_floats * 2), *v16 = malloc(kv_floats * 2);
	double *expected = calloc(q_floats, sizeof(double));
	int32_t pages[SEQUENCES][33];
	llmapp_cuda_decode d = {
		.sequences = SEQUENCES,
		.heads = heads,
		.kv_heads = kv_heads,
		.head_dim = n,
		.page_tokens = PAGE,
		.max_pages = 33,
		.longest = 520,
		.bf16 = bf16,
		.scale = 0.3f,
	};
	void *scratch;

	random_fill(q, q_floats);
	random_fill(k, kv_floats);
	random_fill(v, kv_floats);
	for (int64_t i = 0; i < kv_floats; i++)
	{
		k16[i] = to_bf16(k[i]);
		v16[i] = to_bf16(v[i]);
		k[i] = bf16 ? from_bf16(k16[i]) : k[i];
		v[i] = bf16 ? from_bf16(v16[i]) : v[i];
	}
	for (int s = 0; s < SEQUENCES; s++)
		for (int p = 0; p < 33; p++)
			pages[s][p] = (p * 7 + s * 31) % PAGES;
	for (int s = 0; s < SEQUENCES; s++)
		for (int h = 0; h < heads; h++)
		{
			double sum = 0, *to = expected + (s * heads + h) * n;

			for (int t = 0; t < lengths[s]; t++)
			{
				int64_t at =
					((int64_t) (pages[s][t / PAGE] * PAGE + t % PAGE) * kv_heads + h / (heads / kv_heads)) * n;
				double score = 0, p;

				for (int j = 0; j < n; j++)
					score += (double) q[(s * heads + h) * n + j] * k[at + j];
				p = exp(score * d.scale);
				sum += p;
				for (int j = 0; j < n; j++)
					to[j] += p * v[at + j];
			}
			for (int j = 0; j < n && sum > 0; j++)
				to[j] /= sum;
		}
	d.q = device_copy(q, q_floats * sizeof(float));
	d.k = bf16 ? device_copy(k16, kv_floats * 2) : device_copy(k, kv_floats * 4);
	d.v = bf16 ? device_copy(v16, kv_floats * 2) : device_copy(v, kv_floats * 4);
	d.pages = device_copy(pages, sizeof(pages));
	d.lengths = device_copy(lengths, sizeof(lengths));
	d.out = device_copy(out, q_floats * sizeof(float));
	check_code(api->allocate(device, api->decode_bytes(&d), &scratch));
	for (int order = 0; order < ORDERS; order++)
	{
		if (emulate_set_order)
			emulate_set_order(order);
		check_code(api->decode(device, &d, scratch));
		check_code(api->copy_from(device, out, d.out, q_floats * sizeof(float)));
		CHECK_CLOSE(out, expected, q_floats, 1e-11);
	}
	d.max_pages = 2;
	CHECK_INT(api->decode(device, &d, scratch), LLMAPP_CUDA_INVALID);
	api->release(device, (void *) d.q);
	api->release(device, (void *) d.k);
	api->release(device, (void *) d.v);
	api->release(device, (void *) d.pages);
	api->release(device, (void *) d.lengths);
	api->release(device, d.out);
	api->release(device, scratch);
	free(q);
	free(k);
	free(v);
	free(k16);
	free(v16);
	free(out);
	free(expected);
}

/* ---- quantised weights ---- */

/* Scales as half-precision numbers, some of them negative and one below the normal ones. */
static const struct
{
	uint16_t bits;
	float value;
} scales[] = {{0x3c00, 1}, {0xb800, -0.5f}, {0x2e66, 0.0999755859375f}, {0x0001, 5.9604644775390625e-8f}};

static void
test_gemv(int quant, int64_t rows, int64_t k, int64_t n)
{
	int64_t bytes = quant == LLMAPP_CUDA_Q8_0 ? 34 : 18;
	unsigned char *w = malloc(n * k / 32 * bytes);
	float *x = malloc(rows * k * sizeof(float)), *y = malloc(rows * n * sizeof(float)), *at_x, *at_y;
	double *expected = calloc(rows * n, sizeof(double));
	void *at_w;

	random_fill(x, rows * k);
	for (int64_t b = 0; b < n * k / 32; b++)
	{
		unsigned char *block = w + b * bytes;
		int which = next_below(4);

		memcpy(block, &scales[which].bits, 2);
		for (int i = 2; i < bytes; i++)
			block[i] = (unsigned char) next_below(256);
		for (int i = 0; i < 32; i++)
		{
			int q = quant == LLMAPP_CUDA_Q8_0 ? (signed char) block[2 + i]
											  : (i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4) - 8;

			for (int64_t r = 0; r < rows; r++)
				expected[r * n + b / (k / 32)] += (double) scales[which].value * q * x[r * k + b % (k / 32) * 32 + i];
		}
	}
	at_w = device_copy(w, n * k / 32 * bytes);
	at_x = device_copy(x, rows * k * sizeof(float));
	at_y = device_copy(y, rows * n * sizeof(float));
	check_code(api->quant_gemv(device, quant, at_x, rows, k, at_w, n, at_y));
	check_code(api->copy_from(device, y, at_y, rows * n * sizeof(float)));
	CHECK_CLOSE(y, expected, rows * n, 1e-12);
	CHECK_INT(api->quant_gemv(device, quant, at_x, rows, k - 1, at_w, n, at_y), LLMAPP_CUDA_INVALID);
	CHECK_INT(api->quant_gemv(device, 7, at_x, rows, k, at_w, n, at_y), LLMAPP_CUDA_INVALID);
	api->release(device, at_w);
	api->release(device, at_x);
	api->release(device, at_y);
	free(w);
	free(x);
	free(y);
	free(expected);
}

/* ---- what is refused ---- */

static void
test_refused(llmapp_cuda_entry entry)
{
	char text[LLMAPP_CUDA_TEXT] = "";
	llmapp_cuda_context *none;
	llmapp_cuda_device list[2];
	llmapp_cuda_program *p;
	llmapp_cuda_step s = {.op = api->op("add")};
	int64_t bucket[LLMAPP_CUDA_AXES] = {0, 4, 1, 1};
	int count;
	void *memory;

	CHECK(!entry(LLMAPP_CUDA_VERSION + 1, sizeof(*api), sizeof(llmapp_cuda_step), text, sizeof(text)));
	CHECK(strstr(text, "another version") != NULL);
	CHECK(!entry(LLMAPP_CUDA_VERSION, sizeof(*api) - 8, sizeof(llmapp_cuda_step), text, sizeof(text)));
	CHECK(!entry(LLMAPP_CUDA_VERSION, sizeof(*api), sizeof(llmapp_cuda_step) - 8, text, 0));
	CHECK_INT(api->devices(list, 2, &count, text, sizeof(text)), LLMAPP_CUDA_OK);
	CHECK(count > 0 && list[0].major >= 8 && list[0].memory > 0);
	CHECK_INT(api->open(count, &none, text, sizeof(text)), LLMAPP_CUDA_INVALID);
	CHECK(none == NULL);
	CHECK_INT(api->op("no such operation"), -1);
	CHECK_INT(api->allocate(device, (size_t) 1 << 50, &memory), LLMAPP_CUDA_MEMORY);
	CHECK(memory == NULL && strlen(api->error(device)) > 0);
	s.in[0] = s.in[1] = s.out[0] = (llmapp_cuda_tensor) {device_copy(text, sizeof(text)), 1, 2, {4, 3}};
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_OK);
	CHECK_INT(api->program_run(p, &(llmapp_cuda_batch) {.rows = {0, 5, 0, 0}}), LLMAPP_CUDA_INVALID);
	CHECK_INT(api->program_run(p, &(llmapp_cuda_batch) {.rows = {0, 0, 0, 0}}), LLMAPP_CUDA_OK);
	api->program_free(p);
	bucket[1] = 5; /* above the capacity */
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_INVALID);
	bucket[1] = 4;
	s.in[0].ndim = 5;
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_INVALID);
	s.in[0].ndim = 2;
	s.op = -1;
	CHECK_INT(api->program_new(device, &s, 1, bucket, &p), LLMAPP_CUDA_INVALID);
	api->release(device, s.out[0].data);
}

int
main(int argc, char **argv)
{
	if (bench_open(argc, argv))
	{
		test_optim(&(optim_case) {OPT_ADAMW, 1, 0.5, true});
		test_optim(&(optim_case) {OPT_ADAMW, 0, 1, false});
		test_optim(&(optim_case) {OPT_SGD, 1000, 1, true});
		test_decode(4, 4, 8, false);
		test_decode(6, 1, 40, true);
		test_decode(8, 4, 128, true);
		test_decode(1, 1, 256, false);
		for (int quant = 0; quant < 2; quant++)
		{
			test_gemv(quant, 1, 2080, 37);
			test_gemv(quant, 11, 96, 5);
		}
		test_refused(bench_entry);
		api->close(device);
	}
	return test_summary();
}
