/*
 * tensor_subscript.c
 *	  Subscripts: t[2][3] is one element, of type real.
 *
 * As for arrays, the first element has subscript 1, and a subscript beyond the shape or
 * NULL yields NULL.  There must be one subscript for each dimension.  Of a value stored
 * out of line only the header and the element are fetched.  Slices and assignment are
 * refused: real[] has them, and both casts are at hand.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/execExpr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/subscripting.h"
#include "parser/parse_coerce.h"
#include "parser/parse_expr.h"

#include "tensor.h"

PG_FUNCTION_INFO_V1(tensor_subscript);

/* Refuse what subscripts of tensors cannot do. */
static void
RequireElementFetch(List *indirection, ParseState *pstate, bool isSlice, bool isAssignment)
{
	A_Indices *first = linitial_node(A_Indices, indirection);
	int place = exprLocation(first->uidx ? first->uidx : first->lidx);

	if (isAssignment)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("elements of a tensor cannot be assigned"),
				 errhint("Change a copy as real[] and assign it as a whole."), parser_errposition(pstate, place)));
	if (isSlice)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a tensor has no slices"),
				 errhint("Cut an array: (column_name::real[])[1:2]::tensor."), parser_errposition(pstate, place)));
	if (list_length(indirection) > TENSOR_MAX_DIMS)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("a tensor has at most %d subscripts", TENSOR_MAX_DIMS), parser_errposition(pstate, place)));
}

/* Parse analysis of one subscript: an integer, or what may be assigned to one. */
static Node *
TransformSubscript(ParseState *pstate, A_Indices *indices)
{
	Node *subscript = transformExpr(pstate, indices->uidx, pstate->p_expr_kind);
	Node *result = coerce_to_target_type(pstate, subscript, exprType(subscript), INT4OID, -1, COERCION_ASSIGNMENT,
										 COERCE_IMPLICIT_CAST, -1);

	if (result == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("subscript of a tensor must be an integer"),
						parser_errposition(pstate, exprLocation(subscript))));
	return result;
}

static void
TransformSubscripts(SubscriptingRef *ref, List *indirection, ParseState *pstate, bool isSlice, bool isAssignment)
{
	ListCell *cell;

	RequireElementFetch(indirection, pstate, isSlice, isAssignment);
	foreach(cell, indirection)
		ref->refupperindexpr =
			lappend(ref->refupperindexpr, TransformSubscript(pstate, lfirst_node(A_Indices, cell)));
	ref->refrestype = FLOAT4OID;
	ref->reftypmod = -1;
}

/* NULL when any subscript is. */
static bool
CheckSubscripts(ExprState *state, ExprEvalStep *op, ExprContext *econtext)
{
	SubscriptingRefState *subscripts = op->d.sbsref_subscript.state;

	for (int i = 0; i < subscripts->numupper; i++)
		if (subscripts->upperindexnull[i])
		{
			*op->resnull = true;
			return false;
		}
	return true;
}

/* Position of the element in row-major order, -1 when a subscript is beyond the shape. */
static int32
ElementOffset(const Tensor *tensor, const SubscriptingRefState *subscripts)
{
	int32 offset = 0;

	if (subscripts->numupper != tensor->ndim)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("wrong number of subscripts for a value of type tensor(%s)",
							   ShapeText(tensor->ndim, tensor->dims)),
						errdetail("There must be %d, not %d.", tensor->ndim, subscripts->numupper)));
	for (int i = 0; i < tensor->ndim; i++)
	{
		int32 subscript = DatumGetInt32(subscripts->upperindex[i]);

		if (subscript < 1 || subscript > tensor->dims[i])
			return -1;
		offset = offset * tensor->dims[i] + subscript - 1;
	}
	return offset;
}

/* One element, alone when the value is stored out of line. */
static float
FetchElement(Datum datum, const Tensor *tensor, int32 offset)
{
	Size at = TENSOR_SIZE(tensor->ndim, offset) - VARHDRSZ;
	struct varlena *slice;
	float element;

	if (!VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(datum)))
		return TensorData(tensor)[offset];
	slice = PG_DETOAST_DATUM_SLICE(datum, at, sizeof(float));
	memcpy(&element, VARDATA_ANY(slice), sizeof(element));
	return element;
}

static void
FetchSubscript(ExprState *state, ExprEvalStep *op, ExprContext *econtext)
{
	Datum datum = *op->resvalue;
	Tensor *tensor = DatumGetTensorHeader(datum);
	int32 offset = ElementOffset(tensor, op->d.sbsref.state);

	*op->resnull = offset < 0;
	*op->resvalue = offset < 0 ? (Datum) 0 : Float4GetDatum(FetchElement(datum, tensor, offset));
}

static void
SetUpSubscripts(const SubscriptingRef *ref, SubscriptingRefState *state, SubscriptExecSteps *methods)
{
	methods->sbs_check_subscripts = CheckSubscripts;
	methods->sbs_fetch = FetchSubscript;
	methods->sbs_assign = NULL;
	methods->sbs_fetch_old = NULL;
}

Datum
tensor_subscript(PG_FUNCTION_ARGS)
{
	static const SubscriptRoutines routines = {.transform = TransformSubscripts,
											   .exec_setup = SetUpSubscripts,
											   .fetch_strict = true,
											   .fetch_leakproof = false,
											   .store_leakproof = false};

	PG_RETURN_POINTER(&routines);
}
