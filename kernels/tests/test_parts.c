/*
 * test_parts.c
 *	  What of the CUDA interface is no operation: optimizers against the CPU's, and calls that are refused.
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
		test_refused(bench_entry);
		api->close(device);
	}
	return test_summary();
}
