/*
 * embedder.c
 *	  Embeddings of whole texts on a GPU, by the forward plan of a transformer's layers.
 */
#include "embedder.h"

#include <stdlib.h>
#include <string.h>

#include "cuda_plans.h"

#define LEAST_TOKENS 256       /* of the smallest program; less does not keep a GPU busy */
#define PIECE_FLOATS (1 << 20) /* of weights on their way, whole blocks of every type */

struct embedder
{
	const net *n;
	const cuda_device *device;
	net_plan forward;
	size_t offsets[NET_MAX_TENSORS]; /* of weights on the device, in floats */
	size_t floats;
	cuda_plans *plans; /* weights begin the memory of the device, a piece of them pinned memory */
	int32_t texts, tokens;
	int32_t *start; /* (texts + 1) */
	run_args run;
};

static bool
plan_texts(embedder *e, text_pool pool, cuda_layout *at, llm_error *err)
{
	const net_plan *forward = &e->forward;

	if (e->n->config.text.vocab == 0)
		return llm_fail(err, LLM_INVALID, "the network reads no texts");
	if (e->texts < 1 || e->tokens < 1)
		return llm_fail(err, LLM_INVALID, "%d texts of %d tokens are not possible", e->texts, e->tokens);
	return net_plan_embed(&e->forward, e->n, pool, e->texts, e->tokens, e->offsets, &e->floats, err) &&
		   cuda_lay_out(&forward, 1, e->floats * sizeof(float), PIECE_FLOATS * sizeof(float), at, err);
}

static embedder *
new_embedder(const net *n, int32_t texts, int32_t tokens, llm_error *err)
{
	embedder *e = calloc(1, sizeof(embedder));

	if (!e)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	e->n = n;
	e->texts = texts;
	e->tokens = tokens;
	return e;
}

bool
embedder_device_memory(const net *n, int32_t texts, int32_t tokens, size_t *bytes, llm_error *err)
{
	embedder *e = new_embedder(n, texts, tokens, err);
	cuda_layout at;
	bool ok = e && plan_texts(e, POOL_MEAN, &at, err);

	if (ok)
		*bytes = at.device_bytes;
	embedder_free(e);
	return ok;
}

/* Piece by piece, as the pinned memory may be written when the piece before has left it. */
static bool
push_tensor(const embedder *e, int32_t i, const void *weights, llm_error *err)
{
	float *to = (float *) cuda_plans_device(e->plans) + e->offsets[i], *piece = cuda_plans_host(e->plans);
	size_t count = e->n->tensors[i].count;

	for (size_t begin = 0; begin < count; begin += PIECE_FLOATS)
	{
		size_t floats = count - begin < PIECE_FLOATS ? count - begin : PIECE_FLOATS;

		net_decode_tensor(e->n, i, begin, floats, weights, piece);
		if (!cuda_copy_to(e->device, to + begin, piece, floats * sizeof(float), err) ||
			!cuda_ok(e->device, e->device->api->synchronize(e->device->context), err))
			return false;
	}
	return true;
}

static bool
push_weights(const embedder *e, const void *weights, llm_error *err)
{
	for (int32_t i = 0; i < e->n->tensor_count; i++)
		if (e->offsets[i] != NET_UNREAD && !push_tensor(e, i, weights, err))
			return false;
	return true;
}

static bool
start(embedder *e, const void *weights, text_pool pool, llm_error *err)
{
	net_plan *plans[] = {&e->forward};
	cuda_layout at;

	if (!plan_texts(e, pool, &at, err))
		return false;
	e->start = calloc((size_t) e->texts + 1, sizeof(int32_t));
	if (!e->start)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	return (e->plans = cuda_plans_new(e->device, plans, 1, &at, err)) && push_weights(e, weights, err) &&
		   cuda_plans_make(e->plans, 0, cuda_plans_device(e->plans), LEAST_TOKENS, err);
}

embedder *
embedder_new(const net *n, const void *weights, text_pool pool, int32_t texts, int32_t tokens, cuda_device *device,
			 llm_error *err)
{
	embedder *e = new_embedder(n, texts, tokens, err);

	if (!e)
		return NULL;
	e->device = device;
	if (start(e, weights, pool, err))
		return e;
	embedder_free(e);
	return NULL;
}

void
embedder_free(embedder *e)
{
	if (!e)
		return;
	cuda_plans_free(e->plans);
	net_plan_free(&e->forward);
	free(e->start);
	free(e);
}

void
embedder_set_poll(embedder *e, llm_poll poll, void *arg)
{
	e->run.poll = poll;
	e->run.poll_arg = arg;
}

size_t
embedder_device_bytes(const embedder *e)
{
	return cuda_plans_bytes(e->plans);
}

/* Texts are what fits; e->start says where each begins. */
static bool
check_texts(embedder *e, const int32_t *counts, int32_t count, const int32_t *ids, llm_error *err)
{
	const transformer_config *c = &e->n->config.text;
	int32_t longest = c->encoder_depth > 0 ? c->source_context : c->context;

	if (count < 1 || count > e->texts)
		return llm_fail(err, LLM_INVALID, "%d texts are not between 1 and %d", count, e->texts);
	for (int32_t i = 0; i < count; i++)
	{
		if (counts[i] < 1 || counts[i] > longest)
			return llm_fail(err, LLM_INVALID, "%d tokens do not fit into a context of %d", counts[i], longest);
		if (counts[i] > e->tokens - e->start[i])
			return llm_fail(err, LLM_INVALID, "the texts have more than %d tokens", e->tokens);
		e->start[i + 1] = e->start[i] + counts[i];
	}
	for (int32_t i = 0; i < e->start[count]; i++)
		if (ids[i] < 0 || ids[i] >= c->vocab)
			return llm_fail(err, LLM_INVALID, "token %d is not between 0 and %d", ids[i], c->vocab - 1);
	return true;
}

/* A batch that has the texts where the plan looks for them; it is only read. */
static batch
batch_of(const embedder *e, int32_t count, const int32_t *ids)
{
	batch b = {.capacity = e->texts, .rows = count};

	if (e->n->config.text.encoder_depth > 0)
	{
		b.shape.source_context = e->n->config.text.source_context;
		b.source = (int32_t *) ids;
		b.source_start = e->start;
	}
	else
	{
		b.shape.context = e->n->config.text.context;
		b.token = (int32_t *) ids;
		b.token_start = e->start;
	}
	return b;
}

bool
embedder_run(embedder *e, const int32_t *counts, int32_t count, const int32_t *ids, float *out, llm_error *err)
{
	int64_t floats = (int64_t) count * net_embedding_width(&e->n->config);
	const float *made;
	batch b;

	if (!check_texts(e, counts, count, ids, err))
		return false;
	b = batch_of(e, count, ids);
	if (!cuda_plans_run(e->plans, 0, &b, &e->run, err) ||
		!(made = cuda_plans_result(e->plans, 0, e->forward.output, floats, err)))
		return false;
	memcpy(out, made, floats * sizeof(float));
	return true;
}
