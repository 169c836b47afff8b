/*
 * bench.h
 *	  Runs a recorded graph on the CPU and on a device, real or emulated, and compares every number
 *	  that the CPU wrote.
 *
 * A graph is recorded twice.  The first is planned with all tensors kept, so that every operation's
 * outputs can be compared; the second as it is in use, where outputs take over the memory of inputs,
 * and its results must be those of the first to the last bit.  A device program is made once for
 * buckets larger than the batches and run with several batches; the first is run three times, which
 * must give the same bytes: with the emulator in three orders of threads and blocks, on a device to
 * show that sums have one order.  Memory begins as NaN.
 */
#ifndef LLMAPP_KERNELS_BENCH_H
#define LLMAPP_KERNELS_BENCH_H

#include <dlfcn.h>

#include "../../src/engine/cuda.h"
#include "../../tests/unit/fixture.h"

#define MAX_SLOTS 48
#define MAX_FLOATS (1 << 20)
#define MAX_BATCHES 3
#define ORDERS 3 /* of the first batch; others are run in one */

extern void emulate_set_order(int order) __attribute__((weak));
extern const llmapp_cuda_api *llmapp_cuda_get(uint32_t version, size_t api_size, size_t step_size, char *text,
											  size_t text_bytes) __attribute__((weak));

static const llmapp_cuda_api *api;
static llmapp_cuda_entry bench_entry;
static llmapp_cuda_context *device;
static double worst[OP_COUNT]; /* normalised squared error of each operation's outputs, -1: never seen */

/* A graph with random inputs and parameters, and the batches to run it on. */
typedef struct bench
{
	graph *g;
	void *input[MAX_SLOTS];
	size_t input_bytes[MAX_SLOTS];
	float *weights;
	size_t offsets[MAX_SLOTS], floats;
	int32_t inputs, params;
	float spread; /* of parameters */
	int64_t bucket[AXIS_COUNT];
	int batches;
	int64_t rows[MAX_BATCHES][AXIS_COUNT];
	bool bf16;
	double limit;
} bench;

typedef void (*bench_record)(bench *b, const void *problem);

/* ---- the device ---- */

/* The library of argv[1], or the emulator that is linked; false: there is no GPU. */
static inline bool
bench_open(int argc, char **argv)
{
	char text[LLMAPP_CUDA_TEXT] = "";
	void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;

	if (argc > 1 && !library)
	{
		printf("no GPU: %s\n", dlerror());
		return false;
	}
	bench_entry = library ? (llmapp_cuda_entry) dlsym(library, LLMAPP_CUDA_SYMBOL) : llmapp_cuda_get;
	api = bench_entry ? bench_entry(LLMAPP_CUDA_VERSION, sizeof(*api), sizeof(llmapp_cuda_step), text, sizeof(text))
					  : NULL;
	if (!CHECK(api != NULL))
		return false;
	if (api->open(0, &device, text, sizeof(text)) == LLMAPP_CUDA_UNAVAILABLE)
	{
		printf("no GPU: %s\n", text);
		return false;
	}
	for (int i = 0; i < OP_COUNT; i++)
		worst[i] = -1;
	return CHECK(device != NULL);
}

static inline bool
check_code(int code)
{
	if (code != LLMAPP_CUDA_OK)
		fprintf(stderr, "device: %s\n", api->error(device));
	return CHECK_INT(code, LLMAPP_CUDA_OK);
}

static inline void *
device_copy(const void *data, size_t bytes)
{
	void *memory;

	if (!check_code(api->allocate(device, bytes, &memory)))
		exit(1);
	check_code(api->copy_to(device, memory, data, bytes));
	check_code(api->synchronize(device));
	return memory;
}

/* ---- recording ---- */

static inline bench
bench_new(int64_t rows, int64_t tokens, int64_t sources)
{
	llm_error err = {0};
	bench b = {
		.g = graph_new(rows, &err), .weights = calloc(MAX_FLOATS, sizeof(float)), .spread = 0.5f, .limit = 1e-11};

	b.g->capacity[AXIS_TOKEN] = tokens;
	b.g->capacity[AXIS_SOURCE] = sources;
	fixture_counter = 0;
	return b;
}

static inline int32_t
add_input(bench *b, tensor_axis axis, tensor_type type, int64_t rows, int64_t columns, void *data)
{
	int64_t count = axis ? b->g->capacity[axis] : rows;

	b->input[b->inputs] = data;
	b->input_bytes[b->inputs] = count * (columns ? columns : 1) * 4;
	return graph_input(b->g, b->inputs++, type, axis, rows, columns);
}

static inline int32_t
float_input(bench *b, tensor_axis axis, int64_t columns)
{
	int64_t count = b->g->capacity[axis] * (columns ? columns : 1);
	float *x = malloc(count * sizeof(float));

	for (int64_t i = 0; i < count; i++)
		x[i] = next_normal();
	return add_input(b, axis, TENSOR_F32, 0, columns, x);
}

static inline int32_t
index_input(bench *b, tensor_axis axis, int64_t rows, int64_t columns, int32_t limit)
{
	int64_t count = (axis ? b->g->capacity[axis] : rows) * (columns ? columns : 1);
	int32_t *x = malloc(count * sizeof(int32_t));

	for (int64_t i = 0; i < count; i++)
		x[i] = next_below(limit);
	return add_input(b, axis, TENSOR_I32, rows, columns, x);
}

/* Positive numbers, about a third of them 0. */
static inline int32_t
weight_input(bench *b, tensor_axis axis)
{
	int32_t t = float_input(b, axis, 0);
	float *x = b->input[b->inputs - 1];

	for (int64_t i = 0; i < b->g->capacity[axis]; i++)
		x[i] = x[i] < -0.4f ? 0 : fabsf(x[i]);
	return t;
}

static inline int32_t
int_input(bench *b, const int32_t *x, int64_t n)
{
	return add_input(b, AXIS_NONE, TENSOR_I32, n, 0, memcpy(malloc(n * sizeof(*x)), x, n * sizeof(*x)));
}

static inline int32_t
parameter_of(bench *b, int32_t ndim, const int64_t *dims)
{
	int64_t count = 1;

	for (int32_t i = 0; i < ndim; i++)
		count *= dims[i];
	b->offsets[b->params] = b->floats;
	for (int64_t i = 0; i < count; i++)
		b->weights[b->floats + i] = b->spread * next_normal();
	b->floats += (count + 15) / 16 * 16;
	if (b->floats > MAX_FLOATS || b->params >= MAX_SLOTS - 1)
		exit(1);
	return graph_param(b->g, b->params++, ndim, dims);
}

static inline int32_t
parameter(bench *b, int64_t rows, int64_t columns)
{
	return parameter_of(b, columns ? 2 : 1, (int64_t[]) {rows, columns});
}

/* Batches of so many rows, with the tokens of their starts. */
static inline void
add_batch(bench *b, int64_t rows, const int32_t *start, const int32_t *source_start)
{
	int64_t *r = b->rows[b->batches++];

	r[AXIS_ROW] = rows;
	r[AXIS_TOKEN] = start ? start[rows] : 0;
	r[AXIS_SOURCE] = source_start ? source_start[rows] : 0;
}

static inline void
bench_free(bench *b, plan *p)
{
	plan_free(p);
	free(b->weights);
	for (int i = 0; i < b->inputs; i++)
		free(b->input[i]);
}

/* ---- running ---- */

/* A plan, its memory on both sides, and its program. */
typedef struct runner
{
	bench b;
	plan *p;
	size_t bytes;
	char *arena, *got, *blank;
	char *to_arena;
	float *to_weights;
	void *to_input[MAX_SLOTS];
	llmapp_cuda_program *program;
} runner;

static inline llmapp_cuda_step *
describe_steps(const runner *r, llm_error *err)
{
	llmapp_cuda_step *steps;

	plan_attach(r->p, r->to_arena, r->to_weights);
	steps = cuda_steps(api, r->p, r->to_input, err);
	for (int32_t i = 0; steps && i < plan_graph(r->p)->node_count; i++)
		steps[i].bf16 = r->b.bf16;
	plan_attach(r->p, r->arena, r->b.weights);
	return steps;
}

static inline bool
runner_new(runner *r, bench_record record, const void *problem, bool keep)
{
	llm_error err = {0};
	llmapp_cuda_step *steps;
	int32_t count;
	bool ok;

	memset(r, 0, sizeof(*r));
	record(&r->b, problem);
	for (int32_t t = 0; keep && t < r->b.g->tensor_count; t++)
		if (r->b.g->tensors[t].role == ROLE_VALUE || r->b.g->tensors[t].role == ROLE_GRADIENT)
			r->b.g->tensors[t].keep = true;
	r->p = plan_new(r->b.g, &backend_cpu, r->b.offsets, &err);
	if (!CHECK_STR(err.message, "") || !r->p)
		return false;
	r->bytes = plan_arena_bytes(r->p);
	r->arena = backend_cpu.allocate(r->bytes);
	r->got = malloc(r->bytes);
	r->blank = memset(malloc(r->bytes), 0xff, r->bytes);
	r->to_arena = device_copy(r->blank, r->bytes);
	r->to_weights = device_copy(r->b.weights, r->b.floats * sizeof(float) + 4);
	for (int32_t i = 0; i < r->b.inputs; i++)
		r->to_input[i] = device_copy(r->b.input[i], r->b.input_bytes[i]);
	steps = describe_steps(r, &err);
	if (!CHECK_STR(err.message, ""))
		return false;
	for (int32_t i = 0; i < r->b.inputs; i++)
		plan_bind(r->p, i, r->b.input[i]);
	count = plan_graph(r->p)->node_count;
	ok = check_code(api->program_new(device, steps, count, r->b.bucket, &r->program));
	free(steps);
	return ok;
}

static inline void
runner_free(runner *r)
{
	api->program_free(r->program);
	api->release(device, r->to_arena);
	api->release(device, r->to_weights);
	for (int32_t i = 0; i < r->b.inputs; i++)
		api->release(device, r->to_input[i]);
	backend_cpu.release(r->arena);
	free(r->got);
	free(r->blank);
	bench_free(&r->b, r->p);
}

#define BENCH_SEED 77
#define BENCH_STEP 5

static inline void
run_host(runner *r, int batch)
{
	llm_error err = {0};
	run_args args = {.seed = BENCH_SEED, .step = BENCH_STEP + batch, .simd = simd_best()};

	memcpy(args.rows, r->b.rows[batch], sizeof(args.rows));
	memset(r->arena, 0xff, r->bytes);
	CHECK(plan_run(r->p, &args, &err));
}

static inline void
run_device(runner *r, int batch, int order)
{
	llmapp_cuda_batch args = {.seed = BENCH_SEED, .step = BENCH_STEP + batch};

	memcpy(args.rows, r->b.rows[batch], sizeof(args.rows));
	if (emulate_set_order)
		emulate_set_order(order);
	for (int32_t i = 0; i < r->b.inputs; i++)
		check_code(api->copy_to(device, r->to_input[i], r->b.input[i], r->b.input_bytes[i]));
	check_code(api->copy_to(device, r->to_arena, r->blank, r->bytes));
	check_code(api->program_run(r->program, &args));
	check_code(api->copy_from(device, r->got, r->to_arena, r->bytes));
}

/* ---- comparing ---- */

static inline bool
is_blank(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits == 0xffffffff;
}

/* Numbers far below this are compared as if they were so large: some gradients are 0 but for rounding. */
#define SMALL 1e-4

/* Of what the host wrote. */
static inline double
tensor_error(const runner *r, int32_t t, size_t *compared)
{
	const tensor *x = &plan_graph(r->p)->tensors[t];
	const float *expected = plan_address(r->p, t);
	const float *got = (const float *) (r->got + ((const char *) expected - r->arena));
	double error = 0, norm = 0;
	size_t bytes;

	tensor_bytes(x, &bytes);
	for (size_t i = 0; i < bytes / 4; i++)
	{
		if (is_blank(expected[i]))
			continue;
		++*compared;
		if (x->type == TENSOR_I32)
			error += memcmp(&expected[i], &got[i], 4) != 0;
		else
		{
			error += ((double) got[i] - expected[i]) * ((double) got[i] - expected[i]);
			norm += (double) expected[i] * expected[i] + SMALL * SMALL;
		}
	}
	return norm > 0 ? error / norm : error;
}

static inline void
compare_tensors(const runner *r, const char *name, int batch)
{
	const graph *g = plan_graph(r->p);
	char text[160];

	for (int32_t i = 0; i < g->node_count; i++)
		for (int j = 0; j < NODE_OUTPUTS; j++)
		{
			int32_t t = g->nodes[i].out[j];
			op_kind op = g->nodes[i].op;
			size_t compared = 0;
			double error;

			if (t == TENSOR_NONE || op == OP_conv2d_flip) /* which are turned for the CPU only */
				continue;
			error = tensor_error(r, t, &compared);
			snprintf(text, sizeof(text), "%s, batch %d, node %d: %s output %d: error %.2g", name, batch, i,
					 op_table[op].name, j, error);
			test_check(error <= r->b.limit, text, __FILE__, __LINE__);
			if (!(error <= worst[op]) && !r->b.bf16 && (compared > 0 || worst[op] < 0))
				worst[op] = error;
		}
}

/* What the plan in use keeps is what the other had, where the other's host wrote. */
static inline bool
same_results(const runner *all, const runner *used)
{
	const graph *g = plan_graph(used->p);
	bool same = true;

	for (int32_t t = 0; t < g->tensor_count; t++)
	{
		const char *a = plan_address(all->p, t), *b = plan_address(used->p, t);
		size_t bytes;

		if (!g->tensors[t].keep || g->tensors[t].role == ROLE_INPUT || !a || !b ||
			!tensor_bytes(&g->tensors[t], &bytes))
			continue;
		for (size_t i = 0; i < bytes; i += 4)
			if (!is_blank(*(const float *) (a + i)))
				same &= memcmp(all->got + (a - all->arena) + i, used->got + (b - used->arena) + i, 4) == 0;
	}
	return same;
}

static inline void
compare(const char *name, bench_record record, const void *problem)
{
	runner all, used;
	char *first;

	if (!runner_new(&all, record, problem, true) || !runner_new(&used, record, problem, false))
		return;
	first = malloc(all.bytes);
	for (int batch = 0; batch < all.b.batches; batch++)
	{
		char text[128];

		run_host(&all, batch);
		for (int order = 0; order < (batch == 0 ? ORDERS : 1); order++)
		{
			run_device(&all, batch, order);
			if (order == 0)
				memcpy(first, all.got, all.bytes);
			snprintf(text, sizeof(text), "%s, batch %d: the same bytes in order %d", name, batch, order);
			test_check(memcmp(first, all.got, all.bytes) == 0, text, __FILE__, __LINE__);
		}
		compare_tensors(&all, name, batch);
		run_device(&used, batch, 0);
		snprintf(text, sizeof(text), "%s, batch %d: the same bytes in shared memory", name, batch);
		test_check(same_results(&all, &used), text, __FILE__, __LINE__);
	}
	free(first);
	runner_free(&all);
	runner_free(&used);
}

#endif /* LLMAPP_KERNELS_BENCH_H */
