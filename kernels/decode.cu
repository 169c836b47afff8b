/*
 * decode.cu
 *	  Tokens of texts whose keys and values lie in pages: heads made ready and put there, attention, rows picked out.
 *
 * Attention is of rows: each reads the keys of its text up to its own, so tokens that a text begins with and those that
 * follow one by one are the same.  Where rows are few their keys are split: a block takes a share of the pages of a row
 * for up to four heads that have the same keys and values, half a warp a key at a time, and a second kernel puts shares
 * together in their order.  How a row is split depends on its length and the program, not on other rows.
 */
#include "attention.h"
#include "kept.h"

#define THREADS 128
#define WARPS (THREADS / WARP)
#define MAX_DIM 256

/* Which page has a token of a row's text. */
typedef struct page_table
{
	const int32_t *position, *first, *pages;
	int tokens; /* of a page */
} page_table;

/* Numbers before those of a kv head of a page. */
static __device__ inline int64_t
head_of_page(const page_table &t, int64_t row, int page, int kv_heads, int kv_head, int n)
{
	return ((int64_t) t.pages[t.first[row] + page] * kv_heads + kv_head) * t.tokens * n;
}

static bool
heads_fit(launch *l, const llmapp_cuda_attr *a)
{
	if (a->kv_heads >= 1 && a->heads >= 1 && a->heads % a->kv_heads == 0 && a->head_dim >= 1 &&
		a->head_dim <= MAX_DIM && a->count >= 1 && (!a->flag || a->head_dim % KEPT_BLOCK == 0))
		return true;
	l->what = "pages of keys and values have an impossible shape";
	return false;
}

/* ---- heads of new tokens ---- */

typedef struct head_args
{
	page_table table;
	int heads, kv_heads, n, half;
	int turned; /* numbers of a head, at most n */
	float epsilon;
	const float *q_gain, *k_gain, *angles;
	float *qkv;
	void *k, *v;
} head_args;

/* Number j of a head turned by (turned) cosines and sines; the two of a pair lie half of them apart. */
static __device__ inline float
turn(const float *x, int j, int turned, const float *angles)
{
	int half = turned / 2;

	if (j >= turned)
		return x[j];
	return j < half ? x[j] * angles[j] - x[j + half] * angles[half + j]
					: x[j] * angles[j - half] + x[j - half] * angles[j];
}

/* A block is a row, its warps take heads in turn. */
static __global__ void
finish_heads(const llmapp_cuda_batch *batch, head_args a)
{
	SHARED(float, memory, WARPS *MAX_DIM);
	int64_t row = blockIdx.x;
	int lane = threadIdx.x % WARP, n = a.n;
	float *x = memory + threadIdx.x / WARP * MAX_DIM;
	int position;

	if (row >= batch->rows[AXIS_TOKEN])
		return;
	position = a.table.position[row];
	for (int head = threadIdx.x / WARP; head < a.heads + 2 * a.kv_heads; head += WARPS)
	{
		float *from = a.qkv + (row * (a.heads + 2 * a.kv_heads) + head) * n, squares = 0;
		bool query = head < a.heads, value = head >= a.heads + a.kv_heads;
		const float *gain = value ? NULL : query ? a.q_gain : a.k_gain;
		int kv_head = (head - a.heads) % a.kv_heads;
		int64_t at = 0;

		if (!query)
			at = head_of_page(a.table, row, position / a.table.tokens, a.kv_heads, kv_head, n) +
				 position % a.table.tokens * n;
		for (int j = lane; j < n; j += WARP)
		{
			x[j] = from[j];
			squares += x[j] * x[j];
		}
		if (gain)
		{
			float rstd = 1 / sqrtf(warp_sum(squares) / n + a.epsilon);

			for (int j = lane; j < n; j += WARP)
				x[j] *= rstd * gain[j];
		}
		__syncwarp();
		for (int j = lane; j < n; j += WARP)
		{
			float y = value || !a.angles ? x[j] : turn(x, j, a.turned, a.angles + (int64_t) position * a.turned);

			if (query)
				from[j] = y;
			else if (a.half)
				((uint16_t *) (value ? a.v : a.k))[at + j] = to_half(y);
			else
				((float *) (value ? a.v : a.k))[at + j] = y;
		}
		__syncwarp();
	}
}

void
launch_page_heads(launch *l, const llmapp_cuda_step *s)
{
	const llmapp_cuda_attr *t = &s->attr;
	head_args a = {{INTS(s->in[4]), INTS(s->in[5]), INTS(s->in[6]), t->count},
				   t->heads,
				   t->kv_heads,
				   t->head_dim,
				   t->flag,
				   (int) (s->in[3].data ? columns_of(&s->in[3]) : 0),
				   t->number,
				   FLOATS(s->in[1]),
				   FLOATS(s->in[2]),
				   FLOATS(s->in[3]),
				   FLOATS(s->out[0]),
				   s->out[1].data,
				   s->out[2].data};

	if (heads_fit(l, t))
		LAUNCH(l, finish_heads, bucket_of(l, &s->in[0]), THREADS, 0, l->batch, a);
}

/* ---- attention ---- */

#define MOST_HEADS 4           /* of a block */
#define LANES 16               /* that have a key */
#define KEYS (THREADS / LANES) /* at a time */
#define ENOUGH_BLOCKS 4096     /* to fill any device */

typedef struct page_args
{
	page_table table;
	int heads, kv_heads, n, half;
	int group, packs; /* heads that share keys, and blocks for them */
	int splits;       /* most of a row */
	int buckets, distance;
	float scale;
	int64_t rows;
	const float *q, *bias;
	const void *k, *v;
	float *parts, *out;
} page_args;

/* Keys of each split of a row but the last: whole pages. */
static __device__ inline int
split_keys(const page_args &a, int keys)
{
	int all = a.splits * a.table.tokens;

	return (keys + all - 1) / all * a.table.tokens;
}

/* Of each split, row and head: the result, the maximum and the sum. */
static __device__ inline float *
part_of(const page_args &a, int64_t split, int64_t row, int64_t head)
{
	return a.parts + ((split * a.rows + row) * a.heads + head) * (a.n + 2);
}

/* Numbers first .. first + EACH of a key or value at x + at, zeros behind n. */
template <int EACH>
static __device__ inline void
load_part(const page_args &a, const void *x, int64_t at, int first, float y[EACH])
{
	for (int e = 0; e < EACH; e += 4)
	{
		int j = first + e;

		if (a.half && j < a.n)
			kept_four<LLMAPP_CUDA_F16>(x, at + j, y + e);
		else if (a.n % 4 == 0 && j < a.n)
			kept_four<LLMAPP_CUDA_F32>(x, at + j, y + e);
		else
			for (int i = 0; i < 4; i++)
				y[e + i] = j + i < a.n ? ((const float *) x)[at + j + i] : 0;
	}
}

/* What a half warp knows of a head: numbers of the result, their maximum and sum. */
template <int EACH> struct head_state
{
	float q[EACH], out[EACH], top, sum;
};

/* One key more, unless it is not there. */
template <int EACH>
static __device__ inline void
add_key(head_state<EACH> &s, bool there, float scale, float bias, const float *k, const float *v)
{
	float score = 0, most, factor, share;

	for (int e = 0; e < EACH; e++)
		score += s.q[e] * k[e];
	for (int step = LANES / 2; step > 0; step /= 2)
		score += __shfl_xor_sync(ALL_LANES, score, step);
	score = there ? scale * score + bias : -INFINITY;
	most = fmaxf(s.top, score);
	factor = s.top == most ? 1 : expf(s.top - most);
	share = there ? expf(score - most) : 0;
	s.top = most;
	s.sum = s.sum * factor + share;
	for (int e = 0; e < EACH; e++)
		s.out[e] = s.out[e] * factor + share * v[e];
}

/* Of the half warps of a block, in their order, `step` apart, each (room - 2 numbers, maximum, sum). */
static __device__ inline void
join_states(const page_args &a, const float *states, int room, int step, bool only, float *part, float *out)
{
	float most = -INFINITY, total = 0;

	for (int i = 0; i < KEYS; i++)
		most = fmaxf(most, states[i * step + room - 2]);
	for (int i = 0; i < KEYS; i++)
		total += states[i * step + room - 1] * expf(states[i * step + room - 2] - most);
	FOR_COLUMNS(j, a.n)
	{
		float value = 0;

		for (int i = 0; i < KEYS; i++)
			value += states[i * step + j] * expf(states[i * step + room - 2] - most);
		if (only)
			out[j] = value / total;
		else
			part[j] = value;
	}
	if (!only && threadIdx.x == 0)
	{
		part[a.n] = most;
		part[a.n + 1] = total;
	}
}

/* EACH: numbers of a head that a lane has; HEADS: of a block. */
template <int EACH, int HEADS>
static __global__ void
attend_split(const llmapp_cuda_batch *batch, page_args a)
{
	constexpr int ROOM = EACH * LANES + 2;
	SHARED(float, states, KEYS *HEADS *ROOM);
	int64_t row = blockIdx.x / a.packs / a.kv_heads % a.rows;
	int pack = blockIdx.x % a.packs, kv_head = blockIdx.x / a.packs % a.kv_heads;
	int split = (int) (blockIdx.x / a.packs / a.kv_heads / a.rows), lane = threadIdx.x % LANES * EACH;
	int key = threadIdx.x / LANES, head = kv_head * a.group + pack * HEADS, heads = a.group - pack * HEADS;
	int keys, begin, end, size = a.table.tokens;
	head_state<EACH> state[HEADS];

	if (row >= batch->rows[AXIS_TOKEN])
		return;
	keys = a.table.position[row] + 1;
	begin = split * split_keys(a, keys);
	end = begin + split_keys(a, keys) < keys ? begin + split_keys(a, keys) : keys;
	if (begin >= end)
		return;
	heads = heads < HEADS ? heads : HEADS;
	for (int h = 0; h < HEADS; h++)
	{
		state[h].top = -INFINITY;
		state[h].sum = 0;
		for (int e = 0; e < EACH; e++)
		{
			bool inside = h < heads && lane + e < a.n;

			state[h].q[e] = inside ? a.q[(row * (a.heads + 2 * a.kv_heads) + head + h) * a.n + lane + e] : 0;
			state[h].out[e] = 0;
		}
	}
	for (int page = begin / size; page * size < end; page++)
	{
		int64_t at = head_of_page(a.table, row, page, a.kv_heads, kv_head, a.n);
		int count = end - page * size < size ? end - page * size : size;

		for (int base = 0; base < count; base += KEYS)
		{
			bool there = base + key < count;
			int64_t from = at + (there ? base + key : 0) * a.n;
			float k[EACH], v[EACH];
			int bucket = 0;

			load_part<EACH>(a, a.k, from, lane, k);
			load_part<EACH>(a, a.v, from, lane, v);
			if (a.bias)
				bucket = relative_bucket(1, a.buckets, a.distance, page * size + base + key - (keys - 1));
			for (int h = 0; h < HEADS; h++)
				add_key<EACH>(state[h], there, a.scale, a.bias && h < heads ? a.bias[bucket * a.heads + head + h] : 0,
							  k, v);
		}
	}
	for (int h = 0; h < HEADS; h++)
	{
		float *to = states + (key * HEADS + h) * ROOM;

		for (int e = 0; e < EACH; e++)
			to[lane + e] = state[h].out[e];
		if (lane == 0)
		{
			to[ROOM - 2] = state[h].top;
			to[ROOM - 1] = state[h].sum;
		}
	}
	__syncthreads();
	for (int h = 0; h < heads; h++)
		join_states(a, states + h * ROOM, ROOM, HEADS * ROOM, a.splits == 1,
					a.splits > 1 ? part_of(a, split, row, head + h) : NULL, a.out + (row * a.heads + head + h) * a.n);
}

/* A block is a head of a row. */
static __global__ void
join_splits(const llmapp_cuda_batch *batch, page_args a)
{
	int64_t row = blockIdx.x / a.heads, head = blockIdx.x % a.heads;
	int keys, splits, n = a.n;
	float most = -INFINITY, total = 0;

	if (row >= batch->rows[AXIS_TOKEN])
		return;
	keys = a.table.position[row] + 1;
	splits = (keys + split_keys(a, keys) - 1) / split_keys(a, keys);
	for (int s = 0; s < splits; s++)
		most = fmaxf(most, part_of(a, s, row, head)[n]);
	for (int s = 0; s < splits; s++)
		total += part_of(a, s, row, head)[n + 1] * expf(part_of(a, s, row, head)[n] - most);
	FOR_COLUMNS(j, n)
	{
		float value = 0;

		for (int s = 0; s < splits; s++)
			value += part_of(a, s, row, head)[j] * expf(part_of(a, s, row, head)[n] - most);
		a.out[(row * a.heads + head) * n + j] = value / total;
	}
}

/* As many as give the device enough blocks, of at least a page. */
static int
splits_of(int64_t blocks, int64_t longest, int page_tokens)
{
	int64_t pages = (longest + page_tokens - 1) / page_tokens, splits = ENOUGH_BLOCKS / blocks;

	splits = splits < pages ? splits : pages;
	return splits > 1 ? (int) splits : 1;
}

typedef void (*attend_kernel)(const llmapp_cuda_batch *batch, page_args a);

template <int HEADS>
static attend_kernel
attend_kernel_of(int n)
{
	return n <= 4 * LANES   ? attend_split<4, HEADS>
		   : n <= 8 * LANES ? attend_split<8, HEADS>
							: attend_split<MAX_DIM / LANES, HEADS>;
}

void
launch_page_attention(launch *l, const llmapp_cuda_step *s)
{
	const llmapp_cuda_attr *t = &s->attr;
	int64_t blocks;
	page_args a = {
		{INTS(s->in[3]), INTS(s->in[4]), INTS(s->in[5]), t->count}, t->heads, t->kv_heads, t->head_dim, t->flag};
	attend_kernel kernel = t->heads == t->kv_heads ? attend_kernel_of<1>(a.n) : attend_kernel_of<MOST_HEADS>(a.n);

	if (!heads_fit(l, t))
		return;
	a.rows = bucket_of(l, &s->in[0]);
	a.group = t->heads / t->kv_heads;
	a.packs = (a.group + MOST_HEADS - 1) / MOST_HEADS;
	blocks = a.rows * t->kv_heads * a.packs;
	a.splits = splits_of(blocks, t->index, t->count);
	a.buckets = t->buckets;
	a.distance = t->distance;
	a.scale = t->scale;
	a.q = FLOATS(s->in[0]);
	a.k = s->in[1].data;
	a.v = s->in[2].data;
	a.bias = FLOATS(s->in[6]);
	a.out = FLOATS(s->out[0]);
	a.parts = launch_scratch<float>(l, a.splits > 1 ? a.splits * a.rows * a.heads * (a.n + 2) : 0);
	LAUNCH(l, kernel, blocks * a.splits, THREADS, 0, l->batch, a);
	if (a.splits > 1)
		LAUNCH(l, join_splits, a.rows * a.heads, THREADS, 0, l->batch, a);
}

/* ---- rows ---- */

static __global__ void
pick_rows(const llmapp_cuda_batch *batch, int64_t n, const float *x, const int32_t *which, float *y)
{
	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * n)
	y[i] = x[which[i / n] * n + i % n];
}

void
launch_gather_rows(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, pick_rows, element_blocks(bucket_of(l, &s->in[1]) * n), BLOCK, 0, l->batch, n, FLOATS(s->in[0]),
		   INTS(s->in[1]), FLOATS(s->out[0]));
}
