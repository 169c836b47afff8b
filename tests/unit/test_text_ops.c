/*
 * test_text_ops.c
 *	  Operations on tokens against double-precision references, and their gradients against
 *	  finite differences of those, over rows of several lengths; the language loss.
 *
 * What an operation reads is a table of parameters, embedded as it is, so that the gradient
 * arrives at parameters.
 */
#include "op_bench.h"

#define ROWS 8
#define TOKENS 48
#define SOURCES 30
#define MAX_COLUMNS 64

static const int32_t token_start[ROWS + 1] = {0, 3, 3, 4, 21, 23, 23, 36, 41};
static const int32_t source_start[ROWS + 1] = {0, 1, 3, 8, 8, 13, 14, 24, 25};

typedef enum kind
{
	ATTENTION,
	ATTENTION_BIAS,
	CROSS_ATTENTION,
	ROTARY,
	LAYER_NORM,
	RMS_NORM,
	HEAD_NORM,
	GLU,
	POSITION,
	POOL
} kind;

typedef struct problem
{
	kind what;
	int columns; /* of the tokens that the operation reads */
	attention_shape s;
	net_activation act;
	text_pool pool;
	int turned; /* by rotary positions; 0: all numbers of a head */
} problem;

static const simd_kernels *simd;

/* ---- the graph ---- */

static int32_t
axis_input(bench *b, tensor_axis axis, tensor_type type, int64_t rows, int64_t columns, void *data)
{
	b->input[b->inputs] = data;
	return graph_input(b->g, b->inputs++, type, axis, rows, columns);
}

static float *
random_floats(int64_t n)
{
	float *x = malloc(n * sizeof(float));

	for (int64_t i = 0; i < n; i++)
		x[i] = next_normal();
	return x;
}

static int32_t *
copy_ints(const int32_t *x, int64_t n)
{
	return memcpy(malloc(n * sizeof(int32_t)), x, n * sizeof(int32_t));
}

static bench
text_bench(void)
{
	bench b = bench_new();

	b.run.simd = simd;
	b.g->capacity[AXIS_ROW] = ROWS;
	b.g->capacity[AXIS_TOKEN] = TOKENS;
	b.g->capacity[AXIS_SOURCE] = SOURCES;
	b.run.rows[AXIS_TOKEN] = token_start[ROWS];
	b.run.rows[AXIS_SOURCE] = source_start[ROWS];
	return b;
}

/* 0, 1, 2, ... as an input. */
static int32_t
identity(bench *b, tensor_axis axis)
{
	int64_t tokens = b->g->capacity[axis];
	int32_t *index = malloc(tokens * sizeof(int32_t));

	for (int32_t i = 0; i < tokens; i++)
		index[i] = i;
	return axis_input(b, axis, TENSOR_I32, tokens, 1, index);
}

/* Parameters (tokens, columns) as tokens. */
static int32_t
token_parameters(bench *b, int32_t index, int64_t columns)
{
	return op_embed(b->g, index, parameter(b, b->g->tensors[index].dims[0], columns));
}

static int32_t
start_input(bench *b, const int32_t *start)
{
	return axis_input(b, AXIS_NONE, TENSOR_I32, ROWS + 1, 0, copy_ints(start, ROWS + 1));
}

/* Numbers of a head that positions turn. */
static int32_t
rotary_dim(const problem *p)
{
	return p->turned > 0 ? p->turned : p->s.head_dim;
}

/* All inputs come before the first parameter. */
typedef struct inputs
{
	int32_t start, source_start, index, source_index, target, weight;
} inputs;

static int32_t
record(bench *b, const problem *p, const inputs *in)
{
	int n = p->s.head_dim;
	int32_t start = in->start, x = token_parameters(b, in->index, p->columns), kv, gain;

	switch (p->what)
	{
		case ATTENTION: return op_attention(b->g, x, start, TENSOR_NONE, &p->s);
		case ATTENTION_BIAS: return op_attention(b->g, x, start, parameter(b, p->s.buckets, p->s.heads), &p->s);
		case CROSS_ATTENTION:
			kv = token_parameters(b, in->source_index, 2 * p->s.kv_heads * n);
			return op_cross_attention(b->g, x, kv, start, in->source_start, &p->s);
		case ROTARY:
			return op_rotary(b->g, x, start,
							 op_rotary_table(b->g, start, 20, &(rotary_shape) {.dim = rotary_dim(p), .theta = 100}),
							 &p->s);
		case LAYER_NORM: return op_layer_norm(b->g, x, parameter(b, p->columns, 0), TENSOR_NONE, 0.1f);
		case RMS_NORM: return op_rms_norm(b->g, x, parameter(b, p->columns, 0), 0.1f);
		case HEAD_NORM:
			gain = parameter(b, n, 0);
			return op_head_norm(b->g, x, gain, parameter(b, n, 0), 0.1f, &p->s);
		case GLU: return op_glu(b->g, x, p->act);
		case POSITION: return op_position(b->g, x, start, parameter(b, 20, p->columns));
		case POOL: return op_pool_tokens(b->g, x, start, p->pool);
	}
	return TENSOR_NONE;
}

/* ---- references: x is W(b, 0) ---- */

static double y[TOKENS * MAX_COLUMNS];

static double
plain_act(net_activation act, double x)
{
	switch (act)
	{
		case ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2));
		case ACT_SILU: return x / (1 + exp(-x));
		case ACT_TANH: return tanh(x);
		default: return x;
	}
}

static void
plain_norm(const float *x, int n, const float *gain, bool centred, double *to)
{
	double mean = 0, square = 0;

	for (int i = 0; i < n && centred; i++)
		mean += (double) x[i] / n;
	for (int i = 0; i < n; i++)
		square += (x[i] - mean) * (x[i] - mean) / n;
	for (int i = 0; i < n; i++)
		to[i] = (x[i] - mean) / sqrt(square + (double) 0.1f) * gain[i];
}

static void
plain_attention(const bench *b, const problem *p)
{
	int n = p->s.head_dim, width = p->s.heads * n, kv_width = p->s.kv_heads * n;
	bool cross = p->what == CROSS_ATTENTION;
	const float *k = cross ? W(*b, 1) : W(*b, 0) + width, *v = k + kv_width;
	const int32_t *kv_start = cross ? source_start : token_start;
	int step = cross ? 2 * kv_width : p->columns;

	for (int r = 0; r < ROWS; r++)
		for (int h = 0; h < p->s.heads; h++)
			for (int i = token_start[r]; i < token_start[r + 1]; i++)
			{
				int end = p->s.causal ? i + 1 : kv_start[r + 1], at = h / (p->s.heads / p->s.kv_heads) * n;
				double sum = 0, *to = y + i * width + h * n;

				memset(to, 0, n * sizeof(double));
				for (int j = kv_start[r]; j < end; j++)
				{
					double score = 0;

					for (int c = 0; c < n; c++)
						score += (double) W(*b, 0)[i * p->columns + h * n + c] * k[j * step + at + c];
					score *= p->s.scale;
					if (p->what == ATTENTION_BIAS)
					{
						int distance = abs(j - i), exact = p->s.buckets / 4, bucket = distance;

						if (distance >= exact)
							bucket = exact + (int) (log((double) distance / exact) /
													log((double) p->s.distance / exact) * exact);
						bucket = bucket < 2 * exact ? bucket : 2 * exact - 1;
						score += W(*b, 1)[(bucket + (j > i ? 2 * exact : 0)) * p->s.heads + h];
					}
					sum += exp(score);
					for (int c = 0; c < n; c++)
						to[c] += exp(score) * v[j * step + at + c];
				}
				for (int c = 0; c < n && sum > 0; c++)
					to[c] /= sum;
			}
}

static void
plain_token(const bench *b, const problem *p, int row, int t)
{
	const float *x = W(*b, 0) + t * p->columns;
	int n = p->s.head_dim, columns = p->columns, position = t - token_start[row];
	double *to = y + t * columns;

	switch (p->what)
	{
		case ROTARY:
			for (int i = 0; i < columns; i++)
			{
				int dim = rotary_dim(p), half = dim / 2, c = i % n % half;
				double angle = position * pow(100, -2.0 * c / dim);

				to[i] = i >= (p->s.heads + p->s.kv_heads) * n || i % n >= dim ? x[i]
						: i % n < half ? x[i] * cos(angle) - x[i + half] * sin(angle)
									   : x[i] * cos(angle) + x[i - half] * sin(angle);
			}
			break;
		case LAYER_NORM:
		case RMS_NORM: plain_norm(x, columns, W(*b, 1), p->what == LAYER_NORM, to); break;
		case HEAD_NORM:
			for (int h = 0; h * n < columns; h++)
				if (h < p->s.heads + p->s.kv_heads)
					plain_norm(x + h * n, n, W(*b, h < p->s.heads ? 1 : 2), false, to + h * n);
				else
					for (int i = h * n; i < (h + 1) * n; i++)
						to[i] = x[i];
			break;
		case GLU:
			for (int i = 0; i < columns / 2; i++)
				y[t * columns / 2 + i] = plain_act(p->act, x[i]) * x[columns / 2 + i];
			break;
		case POSITION:
			for (int i = 0; i < columns; i++)
				to[i] = (double) x[i] + W(*b, 1)[position * columns + i];
			break;
		case POOL:
			for (int i = 0; i < columns; i++)
			{
				int length = token_start[row + 1] - token_start[row];
				bool counts = p->pool == POOL_MEAN || position == (p->pool == POOL_FIRST ? 0 : length - 1);

				y[row * columns + i] += counts ? x[i] / (p->pool == POOL_MEAN ? (double) length : 1) : 0;
			}
			break;
		default: break;
	}
}

/* The mean of squared differences from the target; fills y. */
static double
plain_loss(const bench *b, const problem *p, int64_t rows, int64_t columns, const float *target)
{
	double loss = 0;

	memset(y, 0, sizeof(y));
	if (p->what <= CROSS_ATTENTION)
		plain_attention(b, p);
	else
		for (int r = 0; r < ROWS; r++)
			for (int t = token_start[r]; t < token_start[r + 1]; t++)
				plain_token(b, p, r, t);
	for (int64_t i = 0; i < rows * columns; i++)
		loss += (y[i] - target[i]) * (y[i] - target[i]) / columns / rows;
	return loss;
}

/* Every parameter, or about 50 of them. */
static void
check_gradients(bench *b, const problem *p, int64_t rows, int64_t columns, const float *target)
{
	const float step = 1.0f / 1024;

	for (int32_t i = 0; i < b->g->tensor_count; i++)
	{
		const tensor *w = &b->g->tensors[i];
		int64_t count = w->dims[0] * tensor_columns(w), n = 0;
		float got[100];
		double want[100], up, down;

		if (w->role != ROLE_PARAM || !CHECK(w->gradient != TENSOR_NONE))
			continue;
		if (w->slot == 0 || (p->what == CROSS_ATTENTION && w->slot == 1)) /* tokens that there are */
			count = (w->slot == 0 ? token_start : source_start)[ROWS] * tensor_columns(w);
		for (int64_t j = 0; j < count; j += 1 + count / 50, n++)
		{
			float *at = W(*b, w->slot) + j, before = *at;

			got[n] = ((float *) plan_address(b->p, w->gradient))[j];
			*at = before + step;
			up = plain_loss(b, p, rows, columns, target);
			*at = before - step;
			down = plain_loss(b, p, rows, columns, target);
			*at = before;
			want[n] = (up - down) / (2 * step);
		}
		if (!CHECK_CLOSE(got, want, n, 1e-8))
			fprintf(stderr, "%s: operation %d, parameter %d\n", simd->name, p->what, w->slot);
	}
}

static void
test_problem(const problem *p)
{
	bench b = text_bench();
	tensor_axis axis = p->what == POOL ? AXIS_ROW : AXIS_TOKEN;
	int64_t columns = p->what <= CROSS_ATTENTION ? p->s.heads * p->s.head_dim : p->columns / (p->what == GLU ? 2 : 1);
	int64_t most = b.g->capacity[axis], rows = axis == AXIS_ROW ? ROWS : token_start[ROWS];
	float *targets = random_floats(most * columns), *ones = malloc(most * sizeof(float));
	inputs in = {start_input(&b, token_start), start_input(&b, source_start), identity(&b, AXIS_TOKEN),
				 identity(&b, AXIS_SOURCE)};
	int32_t out, loss;

	for (int64_t i = 0; i < most; i++)
		ones[i] = 1;
	in.target = axis_input(&b, axis, TENSOR_F32, most, columns, targets);
	in.weight = axis_input(&b, axis, TENSOR_F32, most, 0, ones);
	out = record(&b, p, &in);
	graph_keep(b.g, out);
	loss = op_mse(b.g, out, in.target, in.weight, true);
	graph_backward(b.g);
	if (bench_run(&b, ROWS))
	{
		double sum = 0, want = plain_loss(&b, p, rows, columns, targets);

		for (int64_t i = 0; i < rows; i++)
			sum += ((float *) plan_address(b.p, loss))[i] / rows;
		if (!CHECK_CLOSE(plan_address(b.p, out), y, rows * columns, 1e-12) || !CHECK_NEAR(sum, want, 1e-5 * want))
			fprintf(stderr, "%s: operation %d\n", simd->name, p->what);
		check_gradients(&b, p, rows, columns, targets);
	}
	bench_free(&b);
}

static const problem problems[] = {
	{ATTENTION, 3 * 16, {.heads = 2, .kv_heads = 2, .head_dim = 8, .scale = 0.4f}},
	{ATTENTION, 8 * 5, {.heads = 4, .kv_heads = 2, .head_dim = 5, .causal = true, .scale = 0.5f}},
	{ATTENTION_BIAS, 3 * 12, {.heads = 3, .kv_heads = 3, .head_dim = 4, .scale = 1, .buckets = 8, .distance = 9}},
	{CROSS_ATTENTION, 4 * 6, {.heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.4f}},
	{ROTARY, 6 * 8, {.heads = 4, .kv_heads = 1, .head_dim = 8}},
	{ROTARY, 4 * 14, {.heads = 2, .kv_heads = 1, .head_dim = 14}},
	{ROTARY, 4 * 14, {.heads = 2, .kv_heads = 1, .head_dim = 14}, .turned = 6},
	{LAYER_NORM, 19},
	{RMS_NORM, 19},
	{RMS_NORM, 40},
	{HEAD_NORM, 8 * 7, {.heads = 4, .kv_heads = 2, .head_dim = 7}},
	{GLU, 2 * 21, .act = ACT_SILU},
	{GLU, 2 * 8, .act = ACT_GELU},
	{GLU, 2 * 5, .act = ACT_TANH},
	{POSITION, 11},
	{POOL, 13, .pool = POOL_MEAN},
	{POOL, 13, .pool = POOL_FIRST},
	{POOL, 13, .pool = POOL_LAST},
};

/* ---- the language loss ---- */

/* As it is computed, from all logits at once: gradients of x, w and bias, loss and correct. */
typedef struct language
{
	int tokens, width, vocab;
	float cap;                          /* or 0 */
	const float *x, *w, *bias, *weight; /* bias may be NULL */
	const int32_t *target;
	double *dx, *dw, *dbias, *loss, *correct;
} language;

static void
plain_language_loss(const language *l)
{
	double *p = malloc(l->vocab * sizeof(double)), total = 0;

	for (int t = 0; t < l->tokens; t++)
		total += l->weight[t];
	for (int t = 0; t < l->tokens; t++)
	{
		const float *x = l->x + t * l->width;
		double sum = 0, top = -INFINITY;

		for (int v = 0; v < l->vocab; v++)
		{
			p[v] = l->bias ? l->bias[v] : 0;
			for (int i = 0; i < l->width; i++)
				p[v] += (double) x[i] * l->w[v * l->width + i];
			if (l->cap > 0)
				p[v] = l->cap * tanh(p[v] / l->cap);
			sum += exp(p[v]);
			top = fmax(top, p[v]);
		}
		l->loss[t] = l->weight[t] * (log(sum) - p[l->target[t]]);
		l->correct[t] = l->weight[t] > 0 && p[l->target[t]] >= top;
		for (int v = 0; v < l->vocab; v++)
		{
			double slope = l->weight[t] / total * (exp(p[v]) / sum - (v == l->target[t]));

			if (l->cap > 0)
				slope *= 1 - p[v] / l->cap * (p[v] / l->cap);

			l->dbias[v] += slope;
			for (int i = 0; i < l->width; i++)
			{
				l->dx[t * l->width + i] += slope * l->w[v * l->width + i];
				l->dw[v * l->width + i] += slope * x[i];
			}
		}
	}
	free(p);
}

/* As many tokens as fit, of which the run has fewer; `tied`: the head is the table that makes the tokens. */
static void
test_language_loss(int capacity, int tokens, int width, int vocab, bool with_bias, bool tied, float cap,
				   pool *threads)
{
	bench b = text_bench();
	int32_t *ids = malloc(capacity * sizeof(int32_t)), *targets = malloc(capacity * sizeof(int32_t));
	float *weights = malloc(capacity * sizeof(float)), *x_kept = malloc(capacity * width * sizeof(float));
	int32_t index, target, weight, table, w, bias, x, correct, loss;
	language l = {tokens, width, vocab, cap};

	b.g->capacity[AXIS_TOKEN] = capacity;
	b.run.rows[AXIS_TOKEN] = tokens;
	b.run.pool = threads;
	free(b.weights);
	b.weights = calloc((int64_t) vocab * (width + 1) + (tied ? 0 : (int64_t) capacity * width) + 64, sizeof(float));
	for (int i = 0; i < capacity; i++)
	{
		ids[i] = tied ? next_below(vocab) : i;
		targets[i] = next_below(vocab);
		weights[i] = i % 3 == 1 ? 0 : 0.1f + next_uniform();
	}
	index = axis_input(&b, AXIS_TOKEN, TENSOR_I32, capacity, 1, ids);
	target = axis_input(&b, AXIS_TOKEN, TENSOR_I32, capacity, 0, targets);
	weight = axis_input(&b, AXIS_TOKEN, TENSOR_F32, capacity, 0, weights);
	w = parameter(&b, vocab, width);
	bias = with_bias ? parameter(&b, vocab, 0) : TENSOR_NONE;
	table = tied ? w : parameter(&b, capacity, width);
	x = op_embed(b.g, index, table);
	loss = op_language_loss(b.g, x, w, bias, cap, target, weight, true, &correct);
	graph_backward(b.g);
	if (bench_run(&b, 1))
	{
		double *memory = calloc((size_t) capacity * (width + 2) + (size_t) vocab * (width + 1), sizeof(double));
		double *dtable;

		for (int i = 0; i < tokens * width; i++)
			x_kept[i] = W(b, b.g->tensors[table].slot)[ids[i / width] * width + i % width];
		l.x = x_kept;
		l.w = W(b, 0);
		l.bias = with_bias ? W(b, 1) : NULL;
		l.weight = weights;
		l.target = targets;
		l.loss = memory;
		l.correct = l.loss + capacity;
		l.dbias = l.correct + capacity;
		l.dx = l.dbias + vocab;
		l.dw = l.dx + capacity * width;
		plain_language_loss(&l);
		CHECK_CLOSE(plan_address(b.p, loss), l.loss, tokens, 1e-12);
		CHECK_CLOSE(plan_address(b.p, correct), l.correct, tokens, 0);
		if (with_bias)
			CHECK_CLOSE(plan_address(b.p, b.g->tensors[bias].gradient), l.dbias, vocab, 1e-11);
		dtable = tied ? l.dw : l.dx;
		for (int i = 0; tied && i < tokens * width; i++)
			l.dw[ids[i / width] * width + i % width] += l.dx[i];
		CHECK_CLOSE(plan_address(b.p, b.g->tensors[w].gradient), l.dw, vocab * width, 1e-11);
		CHECK(b.g->tensors[table].used == TENSOR_NONE);
		CHECK_CLOSE(plan_address(b.p, b.g->tensors[table].gradient), dtable, tied ? vocab * width : tokens * width,
					1e-11);
		free(memory);
	}
	free(x_kept);
	bench_free(&b);
}

/* Without a gradient, and with no token that counts. */
static void
test_language_score(void)
{
	bench b = text_bench();
	int32_t *ints = calloc(TOKENS, sizeof(int32_t)), index, target, weight, correct, loss, x, w;
	float *weights = calloc(TOKENS, sizeof(float));

	index = identity(&b, AXIS_TOKEN);
	target = axis_input(&b, AXIS_TOKEN, TENSOR_I32, TOKENS, 0, ints);
	weight = axis_input(&b, AXIS_TOKEN, TENSOR_F32, TOKENS, 0, weights);
	x = token_parameters(&b, index, 4);
	w = parameter(&b, 6, 4);
	loss = op_language_loss(b.g, x, w, TENSOR_NONE, 0, target, weight, false, &correct);
	CHECK(b.g->tensors[w].gradient == TENSOR_NONE);
	op_language_loss(b.g, x, w, TENSOR_NONE, 0, target, weight, true, &correct);
	graph_backward(b.g);
	if (bench_run(&b, ROWS))
	{
		const float *dw = plan_address(b.p, b.g->tensors[w].gradient);

		for (int i = 0; i < token_start[ROWS]; i++)
			CHECK(((float *) plan_address(b.p, loss))[i] == 0 && ((float *) plan_address(b.p, correct))[i] == 0);
		for (int i = 0; i < 24; i++)
			CHECK(dw[i] == 0);
	}
	bench_free(&b);
}

/* ---- contrastive loss ---- */

/* Mean loss of `rows` rows (rows, n) in double precision; loss and correct may be NULL. */
static double
plain_contrastive(const double *x, const float *text, const float *weight, int rows, int n, double temperature,
				  double *loss, double *correct)
{
	double sum = 0, total = 0;

	for (int i = 0; i < rows; i++)
	{
		double denominator = 0, own = 0, top = -INFINITY, mine;

		for (int j = 1 - i % 2; j < rows; j += 2)
		{
			double dot = 0, a = 0, b = 0, score;

			if (i / 2 != j / 2 && (text[i] == text[j ^ 1] || text[i ^ 1] == text[j]))
				continue;
			for (int k = 0; k < n; k++)
			{
				dot += x[i * n + k] * x[j * n + k];
				a += x[i * n + k] * x[i * n + k];
				b += x[j * n + k] * x[j * n + k];
			}
			score = a > 0 && b > 0 ? dot / sqrt(a * b) / temperature : 0;
			denominator += exp(score);
			top = fmax(top, score);
			if (j == (i ^ 1))
				own = score;
		}
		mine = weight[i] * (log(denominator) - own);
		sum += mine;
		total += weight[i];
		if (loss)
			loss[i] = mine;
		if (correct)
			correct[i] = own >= top;
	}
	return sum / total;
}

/* Rows are parameters, so that the gradient arrives at them; the run has fewer rows than fit. */
static void
test_contrastive_loss(int capacity, int rows, int n, float temperature, pool *threads)
{
	bench b = text_bench();
	int32_t *ids = malloc(capacity * sizeof(int32_t)), index, text, weight, table, loss, correct;
	float *weights = malloc(capacity * sizeof(float)), *texts = malloc(capacity * sizeof(float));

	b.g->capacity[AXIS_ROW] = capacity;
	b.run.pool = threads;
	for (int i = 0; i < capacity; i++)
	{
		ids[i] = i;
		weights[i] = i % 5 == 1 ? 0 : 0.1f + next_uniform();
		texts[i] = i % 2 == 0 ? i % 6 : i; /* two texts of one side in several pairs, */
		if (i % 8 == 7)
			texts[i] = 7; /* and one of the other */
	}
	index = axis_input(&b, AXIS_ROW, TENSOR_I32, 0, 1, ids);
	text = axis_input(&b, AXIS_ROW, TENSOR_F32, 0, 0, texts);
	weight = axis_input(&b, AXIS_ROW, TENSOR_F32, 0, 0, weights);
	table = parameter(&b, capacity, n);
	loss = op_contrastive_loss(b.g, op_embed(b.g, index, table), text, weight, temperature, true, &correct);
	graph_backward(b.g);
	for (int k = 0; k < n && rows > 2; k++)
		W(b, 0)[2 * n + k] = 0; /* one text has no direction */
	if (bench_run(&b, rows))
	{
		double *x = malloc(4 * capacity * n * sizeof(double)), *slope = x + capacity * n;
		double *losses = slope + capacity * n, *right = losses + capacity * n, step = 1e-5;

		for (int i = 0; i < rows * n; i++)
			x[i] = W(b, 0)[i];
		plain_contrastive(x, texts, weights, rows, n, temperature, losses, right);
		for (int i = 0; i < rows * n; i++)
		{
			double at = x[i], above;

			x[i] = at + step;
			above = plain_contrastive(x, texts, weights, rows, n, temperature, NULL, NULL);
			x[i] = at - step;
			slope[i] = (above - plain_contrastive(x, texts, weights, rows, n, temperature, NULL, NULL)) / (2 * step);
			x[i] = at;
			if (rows > 2 && i / n == 2) /* by definition */
				slope[i] = 0;
		}
		CHECK_CLOSE(plan_address(b.p, loss), losses, rows, 1e-10);
		CHECK_CLOSE(plan_address(b.p, correct), right, rows, 0);
		CHECK_CLOSE(plan_address(b.p, b.g->tensors[table].gradient), slope, rows * n, 1e-9);
		free(x);
	}
	bench_free(&b);
}

/* ---- threads ---- */

/* A layer of a transformer whose gradients are to be the same whatever the number of threads. */
static void
test_threads(void)
{
	attention_shape s = {.heads = 4, .kv_heads = 2, .head_dim = 12, .causal = true, .scale = 0.3f};
	llm_error err = {0};
	float *first = NULL;
	size_t bytes = 0;

	for (int threads = 1; threads <= 3; threads++)
	{
		bench b;
		int32_t start, x, y1, w, gain, correct, target, weight;
		int32_t *targets = malloc(TOKENS * sizeof(int32_t));
		float *weights = malloc(TOKENS * sizeof(float)), *all = calloc(1 << 16, sizeof(float));
		size_t at = 0;

		fixture_counter = 0;
		b = text_bench();
		for (int i = 0; i < TOKENS; i++)
		{
			targets[i] = next_below(700);
			weights[i] = 1;
		}
		start = start_input(&b, token_start);
		target = axis_input(&b, AXIS_TOKEN, TENSOR_I32, TOKENS, 0, targets);
		weight = axis_input(&b, AXIS_TOKEN, TENSOR_F32, TOKENS, 0, weights);
		x = token_parameters(&b, identity(&b, AXIS_TOKEN), 40);
		x = op_position(b.g, x, start, parameter(&b, 20, 40));
		y1 = op_rms_norm(b.g, x, parameter(&b, 40, 0), 1e-5f);
		w = parameter(&b, 96, 40);
		y1 = op_linear(b.g, y1, w, TENSOR_NONE);
		gain = parameter(&b, 12, 0);
		y1 = op_head_norm(b.g, y1, gain, parameter(&b, 12, 0), 1e-6f, &s);
		y1 = op_rotary(b.g, y1, start, op_rotary_table(b.g, start, 20, &(rotary_shape) {.dim = 12, .theta = 10000}),
					   &s);
		y1 = op_attention(b.g, y1, start, TENSOR_NONE, &s);
		x = op_add(b.g, x, op_linear(b.g, y1, parameter(&b, 40, 48), TENSOR_NONE));
		y1 = op_glu(b.g, op_linear(b.g, x, parameter(&b, 120, 40), TENSOR_NONE), ACT_SILU);
		x = op_add(b.g, x, op_linear(b.g, y1, parameter(&b, 40, 60), TENSOR_NONE));
		op_language_loss(b.g, x, parameter(&b, 700, 40), TENSOR_NONE, 0, target, weight, true, &correct);
		graph_backward(b.g);
		b.run.pool = pool_new(threads, &err);
		if (bench_run(&b, ROWS))
			for (int32_t i = 0; i < b.g->tensor_count; i++)
			{
				const tensor *p = &b.g->tensors[i];

				if (p->role != ROLE_PARAM)
					continue;
				memcpy(all + at, plan_address(b.p, p->gradient), p->dims[0] * tensor_columns(p) * sizeof(float));
				at += p->dims[0] * tensor_columns(p);
			}
		CHECK(at > 0 && isfinite(all[0]) && all[0] != 0);
		if (first == NULL)
		{
			first = all;
			bytes = at * sizeof(float);
		}
		else
		{
			CHECK_BYTES(first, all, bytes);
			free(all);
		}
		pool_free(b.run.pool);
		bench_free(&b);
	}
	free(first);
}

#define REFUSED(columns, operation) \
	do \
	{ \
		bench b = text_bench(); \
		int32_t start = start_input(&b, token_start); \
		int32_t x = token_parameters(&b, identity(&b, AXIS_TOKEN), columns); \
		llm_error err = {0}; \
		CHECK_INT(operation, TENSOR_NONE); \
		CHECK(x != TENSOR_NONE && start != TENSOR_NONE && !graph_ok(b.g, &err)); \
		CHECK_INT(err.code, LLM_INVALID); \
		graph_free(b.g); \
		bench_free(&b); \
	} while (0)

/* Types begin anew with each row, and end with the last one. */
static void
test_token_types(void)
{
	static const int32_t tokens[] = {5, 7, 1, 7, 7, 2, 7, 9, 1}, expected[] = {0, 0, 1, 1, 2, 2, 0, 1, 1};
	bench b = text_bench();
	int32_t start[ROWS + 1] = {0, 6}, *ids = calloc(b.g->capacity[AXIS_TOKEN], sizeof(int32_t));
	int32_t types, token;

	for (int i = 2; i <= ROWS; i++)
		start[i] = 9;
	memcpy(ids, tokens, sizeof(tokens));
	token = axis_input(&b, AXIS_TOKEN, TENSOR_I32, b.g->capacity[AXIS_TOKEN], 1, ids);
	types = op_token_types(b.g, token, start_input(&b, start), 7, 3);
	graph_keep(b.g, types);
	b.run.rows[AXIS_TOKEN] = 9;
	if (bench_run(&b, ROWS))
		CHECK_BYTES(plan_address(b.p, types), expected, sizeof(expected));
	bench_free(&b);
}

static void
test_refused(void)
{
	attention_shape s = {.heads = 2, .kv_heads = 2, .head_dim = 8, .scale = 1};
	attention_shape uneven = {.heads = 3, .kv_heads = 2, .head_dim = 8, .scale = 1};
	int32_t correct;

	REFUSED(47, op_attention(b.g, x, start, TENSOR_NONE, &s));
	REFUSED(56, op_attention(b.g, x, start, TENSOR_NONE, &uneven));
	REFUSED(48, op_attention(b.g, x, x, TENSOR_NONE, &s));
	REFUSED(48, op_attention(b.g, x, start, parameter(&b, 8, 2), &s)); /* no buckets */
	REFUSED(16, op_cross_attention(b.g, x, x, start, start, &s));
	REFUSED(48, op_rotary(b.g, x, start, parameter(&b, 20, 7), &s));
	REFUSED(48, op_rotary_table(b.g, start, 20, &(rotary_shape) {.dim = 7, .theta = 10000}));
	REFUSED(48, op_token_types(b.g, x, start, 0, 2)); /* numbers */
	REFUSED(48, op_rms_norm(b.g, x, parameter(&b, 47, 0), 1e-5f));
	REFUSED(48, op_head_norm(b.g, x, parameter(&b, 8, 0), TENSOR_NONE, 1e-5f, &s));
	REFUSED(47, op_glu(b.g, x, ACT_SILU));
	REFUSED(48, op_position(b.g, x, start, parameter(&b, 20, 47)));
	REFUSED(48, op_pool_tokens(b.g, x, x, POOL_MEAN));
	REFUSED(48, op_contrastive_loss(b.g, x, start, start, 0.05f, true, &correct));
	REFUSED(48,
			op_contrastive_loss(b.g, op_pool_tokens(b.g, x, start, POOL_MEAN), start, start, 0.05f, true, &correct));
	REFUSED(48, op_language_loss(b.g, x, parameter(&b, 20, 47), TENSOR_NONE, 0, start, start, true, &correct));
}

int
main(void)
{
	int count;
	const simd_kernels *const *all = simd_all(&count);
	llm_error err = {0};
	pool *two;

	blas_open();
	two = pool_new(2, &err);
	for (int k = 0; k < count; k++)
	{
		simd = all[k];
		if (!simd->supported())
			continue;
		for (size_t i = 0; i < sizeof(problems) / sizeof(problems[0]); i++)
			test_problem(&problems[i]);
		test_language_loss(20, 15, 9, 33, true, false, 0, NULL);
		test_language_loss(20, 15, 9, 700, true, true, 0.7f, NULL);
		test_language_loss(20, 20, 16, 600, false, true, 0, NULL);
		test_contrastive_loss(13, 10, 7, 0.05f, NULL);
		test_contrastive_loss(4, 4, 33, 1, NULL);
	}
	simd = simd_best();
	/* several chunks, the last one short, and one that has no tokens */
	test_language_loss(1100, 700, 4, 9001, true, true, 0, two);
	test_language_loss(700, 700, 5, 9001, false, false, 0, NULL);
	test_language_score();
	test_contrastive_loss(150, 146, 4, 0.1f, two); /* several blocks */
	test_threads();
	test_token_types();
	test_refused();
	pool_free(two);
	return test_summary();
}
