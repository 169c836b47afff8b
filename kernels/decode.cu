/*
 * decode.cu
 *	  What generation of one token at a time needs: attention over a paged cache of keys and values, and
 *	  products with weights in blocks of 8 or 4 bits.
 *
 * Attention is split over the sequence: a block takes SPLIT tokens of a sequence for up to four heads
 * that share keys and values, a warp a token at a time; a second kernel puts the splits together in
 * their order.  Splits do not depend on how long other sequences are.
 */
#include "context.h"
#include "device.h"
#include "ptx.h"

#define SPLIT 256
#define HEADS 4 /* of a block */
#define THREADS 128
#define WARPS (THREADS / WARP)
#define MAX_DIM 256
#define PARTS (MAX_DIM / WARP)

typedef struct decode_shape
{
	int splits, groups, packs; /* packs: of HEADS heads of a group */
} decode_shape;

static decode_shape
shape_of(const llmapp_cuda_decode *d)
{
	int group = d->heads / d->kv_heads;

	return (decode_shape) {(d->longest + SPLIT - 1) / SPLIT, group, (group + HEADS - 1) / HEADS};
}

/* Of each split, sequence and head: the result, the maximum and the sum. */
static __device__ inline float *
part_of(const llmapp_cuda_decode &d, float *parts, int64_t split, int64_t sequence, int64_t head)
{
	return parts + ((split * d.sequences + sequence) * d.heads + head) * (d.head_dim + 2);
}

static __device__ inline float
element(const void *x, int bf16, int64_t i)
{
	return bf16 ? from_bf16(((const uint16_t *) x)[i]) : ((const float *) x)[i];
}

static __global__ void
attend_split(llmapp_cuda_decode d, decode_shape z, float *parts)
{
	SHARED(float, states, WARPS *HEADS *(MAX_DIM + 2));
	int pack = blockIdx.x % z.packs, kv_head = blockIdx.x / z.packs % d.kv_heads;
	int64_t sequence = blockIdx.x / z.packs / d.kv_heads % d.sequences;
	int64_t split = blockIdx.x / z.packs / d.kv_heads / d.sequences;
	int n = d.head_dim, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	int first = kv_head * z.groups + pack * HEADS, heads = z.groups - pack * HEADS;
	int64_t end = (split + 1) * SPLIT < d.lengths[sequence] ? (split + 1) * SPLIT : d.lengths[sequence];
	float q[HEADS][PARTS], out[HEADS][PARTS], top[HEADS], sum[HEADS];

	if (split * SPLIT >= end)
		return;
	heads = heads < HEADS ? heads : HEADS;
	for (int h = 0; h < HEADS; h++)
	{
		top[h] = -INFINITY;
		sum[h] = 0;
		for (int p = 0; p < PARTS; p++)
		{
			int j = p * WARP + lane;

			q[h][p] = h < heads && j < n ? d.q[(sequence * d.heads + first + h) * n + j] : 0;
			out[h][p] = 0;
		}
	}
	for (int64_t t = split * SPLIT + warp; t < end; t += WARPS)
	{
		int64_t page = d.pages[sequence * d.max_pages + t / d.page_tokens];
		int64_t at = ((page * d.page_tokens + t % d.page_tokens) * d.kv_heads + kv_head) * n;
		float k[PARTS], v[PARTS];

		for (int p = 0; p < PARTS; p++)
		{
			bool inside = p * WARP + lane < n;

			k[p] = inside ? element(d.k, d.bf16, at + p * WARP + lane) : 0;
			v[p] = inside ? element(d.v, d.bf16, at + p * WARP + lane) : 0;
		}
		for (int h = 0; h < HEADS; h++)
		{
			float score = 0, most, factor, share;

			for (int p = 0; p < PARTS; p++)
				score += q[h][p] * k[p];
			score = d.scale * warp_sum(score);
			most = fmaxf(top[h], score);
			factor = expf(top[h] - most);
			share = expf(score - most);
			top[h] = most;
			sum[h] = sum[h] * factor + share;
			for (int p = 0; p < PARTS; p++)
				out[h][p] = out[h][p] * factor + share * v[p];
		}
	}
	for (int h = 0; h < HEADS; h++)
	{
		float *state = states + (warp * HEADS + h) * (MAX_DIM + 2);

		for (int p = 0; p < PARTS; p++)
			state[p * WARP + lane] = out[h][p];
		if (lane == 0)
		{
			state[MAX_DIM] = top[h];
			state[MAX_DIM + 1] = sum[h];
		}
	}
	__syncthreads();
	for (int h = 0; h < heads; h++)
	{
		float *part = part_of(d, parts, split, sequence, first + h), most = -INFINITY, total = 0;

		for (int w = 0; w < WARPS; w++)
			most = fmaxf(most, states[(w * HEADS + h) * (MAX_DIM + 2) + MAX_DIM]);
		for (int w = 0; w < WARPS; w++)
		{
			const float *state = states + (w * HEADS + h) * (MAX_DIM + 2);

			total += state[MAX_DIM + 1] * expf(state[MAX_DIM] - most);
		}
		FOR_COLUMNS(j, n)
		{
			float value = 0;

			for (int w = 0; w < WARPS; w++)
			{
				const float *state = states + (w * HEADS + h) * (MAX_DIM + 2);

				value += state[j] * expf(state[MAX_DIM] - most);
			}
			part[j] = value;
		}
		if (threadIdx.x == 0)
		{
			part[n] = most;
			part[n + 1] = total;
		}
	}
}

/* A block is a head of a sequence. */
static __global__ void
join_splits(llmapp_cuda_decode d, float *parts)
{
	int64_t sequence = blockIdx.x / d.heads, head = blockIdx.x % d.heads;
	int64_t splits = (d.lengths[sequence] + SPLIT - 1) / SPLIT;
	int n = d.head_dim;
	float most = -INFINITY, total = 0;

	for (int64_t s = 0; s < splits; s++)
		most = fmaxf(most, part_of(d, parts, s, sequence, head)[n]);
	for (int64_t s = 0; s < splits; s++)
		total += part_of(d, parts, s, sequence, head)[n + 1] * expf(part_of(d, parts, s, sequence, head)[n] - most);
	FOR_COLUMNS(j, n)
	{
		float value = 0;

		for (int64_t s = 0; s < splits; s++)
			value += part_of(d, parts, s, sequence, head)[j] * expf(part_of(d, parts, s, sequence, head)[n] - most);
		d.out[(sequence * d.heads + head) * n + j] = splits > 0 ? value / total : 0;
	}
}

size_t
decode_bytes(const llmapp_cuda_decode *d)
{
	return (size_t) shape_of(d).splits * d->sequences * d->heads * (d->head_dim + 2) * sizeof(float);
}

int
decode(llmapp_cuda_context *c, const llmapp_cuda_decode *d, void *scratch)
{
	decode_shape z;
	launch l = {};
	int code = context_enter(c);

	if (code != LLMAPP_CUDA_OK)
		return code;
	if (d->sequences < 1 || d->kv_heads < 1 || d->heads < 1 || d->heads % d->kv_heads != 0 || d->head_dim < 1 ||
		d->head_dim > MAX_DIM || d->page_tokens < 1 || d->longest < 1 ||
		(int64_t) d->max_pages * d->page_tokens < d->longest)
		return context_fail(c, LLMAPP_CUDA_INVALID, "attention to a cache has an impossible shape");
	z = shape_of(d);
	l.stream = c->stream;
	LAUNCH(&l, attend_split, (int64_t) z.splits * d->sequences * d->kv_heads * z.packs, THREADS, 0, *d, z,
		   (float *) scratch);
	LAUNCH(&l, join_splits, (int64_t) d->sequences * d->heads, THREADS, 0, *d, (float *) scratch);
	return context_check(c, l.error);
}

/* ---- weights in blocks of 32 ---- */

#define QUANT 32
#define Q8_BYTES 34
#define Q4_BYTES 18
#define FEW_ROWS 8 /* of x at a time */
#define GEMV_WARPS 4

/* 32 weights; blocks lie at multiples of 2 bytes. */
static __device__ inline void
unpack(int quant, const unsigned char *block, float w[QUANT])
{
	const uint16_t *halves = (const uint16_t *) block;
	float d = from_half(halves[0]);

	if (quant == LLMAPP_CUDA_Q8_0)
		for (int i = 0; i < QUANT / 2; i++)
		{
			uint16_t pair = halves[1 + i];

			w[2 * i] = d * (signed char) (pair & 0xff);
			w[2 * i + 1] = d * (signed char) (pair >> 8);
		}
	else
		for (int i = 0; i < QUANT / 4; i++)
		{
			uint16_t pair = halves[1 + i];

			w[2 * i] = d * ((pair & 15) - 8);
			w[2 * i + 1] = d * ((pair >> 8 & 15) - 8);
			w[2 * i + QUANT / 2] = d * ((pair >> 4 & 15) - 8);
			w[2 * i + 1 + QUANT / 2] = d * ((pair >> 12) - 8);
		}
}

/* A warp makes one column of y; lanes take blocks of its row of w in turn. */
static __global__ void
multiply_blocks(int quant, int rows, int64_t k, int64_t n, const float *x, const unsigned char *w, float *y)
{
	int64_t column = blockIdx.x * (int64_t) GEMV_WARPS + threadIdx.x / WARP, blocks = k / QUANT;
	int bytes = quant == LLMAPP_CUDA_Q8_0 ? Q8_BYTES : Q4_BYTES;
	float sum[FEW_ROWS] = {0};

	if (column >= n)
		return;
	for (int64_t b = threadIdx.x % WARP; b < blocks; b += WARP)
	{
		float weights[QUANT];

		unpack(quant, w + (column * blocks + b) * bytes, weights);
		for (int r = 0; r < FEW_ROWS; r++)
			for (int i = 0; i < QUANT && r < rows; i++)
				sum[r] += x[r * k + b * QUANT + i] * weights[i];
	}
	for (int r = 0; r < FEW_ROWS; r++)
	{
		float total = warp_sum(sum[r]);

		if (r < rows && threadIdx.x % WARP == 0)
			y[r * n + column] = total;
	}
}

int
quant_gemv(llmapp_cuda_context *c, int quant, const float *x, int64_t rows, int64_t k, const void *w, int64_t n,
		   float *y)
{
	launch l = {};
	int code = context_enter(c);

	if (code != LLMAPP_CUDA_OK)
		return code;
	if ((quant != LLMAPP_CUDA_Q8_0 && quant != LLMAPP_CUDA_Q4_0) || rows < 0 || n < 1 || k < 1 || k % QUANT != 0)
		return context_fail(c, LLMAPP_CUDA_INVALID, "a product with weights in blocks has an impossible shape");
	l.stream = c->stream;
	for (int64_t first = 0; first < rows; first += FEW_ROWS)
		LAUNCH(&l, multiply_blocks, (n + GEMV_WARPS - 1) / GEMV_WARPS, GEMV_WARPS * WARP, 0, quant,
			   (int) (rows - first < FEW_ROWS ? rows - first : FEW_ROWS), k, n, x + first * k,
			   (const unsigned char *) w, y + first * n);
	return context_check(c, l.error);
}
