/*
 * support.c
 *	  What the planner is told about prediction functions: cost by the arithmetic of the model,
 *	  rows by its labels.
 *
 * The planner may ask at any time about any argument, so nothing here raises an error or reads
 * a table: known are the constant models that this session has opened before.  For others
 * the COST and ROWS of CREATE FUNCTION stand.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "utils/hsearch.h"

#include "../common.h"
#include "support.h"

/* In units of cpu_operator_cost: a call without its arithmetic, and multiplications for one more unit. */
#define CALL_OPERATORS 50.0
#define MULTIPLICATIONS_PER_OPERATOR 200.0

PG_FUNCTION_INFO_V1(llm_predict_support);

/* What is remembered of a model. */
typedef struct KnownModel
{
	Oid relid;              /* hash key */
	double multiplications; /* for one row */
	int32 classes;          /* 0 for numbers */
} KnownModel;

static HTAB *known_models = NULL;

/* Multiplications of one row; looking up embeddings and bags costs as many additions as they are wide. */
static double
Multiplications(const net_config *config)
{
	double width = config->shape.dense + (double) config->shape.embed_columns * config->embed_dim;
	double sum = width;

	for (int32 i = 0; i < config->hidden_count; i++)
	{
		sum += width * config->hidden[i];
		width = config->hidden[i];
	}
	sum += width * config->shape.outputs;
	if (config->shape.bag_rows > 0)
		sum +=
			(double) config->shape.bag_max * (config->hidden_count > 0 ? config->hidden[0] : config->shape.outputs);
	return sum * Max(config->members, 1);
}

void
RememberModel(const Model *model)
{
	KnownModel *known;

	if (known_models == NULL)
	{
		HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(KnownModel)};

		known_models = hash_create("llmapp models known to the planner", 16, &control, HASH_ELEM | HASH_BLOBS);
	}
	known = hash_search(known_models, &model->relid, HASH_ENTER, NULL);
	known->multiplications = Multiplications(net_get_config(model->manifest->net));
	known->classes = model->manifest->target->class_count;
}

double
KnownMultiplications(Oid relid)
{
	const KnownModel *known = known_models ? hash_search(known_models, &relid, HASH_FIND, NULL) : NULL;

	return known ? known->multiplications : -1;
}

/* The model that a call names by a constant, when this session knows it. */
static const KnownModel *
ModelOfCall(Node *node)
{
	FuncExpr *call = (FuncExpr *) node;
	Const *model;
	Oid relid;

	if (known_models == NULL || node == NULL || !IsA(node, FuncExpr) || call->args == NIL)
		return NULL;
	model = linitial(call->args);
	if (!IsA(model, Const) || model->constisnull || model->consttype != REGCLASSOID)
		return NULL;
	relid = DatumGetObjectId(model->constvalue);
	return hash_search(known_models, &relid, HASH_FIND, NULL);
}

Datum
llm_predict_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	const KnownModel *known;

	if (IsA(request, SupportRequestCost))
	{
		SupportRequestCost *cost = (SupportRequestCost *) request;

		known = ModelOfCall(cost->node);
		if (known == NULL)
			PG_RETURN_POINTER(NULL);
		cost->startup = 0;
		cost->per_tuple =
			cpu_operator_cost * (CALL_OPERATORS + known->multiplications / MULTIPLICATIONS_PER_OPERATOR);
		PG_RETURN_POINTER(request);
	}
	if (IsA(request, SupportRequestRows))
	{
		SupportRequestRows *rows = (SupportRequestRows *) request;

		known = ModelOfCall(rows->node);
		if (known == NULL || known->classes == 0)
			PG_RETURN_POINTER(NULL);
		rows->rows = known->classes;
		PG_RETURN_POINTER(request);
	}
	PG_RETURN_POINTER(NULL);
}
