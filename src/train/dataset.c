/*
 * dataset.c
 *	  The rows of a training: loaded once, split, fitted, encoded.
 *
 * Loading runs the query as the submitter and appends the values of every row to a
 * temporary file; afterwards no snapshot, lock or transaction is needed.  Fitting and
 * encoding read that file from its start, a block of rows at a time, on which several
 * threads work; split.c sees to it that both find the same rows held out.
 *
 * A block in the file: its length in 4 bytes, then rows as row_block_unpack() reads them.
 * The values of a row: the inputs, the targets, whether it is held out, its weight, and
 * its group.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "../row/source.h"
#include "../row/value_reader.h"
#include "dataset.h"
#include "duplicates.h"
#include "split.h"

#define FETCH_ROWS 64
#define BLOCK_BYTES \
	(256 * 1024) /* a block ends with the row that reaches them; threads wait for each other twice in each */
#define MIN_ROWS 5
/* Distinct integers that are taken for classes when no task is given, and rows that each has on average. */
#define MAX_INTEGER_CLASSES 20
#define MIN_CLASS_ROWS 3
#define MAX_STRATA 65536 /* the most classes that a target can have */

struct RawRows
{
	BufFile *file;
	int32 values_count;
	const value *values; /* (values_count) of the current row */
	value *loaded;       /* (values_count) while loading: of the current row */
	uint8 *bytes;        /* (capacity) of the block being written or read */
	Size capacity;
	Size used;
	ValueReader *readers; /* (values_count) */
	int *attributes;      /* (values_count); -1: no such column */
	Split *split;
	SeenRows *seen; /* while loading */
	Size limit;     /* bytes of rows after which a sample ends; 0: all are loaded */
	Size total;     /* bytes of rows */
	pool *pool;
	row_block *block;
	/* the current pass */
	int64 rows_left;      /* behind the block */
	int32 next;           /* row of the block, for NextText() */
	int32 room;           /* of the arrays below */
	bool *held_out;       /* (rows of the block) */
	double *numbers;      /* (rows of the block) see TargetNumber() */
	bool completion_next; /* NextText() has given the prompt of the row */
};

#define TARGETS(d) (&(d)->raw->values[(d)->roles->inputs])
#define HELD_OUT_VALUE(d) (&(d)->raw->values[(d)->raw->values_count - 3])
#define WEIGHT_VALUE(d) (&(d)->raw->values[(d)->raw->values_count - 2])
#define GROUP_VALUE(d) (&(d)->raw->values[(d)->raw->values_count - 1])

/* ---- loading ---- */

static void
InitReader(RawRows *raw, int32 i, TupleDesc tupdesc, int attribute)
{
	raw->attributes[i] = attribute;
	if (attribute >= 0)
		InitValueReader(&raw->readers[i], TupleDescAttr(tupdesc, attribute)->atttypid);
}

static void
CreateBlock(RawRows *raw, int32 threads)
{
	llm_error err = {0};

	raw->block = row_block_new(raw->values_count, &err);
	if (raw->block == NULL)
		ThrowError(&err);
	OWN(raw->block, row_block_free);
	raw->pool = pool_new(threads, &err);
	if (raw->pool == NULL)
		ThrowError(&err);
	OWN(raw->pool, pool_free);
}

/* limit: bytes of a sample; 0: all rows, which are wanted when the transaction has ended. */
static RawRows *
CreateRawRows(const SourceRoles *roles, TupleDesc tupdesc, const train_params *params, int32 most_classes, Size limit)
{
	RawRows *raw = palloc0(sizeof(RawRows));
	ResourceOwner owner = CurrentResourceOwner;
	int32 n = 0;

	raw->values_count = roles->inputs + roles->targets + 3;
	raw->values = raw->loaded = palloc0(raw->values_count * sizeof(value));
	raw->readers = palloc0(raw->values_count * sizeof(ValueReader));
	raw->attributes = palloc0(raw->values_count * sizeof(int));
	raw->capacity = 2 * BLOCK_BYTES;
	raw->bytes = palloc(raw->capacity);
	raw->room = 64;
	raw->held_out = palloc(raw->room * sizeof(bool));
	raw->numbers = palloc(raw->room * sizeof(double));
	CreateBlock(raw, limit == 0 ? ThreadCount() : 1);
	for (int32 i = 0; i < roles->inputs; i++)
		InitReader(raw, n++, tupdesc, roles->attributes[i]);
	for (int32 i = 0; i < roles->targets; i++)
		InitReader(raw, n++, tupdesc, roles->target_attributes[i]);
	InitReader(raw, n++, tupdesc, roles->validation);
	InitReader(raw, n++, tupdesc, roles->weight);
	InitReader(raw, n++, tupdesc, roles->group);
	raw->split = CreateSplit(params, most_classes);
	raw->seen = CreateSeenRows((Size) llmapp_train_memory * 1024 / 2);
	raw->limit = limit;
	if (limit == 0)
		CurrentResourceOwner = NULL;
	raw->file = BufFileCreateTemp(limit == 0);
	CurrentResourceOwner = owner;
	return raw;
}

static void
CheckWeight(const value *weight, int64 row, const char *name)
{
	if (weight->kind == VALUE_NUMBER && weight->number >= 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("row " INT64_FORMAT " has no valid weight in column \"%s\"", row, name),
					errdetail("A weight is a finite number of zero or more."),
					errhint("Use coalesce() or WHERE in the source.")));
}

static bool
HasTarget(const Dataset *d)
{
	for (int32 i = 0; i < d->roles->targets; i++)
		if (TARGETS(d)[i].kind == VALUE_NULL)
			return false;
	return true;
}

/* The row's bytes behind the block as far as it has room; *key: those of inputs and target, the rest has no vectors. */
static Size
PackValues(const RawRows *raw, Size *key)
{
	uint8 *place = raw->bytes + raw->used + sizeof(uint32);
	Size room = raw->capacity - raw->used - sizeof(uint32);
	int32 keys = raw->values_count - 3;

	*key = value_pack(raw->values, keys, place, room);
	return *key + value_pack(raw->values + keys, 3, place + Min(*key, room), room - Min(*key, room));
}

static Size
PackRow(Dataset *d, Size *key)
{
	RawRows *raw = d->raw;
	Size bytes = PackValues(raw, key);

	if (raw->used + BLOCK_ROW_BYTES(bytes) > raw->capacity)
	{
		raw->capacity = raw->used + 2 * BLOCK_ROW_BYTES(bytes);
		raw->bytes = repalloc_huge(raw->bytes, raw->capacity);
		PackValues(raw, key);
	}
	if (bytes > PG_INT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("row " INT64_FORMAT " of the source is too large", d->rows_read)));
	return bytes;
}

/* At the start of a row the block has room for its length. */
static void
WriteBlock(RawRows *raw)
{
	uint32 length = raw->used;

	if (length > 0)
	{
		BufFileWrite(raw->file, &length, sizeof(length));
		BufFileWrite(raw->file, raw->bytes, length);
	}
	raw->used = 0;
}

/* The packed row becomes part of the block; hash: of its first `key` bytes */
static void
AppendRow(Dataset *d, Size bytes, Size key, uint64 hash)
{
	RawRows *raw = d->raw;
	uint8 *place = raw->bytes + raw->used;
	uint32 length = bytes;

	memcpy(place, &length, sizeof(length));
	memset(place + sizeof(length) + bytes, 0, BLOCK_ROW_BYTES(bytes) - sizeof(length) - bytes);
	raw->used += BLOCK_ROW_BYTES(bytes);
	raw->total += bytes;
	d->fingerprint =
		hash_bytes_extended(place + sizeof(length) + key, bytes - key, hash_combine64(d->fingerprint, hash));
	d->rows++;
	if (raw->used >= BLOCK_BYTES)
		WriteBlock(raw);
}

static void
LoadRow(Dataset *d, Datum *datums, bool *nulls, const train_params *params)
{
	RawRows *raw = d->raw;
	Size bytes, key;
	uint64 hash;

	d->rows_read++;
	for (int32 i = 0; i < raw->values_count; i++)
	{
		int a = raw->attributes[i];

		if (a >= 0)
			ReadValue(&raw->readers[i], datums[a], nulls[a], &raw->loaded[i]);
	}
	if (!HasTarget(d))
		return;
	if (d->roles->text >= 0)
		ConvertToUtf8(&raw->loaded[d->roles->text]);
	if (d->roles->prompt >= 0)
		ConvertToUtf8(&raw->loaded[d->roles->prompt]);
	if (d->roles->weight >= 0)
		CheckWeight(WEIGHT_VALUE(d), d->rows_read, params->weight_column);
	bytes = PackRow(d, &key);
	hash = hash_bytes_extended(raw->bytes + raw->used + sizeof(uint32), key, 0);
	if (SeenBefore(raw->seen, hash) && params->deduplicate)
	{
		d->dropped_rows++;
		return;
	}
	if (d->roles->text >= 0 && raw->values[d->roles->text].kind == VALUE_STRING)
		d->text_bytes += raw->values[d->roles->text].length;
	if (d->roles->prompt >= 0 && raw->values[d->roles->prompt].kind == VALUE_STRING)
		d->text_bytes += raw->values[d->roles->prompt].length;
	SplitCount(raw->split, TARGETS(d), GROUP_VALUE(d));
	AppendRow(d, bytes, key, hash);
}

/* All rows of the cursor; values of a row live until the next one. */
static void
LoadRows(Dataset *d, Portal portal, const train_params *params)
{
	MemoryContext row_cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	Datum *datums = palloc(portal->tupDesc->natts * sizeof(Datum));
	bool *nulls = palloc(portal->tupDesc->natts * sizeof(bool));
	TimestampTz start = GetCurrentTimestamp();

	do
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			CHECK_FOR_INTERRUPTS();
			MemoryContextSwitchTo(row_cxt);
			heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, datums, nulls);
			LoadRow(d, datums, nulls, params);
			MemoryContextSwitchTo(old);
			MemoryContextReset(row_cxt);
		}
		SPI_freetuptable(SPI_tuptable);
		JobProgress(d->rows_read, 0, d->rows_read * 1e6 / Max(GetCurrentTimestamp() - start, 1), 0);
		d->partial = d->raw->limit > 0 && d->raw->total >= d->raw->limit;
	} while (SPI_processed > 0 && !d->partial && !JobPauseRequested());
	MemoryContextDelete(row_cxt);
}

/* The query in the order of time; rows without a time come first, so that they are not held out. */
static char *
OrderedQuery(const char *query, const SourceRoles *roles, TupleDesc tupdesc)
{
	if (roles->time < 0)
		return pstrdup(query);
	return psprintf("SELECT * FROM (%s\n) AS source ORDER BY %s NULLS FIRST", query,
					quote_identifier(NameStr(TupleDescAttr(tupdesc, roles->time)->attname)));
}

/* What a fingerprint starts with: the version and the columns. */
static uint64
FingerprintStart(const SourceRoles *roles)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) LLMAPP_VERSION, strlen(LLMAPP_VERSION), 0);

	for (int32 i = 0; i < roles->inputs + roles->targets; i++)
	{
		const column *c = i < roles->inputs ? &roles->columns[i] : &roles->target_columns[i - roles->inputs];

		hash = hash_bytes_extended((const unsigned char *) c->name, strlen(c->name), hash);
		hash = hash_bytes_extended((const unsigned char *) c->sql_type, strlen(c->sql_type), hash);
	}
	return hash;
}

static void
ReadQuery(Dataset *d, const char *query, const train_params *params)
{
	SPIPlanPtr plan;
	Portal portal;

	SPI_connect();
	plan = SPI_prepare(query, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	LoadRows(d, portal, params);
	WriteBlock(d->raw);
	SPI_cursor_close(portal);
	SPI_finish();
}

static void
CheckRows(const Dataset *d)
{
	if (d->rows >= (IsTextTask(d->task) ? 1 : MIN_ROWS)) /* one text may be long */
		return;
	if (d->rows_read > 0 && d->rows == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the target is NULL in all " INT64_FORMAT " rows", d->rows_read),
						errhint("Name a column with known values as target.")));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the source has " INT64_FORMAT " rows with a target, a training needs at least %d",
						   d->rows, MIN_ROWS),
					errhint("Count them: SELECT count(*) FROM the source; row security may hide rows from you.")));
}

/* Few integers that come again and again are classes, others are numbers. */
static void
DecideTask(Dataset *d)
{
	Split *split = d->raw->split;

	if (SplitClasses(split) > 0 && d->rows < MIN_CLASS_ROWS * (int64) SplitClasses(split))
		SplitForgetClasses(split);
	d->task = SplitClasses(split) > 0 ? "classification" : "regression";
}

/* Nothing is left out unseen: what was not compared ends the job when repeated rows must go. */
static void
FinishCounting(Dataset *d, const train_params *params)
{
	d->repeated_rows = CountRepeated(d->raw->seen);
	FreeSeenRows(d->raw->seen);
	d->raw->seen = NULL;
	if (d->repeated_rows < 0 && params->deduplicate)
		ereport(
			ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("the rows are too many to leave out repeated ones within llmapp.train_memory"),
			 errdetail("Each row needs up to 36 bytes of it, half of the setting is used."),
			 errhint("Raise llmapp.train_memory, or use SELECT DISTINCT in the source instead of \"deduplicate\".")));
}

/* In a transaction: the rows; what is decided by all of them is still open. */
static Dataset *
ReadDataset(const TrainingSpec *spec, const train_params *params, const manifest *base, Size limit, MemoryContext cxt)
{
	TupleDesc tupdesc = DescribeSource(spec->query);
	Dataset *d;
	char *query;

	MemoryContextSwitchTo(cxt);
	d = palloc0(sizeof(Dataset));
	d->seed = params->seed;
	d->roles = AssignRoles(tupdesc, spec->target, spec->task, params, base);
	if (base != NULL)
		CheckBaseTarget(base, d->roles, spec->task);
	d->task = ResolveTask(spec->task, params->architecture, d->roles);
	query = OrderedQuery(spec->query, d->roles, tupdesc);
	d->fingerprint = FingerprintStart(d->roles);
	d->raw = CreateRawRows(d->roles, tupdesc, params,
						   d->task == NULL                          ? MAX_INTEGER_CLASSES
						   : strcmp(d->task, "classification") == 0 ? MAX_STRATA
																	: 0,
						   limit);
	ReadQuery(d, query, params);
	return d;
}

static void
FinishLoading(Dataset *d, const train_params *params)
{
	if (d->task == NULL)
		DecideTask(d);
	CheckRows(d);
	FinishCounting(d, params);
	CheckTaskSettings(d->task, params);
}

Dataset *
LoadDataset(const TrainingSpec *spec, const train_params *params, const manifest *base)
{
	MemoryContext cxt = CurrentMemoryContext;
	Dataset *d;

	JobPhase("loading", 0);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	d = ReadDataset(spec, params, base, 0, cxt);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	if (!JobPauseRequested()) /* otherwise the rows are not complete */
		FinishLoading(d, params);
	return d;
}

Dataset *
LoadSample(const TrainingSpec *spec, const train_params *params, const manifest *base, Size limit)
{
	Dataset *d = ReadDataset(spec, params, base, limit, CurrentMemoryContext);

	FinishLoading(d, params);
	return d;
}

void
ChooseFolds(Dataset *d, train_params *params, bool has_base)
{
	params_choose_folds(params, d->rows, !has_base && SplitIsEven(d->raw->split, PARAMS_AUTO_FOLDS));
	SplitInFolds(d->raw->split, params->folds);
}

/* ---- passes over the loaded rows ---- */

void
StartPass(Dataset *d)
{
	RawRows *raw = d->raw;

	if (BufFileSeek(raw->file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not seek in the temporary file of a training")));
	raw->rows_left = d->rows;
	raw->next = 0;
	raw->completion_next = false;
	(void) row_block_unpack(raw->block, raw->bytes, 0, NULL, NULL); /* no rows */
	SplitStart(raw->split);
}

static void
ReadBlock(RawRows *raw)
{
	llm_error err = {0};
	uint32 length;

	BufFileReadOrFail(raw->file, &length, sizeof(length));
	if (length > raw->capacity)
		elog(ERROR, "a block of the temporary file is damaged");
	BufFileReadOrFail(raw->file, raw->bytes, length);
	if (!row_block_unpack(raw->block, raw->bytes, length, raw->pool, &err))
		ThrowError(&err);
}

/* What the check of columns that copy the target compares with. */
static double
TargetNumber(const Dataset *d)
{
	const value *v = TARGETS(d);

	if (SplitClass(d->raw->split) >= 0)
		return SplitClass(d->raw->split);
	return v->kind == VALUE_NUMBER ? v->number : v->kind == VALUE_VECTOR && v->length > 0 ? v->vector[0] : 0;
}

static void
SplitBlock(Dataset *d)
{
	RawRows *raw = d->raw;
	int32 count = row_block_count(raw->block);

	if (count > raw->room)
	{
		raw->room = 2 * count;
		raw->held_out = repalloc(raw->held_out, raw->room * sizeof(bool));
		raw->numbers = repalloc(raw->numbers, raw->room * sizeof(double));
	}
	for (int32 i = 0; i < count; i++)
	{
		raw->values = row_block_row(raw->block, i);
		raw->held_out[i] = SplitNext(raw->split, TARGETS(d), GROUP_VALUE(d), HELD_OUT_VALUE(d));
		raw->numbers[i] = TargetNumber(d);
	}
}

/* The next rows into raw->block; how many, 0 at the end. */
static int32
NextBlock(Dataset *d)
{
	RawRows *raw = d->raw;

	CHECK_FOR_INTERRUPTS();
	if (raw->rows_left == 0)
		return 0;
	ReadBlock(raw);
	SplitBlock(d);
	raw->rows_left -= row_block_count(raw->block);
	return row_block_count(raw->block);
}

int64
CountTexts(const Dataset *d)
{
	return d->roles->prompt < 0 ? d->rows : 2 * d->rows;
}

bool
NextText(Dataset *d, const char **text, Size *length, bool *held_out)
{
	RawRows *raw = d->raw;
	const value *v;

	if (raw->next == row_block_count(raw->block))
	{
		if (NextBlock(d) == 0)
			return false;
		raw->next = 0;
	}
	raw->completion_next = d->roles->prompt >= 0 && !raw->completion_next;
	v = row_block_row(raw->block, raw->next) + (raw->completion_next ? d->roles->prompt : d->roles->text);
	*text = v->kind == VALUE_STRING ? v->string : "";
	*length = v->kind == VALUE_STRING ? v->length : 0;
	*held_out = raw->held_out[raw->next];
	raw->next += !raw->completion_next;
	return true;
}

/* ---- fitting ---- */

static void
CheckTrainingRows(const Dataset *d, const train_params *params)
{
	if (d->training_rows > 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("column \"%s\" holds out all rows", params->validation_column),
					errhint("Rows to learn from have false or NULL there.")));
}

static target_fitter *
CreateTargetFitter(const Dataset *d)
{
	bool classes = strcmp(d->task, "classification") == 0;
	llm_error err = {0};
	target_fitter *fitter =
		target_fitter_new(classes ? TARGET_CLASS : TARGET_NUMBER, d->roles->target_columns, d->roles->targets, &err);

	if (fitter == NULL)
		ThrowError(&err);
	return fitter;
}

static void
AddToTarget(const Dataset *d, target_fitter *fitter, const value *row)
{
	llm_error err = {0};

	if (!target_fitter_add(fitter, row + d->roles->inputs, &err))
		ThrowError(&err);
}

static void
FinishTarget(Dataset *d, target_fitter *fitter)
{
	llm_error err = {0};
	target *t = target_fitter_finish(fitter, &err);

	if (t == NULL)
		ThrowError(&err);
	OWN(t, target_free);
	d->target = t;
}

/* Of a block of so many rows, those that the fitters that there are may see. */
static void
FitBlock(Dataset *d, int32 count, fitter *columns, target_fitter *targets)
{
	RawRows *raw = d->raw;
	const value **rows = palloc(count * sizeof(value *));
	llm_error err = {0};
	int32 n = 0;

	for (int32 i = 0; i < count; i++)
	{
		if (raw->held_out[i])
			continue;
		rows[n] = row_block_row(raw->block, i);
		raw->numbers[n] = raw->numbers[i];
		if (targets != NULL)
			AddToTarget(d, targets, rows[n]);
		n++;
	}
	if (columns != NULL && !fitter_add_rows(columns, rows, raw->numbers, n, raw->pool, &err))
		ThrowError(&err);
	d->training_rows += n;
	d->held_out_rows += count - n;
	pfree(rows);
}

/* One pass over the rows: count them, and show the training rows to the fitters that there are. */
static void
FitRows(Dataset *d, fitter *columns, target_fitter *targets)
{
	int32 count;

	d->training_rows = d->held_out_rows = 0;
	StartPass(d);
	while ((count = NextBlock(d)) > 0)
		FitBlock(d, count, columns, targets);
}

void
FitDataset(Dataset *d, const train_params *params, const manifest *base)
{
	fit_options options = {.linear = params->hidden_count == 0 && d->roles->text < 0,
						   .one_hot_max = params->one_hot_max,
						   .text_buckets = params->text_buckets,
						   .ngrams = params->ngrams,
						   .wide = params->hidden_count == 0,
						   .seed = params->seed};
	llm_error err = {0};
	fitter *columns;
	target_fitter *targets;
	encoder *e;

	if (base != NULL)
	{
		FitRows(d, NULL, NULL);
		CheckTrainingRows(d, params);
		d->encoder = base->encoder;
		d->target = base->target;
		return;
	}
	columns = fitter_new(d->roles->columns, d->roles->inputs, &options, &err);
	if (columns == NULL)
		ThrowError(&err);
	targets = CreateTargetFitter(d);
	FitRows(d, columns, targets);
	CheckTrainingRows(d, params);
	FinishTarget(d, targets);
	d->encoder = e = fitter_finish(columns, &d->findings, &err);
	if (d->findings != NULL)
		OWN(d->findings, finding_free);
	if (e == NULL)
		ThrowError(&err);
	OWN(e, encoder_free);
}

void
HoldOutFold(Dataset *d, int32 fold)
{
	SplitHoldOutFold(d->raw->split, fold);
	FitRows(d, NULL, NULL);
}

/* ---- encoding ---- */

static void
ThrowUnknownLabel(const target *t, const char *label)
{
	StringInfoData labels;

	initStringInfo(&labels);
	for (int32 i = 0; i < t->class_count && i < 20; i++)
		appendStringInfo(&labels, "%s\"%s\"", i > 0 ? ", " : "", t->classes[i]);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("parameter \"class_weight\" names \"%s\", which is no label of the target", label),
					errhint("Labels: %s%s.", labels.data, t->class_count > 20 ? ", ..." : "")));
}

/* (class_count) weights; labels that an object does not name weigh 1. */
static double *
ClassWeights(const Dataset *d, const train_params *params)
{
	const target *t = d->target;
	double *weights = palloc(Max(t->class_count, 1) * sizeof(double));
	const char *label;
	json_t *weight;

	for (int32 i = 0; i < t->class_count; i++)
		weights[i] = params->class_weight_balanced && t->class_rows[i] > 0
						 ? (double) d->training_rows / ((double) t->class_count * t->class_rows[i])
						 : 1;
	json_object_foreach(params->class_weight, label, weight)
	{
		int32 i = 0;

		while (i < t->class_count && strcmp(t->classes[i], label) != 0)
			i++;
		if (i == t->class_count)
			ThrowUnknownLabel(t, label);
		weights[i] = json_number_value(weight);
	}
	return weights;
}

/* The weight of row i of the block in the training; -1 for a held-out row that is left out. */
static double
RowWeight(Dataset *d, int32 i)
{
	double weight = d->roles->weight >= 0 ? WEIGHT_VALUE(d)->number : 1;
	int32 label;

	if (d->target->kind != TARGET_CLASS)
		return weight;
	label = target_class_of(d->target, TARGETS(d));
	if (label >= 0)
		return weight * d->class_weights[label];
	if (!d->raw->held_out[i]) /* only a base model can be without it */
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("target column \"%s\" has a label that the base model does not know", d->target->names[0]),
				 errhint("Leave such rows out of the source, or train without base.")));
	d->unseen_rows++;
	return -1;
}

/* A block of so many rows; returns the sum of weights of its training rows. */
static double
EncodeBlock(Dataset *d, int32 count, Records *training, Records *held_out)
{
	RawRows *raw = d->raw;
	float *weights = palloc(count * sizeof(float));
	llm_error err = {0};
	double total = 0;

	for (int32 i = 0; i < count; i++)
	{
		double weight;

		raw->values = row_block_row(raw->block, i);
		weight = RowWeight(d, i);
		weights[i] = (float) weight;
		if (weight < 0)
			continue;
		total += raw->held_out[i] ? 0 : weight;
		encoder_count_gaps(d->encoder, raw->values, d->missing, raw->held_out[i] ? d->unknown : NULL);
	}
	if (!row_block_encode(raw->block, d->encoder, d->target, weights, raw->pool, &err))
		ThrowError(&err);
	for (int32 i = 0; i < count; i++)
	{
		uint32 bytes;
		const uint8 *record = row_block_record(raw->block, i, &bytes);

		if (bytes > 0)
			AddRecord(raw->held_out[i] ? held_out : training, record, bytes);
	}
	pfree(weights);
	return total;
}

void
EncodeDataset(Dataset *d, const train_params *params, Size budget)
{
	Records *training = CreateRecords(&d->budget);
	Records *held_out = CreateRecords(&d->budget);
	double total = 0;
	int32 count;

	d->class_weights = ClassWeights(d, params);
	d->missing = palloc0(d->roles->inputs * sizeof(int64));
	d->unknown = palloc0(d->roles->inputs * sizeof(int64));
	d->unseen_rows = 0;
	d->budget = budget;
	StartPass(d);
	while ((count = NextBlock(d)) > 0)
		total += EncodeBlock(d, count, training, held_out);
	FinishRecords(training);
	FinishRecords(held_out);
	d->training = SamplesOfRecords(training);
	d->held_out = SamplesOfRecords(held_out);
	if (total == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the weights of all training rows are zero"),
						errhint("Change parameter \"weight_column\" or \"class_weight\".")));
}

void
CloseRows(Dataset *d)
{
	BufFileClose(d->raw->file);
	d->raw->file = NULL;
}

/* ---- report ---- */

/* {column: count} of the columns where it is not 0. */
static json_t *
ColumnCounts(const Dataset *d, const int64 *counts)
{
	json_t *json = json_object();

	for (int32 i = 0; i < d->roles->inputs; i++)
	{
		const char *name = d->roles->columns[i].name;

		if (counts[i] > 0)
			json_object_set_new(json, pg_server_to_any(name, strlen(name), PG_UTF8), json_integer(counts[i]));
	}
	return json;
}

json_t *
DataReport(const Dataset *d)
{
	return json_pack("{s:I, s:{s:I, s:I, s:I}, s:o, s:I, s:I, s:o, s:o}", "rows_read", (json_int_t) d->rows_read,
					 "dropped", "without_target", (json_int_t) (d->rows_read - d->rows - d->dropped_rows), "repeated",
					 (json_int_t) d->dropped_rows, "unseen_label", (json_int_t) d->unseen_rows, "repeated",
					 d->repeated_rows < 0 ? json_null() : json_integer(d->repeated_rows), "training_rows",
					 (json_int_t) d->training_rows, "held_out_rows", (json_int_t) (d->held_out_rows - d->unseen_rows),
					 "imputed", ColumnCounts(d, d->missing), "unseen", ColumnCounts(d, d->unknown));
}
