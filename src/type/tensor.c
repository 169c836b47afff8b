/*
 * tensor.c
 *	  What every part of the type tensor uses: access, construction, the type's oid;
 *	  and the functions about shape, llm_shape() and llm_reshape().
 *
 * No value enters the rest of the extension without DatumGetTensorP(), none is made
 * without MakeTensor(): both see to a valid shape.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "tensor.h"

PG_FUNCTION_INFO_V1(llm_shape);
PG_FUNCTION_INFO_V1(llm_reshape);

/* Check all of a header but whether the value has as many elements as it says. */
static bool
HeaderIsSound(const Tensor *tensor, int32 *count)
{
	return VARSIZE(tensor) >= TENSOR_SIZE(1, 0) && tensor->flags == 0 && tensor->ndim >= 1 &&
		   tensor->ndim <= TENSOR_MAX_DIMS && VARSIZE(tensor) >= TENSOR_SIZE(tensor->ndim, 0) &&
		   tensor_count(tensor->ndim, tensor->dims, count) == TENSOR_OK;
}

static void
ThrowDamage(Size size)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("tensor value of %zu bytes is damaged", size)));
}

Tensor *
DatumGetTensorP(Datum datum)
{
	Tensor *tensor = (Tensor *) PG_DETOAST_DATUM(datum);
	int32 count;

	if (!HeaderIsSound(tensor, &count) || VARSIZE(tensor) != TENSOR_SIZE(tensor->ndim, count))
		ThrowDamage(VARSIZE(tensor));
	return tensor;
}

Tensor *
DatumGetTensorHeader(Datum datum)
{
	Tensor *tensor = (Tensor *) DatumGetPointer(datum);
	int32 count;

	if (!VARATT_IS_EXTERNAL_ONDISK(tensor))
		return DatumGetTensorP(datum);
	tensor = (Tensor *) PG_DETOAST_DATUM_SLICE(datum, 0, TENSOR_SIZE(TENSOR_MAX_DIMS, 0) - VARHDRSZ);
	if (!HeaderIsSound(tensor, &count) || toast_raw_datum_size(datum) != TENSOR_SIZE(tensor->ndim, count))
		ThrowDamage(toast_raw_datum_size(datum));
	return tensor;
}

int32
TensorElementCount(const Tensor *tensor)
{
	int32 count = 1;

	for (int i = 0; i < tensor->ndim; i++)
		count *= tensor->dims[i];
	return count;
}

Tensor *
MakeTensor(int ndim, const int32 *dims)
{
	int32 count;
	Size size;
	Tensor *tensor;

	RequireShape(ndim, dims, &count);
	size = TENSOR_SIZE(ndim, count);
	tensor = (Tensor *) palloc(size);
	SET_VARSIZE(tensor, size);
	tensor->ndim = ndim;
	tensor->flags = 0;
	memcpy(tensor->dims, dims, ndim * sizeof(int32));
	return tensor;
}

void
CheckTensorFinite(const Tensor *tensor)
{
	tensor_status status = tensor_check_finite(TensorData(tensor), TensorElementCount(tensor));

	if (status != TENSOR_OK)
		ThrowTensorStatus(status);
}

char *
ShapeText(int ndim, const int32 *dims)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < ndim; i++)
		appendStringInfo(&text, "%s%d", i > 0 ? "," : "", dims[i]);
	return text.data;
}

/* Schema of the extension, InvalidOid when it is not installed. */
static Oid
ExtensionSchema(void)
{
	Relation relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("llmapp"));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return schema;
}

/* The type's oid once found; any change of a type forgets it. */
static Oid tensor_type_oid = InvalidOid;

static void
ForgetTensorType(Datum arg, int cacheid, uint32 hashvalue)
{
	tensor_type_oid = InvalidOid;
}

Oid
TensorTypeOid(void)
{
	static bool registered = false;
	Oid schema;
	Oid typid = InvalidOid;

	if (OidIsValid(tensor_type_oid))
		return tensor_type_oid;
	if (!registered)
		CacheRegisterSyscacheCallback(TYPEOID, ForgetTensorType, (Datum) 0);
	registered = true;
	schema = ExtensionSchema();
	if (OidIsValid(schema))
		typid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("tensor"), ObjectIdGetDatum(schema));
	if (!OidIsValid(typid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("type tensor does not exist"),
						errhint("Install the extension: CREATE EXTENSION llmapp;")));
	tensor_type_oid = typid;
	return typid;
}

/* llm_shape(tensor): lengths of the dimensions. */
Datum
llm_shape(PG_FUNCTION_ARGS)
{
	Tensor *tensor = DatumGetTensorHeader(PG_GETARG_DATUM(0));
	Datum lengths[TENSOR_MAX_DIMS];

	for (int i = 0; i < tensor->ndim; i++)
		lengths[i] = Int32GetDatum(tensor->dims[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(lengths, tensor->ndim, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* The lengths in an array of one dimension, checked but for their values. */
static int
ReadShapeArray(ArrayType *array, int32 *dims)
{
	int ndim = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("a shape is an array of one dimension")));
	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a shape cannot hold NULL")));
	if (ndim > TENSOR_MAX_DIMS)
		ThrowTensorStatus(TENSOR_TOO_DEEP);
	memcpy(dims, ARR_DATA_PTR(array), ndim * sizeof(int32));
	return ndim;
}

static void
ThrowReshape(const Tensor *tensor, int ndim, const int32 *dims, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("cannot reshape tensor(%s) to (%s)", ShapeText(tensor->ndim, tensor->dims),
						   ShapeText(ndim, dims)),
					errdetail_internal("%s", detail)));
}

/* Put the length that makes the shape hold all elements in the place of -1. */
static void
InferLength(const Tensor *tensor, int ndim, int32 *dims)
{
	int32 elements = TensorElementCount(tensor);
	int32 asked[TENSOR_MAX_DIMS];
	int32 known[TENSOR_MAX_DIMS];
	int32 place = -1;
	int32 product = 1;

	memcpy(asked, dims, ndim * sizeof(int32));
	memcpy(known, dims, ndim * sizeof(int32));
	for (int i = 0; i < ndim; i++)
	{
		if (dims[i] != -1)
			continue;
		if (place >= 0)
			ThrowReshape(tensor, ndim, asked, "Only one length can be -1.");
		place = i;
		known[i] = 1;
	}
	RequireShape(ndim, known, &product);
	if (place >= 0)
		dims[place] = elements / product;
	if (place >= 0 ? elements % product != 0 : elements != product)
		ThrowReshape(tensor, ndim, asked,
					 psprintf("The tensor has %d elements, the lengths multiply to %d.", elements, product));
}

/* llm_reshape(tensor, int[]): the same elements in another shape; -1 stands for the length that fits. */
Datum
llm_reshape(PG_FUNCTION_ARGS)
{
	Tensor *tensor = PG_GETARG_TENSOR_P(0);
	int32 dims[TENSOR_MAX_DIMS];
	int ndim = ReadShapeArray(PG_GETARG_ARRAYTYPE_P(1), dims);
	Tensor *result;

	InferLength(tensor, ndim, dims);
	result = MakeTensor(ndim, dims);
	memcpy(TensorData(result), TensorData(tensor), TensorElementCount(tensor) * sizeof(float));
	PG_RETURN_TENSOR_P(result);
}
