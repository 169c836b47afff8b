/*
 * simd_math.h
 *	  Vectors of LANES floats and the elementary functions on them.
 *
 * Part of simd_impl.h, so without a guard of its own: it is compiled once for each
 * vector width.  Vectors are the compiler's vector extension; what it lacks (select,
 * reduction) is built from bit operations and shuffles.  The polynomials were fitted at
 * Chebyshev nodes; their errors stand beside them.
 */
#include <math.h>
#include <string.h>

#include "philox.h"
#include "simd.h"

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef float vf_memory __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t vu_memory __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float v4 __attribute__((vector_size(16)));
typedef float v4_memory __attribute__((vector_size(16), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline)) TARGET
#define KERNEL static TARGET

INLINE vf
load(const float *p)
{
	return *(const vf_memory *) p;
}
INLINE void
store(float *p, vf v)
{
	*(vf_memory *) p = v;
}
INLINE vf
splat(float x)
{
	return x - (vf) {};
}
INLINE vf
select_vf(vi mask, vf a, vf b)
{
	return (vf) ((mask & (vi) a) | (~mask & (vi) b));
}
/* b where one of them is not a number */
INLINE vf
max_vf(vf a, vf b)
{
#ifdef VECTOR_MAX
	return (vf) VECTOR_MAX(a, b);
#else
	return select_vf(a > b, a, b);
#endif
}
INLINE vf
min_vf(vf a, vf b)
{
#ifdef VECTOR_MIN
	return (vf) VECTOR_MIN(a, b);
#else
	return select_vf(a < b, a, b);
#endif
}
INLINE vf
abs_vf(vf a)
{
	return (vf) ((vi) a & 0x7fffffff);
}

/*
 * A partial vector: the first n <= LANES floats, the rest zero.  Masked stores are slow on
 * some CPUs (a dozen cycles on Zen), and mostly n is LANES throughout a loop, which the
 * compiler then splits.
 */
#ifdef VECTOR_LOAD_PART
INLINE vf
load_part(const float *p, int64_t n)
{
	return n == LANES ? load(p) : (vf) VECTOR_LOAD_PART(p, n);
}
INLINE void
store_part(float *p, vf v, int64_t n)
{
	if (n == LANES)
		store(p, v);
	else
		VECTOR_STORE_PART(p, v, n);
}
#else
INLINE vf
load_part(const float *p, int64_t n)
{
	vf v = {};

	memcpy(&v, p, n * sizeof(float));
	return v;
}

INLINE void
store_part(float *p, vf v, int64_t n)
{
	memcpy(p, &v, n * sizeof(float));
}
#endif

/* a[0], b[0], a[1], b[1], ...: the first and the second half. */
#if LANES == 16
#define INTERLEAVE_FIRST(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define INTERLEAVE_SECOND(a, b) \
	__builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif LANES == 8
#define INTERLEAVE_FIRST(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_SECOND(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define INTERLEAVE_FIRST(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define INTERLEAVE_SECOND(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

/* Lanes folded to four: lane i of the result is the sum of lanes i, i + 4, i + 8, ... */
INLINE v4
fold(vf v)
{
#if LANES == 16
	typedef float v8 __attribute__((vector_size(32)));
	v8 h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
		   __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);

	return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#elif LANES == 8
	return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
	return v;
#endif
}

/* The sums of four vectors of four lanes. */
INLINE v4
fold4(v4 a, v4 b, v4 c, v4 d)
{
	v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
	v4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);

	return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

INLINE float
sum4(v4 v)
{
	return (v[0] + v[2]) + (v[1] + v[3]);
}

/* ---- elementary functions ---- */

/*
 * exp(x) = 2^n exp(r), |r| <= ln(2)/2, with a degree 6 polynomial (near-minimax,
 * 1.1e-8).  Arguments are clamped to the range of normal results; NaN stays NaN.
 */
INLINE vf
exp_vf(vf x)
{
	vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
	vf clamped = max_vf(splat(-87.3f), min_vf(splat(88.3f), x));
	vf shifted = clamped * splat(1.44269504f) + magic;
	vf n = shifted - magic;
	vf r = clamped - n * splat(0.693359375f) + n * splat(2.12194440e-4f);
	vf p = splat(1.3926927e-3f);

	p = p * r + splat(8.3637739e-3f);
	p = p * r + splat(4.1666550e-2f);
	p = p * r + splat(1.6666573e-1f);
	p = p * r + splat(0.5f);
	p = p * (r * r) + r;
	return (p + splat(1.0f)) * (vf) ((((vi) shifted - (vi) magic) << 23) + 0x3f800000);
}

INLINE vf
sigmoid_vf(vf x)
{
	return splat(1.0f) / (splat(1.0f) + exp_vf(-x));
}

/* Odd polynomial below 0.625 (1.8e-8), 1 - 2 / (exp(2x) + 1) above. */
INLINE vf
tanh_vf(vf x)
{
	vf u = x * x;
	vf p = splat(-6.0451651e-3f);
	vf a = abs_vf(x);
	vf big = splat(1.0f) - splat(2.0f) / (exp_vf(a + a) + splat(1.0f));

	p = p * u + splat(2.0961329e-2f);
	p = p * u + splat(-5.3843263e-2f);
	p = p * u + splat(1.3332719e-1f);
	p = p * u + splat(-3.3333328e-1f);
	big = (vf) ((vi) big | ((vi) x & (int32_t) 0x80000000));
	return select_vf(a < splat(0.625f), x + x * u * p, big);
}

/*
 * The normal distribution: *density = exp(-x^2/2); returns Phi(x).  The ratio of tail to
 * density is a degree 9 polynomial in 1 / (1 + 0.26 |x|) (near-minimax on |x| <= 13, 4.8e-8).
 */
INLINE vf
normal_vf(vf x, vf *density)
{
	vf a = min_vf(abs_vf(x), splat(13.0f));
	vf s = splat(1.0f) / (splat(1.0f) + splat(0.26f) * a);
	vf e = exp_vf(splat(-0.5f) * a * a);
	vf p = splat(3.2545857e-2f);
	vf tail;

	p = p * s + splat(-1.6270663e-1f);
	p = p * s + splat(2.7181970e-1f);
	p = p * s + splat(-1.7413106e-1f);
	p = p * s + splat(1.7693331e-1f);
	p = p * s + splat(4.4217373e-2f);
	p = p * s + splat(1.0477747e-1f);
	p = p * s + splat(1.0277031e-1f);
	p = p * s + splat(1.0377368e-1f);
	tail = p * s * e;
	*density = e;
	return select_vf(x < splat(0.0f), tail, splat(1.0f) - tail);
}

#define GELU_TWO_SQRT_2_PI 1.59576912f /* 2 sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

INLINE vf
act_vf(net_activation kind, vf x)
{
	vf unused;

	switch (kind)
	{
		case ACT_IDENTITY: return x;
		case ACT_RELU: return select_vf(x < splat(0.0f), splat(0.0f), x);
		case ACT_GELU: return x * normal_vf(x, &unused);
		case ACT_GELU_TANH: /* (1 + tanh(u)) / 2 = sigmoid(2u) */
			return x * sigmoid_vf(splat(GELU_TWO_SQRT_2_PI) * x * (splat(1.0f) + splat(GELU_CUBIC) * x * x));
		case ACT_SILU: return x * sigmoid_vf(x);
		case ACT_TANH: return tanh_vf(x);
		case ACT_SIGMOID: return sigmoid_vf(x);
	}
	return x;
}

/* f'(x) from x or from y = f(x), as simd.h says. */
INLINE vf
act_slope_vf(net_activation kind, vf ref)
{
	vf one = splat(1.0f);
	vf s, e;

	switch (kind)
	{
		case ACT_IDENTITY: return one;
		case ACT_RELU: return select_vf(ref > splat(0.0f), one, splat(0.0f));
		case ACT_GELU: s = normal_vf(ref, &e); return s + ref * e * splat(0.398942280f);
		case ACT_GELU_TANH:
			s = sigmoid_vf(splat(GELU_TWO_SQRT_2_PI) * ref * (one + splat(GELU_CUBIC) * ref * ref));
			return s + ref * s * (one - s) * splat(GELU_TWO_SQRT_2_PI) * (one + splat(3 * GELU_CUBIC) * ref * ref);
		case ACT_SILU: s = sigmoid_vf(ref); return s + ref * s * (one - s);
		case ACT_TANH: return one - ref * ref;
		case ACT_SIGMOID: return ref * (one - ref);
	}
	return one;
}
