/*
 * graph.c
 *	  The graph's memory: tensors, nodes and the walk that appends gradient steps.
 *
 * What single operations do is in ops.c.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

#define GRAPH_MAX_ITEMS 65536

graph *
graph_new(int64_t rows, llm_error *err)
{
	graph *g = calloc(1, sizeof(graph));

	if (!g)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	g->capacity[AXIS_ROW] = rows;
	return g;
}

void
graph_free(graph *g)
{
	if (!g)
		return;
	free(g->tensors);
	free(g->nodes);
	free(g);
}

bool
graph_ok(const graph *g, llm_error *err)
{
	if (g->error.code != LLM_OK && err->code == LLM_OK)
		*err = g->error;
	return g->error.code == LLM_OK;
}

/* Make room for one more item; *items stays valid on failure. */
static bool
grow(graph *g, void **items, int32_t count, int32_t *room, size_t size)
{
	int32_t wanted = *room ? *room * 2 : 64;
	void *bigger;

	if (count < *room)
		return true;
	if (wanted > GRAPH_MAX_ITEMS)
		return llm_fail(&g->error, LLM_MEMORY, "network has too many operations");
	bigger = realloc(*items, wanted * size);
	if (!bigger)
		return llm_fail(&g->error, LLM_MEMORY, "out of memory");
	*items = bigger;
	*room = wanted;
	return true;
}

tensor_axis
node_axis(const graph *g, const node *n)
{
	for (int i = 0; i < NODE_INPUTS; i++)
		if (n->in[i] != TENSOR_NONE && g->tensors[n->in[i]].axis != AXIS_NONE)
			return g->tensors[n->in[i]].axis;
	return AXIS_ROW;
}

int64_t
tensor_columns(const tensor *t)
{
	int64_t n = 1;

	for (int32_t i = 1; i < t->ndim; i++)
		n *= t->dims[i];
	return n;
}

bool
tensor_bytes(const tensor *t, size_t *bytes)
{
	size_t n = 4;

	for (int32_t i = 0; i < t->ndim; i++)
		if (__builtin_mul_overflow(n, (size_t) t->dims[i], &n))
			return false;
	*bytes = n;
	return n <= INT64_MAX;
}

int32_t
graph_tensor(graph *g, tensor_role role, tensor_type type, tensor_axis axis, int32_t ndim, const int64_t *dims)
{
	tensor *t;
	size_t bytes;

	if (g->error.code != LLM_OK || !grow(g, (void **) &g->tensors, g->tensor_count, &g->tensor_room, sizeof(tensor)))
		return TENSOR_NONE;
	t = &g->tensors[g->tensor_count];
	memset(t, 0, sizeof(*t));
	t->role = role;
	t->type = type;
	t->axis = axis;
	t->ndim = ndim;
	memcpy(t->dims, dims, ndim * sizeof(*dims));
	t->slot = t->gradient = t->used = TENSOR_NONE;
	if (!tensor_bytes(t, &bytes))
	{
		llm_fail(&g->error, LLM_MEMORY, "network is too large");
		return TENSOR_NONE;
	}
	return g->tensor_count++;
}

int32_t
graph_input(graph *g, int32_t slot, tensor_type type, tensor_axis axis, int64_t rows, int64_t columns)
{
	int64_t dims[2] = {axis ? g->capacity[axis] : rows, columns};
	int32_t t = graph_tensor(g, ROLE_INPUT, type, axis, columns ? 2 : 1, dims);

	if (t != TENSOR_NONE)
		g->tensors[t].slot = slot;
	return t;
}

int32_t
graph_param(graph *g, int32_t slot, int32_t ndim, const int64_t *dims)
{
	int32_t t = graph_tensor(g, ROLE_PARAM, TENSOR_F32, AXIS_NONE, ndim, dims);

	if (t != TENSOR_NONE)
	{
		g->tensors[t].slot = slot;
		g->tensors[t].needs_gradient = true;
	}
	return t;
}

int32_t
graph_statistic(graph *g, int32_t slot, int32_t ndim, const int64_t *dims)
{
	int32_t t = graph_param(g, slot, ndim, dims);

	if (t != TENSOR_NONE)
		g->tensors[t].needs_gradient = false;
	return t;
}

void
graph_keep(graph *g, int32_t t)
{
	if (t != TENSOR_NONE)
		g->tensors[t].keep = true;
}

int32_t
graph_gradient(graph *g, int32_t t)
{
	tensor like;
	int32_t d;

	if (t == TENSOR_NONE || g->error.code != LLM_OK)
		return TENSOR_NONE;
	like = g->tensors[t];
	if (like.gradient != TENSOR_NONE)
		return like.gradient;
	d = graph_tensor(g, ROLE_GRADIENT, TENSOR_F32, like.axis, like.ndim, like.dims);
	if (d != TENSOR_NONE)
	{
		g->tensors[t].gradient = d;
		g->tensors[d].keep = like.role == ROLE_PARAM;
	}
	return d;
}

static node *
new_node(graph *g, op_kind op, op_attr attr, int32_t in_count, const int32_t *in)
{
	node *n;

	if (g->error.code != LLM_OK || !grow(g, (void **) &g->nodes, g->node_count, &g->node_room, sizeof(node)))
		return NULL;
	n = &g->nodes[g->node_count];
	n->op = op;
	n->attr = attr;
	n->segment = NODE_NONE;
	for (int32_t i = 0; i < NODE_INPUTS; i++)
		n->in[i] = i < in_count ? in[i] : TENSOR_NONE;
	for (int32_t i = 0; i < NODE_OUTPUTS; i++)
		n->out[i] = TENSOR_NONE;
	return n;
}

int32_t
graph_append(graph *g, op_kind op, op_attr attr, int32_t in_count, const int32_t *in)
{
	node *n = new_node(g, op, attr, in_count, in);

	if (!n || !op_table[op].shape(g, n) || g->error.code != LLM_OK)
		return TENSOR_NONE;
	for (int32_t i = 0; i < in_count; i++)
		if (in[i] != TENSOR_NONE && g->tensors[in[i]].needs_gradient)
			g->tensors[n->out[0]].needs_gradient = true;
	g->node_count++;
	return n->out[0];
}

void
graph_append_step(graph *g, op_kind op, op_attr attr, int32_t in_count, const int32_t *in, int32_t out_count,
				  const int32_t *out)
{
	node *n = new_node(g, op, attr, in_count, in);

	if (!n)
		return;
	memcpy(n->out, out, out_count * sizeof(*out));
	g->node_count++;
}

/* ---- gradient steps ---- */

void
graph_recompute(graph *g, int32_t first)
{
	for (int32_t i = first; i < g->node_count; i++)
		g->nodes[i].segment = first;
}

static void
backward_node(graph *g, int32_t i)
{
	node n = g->nodes[i]; /* a copy: the array moves when it grows */

	if (op_table[n.op].gradient && g->tensors[n.out[0]].gradient != TENSOR_NONE)
		op_table[n.op].gradient(g, &n);
}

/* Append node i with what stands for its inputs; its outputs take gradients over. */
static void
append_again(graph *g, int32_t i, int32_t *again)
{
	node n = g->nodes[i], *copy;
	int32_t in[NODE_INPUTS];

	for (int j = 0; j < NODE_INPUTS; j++)
		in[j] = n.in[j] == TENSOR_NONE ? TENSOR_NONE : again[n.in[j]];
	if (graph_append(g, n.op, n.attr, NODE_INPUTS, in) == TENSOR_NONE)
		return;
	copy = &g->nodes[g->node_count - 1];
	for (int j = 0; j < NODE_OUTPUTS; j++)
		if (n.out[j] != TENSOR_NONE)
		{
			again[n.out[j]] = copy->out[j];
			g->tensors[copy->out[j]].gradient = g->tensors[n.out[j]].gradient;
		}
}

static bool
is_read(const graph *g, int32_t i)
{
	for (int32_t k = i + 1; k < g->node_count; k++)
		for (int j = 0; j < NODE_INPUTS; j++)
			for (int l = 0; l < NODE_OUTPUTS; l++)
				if (g->nodes[k].in[j] != TENSOR_NONE && g->nodes[k].in[j] == g->nodes[i].out[l])
					return true;
	return false;
}

/* Gradient steps of nodes [first, end), which are computed again as far as these read them. */
static void
backward_segment(graph *g, int32_t first, int32_t end)
{
	int32_t begin = g->node_count, steps;
	int32_t *again = malloc(g->tensor_count * sizeof(int32_t)); /* what stands for each tensor */

	if (!again)
	{
		llm_fail(&g->error, LLM_MEMORY, "out of memory");
		return;
	}
	for (int32_t t = 0; t < g->tensor_count; t++)
		again[t] = t;
	for (int32_t i = first; i < end && g->error.code == LLM_OK; i++)
		append_again(g, i, again);
	free(again);
	steps = g->node_count;
	for (int32_t i = steps - 1; i >= begin && g->error.code == LLM_OK; i--)
		backward_node(g, i);
	for (int32_t i = steps - 1; i >= begin; i--)
		if (!is_read(g, i))
			memmove(&g->nodes[i], &g->nodes[i + 1], (--g->node_count - i) * sizeof(node));
}

/* From the last node to the first, so that a gradient is complete before it is used. */
void
graph_backward(graph *g)
{
	for (int32_t i = g->node_count - 1, first; i >= 0 && g->error.code == LLM_OK; i = first - 1)
	{
		first = g->nodes[i].segment;
		if (first != NODE_NONE)
			backward_segment(g, first, i + 1);
		else
			backward_node(g, first = i);
	}
}
