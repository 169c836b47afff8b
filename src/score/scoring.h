/*
 * scoring.h
 *	  What the files of a scoring job share: its description and its table.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_SCORING_H
#define LLMAPP_SCORING_H

#include "access/tupdesc.h"
#include "lib/stringinfo.h"

#include "../model/model.h"
#include "../job/job.h"

/* What llm_score() was asked to do; every name resolved. */
typedef struct ScoringSpec
{
	Oid model;
	int32 version; /* live at the call; the whole job uses it */
	char *query;   /* one SELECT */
	char *schema;  /* of the table to fill */
	char *table;
	int keys;
	char **key;        /* (keys) columns of the source */
	char *device;      /* auto, cpu, cuda, cuda:N: what was asked for */
	char *search_path; /* of the submitter, for the query */
	char *timezone;
	char *datestyle;
	int32 gpu_memory;
} ScoringSpec;

extern bool RunScoring(const ClaimedJob *claimed); /* does jobs of kind "score" */
extern ScoringSpec *ScoringSpecFromJson(const char *text, Size length);

/* Columns of a result behind those of the key. */
enum
{
	SCORE_PREDICTION,
	SCORE_PROBABILITY,
	SCORE_VERSION,
	SCORE_AT,
	SCORE_ERROR,
	SCORE_COLUMNS
};

/* The table to fill, as this job sees it. */
typedef struct ScoreTable
{
	const ScoringSpec *spec;
	Oid relid;      /* InvalidOid: to be created */
	int *key;       /* (keys) columns of the source, from 0 */
	TupleDesc desc; /* (keys + SCORE_COLUMNS) a row of it, without columns that are not ours */
} ScoreTable;

/* ---- score_table.c: in a transaction, as the submitter ---- */

/* Find the table, or plan to create it; ERROR when it does not fit the source and the model's target. */
extern ScoreTable *FindScoreTable(const ScoringSpec *spec, TupleDesc source, const target *t);
extern void CreateScoreTable(ScoreTable *table);
/* SELECT of the source's rows that still have to be scored: $1 version, $2 since when predictions count. */
extern char *PendingQuery(const ScoreTable *table, TupleDesc source);
/* INSERT of the rows of relation `from`, replacing older predictions: $1 and $2 as in PendingQuery(). */
extern char *InsertStatement(const ScoreTable *table, const char *from);

#endif /* LLMAPP_SCORING_H */
