/*
 * sums.cu
 *	  Gradients of several passes added up for one step, as accumulate.c does.
 *
 * Every number has one owner and passes come in their order.  Of a compact gradient one block gives rows that no
 * pass used before their places, in the order in which the pass has them; until the next pass these are
 * negative, by which the sum knows that it begins there.
 */
#include "context.h"
#include "device.h"

#define PLACE_THREADS 1024

/* One block. */
static __global__ void
place_rows(const int32_t *used, int32_t *total_used, int32_t *place, int first)
{
	int32_t count = total_used[0], rows = used[0];
	int added;

	FOR_COLUMNS(i, count)
	{
		int32_t row = total_used[1 + i];

		place[row] = first ? 0 : abs(place[row]);
	}
	__syncthreads();
	count = first ? 0 : count;
	for (int32_t begin = 0; begin < rows; begin += blockDim.x, count += added)
	{
		int32_t i = begin + threadIdx.x, row = i < rows ? used[1 + i] : 0;
		bool is_new = i < rows && place[row] == 0;
		int32_t at = count + block_offset(is_new, &added);

		if (!is_new)
			continue;
		total_used[1 + at] = row;
		place[row] = -1 - at;
	}
	__syncthreads();
	if (threadIdx.x == 0)
		total_used[0] = count;
}

static __global__ void
add_rows(const float *gradient, const int32_t *used, int64_t width, float weight, const int32_t *place, float *total)
{
	FOR_ELEMENTS(i, used[0] * width)
	{
		int32_t at = place[used[1 + i / width]];
		float *to = total + (abs(at) - 1) * width + i % width;

		*to = at < 0 ? weight * gradient[i] : *to + weight * gradient[i];
	}
}

static __global__ void
add_elements(int64_t n, const float *gradient, float weight, int first, float *total)
{
	FOR_ELEMENTS(i, n)
	total[i] = first ? weight * gradient[i] : total[i] + weight * gradient[i];
}

int
sum_add(llmapp_cuda_context *c, const llmapp_cuda_sum *sums, int32_t count, float weight, int first)
{
	launch l = {};
	int code = context_enter(c);

	if (code != LLMAPP_CUDA_OK)
		return code;
	l.stream = c->stream;
	for (int32_t i = 0; i < count; i++)
	{
		const llmapp_cuda_sum *s = &sums[i];
		int64_t n = s->rows * s->width;

		if (s->used)
		{
			LAUNCH(&l, place_rows, 1, PLACE_THREADS, 0, s->used, s->total_used, s->place, first);
			LAUNCH(&l, add_rows, element_blocks(n), BLOCK, 0, s->gradient, s->used, s->width, weight, s->place,
				   s->total);
		}
		else
			LAUNCH(&l, add_elements, element_blocks(n), BLOCK, 0, n, s->gradient, weight, first, s->total);
	}
	return context_check(c, l.error);
}
