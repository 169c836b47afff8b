/*
 * cuda.c
 *	  Opening the CUDA backend and a device, and describing plans to it.
 *
 * The driver starts threads of its own.  They must take no signals of this process, so all are blocked while
 * the library and a device are opened, which threads inherit.
 */
#include "cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Programs that have no backend linked into them leave it undefined. */
#pragma weak llmapp_cuda_get

static void
block_signals(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, old);
}

static llmapp_cuda_entry
find_entry(const char *path, llm_error *err)
{
	void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
	llmapp_cuda_entry entry = NULL;

	if (!path && llmapp_cuda_get)
		return llmapp_cuda_get;
	if (library)
		entry = (llmapp_cuda_entry) dlsym(library, LLMAPP_CUDA_SYMBOL);
	if (!entry)
	{
		const char *why = path ? dlerror() : NULL;

		llm_fail(err, LLM_UNAVAILABLE, "llmapp_cuda.so cannot be opened");
		llm_detail(err, "%s", why ? why : "It is not there.");
	}
	return entry;
}

const llmapp_cuda_api *
cuda_library(const char *path, llm_error *err)
{
	char text[LLMAPP_CUDA_TEXT] = "";
	const llmapp_cuda_api *api = NULL;
	llmapp_cuda_entry entry;
	sigset_t old;

	block_signals(&old);
	entry = find_entry(path, err);
	if (entry)
		api = entry(LLMAPP_CUDA_VERSION, sizeof(llmapp_cuda_api), sizeof(llmapp_cuda_step), text, sizeof(text));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (entry && !api)
		llm_fail(err, LLM_UNAVAILABLE, "%s", text);
	return api;
}

int
cuda_list(const char *path, llmapp_cuda_device *list, llm_error *err)
{
	const llmapp_cuda_api *api = cuda_library(path, err);
	char text[LLMAPP_CUDA_TEXT] = "";
	int count = 0, code;
	sigset_t old;

	memset(list, 0, CUDA_DEVICES * sizeof(*list));
	if (!api)
		return 0;
	block_signals(&old);
	code = api->devices(list, CUDA_DEVICES, &count, text, sizeof(text));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (code != LLMAPP_CUDA_OK)
	{
		llm_fail(err, LLM_UNAVAILABLE, "%s", text);
		return 0;
	}
	return count < CUDA_DEVICES ? count : CUDA_DEVICES;
}

/* ---- a device ---- */

static bool
fail(int code, int number, const char *what, llm_error *err)
{
	if (code == LLMAPP_CUDA_LOST)
		return llm_fail(err, LLM_LOST, "GPU cuda:%d failed: %s", number, what);
	if (code == LLMAPP_CUDA_MEMORY)
	{
		llm_fail(err, LLM_MEMORY, "out of memory on GPU cuda:%d", number);
		return llm_hint(
			err,
			"Use a smaller batch_size or network, device => 'cpu', or wait until others have ended on this GPU.");
	}
	return llm_fail(err, LLM_UNAVAILABLE, "GPU cuda:%d: %s", number, what);
}

bool
cuda_ok(const cuda_device *d, int code, llm_error *err)
{
	return code == LLMAPP_CUDA_OK || fail(code, d->number, d->api->error(d->context), err);
}

cuda_device *
cuda_open(const char *path, int number, const llmapp_cuda_device *info, llm_error *err)
{
	const llmapp_cuda_api *api = cuda_library(path, err);
	cuda_device *d = api ? calloc(1, sizeof(cuda_device)) : NULL;
	char text[LLMAPP_CUDA_TEXT] = "";
	sigset_t old;
	int code;

	if (api && !d)
		llm_fail(err, LLM_MEMORY, "out of memory");
	if (!d)
		return NULL;
	d->api = api;
	d->number = number;
	d->info = *info;
	block_signals(&old);
	code = d->api->open(number, &d->context, text, sizeof(text));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (code == LLMAPP_CUDA_OK)
		return d;
	fail(code, number, text, err);
	free(d);
	return NULL;
}

void
cuda_close(cuda_device *d)
{
	if (!d)
		return;
	d->api->close(d->context);
	free(d);
}

void *
cuda_allocate(const cuda_device *d, size_t bytes, llm_error *err)
{
	void *memory = NULL;

	return cuda_ok(d, d->api->allocate(d->context, bytes, &memory), err) ? memory : NULL;
}

bool
cuda_copy_to(const cuda_device *d, void *to, const void *from, size_t bytes, llm_error *err)
{
	return bytes == 0 || cuda_ok(d, d->api->copy_to(d->context, to, from, bytes), err);
}

bool
cuda_copy_from(const cuda_device *d, void *to, const void *from, size_t bytes, llm_error *err)
{
	return bytes == 0 || cuda_ok(d, d->api->copy_from(d->context, to, from, bytes), err);
}

/* ---- plans ---- */

static llmapp_cuda_tensor
describe_tensor(const graph *g, int32_t t, void *data, void *const *inputs)
{
	llmapp_cuda_tensor to = {0};
	const tensor *x;

	if (t == TENSOR_NONE)
		return to;
	x = &g->tensors[t];
	to.data = x->role == ROLE_INPUT ? inputs[x->slot] : data;
	to.axis = x->axis;
	to.ndim = x->ndim;
	memcpy(to.dims, x->dims, sizeof(to.dims));
	return to;
}

static llmapp_cuda_attr
describe_attr(const op_attr *a)
{
	return (llmapp_cuda_attr) {
		.index = a->index,
		.number = a->number,
		.act = a->act,
		.flag = a->flag,
		.count = a->count,
		.kernel = {a->window.kernel[0], a->window.kernel[1]},
		.stride = {a->window.stride[0], a->window.stride[1]},
		.padding = {a->window.padding[0], a->window.padding[1]},
		.heads = a->attention.heads,
		.kv_heads = a->attention.kv_heads,
		.head_dim = a->attention.head_dim,
		.causal = a->attention.causal,
		.scale = a->attention.scale,
		.buckets = a->attention.buckets,
		.distance = a->attention.distance,
		.rotary_dim = a->rotary.dim,
		.rotary_context = a->rotary.context,
		.rotary_theta = a->rotary.theta,
		.rotary_factor = a->rotary.factor,
		.rotary_low = a->rotary.low,
		.rotary_high = a->rotary.high,
	};
}

static void
describe_step(const graph *g, const node *n, const step *s, void *const *inputs, llmapp_cuda_step *to)
{
	to->axis = s->axis;
	to->bf16 = g->precision == PRECISION_BF16;
	to->attr = describe_attr(&s->attr);
	for (int j = 0; j < NODE_INPUTS; j++)
		to->in[j] = describe_tensor(g, n->in[j], s->in[j], inputs);
	for (int j = 0; j < NODE_OUTPUTS; j++)
	{
		to->out[j] = describe_tensor(g, n->out[j], s->out[j], inputs);
		to->accumulate[j] = s->accumulate[j];
	}
}

/* What of a step the backend does not do; NULL: nothing. */
static const char *
beyond_backend(const step *s, op_kind op)
{
	bool capped = s->attr.attention.cap > 0 || ((op == OP_head_logits || op == OP_head_loss) && s->attr.number > 0);

	if (s->attr.rotary.yarn || s->attr.rotary.attention > 0)
		return "positions scaled by YaRN";
	return s->attr.attention.window > 0 ? "attention with a window" : capped ? "caps of scores or logits" : NULL;
}

llmapp_cuda_step *
cuda_steps(const llmapp_cuda_api *api, const plan *p, void *const *inputs, llm_error *err)
{
	const graph *g = plan_graph(p);
	llmapp_cuda_step *steps = calloc(g->node_count + 1, sizeof(llmapp_cuda_step));

	if (!steps)
		llm_fail(err, LLM_MEMORY, "out of memory");
	for (int32_t i = 0; steps && i < g->node_count; i++)
	{
		const char *name = op_table[g->nodes[i].op].name, *beyond = beyond_backend(plan_step(p, i), g->nodes[i].op);

		steps[i].op = api->op(name);
		describe_step(g, &g->nodes[i], plan_step(p, i), inputs, &steps[i]);
		if (steps[i].op >= 0 && beyond == NULL)
			continue;
		if (steps[i].op < 0)
			llm_fail(err, LLM_UNAVAILABLE, "the GPU backend has no operation %s", name);
		else
		{
			llm_fail(err, LLM_UNAVAILABLE, "the GPU backend has no %s", beyond);
			llm_hint(err, "Choose device => 'cpu'.");
		}
		free(steps);
		return NULL;
	}
	return steps;
}
