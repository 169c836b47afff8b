/*
 * stat.h
 *	  How often and how long models predict: llmapp.stat_models.
 *
 * Use: a call site of a model has a UseMeter.  StartUse() when it opens a model; then for each
 * row either MeterRow() alone, or MeterTime() with what the row took when MeterWantsTime() says
 * so; or MeterRows() for many rows at once; EndUse() when it is done.  All of it is arithmetic
 * in this process; shared memory is written when a transaction ends, and now and then in long ones.
 * Include after postgres.h.
 */
#ifndef LLMAPP_STAT_H
#define LLMAPP_STAT_H

#include "portability/instr_time.h"

/* What this process has not yet added to shared memory, of one model; never freed. */
typedef struct ModelUse ModelUse;

typedef struct UseMeter
{
	ModelUse *use; /* NULL: no model */
	int64 rows;    /* not yet in use */
	int64 time_at; /* number of rows at which the next one is timed */
	int64 timed;   /* rows that ns speaks for */
	double ns;
	double row_ns; /* of the last row that was timed */
	bool started;  /* this use is a call that is not yet in use */
} UseMeter;

extern void RequestStatMemory(void); /* in the postmaster, when preloaded */

extern void StartUse(UseMeter *meter, Oid relid);
extern void FlushUse(UseMeter *meter); /* make what was counted part of this transaction's; the use goes on */
extern void EndUse(UseMeter *meter);

/* Nanoseconds since `start`. */
extern double NanosecondsSince(instr_time start);
extern void MeterTime(UseMeter *meter, double ns); /* one row, which took so long */
extern void MeterRows(UseMeter *meter, int64 rows, double ns);
extern void MeterServed(UseMeter *meter, int64 rows); /* of them were made at an inference server */

/* Rows that this process has predicted with all models since it began. */
typedef struct PredictionCounts
{
	int64 rows, served;
} PredictionCounts;

extern PredictionCounts PredictionsMade(void);

static inline bool
MeterWantsTime(const UseMeter *meter)
{
	return meter->rows >= meter->time_at;
}

static inline void
MeterRow(UseMeter *meter)
{
	meter->rows++;
}

#endif /* LLMAPP_STAT_H */
