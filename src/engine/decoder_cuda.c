/*
 * decoder_cuda.c
 *	  A decoder's passes on a GPU.
 *
 * One block of device memory has the weights as they are kept, the pages of keys and values, the arrays of a pass and
 * what differs from pass to pass; one block of pinned memory has the latter and the logits.  Programs are of so many
 * rows: powers of two and the most of a pass, each made when a pass first needs it.  A pass is one copy to the device,
 * one run of a graph, and one copy back, for which it waits.
 */
#include "decoder_device.h"

#include <stdlib.h>
#include <string.h>

#include "cpu_attention.h"
#include "cuda_plans.h"
#include "decoder_steps.h"
#include "generator_pass.h"

#define PROGRAMS 32
#define PIECE ((size_t) 1 << 20)  /* of weights, in pinned memory */
#define PANEL ((size_t) 16 << 20) /* of weights decoded for a product, which stay in the device's cache */

/* Offsets into the two blocks, and their sizes. */
typedef struct memory_layout
{
	size_t weights, keys, values, angles, stream, normed, stats, qkv, attended, up, gated, last, logits, panel,
		inputs;
	size_t panel_bytes, device_bytes;
	size_t host_inputs, host_logits, host_bytes;
} memory_layout;

typedef struct cuda_decoder
{
	const cuda_device *device;
	memory_layout at;
	char *memory;  /* of the device */
	char *staging; /* pinned */
	llmapp_cuda_step *steps;
	int32_t step_count;
	llmapp_cuda_program *programs[PROGRAMS]; /* of 1 << i rows, or shape.tokens */
} cuda_decoder;

/* ---- memory ---- */

/* Place so many numbers behind what *end counts; false on overflow. */
static bool
place(int64_t rows, int64_t columns, size_t size, size_t *at, size_t *end)
{
	size_t bytes;

	return !__builtin_mul_overflow((size_t) rows, (size_t) columns, &bytes) &&
		   !__builtin_mul_overflow(bytes, size, &bytes) && cuda_place(bytes, at, end);
}

/* For the largest matrix that is neither float32 nor bf16. */
static size_t
panel_bytes(const net *n, const decoder_shape *s)
{
	size_t most = 0;

	for (int32_t i = 0; i < n->tensor_count && s->tokens > LLMAPP_CUDA_FEW_ROWS; i++)
	{
		const net_tensor_info *t = &n->tensors[i];

		if (t->type != WEIGHT_F32 && t->type != WEIGHT_BF16 && t->count * sizeof(float) > most)
			most = t->count * sizeof(float);
	}
	return most < PANEL ? most : PANEL;
}

static int64_t
pages_of_text(const net *n)
{
	return ((int64_t) n->config.text.context + DECODER_PAGE - 1) / DECODER_PAGE;
}

/* Four arrays of numbers of a pass, then its pages. */
static int64_t
input_ints(const net *n, const decoder_shape *s)
{
	return 3 * (int64_t) s->tokens + s->texts + s->texts * pages_of_text(n);
}

static bool
lay_out_pass(const transformer_config *c, const decoder_shape *s, memory_layout *at)
{
	int64_t heads = (int64_t) c->heads * c->head_dim, kv = (int64_t) c->kv_heads * c->head_dim, rows = s->tokens;
	size_t *end = &at->device_bytes;

	return place(rows, c->width, sizeof(float), &at->stream, end) &&
		   place(rows, c->width, sizeof(float), &at->normed, end) && place(rows, 2, sizeof(float), &at->stats, end) &&
		   place(rows, heads + 2 * kv, sizeof(float), &at->qkv, end) &&
		   place(rows, heads, sizeof(float), &at->attended, end) &&
		   place(rows, (c->gated ? 2 : 1) * (int64_t) c->ffn, sizeof(float), &at->up, end) &&
		   place(rows, c->ffn, sizeof(float), &at->gated, end) &&
		   place(s->texts, c->width, sizeof(float), &at->last, end) &&
		   place(s->texts, c->vocab, sizeof(float), &at->logits, end);
}

static bool
lay_out(const net *n, const decoder_shape *s, memory_layout *at, llm_error *err)
{
	const transformer_config *c = &n->config.text;
	int64_t page = (int64_t) c->kv_heads * c->head_dim * DECODER_PAGE, pages = (int64_t) s->pages * c->depth;
	size_t size = keeps_half(n) ? sizeof(uint16_t) : sizeof(float), *end = &at->device_bytes;
	size_t logits = (size_t) s->texts * c->vocab * sizeof(float);

	*at = (memory_layout) {.panel_bytes = panel_bytes(n, s)};
	return (place(1, net_kept_bytes(n), 1, &at->weights, end) && place(pages, page, size, &at->keys, end) &&
			place(pages, page, size, &at->values, end) &&
			place(c->rotary ? c->context : 0, transformer_rotary(c, false).dim, sizeof(float), &at->angles, end) &&
			lay_out_pass(c, s, at) && place(1, at->panel_bytes, 1, &at->panel, end) &&
			place(1, input_ints(n, s), sizeof(int32_t), &at->inputs, end) &&
			place(1, input_ints(n, s), sizeof(int32_t), &at->host_inputs, &at->host_bytes) &&
			place(1, logits > 2 * PIECE ? logits : 2 * PIECE, 1, &at->host_logits, &at->host_bytes)) ||
		   llm_fail(err, LLM_MEMORY, "network is too large");
}

static bool
cuda_memory(const net *n, const decoder_shape *s, size_t *bytes, llm_error *err)
{
	memory_layout at;
	bool ok = lay_out(n, s, &at, err);

	if (ok)
		*bytes = at.device_bytes;
	return ok;
}

/* Whether a function of the backend succeeded; says what to do where memory was short. */
static bool
succeeded(const cuda_decoder *c, int code, llm_error *err)
{
	if (code != LLMAPP_CUDA_MEMORY)
		return cuda_ok(c->device, code, err);
	llm_fail(err, LLM_MEMORY, "out of memory on GPU cuda:%d: weights and pages of texts are %zu MB",
			 c->device->number, c->at.device_bytes >> 20);
	return llm_hint(err, "Serve fewer texts at a time, keep the weights in fewer bits (llm_quantise), or wait until "
						 "others have ended on this GPU.");
}

/* Where things are, by their offsets. */
static void *
on_device(const cuda_decoder *c, size_t offset)
{
	return c->memory + offset;
}

static void *
in_staging(const cuda_decoder *c, size_t offset)
{
	return c->staging + offset;
}

/* ---- start ---- */

typedef void (*fill_rows)(const decoder *d, int64_t first, int64_t rows, void *to);

/*
 * Rows to the device by way of pinned memory, piece by piece: the next ones are made while those before are on their
 * way.
 */
static bool
push(const decoder *d, size_t to, int64_t rows, size_t row_bytes, fill_rows fill, llm_error *err)
{
	const cuda_decoder *c = d->state;
	const llmapp_cuda_api *api = c->device->api;
	int64_t piece = (int64_t) (PIECE / row_bytes), i = 0;

	for (int64_t first = 0; first < rows; first += piece, i++)
	{
		int64_t count = rows - first < piece ? rows - first : piece;
		char *half = c->staging + c->at.host_logits + i % 2 * PIECE;

		fill(d, first, count, half);
		if (!succeeded(c, api->synchronize(c->device->context), err) ||
			!succeeded(c,
					   api->copy_to(c->device->context, c->memory + to + first * row_bytes, half, count * row_bytes),
					   err))
			return false;
	}
	return succeeded(c, api->synchronize(c->device->context), err);
}

#define WEIGHT_ROW 64 /* bytes, of which all that is kept is a multiple */

static void
fill_weights(const decoder *d, int64_t first, int64_t rows, void *to)
{
	memcpy(to, (const char *) d->weights + first * WEIGHT_ROW, rows * WEIGHT_ROW);
}

static void
fill_angles(const decoder *d, int64_t first, int64_t rows, void *to)
{
	rotary_shape r = transformer_rotary(&d->n->config.text, false);

	rotary_angles(&r, first, rows, to);
}

static decoder_arrays
arrays_of(const cuda_decoder *c, const net *n, const decoder_shape *s)
{
	const memory_layout *at = &c->at;
	int32_t *inputs = on_device(c, at->inputs);

	return (decoder_arrays) {
		.weights = on_device(c, at->weights),
		.keys = on_device(c, at->keys),
		.values = on_device(c, at->values),
		.angles = on_device(c, at->angles),
		.stream = on_device(c, at->stream),
		.normed = on_device(c, at->normed),
		.stats = on_device(c, at->stats),
		.qkv = on_device(c, at->qkv),
		.attended = on_device(c, at->attended),
		.up = on_device(c, at->up),
		.gated = on_device(c, at->gated),
		.last = on_device(c, at->last),
		.logits = on_device(c, at->logits),
		.panel = on_device(c, at->panel),
		.panel_bytes = (int64_t) at->panel_bytes,
		.id = inputs,
		.position = inputs + s->tokens,
		.first = inputs + 2 * (int64_t) s->tokens,
		.wanted = inputs + 3 * (int64_t) s->tokens,
		.pages = inputs + 3 * (int64_t) s->tokens + s->texts,
		.half = keeps_half(n),
	};
}

static bool
allocate(cuda_decoder *c, llm_error *err)
{
	const llmapp_cuda_api *api = c->device->api;
	void *memory, *staging;

	if (!succeeded(c, api->allocate(c->device->context, c->at.device_bytes, &memory), err))
		return false;
	c->memory = memory;
	if (!succeeded(c, api->allocate_host(c->device->context, c->at.host_bytes, &staging), err))
		return false;
	c->staging = staging;
	return true;
}

static bool
cuda_start(decoder *d, cuda_device *gpu, llm_error *err)
{
	const transformer_config *c = &d->n->config.text;
	cuda_decoder *s = d->state = calloc(1, sizeof(cuda_decoder));
	decoder_arrays a;

	_Static_assert(LLMAPP_CUDA_F32 == (int) WEIGHT_F32 && LLMAPP_CUDA_F16 == (int) WEIGHT_F16 &&
					   LLMAPP_CUDA_BF16 == (int) WEIGHT_BF16 && LLMAPP_CUDA_Q8_0 == (int) WEIGHT_Q8_0 &&
					   LLMAPP_CUDA_Q4_0 == (int) WEIGHT_Q4_0,
				   "types of weights are those of the backend");
	if (!s)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	s->device = gpu;
	if (!lay_out(d->n, &d->shape, &s->at, err) || !allocate(s, err))
		return false;
	a = arrays_of(s, d->n, &d->shape);
	s->steps = decoder_steps(gpu->api, d->n, &d->shape, &a, &s->step_count, err);
	return s->steps &&
		   push(d, s->at.weights, (int64_t) (net_kept_bytes(d->n) / WEIGHT_ROW), WEIGHT_ROW, fill_weights, err) &&
		   (!c->rotary ||
			push(d, s->at.angles, c->context, transformer_rotary(c, false).dim * sizeof(float), fill_angles, err));
}

static void
cuda_stop(decoder *d)
{
	cuda_decoder *c = d->state;
	const llmapp_cuda_api *api;

	if (!c)
		return;
	api = c->device->api;
	for (int i = 0; i < PROGRAMS; i++)
		api->program_free(c->programs[i]);
	if (c->staging)
		(void) api->release_host(c->device->context, c->staging);
	if (c->memory)
		(void) api->release(c->device->context, c->memory);
	free(c->steps);
	free(c);
	d->state = NULL;
}

/* ---- runs ---- */

/* Of the fewest rows that are at least so many. */
static llmapp_cuda_program *
program_of(const decoder *d, int32_t tokens, llm_error *err)
{
	cuda_decoder *c = d->state;
	int i = 0;
	int64_t rows;
	int64_t bucket[LLMAPP_CUDA_AXES] = {0};

	while ((int64_t) 1 << i < tokens)
		i++;
	rows = (int64_t) 1 << i < d->shape.tokens ? (int64_t) 1 << i : d->shape.tokens;
	bucket[AXIS_TOKEN] = rows;
	bucket[AXIS_ROW] = rows < d->shape.texts ? rows : d->shape.texts;
	if (!c->programs[i])
		(void) succeeded(
			c, c->device->api->program_new(c->device->context, c->steps, c->step_count, bucket, &c->programs[i]),
			err);
	return c->programs[i];
}

/* What differs from pass to pass into pinned memory; returns its bytes. */
static size_t
fill_inputs(const decoder *d, const decoder_text *texts, int32_t count)
{
	const cuda_decoder *c = d->state;
	int32_t *id = in_staging(c, c->at.host_inputs), *position = id + d->shape.tokens;
	int32_t *first = position + d->shape.tokens, *wanted = first + d->shape.tokens, *pages = wanted + d->shape.texts;
	int32_t page = 0, row = 0;

	for (int32_t i = 0; i < count; i++)
	{
		const decoder_text *t = &texts[i];
		int32_t own = (t->first + t->count - 1) / DECODER_PAGE + 1;

		memcpy(pages + page, t->pages, own * sizeof(int32_t));
		for (int32_t j = 0; j < t->count; j++, row++)
		{
			id[row] = t->ids[j];
			position[row] = t->first + j;
			first[row] = page;
		}
		if (t->wanted)
			wanted[d->row[i]] = row - 1;
		page += own;
	}
	return (size_t) ((char *) (pages + page) - (char *) id);
}

static bool
cuda_run(decoder *d, const decoder_text *texts, int32_t count, llm_error *err)
{
	const cuda_decoder *c = d->state;
	const llmapp_cuda_api *api = c->device->api;
	llmapp_cuda_context *context = c->device->context;
	llmapp_cuda_batch batch = {0};
	llmapp_cuda_program *program;
	size_t bytes;

	if (d->poll && d->poll(d->poll_arg))
		return llm_fail(err, LLM_CANCELLED, "canceled");
	for (int32_t i = 0; i < count; i++)
	{
		batch.rows[AXIS_TOKEN] += texts[i].count;
		batch.rows[AXIS_ROW] += texts[i].wanted;
	}
	program = program_of(d, (int32_t) batch.rows[AXIS_TOKEN], err);
	if (!program)
		return false;
	bytes = fill_inputs(d, texts, count);
	if (!succeeded(c, api->copy_to(context, c->memory + c->at.inputs, c->staging + c->at.host_inputs, bytes), err) ||
		!succeeded(c, api->program_run(program, &batch), err))
		return false;
	if (batch.rows[AXIS_ROW] == 0)
		return succeeded(c, api->synchronize(context), err);
	bytes = batch.rows[AXIS_ROW] * (size_t) d->n->config.text.vocab * sizeof(float);
	return succeeded(c, api->copy_from(context, c->staging + c->at.host_logits, c->memory + c->at.logits, bytes),
					 err);
}

static const float *
cuda_logits(const decoder *d)
{
	const cuda_decoder *c = d->state;

	return in_staging(c, c->at.host_logits);
}

const decoder_device decoder_cuda = {cuda_memory, cuda_start, cuda_stop, cuda_run, cuda_logits};
