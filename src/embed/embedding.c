/*
 * embedding.c
 *	  The job that empties the queue of a target.
 *
 * A batch is one transaction: keys leave the queue, texts are read, cut and embedded, and the rows
 * of the target are replaced.  So whatever ends it loses nothing and repeats nothing.  A row that changes
 * meanwhile is in the queue again when that is committed.  Two jobs never work on one target at a time, else
 * the older text could be written last; the job's row, of which a target has one, sees to that.
 *
 * Where the queue is long for the size of the model, or llmapp.device of the owner names a GPU, texts are embedded
 * there.  The weights stay there while batches find the same version.
 *
 * A row whose text cannot be embedded gets a row with the error in the target: a batch is tried as
 * a whole, in a subtransaction, and row by row only when that fails.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "../engine/embedder.h"
#include "../job/device.h"
#include "../job/gpu.h"
#include "../job/job_table.h"
#include "../job/slots.h"
#include "../job/wake.h"
#include "../job/worker.h"
#include "embed.h"

/* Rows of a batch, as many as take about this time. */
#define FIRST_ROWS 16
#define MOST_ROWS 512
#define BATCH_MS 400
/* A worker that has nothing left to do stays so long, unless another job waits for its place. */
#define LINGER_MS 1000
#define JOB_LOCK_CLASS 0x4c45 /* fourth field of the lock's tag; pg_advisory_lock() uses 1 and 2, jobs 0x4c4d */

/* ---- the job's row ---- */

/* Held while somebody decides whether the target needs a new row; false when another does and `wait` is false. */
static bool
LockTarget(Oid target, bool wait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, target, JOB_LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* A job has no caller whose device it could keep: it goes by the setting of the owner whenever it runs. */
static const char *
AskedDevice(void)
{
	return GpuLibrary() != NULL ? llmapp_device : "cpu";
}

static int64
InsertEmbeddingJob(Oid target, Oid model)
{
	return InsertJob(EMBED_KIND, TableName(model), AskedDevice(), psprintf("{\"target\": %u}", target));
}

int64
QueueEmbeddingJob(Oid target, Oid model, bool called, bool *runs)
{
	const JobRecord *job;

	AttachJobMemory();
	*runs = false;
	if (!LockTarget(target, called))
		return 0;
	job = ReadJobOf(EMBED_KIND, target);
	if (job == NULL)
		return InsertEmbeddingJob(target, model);
	if (strcmp(job->status, "paused") == 0 && !called)
		return 0;
	*runs = strcmp(job->status, "running") == 0;
	if (*runs || strcmp(job->stored, "queued") == 0)
		return job->job;
	return ChangeStatus(job->job, job->stored, "queued") ? job->job : 0;
}

/* In a worker that a change has started.  One that cannot have the lock leaves it to who has it. */
int64
FindEmbeddingJob(Oid target)
{
	EmbedBinding binding;
	bool runs;
	int64 job;

	if (!ReadBinding(target, &binding))
		return 0;
	job = QueueEmbeddingJob(target, binding.model, false, &runs);
	return runs ? 0 : job;
}

/* ---- what a run works with ---- */

/* A row of the source, in batch_cxt. */
typedef struct Row
{
	Datum *key;
	char *nulls; /* all: the source as a whole */
	TextPiece *pieces;
	int64 count;
} Row;

/* A version on the GPU; in a memory context of its own. */
typedef struct GpuModel
{
	MemoryContext cxt;
	Model *model; /* pinned, so that its manifest is told from others by its address; NULL: none */
	embedder *embedder;
	int32 texts, tokens; /* of a pass */
} GpuModel;

typedef struct Run
{
	const ClaimedJob *claimed;
	Oid target;
	EmbedBinding binding;
	EmbedColumns columns;
	EmbedStatements statements;
	LanguageCall *call;
	GpuModel gpu;
	ChunkOptions options;    /* of this batch */
	MemoryContext batch_cxt; /* emptied with each */
	Row *rows;
	int64 row_count;
	int64 wanted; /* rows of the next batch */
	int64 done;
	int64 errors; /* of them */
	TimestampTz started;
} Run;

/* ---- on a GPU ---- */

#define PASS_TEXTS 256
#define PASS_TOKENS 4096

/* Of a pass: enough to keep a GPU busy, and the longest piece. */
static int32
PassTokens(Run *run)
{
	int32 frame = EmbeddingContext(run->call) - EmbeddingRoom(run->call);

	return Max(PASS_TOKENS, run->options.max_tokens + frame);
}

static void
DropGpuModel(GpuModel *g)
{
	g->model = NULL;
	g->embedder = NULL;
	MemoryContextReset(g->cxt);
}

/* Weights of this version to the GPU; false and *bytes when they do not fit. */
static bool
LoadGpuModel(GpuModel *g, const Model *m, int32 tokens, Size *bytes)
{
	MemoryContext old = MemoryContextSwitchTo(g->cxt);
	const net *n = m->manifest->net;
	llm_error err = {0};

	*g = (GpuModel) {.cxt = g->cxt, .texts = PASS_TEXTS, .tokens = tokens};
	if (!embedder_device_memory(n, g->texts, g->tokens, bytes, &err))
		ThrowError(&err);
	if (*bytes <= GpuMemory())
	{
		g->model = OpenModel(m->relid, m->version, g->cxt);
		g->embedder = embedder_new(g->model->manifest->net, g->model->weights, net_get_config(n)->pool, g->texts,
								   g->tokens, JobGpu(), &err);
		if (g->embedder == NULL)
			ThrowError(&err);
		OWN(g->embedder, embedder_free);
		embedder_set_poll(g->embedder, InterruptRequested, NULL);
		*bytes = embedder_device_bytes(g->embedder);
	}
	MemoryContextSwitchTo(old);
	return *bytes <= GpuMemory();
}

/* Let the open model's texts be embedded on the GPU, if there is one. */
static void
UseGpu(Run *run)
{
	GpuModel *g = &run->gpu;
	const Model *m = run->call->model;
	Size bytes;

	if (JobGpu() == NULL)
		return;
	if (g->model == NULL || g->model->manifest != m->manifest || g->tokens < PassTokens(run))
	{
		DropGpuModel(g);
		if (!LoadGpuModel(g, m, PassTokens(run), &bytes))
		{
			DropGpuModel(g);
			LackGpuMemory("this model", bytes, NULL);
			return;
		}
	}
	run->call->embedder = g->embedder;
	run->call->embedder_texts = g->texts;
	run->call->embedder_tokens = g->tokens;
}

/* Multiplications for what is in the queue, if its rows are as long as the model reads; within a transaction. */
static double
QueuedWork(const Run *run, int64 rows)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp model to embed by", ALLOCSET_SMALL_SIZES);
	double work = rows * net_multiplications(OpenModel(run->binding.model, 0, cxt)->manifest->net);

	MemoryContextDelete(cxt);
	return work;
}

/* ---- a batch ---- */

/* What a batch works with may have been renamed, altered or promoted since the last one. */
static void
OpenBatch(Run *run)
{
	if (!ReadBinding(run->target, &run->binding) || !ReadColumns(&run->binding, &run->columns))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the table of the embeddings is gone, or their source"),
				 errhint("SELECT llm_embed_column(...) makes them anew.")));
	if (RelationOwner(run->target) != GetUserId())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table %s has another owner", TableName(run->target)),
				 errdetail("Embeddings are made as the owner of their table; the next change begins a job of his.")));
	OpenTokenModel(run->call, run->binding.model);
	run->options = run->binding.options;
	ResolveChunkOptions(run->call, &run->options);
	UseGpu(run);
	PrepareStatements(&run->binding, &run->columns, &run->statements);
}

static bool
IsNull(const Row *row, int keys)
{
	return strspn(row->nulls, "n") == keys;
}

/* Keys out of the queue. */
static void
TakeRows(Run *run)
{
	int keys = run->columns.keys;
	SPITupleTable *taken;

	if (SPI_execute_plan(run->statements.take, &(Datum) {Int64GetDatum(run->wanted)}, NULL, false, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not take rows out of the queue");
	taken = SPI_tuptable;
	run->row_count = (int64) SPI_processed;
	run->rows = palloc0(run->row_count * sizeof(Row));
	for (int64 i = 0; i < run->row_count; i++)
	{
		Row *row = &run->rows[i];

		row->key = palloc(keys * sizeof(Datum));
		row->nulls = palloc0(keys + 1);
		for (int k = 0; k < keys; k++)
		{
			Form_pg_attribute a = TupleDescAttr(taken->tupdesc, k);
			bool null;
			Datum value = SPI_getbinval(taken->vals[i], taken->tupdesc, k + 1, &null);

			row->nulls[k] = null ? 'n' : ' ';
			row->key[k] = null ? (Datum) 0 : datumCopy(value, a->attbyval, a->attlen);
		}
	}
	SPI_freetuptable(taken);
}

/* The pieces of a row's text; none when the row is gone or its text is NULL. */
static void
ReadRow(Run *run, Row *row)
{
	bool null = true;
	Datum value = (Datum) 0;

	row->count = 0;
	if (IsNull(row, run->columns.keys))
		return;
	if (SPI_execute_plan(run->statements.read, row->key, row->nulls, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read a row of the source");
	if (SPI_processed == 1)
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
	if (!null)
	{
		MemoryContext old = MemoryContextSwitchTo(run->batch_cxt);

		row->pieces = ChunkText(run->call, DatumGetTextPCopy(value), &run->options, &row->count);
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Rows of the target for this one; piece, embedding: NULL with an error. */
static void
InsertPiece(Run *run, const Row *row, int32 number, const TextPiece *piece, const float *embedding, const char *error)
{
	int keys = run->columns.keys;
	Datum values[INDEX_MAX_KEYS + EMBED_COLUMNS];
	char nulls[INDEX_MAX_KEYS + EMBED_COLUMNS + 1];
	Datum *own = values + keys;
	char *own_null = nulls + keys;

	memcpy(values, row->key, keys * sizeof(Datum));
	memset(nulls, ' ', sizeof(nulls));
	own[EMBED_CHUNK] = Int32GetDatum(number);
	own[EMBED_VERSION] = Int32GetDatum(run->call->model->version);
	own[EMBED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	own_null[EMBED_START] = own_null[EMBED_LENGTH] = own_null[EMBED_CONTENT] = own_null[EMBED_EMBEDDING] =
		piece ? ' ' : 'n';
	own_null[EMBED_ERROR] = error ? ' ' : 'n';
	if (piece != NULL)
	{
		own[EMBED_START] = Int32GetDatum(piece->start);
		own[EMBED_LENGTH] = Int32GetDatum(piece->length);
		own[EMBED_CONTENT] = PointerGetDatum(PieceText(piece));
		own[EMBED_EMBEDDING] = PointerGetDatum(EmbeddingArray(run->call, embedding));
	}
	if (error != NULL)
		own[EMBED_ERROR] = CStringGetTextDatum(error);
	if (SPI_execute_plan(run->statements.insert, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write an embedding");
}

static void
RemoveRow(Run *run, const Row *row)
{
	SPIPlanPtr plan = IsNull(row, run->columns.keys) ? run->statements.sweep : run->statements.remove;

	if (SPI_execute_plan(plan, row->key, row->nulls, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not remove older embeddings");
}

/* Pieces without a token, such as of white space alone, have no embedding and no row. */
static void
WriteRow(Run *run, const Row *row, const float **embedding)
{
	RemoveRow(run, row);
	for (int64 i = 0; i < row->count; i++)
	{
		if (row->pieces[i].tokens == 0)
			continue;
		CHECK_FOR_INTERRUPTS();
		InsertPiece(run, row, (int32) i + 1, &row->pieces[i], *embedding, NULL);
		*embedding += EmbeddingWidth(run->call);
	}
}

/* Replace what the target has of rows [first, first + count) together; ERROR when one of them cannot be. */
static void
EmbedTogether(Run *run, int64 first, int64 count)
{
	int64 pieces = 0, known = 0;
	const char **utf8;
	Size *bytes;
	float *out;
	const float *next;

	for (int64 i = first; i < first + count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ReadRow(run, &run->rows[i]);
		pieces += run->rows[i].count;
	}
	if (pieces > PG_INT32_MAX / 2)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the text has too many pieces")));
	utf8 = palloc_extended(Max(pieces, 1) * sizeof(char *), MCXT_ALLOC_HUGE);
	bytes = palloc_extended(Max(pieces, 1) * sizeof(Size), MCXT_ALLOC_HUGE);
	for (int64 i = first; i < first + count; i++)
		for (int64 k = 0; k < run->rows[i].count; k++)
		{
			utf8[known] = run->rows[i].pieces[k].utf8;
			bytes[known] = run->rows[i].pieces[k].bytes;
			known += run->rows[i].pieces[k].tokens > 0;
		}
	out = palloc_extended(mul_size(Max(known, 1), EmbeddingWidth(run->call) * sizeof(float)), MCXT_ALLOC_HUGE);
	EmbedTexts(run->call, utf8, bytes, (int32) known, out);
	next = out;
	for (int64 i = first; i < first + count; i++)
		WriteRow(run, &run->rows[i], &next);
}

/* About the tables, not about a row: missing rights, columns or tables, and deadlocks, which another run may not meet. */
static bool
ConcernsAllRows(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return EndsTheJob(sqlstate) || category == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		   category == ERRCODE_TRANSACTION_ROLLBACK || category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

/* As EmbedTogether(), but NULL or the message of the error that a row raised. */
static char *
TryTogether(Run *run, int64 first, int64 count)
{
	ResourceOwner owner = CurrentResourceOwner;
	char *volatile problem = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(run->batch_cxt);
	PG_TRY();
	{
		EmbedTogether(run, first, count);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(run->batch_cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ConcernsAllRows(error->sqlerrcode))
			ReThrowError(error);
		problem = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(run->batch_cxt);
	CurrentResourceOwner = owner;
	return problem;
}

static void
EmbedRows(Run *run)
{
	if (TryTogether(run, 0, run->row_count) == NULL)
		return;
	for (int64 i = 0; i < run->row_count; i++)
	{
		char *problem = TryTogether(run, i, 1);

		CHECK_FOR_INTERRUPTS();
		if (problem == NULL)
			continue;
		RemoveRow(run, &run->rows[i]);
		InsertPiece(run, &run->rows[i], 0, NULL, NULL, problem);
		run->errors++;
	}
}

/* ---- the run ---- */

static void
ReportProgress(Run *run)
{
	double seconds = (GetCurrentTimestamp() - run->started) / 1e6;

	JobProgress(run->done, 0, seconds > 0 ? run->done / seconds : 0, 0);
}

/* As many rows next time as would have taken BATCH_MS. */
static void
AdaptBatch(Run *run, TimestampTz start)
{
	double ms = (GetCurrentTimestamp() - start) / 1e3;

	run->wanted = (int64) Min(Max(run->row_count * BATCH_MS / Max(ms, 1), 1), Min(2 * run->wanted, MOST_ROWS));
}

/* One transaction; the number of rows that were in the queue. */
static int64
EmbedBatch(Run *run)
{
	TimestampTz start = GetCurrentTimestamp();
	MemoryContext old = BeginShortTransaction();

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	MemoryContextSwitchTo(run->batch_cxt);
	OpenBatch(run);
	TakeRows(run);
	if (run->row_count > 0)
		EmbedRows(run);
	SPI_finish();
	run->done += run->row_count;
	FlushUse(&run->call->meter);
	JobReport("rows", json_integer(run->done));
	JobReport("errors", json_integer(run->errors));
	JobFlushMetrics();
	EndShortTransaction(old);
	MemoryContextReset(run->batch_cxt);
	if (run->row_count > 0)
		AdaptBatch(run, start);
	ReportProgress(run);
	return run->row_count;
}

/* Rows in the queue, and the work that they are. */
static int64
Begin(Run *run, double *work)
{
	MemoryContext old = BeginShortTransaction();
	int64 count = 0;

	*work = 0;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (ReadBinding(run->target, &run->binding))
	{
		bool null;

		ExecuteSql(psprintf("SELECT pg_catalog.count(*) FROM %s", TableName(run->binding.queue)), SPI_OK_SELECT);
		count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
		TieQueue(&run->binding);
		if (GpuLibrary() != NULL)
			*work = QueuedWork(run, count);
	}
	SPI_finish();
	EndShortTransaction(old);
	return count;
}

/* False when nothing has come for a while, or the place is needed. */
static bool
AwaitMore(void)
{
	TimestampTz start = GetCurrentTimestamp();

	while (!HasBeenWoken())
	{
		if (JobPauseRequested() || OthersWait() ||
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(), LINGER_MS))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

static void
Succeed(const Run *run)
{
	MemoryContext old = BeginShortTransaction();

	JobSucceeded(run->claimed->model, run->call->model->version);
	EndShortTransaction(old);
	AnswerGiven();
}

/* False when it paused. */
static bool
Embed(Run *run)
{
	double work;

	AnswerFor(EMBED_KIND, run->target);
	BeginLook();
	JobPhase("embedding", Begin(run, &work));
	if (!ChooseDevice(ResolveDevice(NULL), TooLittleForGpu(work)))
		return false;
	run->started = GetCurrentTimestamp();
	while (!JobPauseRequested())
	{
		BeginLook();
		while (EmbedBatch(run) > 0 && !JobPauseRequested())
			CHECK_FOR_INTERRUPTS();
		if (JobPauseRequested() || AwaitMore())
			continue;
		Succeed(run);
		return true;
	}
	return false;
}

static Oid
TargetOf(const ClaimedJob *claimed)
{
	llm_error err = {0};
	json_t *spec = json_parse(claimed->spec, strlen(claimed->spec), &err);
	Oid target = (Oid) json_integer_value(json_object_get(spec, "target"));

	json_decref(spec);
	return target;
}

bool
RunEmbedding(const ClaimedJob *claimed)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp embedding", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Run *run = palloc0(sizeof(Run));
	bool done;

	run->claimed = claimed;
	run->target = TargetOf(claimed);
	run->call = NewLanguageCall(cxt);
	run->gpu.cxt = AllocSetContextCreate(cxt, "llmapp model on a GPU", ALLOCSET_SMALL_SIZES);
	run->batch_cxt = AllocSetContextCreate(cxt, "llmapp embedding batch", ALLOCSET_DEFAULT_SIZES);
	run->wanted = FIRST_ROWS;
	done = Embed(run);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return done;
}
