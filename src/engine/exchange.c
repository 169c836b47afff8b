/*
 * exchange.c
 *	  A network's tensors in the shapes and orders of other libraries.
 *
 * Every tensor is a matrix here whose element (row, column) is, outside, at
 * place(row) + column place.  Only the columns of a tensor that reads or scales flattened
 * pixels need a table of places.
 */
#include "exchange.h"

#include <stdlib.h>
#include <string.h>

#include "net_record.h"

/* The layer behind a tensor; NULL for the table of embeddings. */
static const layer_plan *
plan_of(const net *n, int32_t tensor)
{
	int32_t layer = n->tensors[tensor].layer;

	return layer < 0 ? NULL : &n->layers[layer];
}

/* ---- the order of flattened numbers ---- */

/* What a layer, or an input of the network, makes of one row. */
static layer_shape
shape_of(const net *n, int32_t from)
{
	const net_config *c = &n->config;
	int64_t pixels = (int64_t) c->image[0] * c->image[1] * c->image[2];

	if (from >= 0)
		return n->layers[from].shape;
	if (from == FROM_IMAGE)
		return (layer_shape) {false, c->image[1], c->image[2], c->image[0]};
	return (layer_shape) {true, 1, 1,
						  c->shape.dense - pixels +
							  (c->shape.embed_columns > 0 ? c->shape.embed_columns * c->embed_dim : 0)};
}

static bool
is_picture(const layer_shape *s)
{
	return !s->vector && s->channels > 1 && s->height * s->width > 1;
}

/* Whether the numbers of `from`, written one after the other, stand elsewhere in PyTorch. */
static bool
is_reordered(const exchange *x, int32_t from)
{
	layer_shape s = shape_of(x->n, from);

	return s.vector ? from >= 0 && x->reordered[from] >= 0 : is_picture(&s);
}

/* Which layer's order the output of layer i has; -1: the plain one. */
static int32_t
order_of(const exchange *x, int32_t i)
{
	const layer_plan *p = &x->n->layers[i];
	int32_t from = p->layer.from[0];

	if (!p->shape.vector || p->layer.kind == LAYER_LINEAR || p->layer.kind == LAYER_GLOBAL_AVG_POOL)
		return -1;
	if (p->layer.kind == LAYER_CONCAT)
		return is_reordered(x, from) || is_reordered(x, p->layer.from[1]) ? i : -1;
	if (!is_reordered(x, from))
		return -1;
	return p->layer.kind == LAYER_FLATTEN && !shape_of(x->n, from).vector ? i : x->reordered[from];
}

/* Layers that take numbers by their place must find them in the order of their other input, or in the plain one. */
static bool
check_order(const exchange *x, int32_t i, llm_error *err)
{
	const layer_plan *p = &x->n->layers[i];
	int32_t a = p->layer.from[0], b = p->layer.from[1];

	if (!p->shape.vector)
		return true;
	if (p->layer.kind == LAYER_GROUP_NORM && is_reordered(x, a))
	{
		llm_fail(err, LLM_INVALID, "layer %d (group_norm) groups the numbers of a flattened image", i + 1);
		llm_detail(err, "PyTorch flattens images in another order, so its groups are others.");
		return llm_hint(err, "Put the group_norm before the flatten.");
	}
	if (p->layer.kind == LAYER_ADD && (is_reordered(x, a) || is_reordered(x, b)) &&
		(a < 0 || b < 0 || x->reordered[a] != x->reordered[b]))
	{
		llm_fail(err, LLM_INVALID, "layer %d (add) adds other numbers to those of a flattened image", i + 1);
		llm_detail(err, "PyTorch flattens images in another order, so it adds other pairs.");
		return llm_hint(err, "Add before the flatten, or to what the same flatten makes.");
	}
	return true;
}

bool
exchange_init(exchange *x, const net *n, tensor_order order, llm_error *err)
{
	x->n = n;
	x->order = order;
	for (int32_t i = 0; i < n->layer_count; i++)
	{
		x->reordered[i] = order == ORDER_PYTORCH ? order_of(x, i) : -1;
		if (order == ORDER_PYTORCH && !check_order(x, i, err))
			return false;
	}
	return true;
}

/* Number `at` of what `from` makes is which number there. */
static int64_t
place_of(const exchange *x, int32_t from, int64_t at)
{
	int64_t before = 0;

	while (is_reordered(x, from))
	{
		layer_shape s = shape_of(x->n, from);
		const net_layer *l;
		int64_t first;

		if (!s.vector)
			return before + at % s.channels * s.height * s.width + at / s.channels;
		l = &x->n->layers[x->reordered[from]].layer;
		from = l->from[0];
		if (l->kind != LAYER_CONCAT)
			continue;
		s = shape_of(x->n, from);
		first = s.height * s.width * s.channels;
		if (at >= first)
		{
			at -= first;
			before += first;
			from = l->from[1];
		}
	}
	return before + at;
}

/* ---- tensors as matrices ---- */

typedef struct matrix
{
	int64_t rows, columns;
	int64_t inner, outer; /* row r is outside at (r % inner) * outer + r / inner ... */
	int64_t row_step;     /* ... or, with inner 0, at r * row_step */
	int64_t column_step;  /* column c is outside at c * column_step ... */
	int64_t *places;      /* ... or, unless NULL, at places[c] */
} matrix;

static bool
is_part(const net_tensor_info *t, const char *part)
{
	return strcmp(strrchr(t->name, '.') + 1, part) == 0;
}

/* Numbers that the columns of the tensor stand for are those of this source; false: no particular ones. */
static bool
column_source(const exchange *x, int32_t i, int32_t *from)
{
	const layer_plan *p = plan_of(x->n, i);

	if (x->order != ORDER_PYTORCH || p == NULL)
		return false;
	*from = p->layer.from[0];
	switch (p->layer.kind)
	{
		case LAYER_LINEAR: return is_part(&x->n->tensors[i], "weight");
		case LAYER_BATCH_NORM: return p->shape.vector;
		case LAYER_LAYER_NORM: return true;
		default: return false;
	}
}

static bool
make_places(const exchange *x, int32_t from, matrix *m, llm_error *err)
{
	m->places = malloc((size_t) m->columns * sizeof(int64_t));
	if (m->places == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for the order of a tensor");
	for (int64_t c = 0; c < m->columns; c++)
		m->places[c] = place_of(x, from, c);
	return true;
}

static bool
matrix_of(const exchange *x, int32_t i, matrix *m, llm_error *err)
{
	const net_tensor_info *t = &x->n->tensors[i];
	const layer_plan *p = plan_of(x->n, i);
	int32_t from;

	*m = (matrix) {.columns = t->dims[t->ndim - 1], .column_step = 1};
	m->rows = (int64_t) t->count / m->columns;
	m->row_step = m->columns;
	if (t->ndim == 4 && x->order == ORDER_PYTORCH)
	{
		m->inner = t->dims[2];
		m->outer = t->dims[0] * t->dims[1];
		m->column_step = m->inner * m->outer;
	}
	if (x->order == ORDER_TENSORFLOW && p != NULL && p->layer.kind == LAYER_LINEAR && is_part(t, "weight"))
	{
		m->row_step = 1;
		m->column_step = m->rows;
	}
	return !column_source(x, i, &from) || !is_reordered(x, from) || make_places(x, from, m, err);
}

/* ---- the interface ---- */

const char *
exchange_name(const net *n, int32_t i, char name[EXCHANGE_NAME_BYTES])
{
	const net_tensor_info *t = &n->tensors[i];

	memcpy(name, t->name, sizeof(t->name));
	if (is_part(t, "running_variance"))
		strcpy(strrchr(name, '.'), ".running_var");
	return name;
}

int32_t
exchange_shape(const exchange *x, int32_t i, int64_t dims[4])
{
	const net_tensor_info *t = &x->n->tensors[i];
	const layer_plan *p = plan_of(x->n, i);
	const int64_t *d = t->dims;
	int64_t turned[4] = {0};

	memcpy(dims, d, sizeof(t->dims));
	if (p == NULL)
		return t->ndim;
	if (p->layer.kind == LAYER_LAYER_NORM && !p->shape.vector)
	{
		bool pytorch = x->order == ORDER_PYTORCH;

		dims[0] = pytorch ? p->shape.channels : p->shape.height;
		dims[1] = pytorch ? p->shape.height : p->shape.width;
		dims[2] = pytorch ? p->shape.width : p->shape.channels;
		return 3;
	}
	if (x->order == ORDER_TENSORFLOW && p->layer.kind == LAYER_LINEAR && is_part(t, "weight"))
		memcpy(turned, (int64_t[4]) {d[1], d[0]}, sizeof(turned));
	else if (x->order == ORDER_PYTORCH && t->ndim == 4)
		memcpy(turned, (int64_t[4]) {d[3], d[2], d[0], d[1]}, sizeof(turned));
	if (turned[0] > 0)
		memcpy(dims, turned, sizeof(turned));
	return t->ndim;
}

#define POLL_NUMBERS (1 << 20)

static int64_t
row_place(const matrix *m, int64_t r)
{
	return m->inner > 0 ? r % m->inner * m->outer + r / m->inner : r * m->row_step;
}

/* Between the engine's order and the other one, in the direction that `reading` says. */
static bool
copy(const matrix *m, bool reading, const float *from, float *to, llm_poll poll, void *arg, llm_error *err)
{
	int64_t since_poll = 0;

	for (int64_t r = 0; r < m->rows; r++)
	{
		int64_t row = row_place(m, r);

		for (int64_t c = 0; c < m->columns; c++)
		{
			int64_t inside = r * m->columns + c;
			int64_t outside = row + (m->places ? m->places[c] : c * m->column_step);

			to[reading ? inside : outside] = from[reading ? outside : inside];
		}
		since_poll += m->columns;
		if (since_poll < POLL_NUMBERS)
			continue;
		since_poll = 0;
		if (poll != NULL && poll(arg))
			return llm_fail(err, LLM_CANCELLED, "cancelled");
	}
	return true;
}

bool
exchange_read(const exchange *x, int32_t i, const float *outside, float *inside, llm_poll poll, void *arg,
			  llm_error *err)
{
	matrix m;
	bool ok = matrix_of(x, i, &m, err) && copy(&m, true, outside, inside, poll, arg, err);

	free(m.places);
	return ok;
}

bool
exchange_write(const exchange *x, int32_t i, const float *inside, float *outside, llm_poll poll, void *arg,
			   llm_error *err)
{
	matrix m;
	bool ok = matrix_of(x, i, &m, err) && copy(&m, false, inside, outside, poll, arg, err);

	free(m.places);
	return ok;
}
