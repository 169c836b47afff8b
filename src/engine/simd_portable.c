/*
 * simd_portable.c
 *	  Vector kernels for any CPU, and the choice among all sets.
 */
#define LANES 4
#define TARGET
#define NAME simd_portable
#define NAME_STRING "portable"
#define SUPPORTED portable_supported
#include "simd_impl.h"

static bool
portable_supported(void)
{
	return true;
}

static const simd_kernels *const all_kernels[] = {
#if defined(__x86_64__)
	&simd_avx512,
	&simd_avx2,
#endif
	&simd_portable,
};

const simd_kernels *const *
simd_all(int *count)
{
	*count = (int) (sizeof(all_kernels) / sizeof(all_kernels[0]));
	return all_kernels;
}

const simd_kernels *
simd_best(void)
{
	const simd_kernels *const *k = all_kernels;

	while (!(*k)->supported())
		k++;
	return *k;
}
