/*
 * ops_image.c
 *	  Shape and gradient rules of the operations on images and channels.
 *
 * A norm is three nodes, so that batch, running and group statistics share the rest:
 * moments of each row's channels (channel_moments), coefficients from moments
 * (norm_batch, norm_running, norm_group), and y = act((x - mean) scale + beta)
 * (channel_norm), whose gradient rule covers all three.  The activation is part of the
 * norm: its input is recomputed for the gradient, not stored.
 */
#include "ops_rules.h"

#include <string.h>

/* At most so many partial weight gradients, and so many floats of them unless one is larger. */
#define DW_PARTS 16
#define DW_FLOATS ((int64_t) 1 << 24)

static int64_t
channels_of(const tensor *x)
{
	return x->dims[x->ndim - 1];
}

static bool
is_image(const tensor *x)
{
	return x->axis != AXIS_NONE && x->ndim == 4;
}

/* ---- shapes of data ---- */

bool
shape_image(graph *g, node *n)
{
	int64_t height = n->attr.window.kernel[0], width = n->attr.window.kernel[1], channels = n->attr.count;

	if (IN(n, 0)->axis == AXIS_NONE || height < 1 || width < 1 || channels < 1 ||
		height * width > tensor_columns(IN(n, 0)) / channels)
		return rule_mismatch(g, n);
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_ROW, 4,
							 (int64_t[]) {g->capacity[AXIS_ROW], height, width, channels});
	return n->out[0] != TENSOR_NONE;
}

bool
shape_slice(graph *g, node *n)
{
	if (IN(n, 0)->axis == AXIS_NONE || IN(n, 0)->needs_gradient || n->attr.count < 1 || n->attr.index < 0 ||
		n->attr.index > tensor_columns(IN(n, 0)) - n->attr.count)
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, n->attr.count);
}

bool
shape_flatten(graph *g, node *n)
{
	if (IN(n, 0)->axis == AXIS_NONE)
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, tensor_columns(IN(n, 0)));
}

void
grad_flatten(graph *g, const node *n)
{
	rule_pass_to(g, rule_gradient_of(g, n), n->in[0]);
}

/* ---- windows ---- */

int64_t
window_outputs(const window2d *w, int axis, int64_t inputs)
{
	int64_t kernel = w->kernel[axis], stride = w->stride[axis], padding = w->padding[axis];

	/* padding below the kernel's size: every window has a pixel */
	if (kernel < 1 || stride < 1 || padding < 0 || padding >= kernel || inputs + 2 * padding < kernel)
		return 0;
	return (inputs + 2 * padding - kernel) / stride + 1;
}

/* The output of a window with so many channels. */
static bool
make_window(graph *g, node *n, int32_t i, tensor_type type, int64_t channels)
{
	const tensor *x = IN(n, 0);
	int64_t dims[4] = {g->capacity[AXIS_ROW], window_outputs(&n->attr.window, 0, x->dims[1]),
					   window_outputs(&n->attr.window, 1, x->dims[2]), channels};

	if (dims[1] == 0 || dims[2] == 0)
		return rule_mismatch(g, n);
	n->out[i] = graph_tensor(g, ROLE_VALUE, type, true, 4, dims);
	return n->out[i] != TENSOR_NONE;
}

bool
shape_conv2d(graph *g, node *n)
{
	const tensor *x = IN(n, 0), *w = IN(n, 1);

	if (!is_image(x) || w->axis != AXIS_NONE || w->ndim != 4 || w->dims[0] != n->attr.window.kernel[0] ||
		w->dims[1] != n->attr.window.kernel[1] || w->dims[2] != channels_of(x) ||
		!rule_is_vector(g, n->in[2], w->dims[3]))
		return rule_mismatch(g, n);
	return make_window(g, n, 0, TENSOR_F32, w->dims[3]);
}

/* Parts of the batch that sum a weight gradient on their own. */
static int64_t
gradient_parts(const graph *g, int64_t floats)
{
	int64_t parts = g->capacity[AXIS_ROW] < DW_PARTS ? g->capacity[AXIS_ROW] : DW_PARTS;

	while (parts > 1 && parts * floats > DW_FLOATS)
		parts /= 2;
	return parts;
}

static void
conv2d_dw(graph *g, const node *n)
{
	int32_t dy = rule_gradient_of(g, n);
	tensor w = *IN(n, 1);
	int64_t dims[2] = {0, tensor_columns(&w) * w.dims[0] + (n->in[2] == TENSOR_NONE ? 0 : w.dims[3])};
	int32_t partial;
	int32_t out[2];

	dims[0] = gradient_parts(g, dims[1]);
	partial = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 2, dims);
	out[0] = graph_gradient(g, n->in[1]);
	out[1] = graph_gradient(g, n->in[2]);
	if (g->error.code != LLM_OK)
		return;
	graph_append_step(g, OP_conv2d_dw, n->attr, 4, (int32_t[]) {dy, n->in[0], n->in[1], n->in[2]}, 1, &partial);
	graph_append_step(g, OP_conv2d_dw_sum, NO_ATTR, 1, &partial, 2, out);
}

void
grad_conv2d(graph *g, const node *n)
{
	int64_t floats;
	int32_t flipped;

	if (rule_wants(g, n->in[1]))
		conv2d_dw(g, n);
	if (g->error.code != LLM_OK || !rule_wants(g, n->in[0]))
		return;
	floats = tensor_columns(IN(n, 1)) * IN(n, 1)->dims[0];
	flipped = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 1, &floats);
	rule_step_to(g, OP_conv2d_flip, n->attr, flipped, n->in[1], TENSOR_NONE, TENSOR_NONE, TENSOR_NONE);
	rule_step_to(g, OP_conv2d_dx, n->attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), flipped, TENSOR_NONE,
				 TENSOR_NONE);
}

/* max_pool's second output is which pixel of the window was the largest. */
bool
shape_pool(graph *g, node *n)
{
	if (!is_image(IN(n, 0)))
		return rule_mismatch(g, n);
	return make_window(g, n, 0, TENSOR_F32, channels_of(IN(n, 0))) &&
		   (n->op != OP_max_pool || make_window(g, n, 1, TENSOR_I32, channels_of(IN(n, 0))));
}

void
grad_max_pool(graph *g, const node *n)
{
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_max_pool_dx, n->attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), n->out[1],
					 TENSOR_NONE, TENSOR_NONE);
}

void
grad_avg_pool(graph *g, const node *n)
{
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_avg_pool_dx, n->attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), TENSOR_NONE,
					 TENSOR_NONE, TENSOR_NONE);
}

/* ---- norms ---- */

bool
shape_moments(graph *g, node *n)
{
	if (IN(n, 0)->axis == AXIS_NONE || IN(n, 0)->ndim < 2)
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, 2 * channels_of(IN(n, 0)));
}

/* in: moments, gamma, x (for its shape) */
bool
shape_norm_batch(graph *g, node *n)
{
	int64_t channels = tensor_columns(IN(n, 0)) / 2;

	if (!rule_is_vector(g, n->in[1], channels))
		return rule_mismatch(g, n);
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 2, (int64_t[]) {4, channels});
	return n->out[0] != TENSOR_NONE;
}

/* in: mean, variance, gamma */
bool
shape_norm_running(graph *g, node *n)
{
	int64_t channels = IN(n, 0)->dims[0];

	for (int i = 0; i < 3; i++)
		if (!rule_is_vector(g, n->in[i], channels))
			return rule_mismatch(g, n);
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 2, (int64_t[]) {4, channels});
	return n->out[0] != TENSOR_NONE;
}

/* in: moments, gamma, x (for its shape); the same coefficients as of a batch, by row */
bool
shape_norm_group(graph *g, node *n)
{
	int64_t channels = tensor_columns(IN(n, 0)) / 2;

	if (!rule_is_vector(g, n->in[1], channels) || n->attr.count < 1 || channels % n->attr.count != 0)
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, 4 * channels);
}

/* in: x, coefficients, beta, gamma (for the gradient) */
bool
shape_channel_norm(graph *g, node *n)
{
	tensor x = *IN(n, 0);

	if (!rule_is_vector(g, n->in[2], channels_of(&x)) || !rule_is_vector(g, n->in[3], channels_of(&x)))
		return rule_mismatch(g, n);
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_ROW, x.ndim, x.dims);
	return n->out[0] != TENSOR_NONE;
}

void
grad_channel_norm(graph *g, const node *n)
{
	int64_t channels = channels_of(IN(n, 0));
	int64_t dims[2] = {g->capacity[AXIS_ROW], 2 * channels};
	int32_t dy = rule_gradient_of(g, n);
	int32_t sums = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_ROW, 2, dims);
	int32_t params[2] = {graph_gradient(g, n->in[3]), graph_gradient(g, n->in[2])};
	int32_t means, dx;

	if (g->error.code != LLM_OK)
		return;
	rule_step_to(g, OP_channel_norm_sums, n->attr, sums, dy, n->in[0], n->in[1], n->in[2]);
	graph_append_step(g, OP_channel_norm_dparam, NO_ATTR, 1, &sums, 2, params);
	if (!rule_wants(g, n->in[0]))
		return;
	if (!n->attr.flag)
		dims[0] = 1;
	means = graph_tensor(g, ROLE_VALUE, TENSOR_F32, n->attr.flag, 2, dims);
	dx = graph_gradient(g, n->in[0]);
	rule_step_to(g, n->attr.flag ? OP_norm_group_means : OP_norm_batch_means, n->attr, means, sums, n->in[3],
				 n->in[0], TENSOR_NONE);
	graph_append_step(g, OP_channel_norm_dx, n->attr, 5, (int32_t[]) {dy, n->in[0], n->in[1], n->in[2], means}, 1,
					  &dx);
}

/* ---- recording ---- */

int32_t
op_image(graph *g, int32_t dense, int32_t channels, int32_t height, int32_t width, const image_augment *augment)
{
	op_attr attr = {.count = channels, .window.kernel = {height, width}};

	if (augment != NULL)
	{
		attr.index = augment->shift;
		attr.flag = augment->flip;
		attr.number = augment->crop;
	}
	return RECORD(image, attr, dense);
}

int32_t
op_columns(graph *g, int32_t dense, int64_t first, int32_t count)
{
	return RECORD(slice, ((op_attr) {.index = first, .count = count}), dense);
}

int32_t
op_flatten(graph *g, int32_t x)
{
	return RECORD(flatten, NO_ATTR, x);
}

int32_t
op_conv2d(graph *g, int32_t x, int32_t w, int32_t bias, const window2d *window)
{
	return RECORD(conv2d, ((op_attr) {.window = *window}), x, w, bias);
}

int32_t
op_max_pool(graph *g, int32_t x, const window2d *window)
{
	return RECORD(max_pool, ((op_attr) {.window = *window}), x);
}

int32_t
op_avg_pool(graph *g, int32_t x, const window2d *window)
{
	return RECORD(avg_pool, ((op_attr) {.window = *window}), x);
}

int32_t
op_batch_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, net_activation act, int32_t *statistics)
{
	int32_t moments = RECORD(channel_moments, NO_ATTR, x);

	*statistics = RECORD(norm_batch, NO_ATTR, moments, gamma, x);
	return RECORD(channel_norm, ((op_attr) {.act = act}), x, *statistics, beta, gamma);
}

int32_t
op_running_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, int32_t mean, int32_t variance, net_activation act)
{
	int32_t coefficients = RECORD(norm_running, NO_ATTR, mean, variance, gamma);

	return RECORD(channel_norm, ((op_attr) {.act = act}), x, coefficients, beta, gamma);
}

int32_t
op_group_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, int32_t groups, net_activation act)
{
	op_attr attr = {.act = act, .flag = true, .count = groups};
	int32_t moments = RECORD(channel_moments, NO_ATTR, x);
	int32_t coefficients = RECORD(norm_group, attr, moments, gamma, x);

	return RECORD(channel_norm, attr, x, coefficients, beta, gamma);
}
