/*
 * batching.c
 *	  Plain predictions in a SELECT list become batched ones, when that pays.
 *
 * When llmapp is preloaded, a planner hook turns llm_predict(model, input) into
 * llm_predict_over(model, input) OVER (), which runs many rows through the network at once.
 * Results and their order stay the same, so it is done only where the window function is
 * evaluated for exactly the rows for which the plain one would be:
 *
 * - the call stands in the SELECT list and is evaluated for every row: not in CASE, COALESCE,
 *   AND, OR or a subquery; nothing in that list is volatile;
 * - the SELECT has no aggregation, grouping, window, DISTINCT, set operation, LIMIT or row lock;
 * - above it are only SELECTs (views, subqueries) or an INSERT that read all of its rows and
 *   filter, join or limit nothing, so that no condition could have been pushed down into it.
 *
 * It pays when the model is a constant whose network is large enough, for many rows, and when the plain
 * plan is not parallel.  So the plain query is planned first, and the other one takes its place
 * when the estimate says so.  The size of a network that this session has not used yet is read here,
 * protected: whatever is wrong with a model is for the executor to say.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "../common.h"
#include "batching.h"
#include "support.h"

/*
 * A row through the window function costs about 0.25 microseconds more, a multiplication in a
 * batch about 0.02 nanoseconds less (docs/performance.md): they meet at some 14,000.
 */
#define LEAST_MULTIPLICATIONS 16000
#define LEAST_ROWS (4 * MODEL_BULK_ROWS) /* the first batch has costs of its own */

static planner_hook_type previous_planner = NULL;

/* ---- calls ---- */

/* Oid of llm_predict_over() beside the function of this call, when that is our llm_predict(model, input). */
static Oid
BatchedFunction(const FuncExpr *call)
{
	Oid types[2] = {REGCLASSOID, ANYOID};
	HeapTuple tuple;
	Form_pg_proc form;
	char *schema = NULL;

	if (call->funcid < FirstNormalObjectId || call->funcresulttype != TEXTOID || list_length(call->args) != 2 ||
		exprType(linitial(call->args)) != REGCLASSOID)
		return InvalidOid;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	/* only superusers create functions in C, so the name says what it is */
	if (form->prolang == ClanguageId && strcmp(NameStr(form->proname), "llm_predict") == 0 &&
		form->proargtypes.values[1] == ANYOID)
		schema = get_namespace_name(form->pronamespace);
	ReleaseSysCache(tuple);
	if (schema == NULL)
		return InvalidOid;
	return LookupFuncName(list_make2(makeString(schema), makeString("llm_predict_over")), 2, types, true);
}

/* A call that can be batched: a constant model and an input of plain expressions. */
static Oid
BatchedCall(const FuncExpr *call)
{
	Const *model = linitial(call->args);
	Oid function;

	if (!IsA(model, Const) || model->constisnull)
		return InvalidOid;
	function = BatchedFunction(call);
	return contain_subplans(lsecond(call->args)) ? InvalidOid : function;
}

/* What is changed in a SELECT list, or only looked for. */
typedef struct Batching
{
	List *models; /* Oids, of the calls found */
	bool change;
} Batching;

static Node *
BatchCall(FuncExpr *call, Oid function)
{
	WindowFunc *window = makeNode(WindowFunc);

	window->winfnoid = function;
	window->wintype = call->funcresulttype;
	window->wincollid = call->funccollid;
	window->inputcollid = call->inputcollid;
	window->args = call->args;
	window->winref = 1;
	window->location = call->location;
	return (Node *) window;
}

/* Go only through nodes that evaluate all of their arguments. */
static Node *
BatchExpression(Node *node, void *arg)
{
	Batching *batching = arg;

	if (node == NULL)
		return NULL;
	if (IsA(node, FuncExpr) && list_length(((FuncExpr *) node)->args) == 2)
	{
		FuncExpr *call = (FuncExpr *) node;
		Oid function = BatchedCall(call);

		if (OidIsValid(function))
		{
			batching->models = list_append_unique_oid(batching->models,
													  DatumGetObjectId(((Const *) linitial(call->args))->constvalue));
			return batching->change ? BatchCall(call, function) : node;
		}
	}
	switch (nodeTag(node))
	{
		case T_TargetEntry:
		case T_List:
		case T_FuncExpr:
		case T_OpExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_CoerceToDomain: return expression_tree_mutator(node, BatchExpression, arg);
		default: return node;
	}
}

/* Models of the calls in a SELECT list that can be batched. */
static List *
FindCalls(Query *query)
{
	Batching batching = {.models = NIL, .change = false};

	(void) BatchExpression((Node *) query->targetList, &batching);
	return batching.models;
}

static void
BatchCalls(Query *query)
{
	Batching batching = {.models = NIL, .change = true};
	WindowClause *clause = makeNode(WindowClause);

	query->targetList = (List *) BatchExpression((Node *) query->targetList, &batching);
	clause->winref = 1;
	clause->frameOptions = FRAMEOPTION_DEFAULTS;
	query->windowClause = list_make1(clause);
	query->hasWindowFuncs = true;
}

/* ---- queries ---- */

/* Whether each row of FROM and WHERE is one row of the result. */
static bool
KeepsRows(const Query *query)
{
	return query->commandType == CMD_SELECT && !query->hasAggs && !query->hasWindowFuncs && !query->hasTargetSRFs &&
		   !query->hasModifyingCTE && !query->hasForUpdate && query->groupClause == NIL &&
		   query->groupingSets == NIL && query->havingQual == NULL && query->distinctClause == NIL &&
		   query->setOperations == NULL && query->limitCount == NULL && query->limitOffset == NULL &&
		   query->rowMarks == NIL && query->jointree != NULL;
}

/* The subquery whose rows this query takes all, one by one; NULL when there is none. */
static Query *
OnlySubquery(const Query *query)
{
	RangeTblEntry *entry;
	Node *from;

	if ((query->commandType != CMD_INSERT && !KeepsRows(query)) || query->jointree == NULL ||
		query->jointree->quals != NULL || list_length(query->jointree->fromlist) != 1)
		return NULL;
	from = linitial(query->jointree->fromlist);
	if (!IsA(from, RangeTblRef))
		return NULL;
	entry = rt_fetch(((RangeTblRef *) from)->rtindex, query->rtable);
	return entry->rtekind == RTE_SUBQUERY && !entry->lateral ? entry->subquery : NULL;
}

/* The SELECT whose calls can be batched; NULL when there is none. */
static Query *
FindBatchable(Query *query)
{
	for (; query != NULL; query = OnlySubquery(query))
	{
		check_stack_depth();
		if (KeepsRows(query) && query->jointree->fromlist != NIL && FindCalls(query) != NIL)
			return contain_volatile_functions((Node *) query->targetList) ? NULL : query;
	}
	return NULL;
}

/* ---- whether it pays ---- */

/* Rows for which a plan evaluates its SELECT list; 0 when it does so in parallel. */
static double
SerialRows(const PlannedStmt *planned)
{
	const Plan *plan = planned->planTree;

	if (planned->parallelModeNeeded)
		return 0;
	if (IsA(plan, ModifyTable))
		plan = outerPlan(plan);
	return plan ? plan->plan_rows : 0;
}

static void
OpenOnce(Oid relid)
{
	MemoryContext cxt =
		AllocSetContextCreate(CurrentMemoryContext, "llmapp model to plan with", ALLOCSET_SMALL_SIZES);

	RememberModel(OpenModel(relid, 0, cxt));
	MemoryContextDelete(cxt);
}

/* Learn how large a model is; what cannot be opened stays unknown. */
static void
LearnModel(Oid relid)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	if (IsInParallelMode() || !ActiveSnapshotSet())
		return;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		OpenOnce(relid);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
}

/* Whether the networks are large enough, on the whole. */
static bool
AreLarge(const List *models)
{
	double sum = 0;
	ListCell *cell;

	foreach(cell, models)
	{
		if (KnownMultiplications(lfirst_oid(cell)) < 0)
			LearnModel(lfirst_oid(cell));
		if (KnownMultiplications(lfirst_oid(cell)) < 0)
			return false;
		sum += KnownMultiplications(lfirst_oid(cell));
	}
	return sum >= LEAST_MULTIPLICATIONS * (double) list_length(models);
}

/* ---- the hook ---- */

static PlannedStmt *
PlanWith(Query *query, const char *text, int options, ParamListInfo parameters)
{
	return previous_planner ? previous_planner(query, text, options, parameters)
							: standard_planner(query, text, options, parameters);
}

static PlannedStmt *
PlanBatched(Query *query, const char *text, int options, ParamListInfo parameters)
{
	Query *found = llmapp_batch_predictions ? FindBatchable(query) : NULL;
	PlannedStmt *plain;
	List *models;

	if (found == NULL)
		return PlanWith(query, text, options, parameters);
	models = FindCalls(found);
	plain = PlanWith(copyObject(query), text, options, parameters); /* planning changes the query */
	if (SerialRows(plain) < LEAST_ROWS || !AreLarge(models))
		return plain;
	BatchCalls(found);
	return PlanWith(query, text, options, parameters);
}

void
InstallBatching(void)
{
	previous_planner = planner_hook;
	planner_hook = PlanBatched;
}
