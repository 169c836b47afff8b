/*
 * attention_bf16.cu
 *	  Attention of packed rows on tensor cores, forward and backward, for heads of 32, 64 and 128.
 *
 * Queries, keys, values and the gradient of the result are rounded to bfloat16 as a block loads them into
 * shared memory; scores, sums and results are float32.  A block of four warps takes a tile of 64
 * queries (or of keys, for dk and dv), 16 to a warp, and walks over tiles of 64 of the others.  Products are
 * mma.m16n8k16: what a warp scored in one product's result is, packed, the first matrix of the
 * next, so scores stay in registers (Dao, FlashAttention-2).  Rows of a tile are N + 8 numbers apart, so the
 * eight rows that ldmatrix reads at a time lie in different banks.
 */
#include "attention.h"
#include "ptx.h"

#define TILE 64
#define WARPS (TILE / 16)
#define THREADS (WARPS * WARP)
#define GROUPS (TILE / 16) /* of 16 rows of the other side */

bool
attention_bf16_fits(const llmapp_cuda_step *s)
{
	return s->attr.head_dim == 32 || s->attr.head_dim == 64 || s->attr.head_dim == 128;
}

typedef struct __align__(16) four
{
	float x[4];
}
four;

/* `count` rows of N numbers, step apart, rounded; zeros up to a tile. */
template <int N>
static __device__ inline void
load_rounded(const float *x, int64_t step, int64_t count, uint16_t *to)
{
	for (int i = threadIdx.x; i < TILE * N / 4; i += blockDim.x)
	{
		int row = i / (N / 4), column = i % (N / 4) * 4;
		four v = {{0, 0, 0, 0}};
		unsigned *at = reinterpret_cast<unsigned *>(to + row * (N + 8) + column);

		if (row < count)
			v = *reinterpret_cast<const four *>(x + row * step + column);
		at[0] = pack_bf16(v.x[0], v.x[1]);
		at[1] = pack_bf16(v.x[2], v.x[3]);
	}
}

/* c (16, 16) = a b^T of 16 rows each of two tiles; c[0] has the first 8 columns, c[1] the others. */
template <int N>
static __device__ inline void
multiply_rows(const uint16_t *a, const uint16_t *b, float c[2][4])
{
	int lane = threadIdx.x % WARP, row = lane % 8, matrix = lane / 8;

	for (int i = 0; i < 4; i++)
		c[0][i] = c[1][i] = 0;
#pragma unroll
	for (int d = 0; d < N; d += 16)
	{
		unsigned of_a[4], of_b[4];

		load_matrices(of_a, a + (row + matrix % 2 * 8) * (N + 8) + d + matrix / 2 * 8);
		load_matrices(of_b, b + (row + matrix / 2 * 8) * (N + 8) + d + matrix % 2 * 8);
		mma_m16n8k16_bf16(c[0], of_a, of_b);
		mma_m16n8k16_bf16(c[1], of_a, of_b + 2);
	}
}

/* sum (16, N) += p (16, 16) b, 16 rows of a tile; p as multiply_rows() leaves it. */
template <int N>
static __device__ inline void
gather_rows(const float p[2][4], const uint16_t *b, float sum[N / 8][4])
{
	int lane = threadIdx.x % WARP, row = lane % 8, matrix = lane / 8;
	unsigned of_p[4] = {pack_bf16(p[0][0], p[0][1]), pack_bf16(p[0][2], p[0][3]), pack_bf16(p[1][0], p[1][1]),
						pack_bf16(p[1][2], p[1][3])};

#pragma unroll
	for (int d = 0; d < N; d += 16)
	{
		unsigned of_b[4];

		load_matrices_transposed(of_b, b + (row + matrix % 2 * 8) * (N + 8) + d + matrix / 2 * 8);
		mma_m16n8k16_bf16(sum[d / 8], of_p, of_b);
		mma_m16n8k16_bf16(sum[d / 8 + 1], of_p, of_b + 2);
	}
}

/* Where number i of a fragment of 16 x 16, of half h, lies. */
static __device__ inline int
fragment_row(int i)
{
	return threadIdx.x % WARP / 4 + i / 2 * 8;
}

static __device__ inline int
fragment_column(int h, int i)
{
	return h * 8 + threadIdx.x % 4 * 2 + i % 2;
}

/* Over the four lanes that share rows of a fragment. */
static __device__ inline float
quad_max(float x)
{
	x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
	return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

static __device__ inline float
quad_sum(float x)
{
	x += __shfl_xor_sync(ALL_LANES, x, 1);
	return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

static __device__ inline float
bias_at(const attention_args &a, int head, int64_t distance)
{
	return a.bias ? a.bias[relative_bucket(a.causal, a.buckets, a.distance, distance) * a.heads + head] : 0;
}

/* A row of the batch as a block sees it. */
typedef struct block_row
{
	int64_t token, kv_token; /* the row's first */
	int64_t queries, keys;
	int64_t offset; /* a causal query i sees keys up to offset + i */
} block_row;

static __device__ inline block_row
row_at(const attention_args &a, int row)
{
	block_row r = {a.start[row], a.kv_start[row], a.start[row + 1] - a.start[row],
				   a.kv_start[row + 1] - a.kv_start[row], 0};

	r.offset = r.keys - r.queries;
	return r;
}

static __device__ inline bool
sees(const attention_args &a, const block_row &r, int64_t query, int64_t key)
{
	return query < r.queries && key < r.keys && (!a.causal || key <= r.offset + query);
}

/* ---- forward ---- */

template <int N>
static __global__ void
__launch_bounds__(THREADS) forward_tile(attention_args a, const attention_tile *tiles)
{
	SHARED_REST(uint16_t, memory);
	attention_tile tile;
	int head = blockIdx.x % a.heads, kv_at = head / (a.heads / a.kv_heads) * N, first_row = threadIdx.x / WARP * 16;
	uint16_t *q = memory, *k = q + TILE * (N + 8), *v = k + TILE * (N + 8);
	float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, out[N / 8][4];
	block_row r;

	if (!tile_at(tiles, blockIdx.x / a.heads, &tile))
		return;
	r = row_at(a, tile.row);
	load_rounded<N>(a.q + (r.token + tile.first) * a.q_step + head * N, a.q_step, r.queries - tile.first, q);
	for (int d = 0; d < N / 8; d++)
		for (int i = 0; i < 4; i++)
			out[d][i] = 0;
	for (int64_t key = 0; key < r.keys && (!a.causal || key < r.offset + tile.first + TILE); key += TILE)
	{
		float scores[GROUPS][2][4], most[2] = {top[0], top[1]}, factor[2], total[2] = {0, 0};

		__syncthreads();
		load_rounded<N>(a.k + (r.kv_token + key) * a.kv_step + kv_at, a.kv_step, r.keys - key, k);
		load_rounded<N>(a.v + (r.kv_token + key) * a.kv_step + kv_at, a.kv_step, r.keys - key, v);
		__syncthreads();
#pragma unroll
		for (int g = 0; g < GROUPS; g++)
		{
			multiply_rows<N>(q + first_row * (N + 8), k + g * 16 * (N + 8), scores[g]);
#pragma unroll
			for (int e = 0; e < 8; e++)
			{
				int64_t query = tile.first + first_row + fragment_row(e % 4);
				int64_t column = key + g * 16 + fragment_column(e / 4, e % 4);
				float *score = &scores[g][e / 4][e % 4];

				*score = sees(a, r, query, column) ? a.scale * *score + bias_at(a, head, column - r.offset - query)
												   : -INFINITY;
				most[e % 4 / 2] = fmaxf(most[e % 4 / 2], *score);
			}
		}
#pragma unroll
		for (int h = 0; h < 2; h++)
		{
			most[h] = quad_max(most[h]);
			factor[h] = most[h] == -INFINITY ? 1 : expf(top[h] - most[h]);
			top[h] = most[h];
		}
#pragma unroll
		for (int g = 0; g < GROUPS; g++)
#pragma unroll
			for (int e = 0; e < 8; e++)
			{
				float *score = &scores[g][e / 4][e % 4];

				*score = *score == -INFINITY ? 0 : expf(*score - top[e % 4 / 2]);
				total[e % 4 / 2] += *score;
			}
		for (int h = 0; h < 2; h++)
			sum[h] = sum[h] * factor[h] + quad_sum(total[h]);
#pragma unroll
		for (int d = 0; d < N / 8; d++)
			for (int i = 0; i < 4; i++)
				out[d][i] *= factor[i / 2];
#pragma unroll
		for (int g = 0; g < GROUPS; g++)
			gather_rows<N>(scores[g], v + g * 16 * (N + 8), out);
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
	{
		int64_t query = tile.first + first_row + fragment_row(i), at = (r.token + query) * a.heads + head;

		if (query >= r.queries)
			continue;
#pragma unroll
		for (int d = 0; d < N / 8; d++)
			a.out[at * N + d * 8 + fragment_column(0, i)] = r.keys > 0 ? out[d][i] / sum[i / 2] : 0;
		if (fragment_column(0, i) == 0 && r.keys > 0)
			a.log_sum[at] = top[i / 2] + logf(sum[i / 2]);
	}
}

/* ---- backward ---- */

/* Of query and key, both counted in their row: the probability, and the slope of the score times scale. */
static __device__ inline void
slope_of(const attention_args &a, const block_row &r, int head, int64_t query, int64_t key, float score, float dp,
		 float *probability, float *slope)
{
	int64_t at = (r.token + query) * a.heads + head;

	*probability = *slope = 0;
	if (!sees(a, r, query, key))
		return;
	*probability = expf(a.scale * score + bias_at(a, head, key - r.offset - query) - a.log_sum[at]);
	*slope = a.scale * *probability * (dp - a.delta[at]);
}

/* A fragment's numbers to rows `step` apart of which the first is row 0; rows from `rows` on are none. */
template <int N>
static __device__ inline void
store_rows(const float x[N / 8][4], int64_t rows, int64_t step, int accumulate, float *to)
{
#pragma unroll
	for (int d = 0; d < N / 8; d++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (fragment_row(i) < rows)
				put(to + fragment_row(i) * step + d * 8 + fragment_column(0, i), x[d][i], accumulate);
}

template <int N>
static __global__ void
__launch_bounds__(THREADS) backward_queries(attention_args a, const attention_tile *tiles)
{
	SHARED_REST(uint16_t, memory);
	attention_tile tile;
	int head = blockIdx.x % a.heads, kv_at = head / (a.heads / a.kv_heads) * N, first_row = threadIdx.x / WARP * 16;
	uint16_t *q = memory, *dout = q + TILE * (N + 8), *k = dout + TILE * (N + 8), *v = k + TILE * (N + 8);
	float dq[N / 8][4];
	int64_t token;
	block_row r;

	if (!tile_at(tiles, blockIdx.x / a.heads, &tile))
		return;
	r = row_at(a, tile.row);
	token = r.token + tile.first;
	load_rounded<N>(a.q + token * a.q_step + head * N, a.q_step, r.queries - tile.first, q);
	load_rounded<N>(a.dout + (token * a.heads + head) * N, (int64_t) a.heads * N, r.queries - tile.first, dout);
	for (int d = 0; d < N / 8; d++)
		for (int i = 0; i < 4; i++)
			dq[d][i] = 0;
	for (int64_t key = 0; key < r.keys && (!a.causal || key < r.offset + tile.first + TILE); key += TILE)
	{
		__syncthreads();
		load_rounded<N>(a.k + (r.kv_token + key) * a.kv_step + kv_at, a.kv_step, r.keys - key, k);
		load_rounded<N>(a.v + (r.kv_token + key) * a.kv_step + kv_at, a.kv_step, r.keys - key, v);
		__syncthreads();
		for (int g = 0; g < GROUPS; g++)
		{
			float scores[2][4], slopes[2][4], probability;

			multiply_rows<N>(q + first_row * (N + 8), k + g * 16 * (N + 8), scores);
			multiply_rows<N>(dout + first_row * (N + 8), v + g * 16 * (N + 8), slopes);
#pragma unroll
			for (int e = 0; e < 8; e++)
				slope_of(a, r, head, tile.first + first_row + fragment_row(e % 4),
						 key + g * 16 + fragment_column(e / 4, e % 4), scores[e / 4][e % 4], slopes[e / 4][e % 4],
						 &probability, &slopes[e / 4][e % 4]);
			gather_rows<N>(slopes, k + g * 16 * (N + 8), dq);
		}
	}
	store_rows<N>(dq, r.queries - tile.first - first_row, a.q_step, a.accumulate_q,
				  a.dq + (token + first_row) * a.q_step + head * N);
}

/* Scores lie as (keys, queries) here. */
template <int N>
static __global__ void
__launch_bounds__(THREADS) backward_keys(attention_args a, const attention_tile *tiles)
{
	SHARED_REST(uint16_t, memory);
	attention_tile tile;
	int kv_head = blockIdx.x % a.kv_heads, group = a.heads / a.kv_heads, first_row = threadIdx.x / WARP * 16;
	uint16_t *q = memory, *dout = q + TILE * (N + 8), *k = dout + TILE * (N + 8), *v = k + TILE * (N + 8);
	float dk[N / 8][4], dv[N / 8][4];
	int64_t token, at;
	block_row r;

	if (!tile_at(tiles, blockIdx.x / a.kv_heads, &tile))
		return;
	r = row_at(a, tile.row);
	token = r.kv_token + tile.first;
	load_rounded<N>(a.k + token * a.kv_step + kv_head * N, a.kv_step, r.keys - tile.first, k);
	load_rounded<N>(a.v + token * a.kv_step + kv_head * N, a.kv_step, r.keys - tile.first, v);
	for (int d = 0; d < N / 8; d++)
		for (int i = 0; i < 4; i++)
			dk[d][i] = dv[d][i] = 0;
	for (int64_t turn = 0; turn < group * ((r.queries + TILE - 1) / TILE); turn++)
	{
		int head = kv_head * group + (int) (turn % group);
		int64_t query = turn / group * TILE, first = r.token + query;

		if (a.causal && r.offset + query + TILE <= tile.first)
			continue;
		__syncthreads();
		load_rounded<N>(a.q + first * a.q_step + head * N, a.q_step, r.queries - query, q);
		load_rounded<N>(a.dout + (first * a.heads + head) * N, (int64_t) a.heads * N, r.queries - query, dout);
		__syncthreads();
		for (int g = 0; g < GROUPS; g++)
		{
			float scores[2][4], slopes[2][4];

			multiply_rows<N>(k + first_row * (N + 8), q + g * 16 * (N + 8), scores);
			multiply_rows<N>(v + first_row * (N + 8), dout + g * 16 * (N + 8), slopes);
#pragma unroll
			for (int e = 0; e < 8; e++)
				slope_of(a, r, head, query + g * 16 + fragment_column(e / 4, e % 4),
						 tile.first + first_row + fragment_row(e % 4), scores[e / 4][e % 4], slopes[e / 4][e % 4],
						 &scores[e / 4][e % 4], &slopes[e / 4][e % 4]);
			gather_rows<N>(scores, dout + g * 16 * (N + 8), dv);
			gather_rows<N>(slopes, q + g * 16 * (N + 8), dk);
		}
	}
	at = (token + first_row) * a.kv_step + kv_head * N;
	store_rows<N>(dk, r.keys - tile.first - first_row, a.kv_step, a.accumulate_kv, a.dk + at);
	store_rows<N>(dv, r.keys - tile.first - first_row, a.kv_step, a.accumulate_kv, a.dv + at);
}

/* ---- launching ---- */

template <int N>
static void
launch_forward(launch *l, const attention_args *a, int64_t blocks, const attention_tile *tiles)
{
	LAUNCH(l, (forward_tile<N>), blocks * a->heads, THREADS, 3 * TILE * (N + 8) * sizeof(uint16_t), *a, tiles);
}

template <int N>
static void
launch_backward(launch *l, const attention_args *a, int64_t blocks, const attention_tile *tiles, int64_t kv_blocks,
				const attention_tile *kv_tiles)
{
	size_t bytes = 4 * TILE * (N + 8) * sizeof(uint16_t);

	LAUNCH(l, (backward_queries<N>), blocks * a->heads, THREADS, bytes, *a, tiles);
	LAUNCH(l, (backward_keys<N>), kv_blocks * a->kv_heads, THREADS, bytes, *a, kv_tiles);
}

void
attention_bf16(launch *l, const attention_args *a, int64_t tokens)
{
	const attention_tile *tiles = list_tiles(l, a->start, tokens, TILE);
	int64_t blocks = most_tiles(tokens, l->bucket[AXIS_ROW], TILE);

	switch (a->n)
	{
		case 32: launch_forward<32>(l, a, blocks, tiles); break;
		case 64: launch_forward<64>(l, a, blocks, tiles); break;
		case 128: launch_forward<128>(l, a, blocks, tiles); break;
	}
}

void
attention_bf16_grad(launch *l, const attention_args *a, int64_t tokens, int64_t kv_tokens)
{
	const attention_tile *tiles = list_tiles(l, a->start, tokens, TILE);
	const attention_tile *kv_tiles = a->kv_start == a->start ? tiles : list_tiles(l, a->kv_start, kv_tokens, TILE);
	int64_t blocks = most_tiles(tokens, l->bucket[AXIS_ROW], TILE);
	int64_t kv_blocks = most_tiles(kv_tokens, l->bucket[AXIS_ROW], TILE);

	switch (a->n)
	{
		case 32: launch_backward<32>(l, a, blocks, tiles, kv_blocks, kv_tiles); break;
		case 64: launch_backward<64>(l, a, blocks, tiles, kv_blocks, kv_tiles); break;
		case 128: launch_backward<128>(l, a, blocks, tiles, kv_blocks, kv_tiles); break;
	}
}
