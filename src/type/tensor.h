/*
 * tensor.h
 *	  The SQL type tensor in C: layout, access, construction.
 *
 * A tensor value is a varlena with INTEGER alignment: rank, flags, lengths, then the
 * float elements, row-major and 4-byte aligned (copy them where SIMD wants more).  Every
 * value has 1 to 4 dimensions of at least 1, at most TENSOR_MAX_ELEMENTS elements, all
 * finite.  A value got from DatumGetTensorP may lie in a page or a tuple: never write
 * into it.
 */
#ifndef LLMAPP_TENSOR_H
#define LLMAPP_TENSOR_H

#include "fmgr.h"

#include "../compat.h"
#include "../format/tensor_shape.h"

typedef struct Tensor
{
	int32 vl_len_;                     /* varlena header, only through VARSIZE() and SET_VARSIZE() */
	int16 ndim;                        /* 1 .. TENSOR_MAX_DIMS */
	int16 flags;                       /* 0: float elements; other values are for later forms */
	int32 dims[FLEXIBLE_ARRAY_MEMBER]; /* ndim lengths, then the elements */
} Tensor;

/* Bytes of a value with checked shape. */
#define TENSOR_SIZE(ndim, count) \
	(offsetof(Tensor, dims) + (Size) (ndim) * sizeof(int32) + (Size) (count) * sizeof(float))

/* Elements in row-major order. */
#define TensorData(tensor) ((float *) ((tensor)->dims + (tensor)->ndim))

#define PG_GETARG_TENSOR_P(n) DatumGetTensorP(PG_GETARG_DATUM(n))
#define PG_RETURN_TENSOR_P(tensor) PG_RETURN_POINTER(tensor)

/* Detoasted and with a sound header; ERROR data_corrupted otherwise. */
extern Tensor *DatumGetTensorP(Datum datum);

/* The header alone, without fetching the elements of a value stored out of line. */
extern Tensor *DatumGetTensorHeader(Datum datum);

/* Number of elements of a value from DatumGetTensorP or MakeTensor. */
extern int32 TensorElementCount(const Tensor *tensor);

/*
 * New tensor in the current memory context.  ERROR when the shape is not allowed.  The
 * caller fills TensorData() with finite elements; CheckTensorFinite() when they are not known to be.
 */
extern Tensor *MakeTensor(int ndim, const int32 *dims);

/* ERROR data_exception when an element is NaN or infinite. */
extern void CheckTensorFinite(const Tensor *tensor);

/* ERROR data_exception that names both shapes when they differ. */
extern void RequireSameShape(int ndim, const int32 *dims, int other_ndim, const int32 *other_dims);

/* ERROR numeric_value_out_of_range when an element computed from finite ones is not finite. */
extern void RequireInRange(const Tensor *tensor);

/* A numeric as element; ERROR when it is not finite or beyond real. */
extern float NumericToElement(Datum numeric);

/* Oid of the type; ERROR with a hint when the extension is not installed in this database. */
extern Oid TensorTypeOid(void);

/* "2,3" in the current memory context: a shape as messages and type modifiers show it. */
extern char *ShapeText(int ndim, const int32 *dims);

/* Number of elements of a shape; ERROR when the shape is not allowed. */
extern void RequireShape(int ndim, const int32 *dims, int32 *count);

/* Raise what plain C found wrong; status is not TENSOR_OK. */
pg_noreturn extern void ThrowTensorStatus(tensor_status status);

#endif /* LLMAPP_TENSOR_H */
