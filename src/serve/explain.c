/*
 * explain.c
 *	  EXPLAIN ANALYZE says how many rows were predicted, and how many of them at an inference server.
 */
#include "postgres.h"

#include "commands/explain.h"
#include "tcop/tcopprot.h"

#include "../common.h"
#include "explain.h"
#include "stat.h"

static ExplainOneQuery_hook_type previous_explain = NULL;

#ifndef HAVE_STANDARD_EXPLAIN
static void
standard_ExplainOneQuery(Query *query, int options, IntoClause *into, ExplainState *es, const char *text,
						 ParamListInfo parameters, QueryEnvironment *environment)
{
	BufferUsage before = pgBufferUsage, used = {0};
	instr_time start, duration;
	PlannedStmt *plan;

	INSTR_TIME_SET_CURRENT(start);
	plan = pg_plan_query(query, text, options, parameters);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	BufferUsageAccumDiff(&used, &pgBufferUsage, &before);
	ExplainOnePlan(plan, into, es, text, parameters, environment, &duration, es->buffers ? &used : NULL);
}
#endif

/* Rows of parallel workers are theirs. */
static void
Explain(Query *query, int options, IntoClause *into, ExplainState *es, const char *text, ParamListInfo parameters,
		QueryEnvironment *environment)
{
	PredictionCounts before = PredictionsMade(), now;

	(previous_explain ? previous_explain : standard_ExplainOneQuery)(query, options, into, es, text, parameters,
																	 environment);
	now = PredictionsMade();
	if (now.rows == before.rows)
		return;
	ExplainOpenGroup("Predictions", NULL, true, es); /* beside the query, which is closed */
	ExplainPropertyInteger("Predicted Rows", NULL, now.rows - before.rows, es);
	ExplainPropertyInteger("Rows at Inference Server", NULL, now.served - before.served, es);
	ExplainCloseGroup("Predictions", NULL, true, es);
}

void
InstallExplain(void)
{
	previous_explain = ExplainOneQuery_hook;
	ExplainOneQuery_hook = Explain;
}
