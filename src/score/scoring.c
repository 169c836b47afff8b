/*
 * scoring.c
 *	  A scoring from its description to a filled table.
 *
 * Phases: loading, scoring.  Loading reads the rows that are still to be scored once, with one
 * snapshot, into the store of a holdable cursor (memory, then a temporary file), and commits.
 * Scoring takes up to MODEL_BULK_ROWS at a time through the bulk predictor and writes them in
 * chunks, each a short transaction of its own together with the counts in the job's report: no
 * snapshot is held longer than a chunk.  Whatever ends a run, the next one asks the table what
 * is done (score_table.c).
 *
 * On a GPU, batches are predicted there, and rows that are tried one by one on the CPU.
 *
 * A row that cannot be predicted becomes that row's error: a batch is tried as a whole, in a
 * subtransaction, and row by row only when that fails.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "../common.h"
#include "../row/input.h"
#include "../metrics/metrics.h"
#include "../serve/output.h"
#include "../serve/predict.h"
#include "../job/gpu.h"
#include "../job/job_table.h"
#include "scoring.h"
#include "../row/source.h"

/* A chunk ends after so many rows or so much time, whatever comes first. */
#define CHUNK_ROWS (64 * MODEL_BULK_ROWS)
#define CHUNK_MS 500
#define SCORED "llmapp_scored" /* name under which INSERT sees a chunk's rows */

/* What became of a row; in batch_cxt. */
typedef struct Outcome
{
	Datum prediction;
	double probability; /* of labels only */
	char *error;        /* instead of both; NULL when there is none */
} Outcome;

typedef struct Scoring
{
	const ClaimedJob *claimed;
	const ScoringSpec *spec;
	Model *model;
	ScoreTable *table;
	Output *output;
	InputBinding *binding;
	TupleDesc source; /* blessed */
	Portal portal;    /* holds the rows that are still to be scored */
	predictor *bulk;  /* for batches of them; on the GPU, if there is one */
	MemoryContext batch_cxt;
	HeapTuple *tuples; /* (rows) of the batch at hand, ours only until the next fetch */
	int rows;
	Outcome outcomes[MODEL_BULK_ROWS];
	Datum *values; /* (keys + SCORE_COLUMNS) of the row being stored */
	bool *nulls;
	int64 done;   /* rows in all runs together, as reported with the last chunk */
	int64 errors; /* of them */
	int64 total;
	TimestampTz started;
	UseMeter meter;
} Scoring;

/* ---- loading ---- */

static void
ApplySettings(const ScoringSpec *spec)
{
	const char *const settings[][2] = {{"search_path", spec->search_path},
									   {"TimeZone", spec->timezone},
									   {"DateStyle", spec->datestyle},
									   {"llmapp.gpu_memory", psprintf("%d", spec->gpu_memory)}};

	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SET, true, 0,
								 false);
}

/* What earlier runs of the job have done. */
static void
ReadReport(Scoring *s)
{
	llm_error err = {0};
	json_t *report = json_parse(s->claimed->report, strlen(s->claimed->report), &err);

	s->done = json_integer_value(json_object_get(report, "rows"));
	s->errors = json_integer_value(json_object_get(report, "errors"));
	json_decref(report);
}

/* Open the cursor; the COMMIT that follows runs the query to its end and keeps the rows. */
static void
OpenCursor(Scoring *s, TupleDesc source)
{
	Oid types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum values[2] = {Int32GetDatum(s->spec->version), TimestampTzGetDatum(s->claimed->submitted_at)};
	SPIPlanPtr plan;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare_cursor(PendingQuery(s->table, source), 2, types, CURSOR_OPT_HOLD | CURSOR_OPT_NO_SCROLL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	s->portal = SPI_cursor_open("llmapp_scoring", plan, values, NULL, true);
	SPI_finish();
}

/* In the current memory context, which lives as long as the job. */
static void
Load(Scoring *s)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	TupleDesc source;

	JobPhase("loading", 0);
	old = BeginShortTransaction();
	MemoryContextSwitchTo(cxt);
	source = DescribeSource(s->spec->query);
	s->model = OpenModel(s->spec->model, s->spec->version, cxt);
	s->table = FindScoreTable(s->spec, source, s->model->manifest->target);
	if (!OidIsValid(s->table->relid))
	{
		CreateScoreTable(s->table);
		CommandCounterIncrement();
		PopActiveSnapshot();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	OpenCursor(s, source);
	s->source = BlessTupleDesc(CreateTupleDescCopy(s->portal->tupDesc));
	s->binding = BindInput(s->model->manifest->encoder, RECORDOID, cxt);
	s->output = MakeOutput(s->model->manifest->target,
						   TupleDescAttr(s->table->desc, s->spec->keys + SCORE_PREDICTION)->atttypid, cxt);
	EndShortTransaction(old);
	s->bulk = ModelBulkPredictor(s->model);
	s->values = palloc0(s->table->desc->natts * sizeof(Datum));
	s->nulls = palloc0(s->table->desc->natts * sizeof(bool));
	ReadReport(s);
	s->total = s->done + tuplestore_tuple_count(s->portal->holdStore);
}

/* ---- on a GPU ---- */

/* With room for as many rows as fit; NULL, and what one takes, when not even that does. */
static predictor *
GpuPredictor(const Model *m, Size *bytes)
{
	for (int64 rows = MODEL_BULK_ROWS; rows > 0; rows /= 2)
	{
		llm_error err = {0};
		predictor *p;

		if (!predictor_device_memory(m->manifest->net, rows, bytes, &err))
			ThrowError(&err);
		if (*bytes > GpuMemory())
			continue;
		p = predictor_new(m->manifest->net, m->weights, rows, JobGpu(), &err);
		if (p == NULL)
			ThrowError(&err);
		*bytes = predictor_device_bytes(p);
		if (*bytes <= GpuMemory())
			return p;
		predictor_free(p);
	}
	return NULL;
}

/* Take a GPU where that was asked for, or pays; false when the job is to pause. */
static bool
MoveToGpu(Scoring *s)
{
	double work = net_multiplications(s->model->manifest->net) * (s->total - s->done);
	predictor *p;
	Size bytes;

	if (!ChooseDevice(s->spec->device, TooLittleForGpu(work)))
		return false;
	if (JobGpu() == NULL)
		return true;
	p = GpuPredictor(s->model, &bytes);
	if (p != NULL)
	{
		OWN(p, predictor_free);
		s->bulk = p;
	}
	else
		LackGpuMemory("this model", bytes, NULL);
	return true;
}

/* ---- prediction of a batch ---- */

static void
EncodeTuple(Scoring *s, HeapTuple tuple, batch *b)
{
	const value *values = ReadInput(s->binding, heap_copy_tuple_as_datum(tuple, s->source));
	llm_error err = {0};

	if (!encoder_row(s->model->manifest->encoder, values, b, &err))
		ThrowError(&err);
}

/* Predict rows [first, first + count) together; ERROR when one of them cannot be predicted. */
static void
PredictTogether(Scoring *s, int first, int count, predictor *p)
{
	const target *t = s->model->manifest->target;
	batch *b = predictor_batch(p);
	llm_error err = {0};
	const float *out;

	b->rows = 0;
	for (int i = first; i < first + count; i++)
		EncodeTuple(s, s->tuples[i], b);
	out = predictor_run(p, &err);
	if (out == NULL)
		ThrowError(&err);
	for (int i = first; i < first + count; i++, out += t->outputs)
	{
		s->outcomes[i].error = NULL;
		s->outcomes[i].prediction = OutputDatum(s->output, out);
		if (t->kind == TARGET_CLASS)
			s->outcomes[i].probability = class_probability(t, out, predicted_class(t, out));
	}
}

/* As PredictTogether(), but NULL or the message of the error that a row's values raised. */
static char *
TryTogether(Scoring *s, int first, int count, predictor *p)
{
	ResourceOwner owner = CurrentResourceOwner;
	char *volatile problem = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(s->batch_cxt);
	PG_TRY();
	{
		PredictTogether(s, first, count, p);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(s->batch_cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (EndsTheJob(error->sqlerrcode))
			ReThrowError(error);
		problem = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(s->batch_cxt);
	CurrentResourceOwner = owner;
	return problem;
}

static void
PredictBatch(Scoring *s)
{
	if (s->rows == 0 || TryTogether(s, 0, s->rows, s->bulk) == NULL)
		return;
	for (int i = 0; i < s->rows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		s->outcomes[i].error = TryTogether(s, i, 1, s->model->predictor);
	}
}

/* ---- a chunk ---- */

static void
ThrowNullKey(const Scoring *s, int i)
{
	const char *name = s->spec->key[i];

	ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("column \"%s\" of the key is null in a row of the source", name),
					errhint("Leave such rows out of the source: WHERE %s IS NOT NULL.", quote_identifier(name))));
}

/* The row of the result for row i of the batch. */
static void
StoreRow(Scoring *s, int i, TimestampTz at, Tuplestorestate *scored)
{
	const Outcome *r = &s->outcomes[i];
	int keys = s->spec->keys;
	Datum *own = s->values + keys;
	bool *own_null = s->nulls + keys;

	for (int k = 0; k < keys; k++)
	{
		s->values[k] = heap_getattr(s->tuples[i], s->table->key[k] + 1, s->source, &s->nulls[k]);
		if (s->nulls[k])
			ThrowNullKey(s, k);
	}
	own[SCORE_PREDICTION] = r->prediction;
	own[SCORE_PROBABILITY] = Float8GetDatum(r->probability);
	own[SCORE_VERSION] = Int32GetDatum(s->model->version);
	own[SCORE_AT] = TimestampTzGetDatum(at);
	own[SCORE_ERROR] = r->error ? CStringGetTextDatum(r->error) : (Datum) 0;
	own_null[SCORE_PREDICTION] = r->error != NULL;
	own_null[SCORE_PROBABILITY] = r->error != NULL || s->model->manifest->target->kind != TARGET_CLASS;
	own_null[SCORE_ERROR] = r->error == NULL;
	s->errors += r->error != NULL;
	tuplestore_putvalues(scored, s->table->desc, s->values, s->nulls);
}

static int64
BatchRows(const Scoring *s)
{
	return predictor_batch(s->bulk)->capacity;
}

/* Fetch and predict; the number of rows, 0 at the end. */
static int
ScoreBatch(Scoring *s, Tuplestorestate *scored)
{
	TimestampTz at = GetCurrentTimestamp();
	instr_time start;
	MemoryContext old = CurrentMemoryContext;

	SPI_cursor_fetch(s->portal, true, BatchRows(s));
	INSTR_TIME_SET_CURRENT(start);
	s->tuples = SPI_tuptable->vals;
	s->rows = (int) SPI_processed;
	MemoryContextSwitchTo(s->batch_cxt);
	PredictBatch(s);
	MeterRows(&s->meter, s->rows, NanosecondsSince(start));
	for (int i = 0; i < s->rows; i++)
		StoreRow(s, i, at, scored);
	MemoryContextSwitchTo(old);
	MemoryContextReset(s->batch_cxt);
	SPI_freetuptable(SPI_tuptable);
	return s->rows;
}

static void
ThrowRepeatedKey(const Scoring *s)
{
	ereport(ERROR,
			(errcode(ERRCODE_CARDINALITY_VIOLATION), errmsg("the key does not identify the rows of the source"),
			 errdetail("Two rows have the same key, or another job writes to the same table at the same time."),
			 errhint("Name more columns in key, or make the rows distinct: SELECT DISTINCT ON (%s) ...",
					 quote_identifier(s->spec->key[0]))));
}

/* Write a chunk; every row of it is new or replaces one that this job has not written. */
static void
InsertRows(Scoring *s, Tuplestorestate *scored)
{
	EphemeralNamedRelationData relation = {.md = {.name = SCORED,
												  .reliddesc = InvalidOid,
												  .tupdesc = s->table->desc,
												  .enrtype = ENR_NAMED_TUPLESTORE,
												  .enrtuples = tuplestore_tuple_count(scored)},
										   .reldata = scored};
	Oid types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum values[2] = {Int32GetDatum(s->spec->version), TimestampTzGetDatum(s->claimed->submitted_at)};
	volatile int result = 0;

	if (tuplestore_tuple_count(scored) == 0)
		return;
	if (SPI_register_relation(&relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register the rows of a chunk");
	PG_TRY();
	{
		result = SPI_execute_with_args(InsertStatement(s->table, SCORED), 2, types, values, NULL, false, 0);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_CARDINALITY_VIOLATION)
			PG_RE_THROW();
		FlushErrorState(); /* two rows of this chunk have one key: the same words as for two chunks */
		ThrowRepeatedKey(s);
	}
	PG_END_TRY();
	if (result != SPI_OK_INSERT)
		elog(ERROR, "INSERT returned %s", SPI_result_code_string(result));
	if (SPI_processed != tuplestore_tuple_count(scored))
		ThrowRepeatedKey(s);
}

static void
ReportProgress(Scoring *s, int64 this_run)
{
	double seconds = (GetCurrentTimestamp() - s->started) / 1e6;

	JobProgress(s->done, 0, seconds > 0 ? this_run / seconds : 0, 0);
}

/* Batches until the chunk is full; false when the source has no more rows. */
static bool
FillChunk(Scoring *s, Tuplestorestate *scored, int64 before)
{
	TimestampTz start = GetCurrentTimestamp();
	bool more = true;

	while (more && tuplestore_tuple_count(scored) < CHUNK_ROWS && !JobPauseRequested() &&
		   !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), CHUNK_MS))
	{
		CHECK_FOR_INTERRUPTS();
		more = ScoreBatch(s, scored) == BatchRows(s);
		s->done += s->rows;
		ReportProgress(s, s->done - before);
	}
	return more;
}

/* One transaction; `before`: rows done by earlier runs.  False after the last one. */
static bool
ScoreChunk(Scoring *s, int64 before)
{
	MemoryContext old = BeginShortTransaction();
	Tuplestorestate *scored;
	bool more;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	scored = tuplestore_begin_heap(false, false, work_mem);
	more = FillChunk(s, scored, before);
	InsertRows(s, scored);
	tuplestore_end(scored);
	SPI_finish();
	FlushUse(&s->meter);
	JobReport("rows", json_integer(s->done));
	JobReport("errors", json_integer(s->errors));
	if (more)
		JobFlushMetrics();
	else
		JobSucceeded(s->claimed->model, s->model->version);
	EndShortTransaction(old);
	return more;
}

/* The whole job, in the current memory context; false when it paused. */
static bool
Score(Scoring *s)
{
	int64 before;

	ApplySettings(s->spec);
	Load(s);
	if (!MoveToGpu(s))
		return false;
	predictor_set_poll(s->model->predictor, InterruptRequested, NULL);
	predictor_set_poll(s->bulk, InterruptRequested, NULL);
	before = s->done;
	s->batch_cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp scoring batch", ALLOCSET_DEFAULT_SIZES);
	JobPhase("scoring", s->total);
	JobProgress(before, 0, 0, 0);
	StartUse(&s->meter, s->spec->model);
	s->started = GetCurrentTimestamp();
	while (!JobPauseRequested())
		if (!ScoreChunk(s, before))
			return true;
	return false;
}

bool
RunScoring(const ClaimedJob *claimed)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp scoring", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Scoring *s = palloc0(sizeof(Scoring));
	bool done;

	s->claimed = claimed;
	s->spec = ScoringSpecFromJson(claimed->spec, strlen(claimed->spec));
	done = Score(s);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return done;
}
