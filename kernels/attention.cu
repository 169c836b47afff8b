/*
 * attention.cu
 *	  Attention of packed rows in float32, forward and backward; chooses the bf16 kernels where they fit.
 *
 * A block takes a tile of 32 queries of one head, four to each of its 8 warps, and walks over tiles
 * of 32 keys in shared memory: lane j of a warp scores key j, then holds numbers j, j + 32, ... of the
 * result.  The maximum and the sum of the softmax are carried along (Dao et al., FlashAttention).
 * The gradient is made twice over, by tiles of queries for dq and by tiles of keys for dk and dv, so
 * that every number has one owner.  Heads of any size up to 256.
 */
#include "attention.h"

#define TILE 32
#define THREADS 256
#define WARPS (THREADS / WARP)
#define EACH (TILE / WARPS)              /* queries, or keys, of a warp */
#define PARTS (ATTENTION_MAX_DIM / WARP) /* numbers of a head that a lane holds */

/* ---- tiles ---- */

/* One block: a prefix sum over rows of how many tiles each has. */
static __global__ void
fill_tiles(const llmapp_cuda_batch *batch, const int32_t *start, int size, attention_tile *tiles)
{
	SHARED(int32_t, sums, 32);
	int64_t rows = batch->rows[AXIS_ROW];
	int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	int32_t before = 0;

	for (int64_t base = 0; base < rows; base += blockDim.x)
	{
		int64_t row = base + threadIdx.x;
		int32_t own = row < rows ? (start[row + 1] - start[row] + size - 1) / size : 0, sum = own, total = 0;

		for (int step = 1; step < WARP; step *= 2)
		{
			int32_t other = __shfl_up_sync(ALL_LANES, sum, step);

			sum += lane >= step ? other : 0;
		}
		__syncthreads();
		if (lane == WARP - 1)
			sums[warp] = sum;
		__syncthreads();
		for (unsigned w = 0; w < blockDim.x / WARP; w++)
		{
			sum += (int) w < warp ? sums[w] : 0;
			total += sums[w];
		}
		for (int32_t i = 0; i < own; i++)
			tiles[1 + before + sum - own + i] = (attention_tile) {(int32_t) row, i * size};
		before += total;
	}
	if (threadIdx.x == 0)
		tiles[0] = (attention_tile) {before, 0};
}

int64_t
most_tiles(int64_t tokens, int64_t rows, int size)
{
	return tokens / size + (rows < tokens ? rows : tokens);
}

attention_tile *
list_tiles(launch *l, const int32_t *start, int64_t tokens, int size)
{
	attention_tile *tiles = launch_scratch<attention_tile>(l, 1 + most_tiles(tokens, l->bucket[AXIS_ROW], size));

	LAUNCH(l, fill_tiles, 1, 1024, 0, l->batch, start, size, tiles);
	return tiles;
}

/* ---- parts of the kernels ---- */

/* Rows `first` to `first + count` of x, step apart, of n numbers into rows of to, room apart; zeros up to a tile. */
static __device__ inline void
load_tile(const float *x, int64_t step, int count, int n, float *to, int room)
{
	for (int i = threadIdx.x; i < TILE * n; i += blockDim.x)
		to[i / n * room + i % n] = i / n < count ? x[i / n * step + i % n] : 0;
}

static __device__ inline float
dot(int n, const float *a, const float *b)
{
	float sum = 0;

	for (int c = 0; c < n; c++)
		sum += a[c] * b[c];
	return sum;
}

static __device__ inline float
bias_at(const attention_args &a, int head, int64_t distance)
{
	return a.bias ? a.bias[relative_bucket(a.causal, a.buckets, a.distance, distance) * a.heads + head] : 0;
}

/* ---- forward: a block is a tile of queries of a head ---- */

static __global__ void
forward_tile(attention_args a, const attention_tile *tiles)
{
	SHARED_REST(float, memory);
	attention_tile tile;
	int head = blockIdx.x % a.heads, n = a.n, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	float *q = memory, *k = q + TILE * n, *v = k + TILE * (n + 1);
	float top[EACH], sum[EACH], out[EACH][PARTS];
	int64_t queries, keys, offset;
	const float *from_k, *from_v;

	if (!tile_at(tiles, blockIdx.x / a.heads, &tile))
		return;
	queries = a.start[tile.row + 1] - a.start[tile.row];
	keys = a.kv_start[tile.row + 1] - a.kv_start[tile.row];
	offset = keys - queries + tile.first; /* a causal query i of the tile sees keys up to offset + i */
	load_tile(a.q + (a.start[tile.row] + tile.first) * a.q_step + head * n, a.q_step,
			  queries - tile.first < TILE ? (int) (queries - tile.first) : TILE, n, q, n);
	from_k = a.k + a.kv_start[tile.row] * a.kv_step + head / (a.heads / a.kv_heads) * n;
	from_v = a.v + a.kv_start[tile.row] * a.kv_step + head / (a.heads / a.kv_heads) * n;
	for (int e = 0; e < EACH; e++)
	{
		top[e] = -INFINITY;
		sum[e] = 0;
		for (int p = 0; p < PARTS; p++)
			out[e][p] = 0;
	}
	for (int64_t key = 0; key < keys && (!a.causal || key < offset + TILE); key += TILE)
	{
		int count = keys - key < TILE ? (int) (keys - key) : TILE;

		__syncthreads();
		load_tile(from_k + key * a.kv_step, a.kv_step, count, n, k, n + 1);
		load_tile(from_v + key * a.kv_step, a.kv_step, count, n, v, n);
		__syncthreads();
		for (int e = 0; e < EACH; e++)
		{
			int i = warp * EACH + e;
			bool seen = lane < count && (!a.causal || key + lane <= offset + i);
			float score = -INFINITY, most, p, factor;

			if (seen)
				score = a.scale * dot(n, q + i * n, k + lane * (n + 1)) + bias_at(a, head, key + lane - offset - i);
			most = fmaxf(top[e], warp_max(score));
			p = seen ? expf(score - most) : 0;
			factor = most == -INFINITY ? 1 : expf(top[e] - most);
			top[e] = most;
			sum[e] = sum[e] * factor + warp_sum(p);
			for (int part = 0; part < PARTS; part++)
				out[e][part] *= factor;
			for (int j = 0; j < TILE; j++)
			{
				float share = __shfl_sync(ALL_LANES, p, j);

				for (int part = 0; part < PARTS && part * WARP < n; part++)
					if (part * WARP + lane < n)
						out[e][part] += share * v[j * n + part * WARP + lane];
			}
		}
	}
	for (int e = 0; e < EACH; e++)
	{
		int64_t query = tile.first + warp * EACH + e, at = (a.start[tile.row] + query) * a.heads + head;

		if (query >= queries)
			continue;
		for (int part = 0; part < PARTS && part * WARP + lane < n; part++)
			a.out[at * n + part * WARP + lane] = keys > 0 ? out[e][part] / sum[e] : 0;
		if (lane == 0 && keys > 0)
			a.log_sum[at] = top[e] + logf(sum[e]);
	}
}

/* ---- backward ---- */

/* delta (tokens, heads): what slopes of a query's probabilities are relative to; a warp for each. */
static __global__ void
sum_delta(const llmapp_cuda_batch *batch, int axis, int heads, int n, const float *out, const float *dout,
		  float *delta)
{
	int64_t i = blockIdx.x * (int64_t) WARPS + threadIdx.x / WARP;
	float sum = 0;

	if (i >= batch->rows[axis] * heads)
		return;
	for (int j = threadIdx.x % WARP; j < n; j += WARP)
		sum += out[i * n + j] * dout[i * n + j];
	sum = warp_sum(sum);
	if (threadIdx.x % WARP == 0)
		delta[i] = sum;
}

/*
 * Of query i and key j, both counted in their row, with their numbers in shared memory: the probability,
 * and the slope of the score times scale.
 */
static __device__ inline float
slope_of(const attention_args &a, int head, int64_t distance, const float *q, const float *k, const float *dout,
		 const float *v, float log_sum, float delta, float *probability)
{
	*probability = expf(a.scale * dot(a.n, q, k) + bias_at(a, head, distance) - log_sum);
	return a.scale * *probability * (dot(a.n, dout, v) - delta);
}

/* A block is a tile of queries of a head: dq += slopes k. */
static __global__ void
backward_queries(attention_args a, const attention_tile *tiles)
{
	SHARED_REST(float, memory);
	attention_tile tile;
	int head = blockIdx.x % a.heads, n = a.n, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	float *q = memory, *dout = q + TILE * n, *k = dout + TILE * n, *v = k + TILE * (n + 1);
	float dq[EACH][PARTS];
	int64_t queries, keys, offset, token;
	const float *from_k, *from_v;

	if (!tile_at(tiles, blockIdx.x / a.heads, &tile))
		return;
	queries = a.start[tile.row + 1] - a.start[tile.row];
	keys = a.kv_start[tile.row + 1] - a.kv_start[tile.row];
	offset = keys - queries + tile.first;
	token = a.start[tile.row] + tile.first;
	queries -= tile.first;
	load_tile(a.q + token * a.q_step + head * n, a.q_step, queries < TILE ? (int) queries : TILE, n, q, n);
	load_tile(a.dout + (token * a.heads + head) * n, (int64_t) a.heads * n, queries < TILE ? (int) queries : TILE, n,
			  dout, n);
	from_k = a.k + a.kv_start[tile.row] * a.kv_step + head / (a.heads / a.kv_heads) * n;
	from_v = a.v + a.kv_start[tile.row] * a.kv_step + head / (a.heads / a.kv_heads) * n;
	for (int e = 0; e < EACH; e++)
		for (int p = 0; p < PARTS; p++)
			dq[e][p] = 0;
	for (int64_t key = 0; key < keys && (!a.causal || key < offset + TILE); key += TILE)
	{
		int count = keys - key < TILE ? (int) (keys - key) : TILE;

		__syncthreads();
		load_tile(from_k + key * a.kv_step, a.kv_step, count, n, k, n + 1);
		load_tile(from_v + key * a.kv_step, a.kv_step, count, n, v, n + 1);
		__syncthreads();
		for (int e = 0; e < EACH; e++)
		{
			int i = warp * EACH + e;
			int64_t at = (token + i) * a.heads + head;
			float slope = 0, probability;

			if (i < queries && lane < count && (!a.causal || key + lane <= offset + i))
				slope = slope_of(a, head, key + lane - offset - i, q + i * n, k + lane * (n + 1), dout + i * n,
								 v + lane * (n + 1), a.log_sum[at], a.delta[at], &probability);
			for (int j = 0; j < TILE; j++)
			{
				float share = __shfl_sync(ALL_LANES, slope, j);

				for (int part = 0; part < PARTS && part * WARP < n; part++)
					if (part * WARP + lane < n)
						dq[e][part] += share * k[j * (n + 1) + part * WARP + lane];
			}
		}
	}
	for (int e = 0; e < EACH; e++)
		for (int part = 0; part < PARTS && part * WARP + lane < n; part++)
			if (warp * EACH + e < queries)
				put(a.dq + (token + warp * EACH + e) * a.q_step + head * n + part * WARP + lane, dq[e][part],
					a.accumulate_q);
}

/* A block is a tile of keys of a head of kv, with all heads that read it: dk += slopes^T q, dv += p^T dout. */
static __global__ void
backward_keys(attention_args a, const attention_tile *tiles)
{
	SHARED_REST(float, memory);
	attention_tile tile;
	int kv_head = blockIdx.x % a.kv_heads, group = a.heads / a.kv_heads, n = a.n, lane = threadIdx.x % WARP,
		warp = threadIdx.x / WARP;
	float *k = memory, *v = k + TILE * n, *q = v + TILE * n, *dout = q + TILE * (n + 1);
	float dk[EACH][PARTS], dv[EACH][PARTS];
	int64_t queries, keys, offset, token;

	if (!tile_at(tiles, blockIdx.x / a.kv_heads, &tile))
		return;
	queries = a.start[tile.row + 1] - a.start[tile.row];
	keys = a.kv_start[tile.row + 1] - a.kv_start[tile.row];
	offset = keys - queries; /* a causal query i sees keys up to offset + i */
	token = a.kv_start[tile.row] + tile.first;
	keys -= tile.first;
	load_tile(a.k + token * a.kv_step + kv_head * n, a.kv_step, keys < TILE ? (int) keys : TILE, n, k, n);
	load_tile(a.v + token * a.kv_step + kv_head * n, a.kv_step, keys < TILE ? (int) keys : TILE, n, v, n);
	for (int e = 0; e < EACH; e++)
		for (int p = 0; p < PARTS; p++)
			dk[e][p] = dv[e][p] = 0;
	for (int64_t turn = 0; turn < group * ((queries + TILE - 1) / TILE); turn++)
	{
		int head = kv_head * group + (int) (turn % group);
		int64_t query = turn / group * TILE, first = a.start[tile.row] + query;
		int count = queries - query < TILE ? (int) (queries - query) : TILE;

		if (a.causal && offset + query + count <= tile.first)
			continue;
		__syncthreads();
		load_tile(a.q + first * a.q_step + head * n, a.q_step, count, n, q, n + 1);
		load_tile(a.dout + (first * a.heads + head) * n, (int64_t) a.heads * n, count, n, dout, n + 1);
		__syncthreads();
		for (int e = 0; e < EACH; e++)
		{
			int i = warp * EACH + e;
			int64_t key = tile.first + i, at = (first + lane) * a.heads + head;
			float slope = 0, probability = 0;

			if (i < keys && lane < count && (!a.causal || key <= offset + query + lane))
				slope = slope_of(a, head, key - offset - query - lane, q + lane * (n + 1), k + i * n,
								 dout + lane * (n + 1), v + i * n, a.log_sum[at], a.delta[at], &probability);
			for (int j = 0; j < TILE; j++)
			{
				float share = __shfl_sync(ALL_LANES, slope, j), p = __shfl_sync(ALL_LANES, probability, j);

				for (int part = 0; part < PARTS && part * WARP < n; part++)
					if (part * WARP + lane < n)
					{
						dk[e][part] += share * q[j * (n + 1) + part * WARP + lane];
						dv[e][part] += p * dout[j * (n + 1) + part * WARP + lane];
					}
			}
		}
	}
	for (int e = 0; e < EACH; e++)
		for (int part = 0; part < PARTS && part * WARP + lane < n; part++)
			if (warp * EACH + e < keys)
			{
				int64_t at = (token + warp * EACH + e) * a.kv_step + kv_head * n + part * WARP + lane;

				put(a.dk + at, dk[e][part], a.accumulate_kv);
				put(a.dv + at, dv[e][part], a.accumulate_kv);
			}
}

/* A block is a head of a row: sums of slopes by distance within pairs of tiles, then by bucket. */
static __global__ void
backward_bias(const llmapp_cuda_batch *batch, attention_args a)
{
	SHARED_REST(float, memory);
	SHARED(float, slopes, TILE *TILE);
	SHARED(float, sums, 2 * TILE);
	int64_t row = blockIdx.x / a.heads, queries, keys;
	int head = blockIdx.x % a.heads, n = a.n, room = n + 1;
	float *q = memory, *dout = q + TILE * room, *k = dout + TILE * room, *v = k + TILE * room, sum = 0;

	if (row >= batch->rows[AXIS_ROW])
		return;
	queries = a.start[row + 1] - a.start[row];
	keys = a.kv_start[row + 1] - a.kv_start[row];
	for (int64_t query = 0; query < queries; query += TILE)
		for (int64_t key = 0; key < keys; key += TILE)
		{
			int many = queries - query < TILE ? (int) (queries - query) : TILE;
			int count = keys - key < TILE ? (int) (keys - key) : TILE;
			int64_t token = a.start[row] + query, kv = a.kv_start[row] + key, at = keys - queries + query - key;
			int64_t kv_at = kv * a.kv_step + head / (a.heads / a.kv_heads) * n;

			__syncthreads();
			load_tile(a.q + token * a.q_step + head * n, a.q_step, many, n, q, room);
			load_tile(a.dout + (token * a.heads + head) * n, (int64_t) a.heads * n, many, n, dout, room);
			load_tile(a.k + kv_at, a.kv_step, count, n, k, room);
			load_tile(a.v + kv_at, a.kv_step, count, n, v, room);
			__syncthreads();
			for (int pair = threadIdx.x; pair < TILE * TILE; pair += blockDim.x)
			{
				int i = pair / TILE, j = pair % TILE;
				int64_t number = (token + i) * a.heads + head;
				float probability, slope = 0;

				if (i < many && j < count && (!a.causal || j <= at + i))
					slope = slope_of(a, head, j - at - i, q + i * room, k + j * room, dout + i * room, v + j * room,
									 a.log_sum[number], a.delta[number], &probability);
				slopes[pair] = slope / a.scale;
			}
			__syncthreads();
			if (threadIdx.x < 2 * TILE - 1) /* of key - query = threadIdx.x - TILE + 1 */
			{
				float of_distance = 0;

				for (int i = 0; i < TILE; i++)
				{
					int j = i + (int) threadIdx.x - TILE + 1;

					of_distance += j >= 0 && j < TILE ? slopes[i * TILE + j] : 0;
				}
				sums[threadIdx.x] = of_distance;
			}
			__syncthreads();
			for (int d = 0; d < 2 * TILE - 1 && threadIdx.x < a.buckets; d++)
				if (relative_bucket(a.causal, a.buckets, a.distance, d - TILE + 1 - at) == (int) threadIdx.x)
					sum += sums[d];
		}
	if (threadIdx.x < a.buckets)
		a.dbias[row * a.buckets * a.heads + threadIdx.x * a.heads + head] = sum;
}

/* ---- launching ---- */

/* in = q and kv or qkv, none or kv, start, none or start of kv, bias */
static attention_args
args_of(const llmapp_cuda_step *s)
{
	bool cross = s->in[1].data != NULL;
	int64_t q = (int64_t) s->attr.heads * s->attr.head_dim, kv = (int64_t) s->attr.kv_heads * s->attr.head_dim;
	attention_args a = {};

	a.heads = s->attr.heads;
	a.kv_heads = s->attr.kv_heads;
	a.n = s->attr.head_dim;
	a.causal = s->attr.causal;
	a.buckets = s->attr.buckets;
	a.distance = s->attr.distance;
	a.scale = s->attr.scale;
	a.start = INTS(s->in[2]);
	a.kv_start = cross ? INTS(s->in[3]) : a.start;
	a.q = FLOATS(s->in[0]);
	a.k = cross ? FLOATS(s->in[1]) : a.q + q;
	a.v = a.k + kv;
	a.q_step = cross ? q : q + 2 * kv;
	a.kv_step = cross ? 2 * kv : a.q_step;
	a.bias = FLOATS(s->in[4]);
	return a;
}

void
launch_attention(launch *l, const llmapp_cuda_step *s)
{
	attention_args a = args_of(s);
	int64_t tokens = bucket_of(l, &s->in[0]);
	size_t bytes = (2 * TILE * a.n + TILE * (a.n + 1)) * sizeof(float);
	attention_tile *tiles;

	a.out = FLOATS(s->out[0]);
	a.log_sum = FLOATS(s->out[1]);
	if (s->bf16 && attention_bf16_fits(s))
	{
		attention_bf16(l, &a, tokens);
		return;
	}
	tiles = list_tiles(l, a.start, tokens, TILE);
	LAUNCH(l, forward_tile, most_tiles(tokens, l->bucket[AXIS_ROW], TILE) * a.heads, THREADS, bytes, a, tiles);
}

/* in = as above, then the result, its gradient and the logarithms; out = gradients of q and kv, or of qkv, and the bias */
void
launch_attention_grad(launch *l, const llmapp_cuda_step *s)
{
	attention_args a = args_of(s);
	bool cross = s->in[1].data != NULL;
	int64_t tokens = bucket_of(l, &s->in[0]), kv_tokens = cross ? bucket_of(l, &s->in[1]) : tokens;
	int64_t rows = l->bucket[AXIS_ROW];
	size_t room = TILE * (a.n + 1) * sizeof(float);
	float *delta = launch_scratch<float>(l, tokens * a.heads);

	a.out = FLOATS(s->in[5]);
	a.dout = FLOATS(s->in[6]);
	a.log_sum = FLOATS(s->in[7]);
	a.delta = delta;
	a.dq = FLOATS(s->out[0]);
	a.dk = cross ? FLOATS(s->out[1]) : a.dq + a.heads * a.n;
	a.dv = a.dk + a.kv_heads * a.n;
	a.dbias = FLOATS(s->out[2]);
	a.accumulate_q = s->accumulate[0];
	a.accumulate_kv = s->accumulate[cross ? 1 : 0];
	LAUNCH(l, sum_delta, (tokens * a.heads + WARPS - 1) / WARPS, THREADS, 0, l->batch, s->in[0].axis, a.heads, a.n,
		   a.out, a.dout, delta);
	if (s->bf16 && attention_bf16_fits(s))
		attention_bf16_grad(l, &a, tokens, kv_tokens);
	else
	{
		attention_tile *tiles = list_tiles(l, a.start, tokens, TILE);
		attention_tile *kv_tiles = cross ? list_tiles(l, a.kv_start, kv_tokens, TILE) : tiles;

		LAUNCH(l, backward_queries, most_tiles(tokens, rows, TILE) * a.heads, THREADS, 4 * room, a, tiles);
		LAUNCH(l, backward_keys, most_tiles(kv_tokens, rows, TILE) * a.kv_heads, THREADS, 4 * room, a, kv_tiles);
	}
	if (a.dbias && a.buckets > THREADS)
		l->what = "attention has more buckets of relative positions than its gradient can sum";
	else if (a.dbias)
		LAUNCH(l, backward_bias, rows * a.heads, THREADS, 4 * room, l->batch, a);
}
