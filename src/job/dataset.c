/*
 * dataset.c
 *	  The rows of a training: loaded once, split, fitted, encoded.
 *
 * Loading runs the query as the submitter and appends the values of every row to a
 * temporary file; afterwards no snapshot, lock or transaction is needed.  Fitting and
 * encoding read that file from its start.  Both must find the same rows held out, so the
 * split is a function of the seed and of a row's place within its class alone: from each
 * class exactly its share is drawn (Knuth's selection sampling).
 *
 * A row in the file: its length in 4 bytes, then as value_pack() writes them the inputs,
 * the targets, whether it is held out, and its weight.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../engine/philox.h"
#include "../llmapp.h"
#include "../model/input.h"
#include "dataset.h"

#define FETCH_ROWS 64
#define MIN_ROWS 5
/* Distinct integers that are taken for classes when no task is given, and rows that each has on average. */
#define MAX_INTEGER_CLASSES 20
#define MIN_CLASS_ROWS 3
#define MAX_STRATA 65536		/* the most classes that a target can have */
#define SPLIT_KEY UINT64CONST(0x53706c6974526f77)	/* keeps the engine's streams apart */

/* Rows of one class, from which an exact share is held out. */
typedef struct Stratum
{
	uint64		key;			/* hash of the label */
	int32		number;			/* in order of appearance */
	int64		rows;
	int64		left;			/* in this pass: not met yet */
	int64		wanted;			/* in this pass: still to be held out */
} Stratum;

struct RawRows
{
	BufFile    *file;
	int32		values_count;
	value	   *values;			/* (values_count) of the current row */
	uint8	   *buffer;
	Size		capacity;
	ValueReader *readers;		/* (values_count) */
	int		   *attributes;		/* (values_count); -1: no such column */
	HTAB	   *strata;			/* NULL: all rows are one */
	Stratum		all;
	/* how rows are held out */
	double		fraction;
	bool		by_column;
	bool		by_order;
	/* the current pass */
	int64		row;
	bool		held_out;
	Stratum    *stratum;
};

#define TARGETS(d) (&(d)->raw->values[(d)->roles->inputs])
#define HELD_OUT_VALUE(d) (&(d)->raw->values[(d)->raw->values_count - 2])
#define WEIGHT_VALUE(d) (&(d)->raw->values[(d)->raw->values_count - 1])

/* ---- loading ---- */

static void
InitReader(RawRows *raw, int32 i, TupleDesc tupdesc, int attribute)
{
	raw->attributes[i] = attribute;
	if (attribute >= 0)
		InitValueReader(&raw->readers[i], TupleDescAttr(tupdesc, attribute)->atttypid);
}

static RawRows *
CreateRawRows(const SourceRoles *roles, TupleDesc tupdesc, const train_params *params)
{
	RawRows    *raw = palloc0(sizeof(RawRows));
	ResourceOwner owner = CurrentResourceOwner;
	int32		n = 0;

	raw->values_count = roles->inputs + roles->targets + 2;
	raw->values = palloc0(raw->values_count * sizeof(value));
	raw->readers = palloc0(raw->values_count * sizeof(ValueReader));
	raw->attributes = palloc0(raw->values_count * sizeof(int));
	raw->capacity = 8192;
	raw->buffer = palloc(raw->capacity);
	for (int32 i = 0; i < roles->inputs; i++)
		InitReader(raw, n++, tupdesc, roles->attributes[i]);
	for (int32 i = 0; i < roles->targets; i++)
		InitReader(raw, n++, tupdesc, roles->target_attributes[i]);
	InitReader(raw, n++, tupdesc, roles->validation);
	InitReader(raw, n++, tupdesc, roles->weight);
	raw->fraction = params->validation;
	raw->by_column = params->validation_column != NULL;
	raw->by_order = params->time_column != NULL && !raw->by_column;
	CurrentResourceOwner = NULL;	/* the file outlives the transaction */
	raw->file = BufFileCreateTemp(true);
	CurrentResourceOwner = owner;
	return raw;
}

static void
CreateStrata(RawRows *raw)
{
	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(Stratum),.hcxt = CurrentMemoryContext};

	raw->strata = hash_create("llmapp classes", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static uint64
LabelKey(const value *label)
{
	if (label->kind == VALUE_STRING)
		return hash_bytes_extended((const unsigned char *) label->string, label->length, 0);
	return hash_bytes_extended((const unsigned char *) &label->number, sizeof(double), 1);
}

/* Count a row's label; more labels than classes can be mean that this is no classification. */
static void
CountLabel(Dataset *d, bool task_open)
{
	RawRows    *raw = d->raw;
	uint64		key;
	bool		found;
	Stratum    *stratum;

	raw->all.rows++;
	if (raw->strata == NULL)
		return;
	key = LabelKey(TARGETS(d));
	stratum = hash_search(raw->strata, &key, HASH_ENTER, &found);
	if (!found)
	{
		stratum->number = hash_get_num_entries(raw->strata) - 1;
		stratum->rows = 0;
		if (stratum->number >= (task_open ? MAX_INTEGER_CLASSES : MAX_STRATA))
		{
			hash_destroy(raw->strata);
			raw->strata = NULL;
			return;
		}
	}
	stratum->rows++;
}

static void
CheckWeight(const value *weight, int64 row, const char *name)
{
	if (weight->kind == VALUE_NUMBER && weight->number >= 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
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

static void
AppendRow(Dataset *d)
{
	RawRows    *raw = d->raw;
	size_t		bytes = value_pack(raw->values, raw->values_count, raw->buffer, raw->capacity);
	uint32		length;

	if (bytes > raw->capacity)
	{
		raw->capacity = bytes * 2;
		raw->buffer = repalloc_huge(raw->buffer, raw->capacity);
		value_pack(raw->values, raw->values_count, raw->buffer, raw->capacity);
	}
	if (bytes > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("row " INT64_FORMAT " of the source is too large", d->rows_read)));
	length = bytes;
	BufFileWrite(raw->file, &length, sizeof(length));
	BufFileWrite(raw->file, raw->buffer, bytes);
	d->fingerprint = hash_bytes_extended(raw->buffer, bytes, d->fingerprint);
	d->rows++;
}

static void
LoadRow(Dataset *d, TupleDesc tupdesc, Datum *datums, bool *nulls, const train_params *params, bool task_open)
{
	RawRows    *raw = d->raw;

	d->rows_read++;
	for (int32 i = 0; i < raw->values_count; i++)
	{
		int			a = raw->attributes[i];

		if (a >= 0)
			ReadValue(&raw->readers[i], datums[a], nulls[a], &raw->values[i]);
	}
	if (!HasTarget(d))
		return;
	if (d->roles->weight >= 0)
		CheckWeight(WEIGHT_VALUE(d), d->rows_read, params->weight_column);
	CountLabel(d, task_open);
	AppendRow(d);
}

/* All rows of the cursor; values of a row live until the next one. */
static void
LoadRows(Dataset *d, Portal portal, const train_params *params, bool task_open)
{
	MemoryContext row_cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	Datum	   *datums = palloc(portal->tupDesc->natts * sizeof(Datum));
	bool	   *nulls = palloc(portal->tupDesc->natts * sizeof(bool));
	TimestampTz start = GetCurrentTimestamp();

	do
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			CHECK_FOR_INTERRUPTS();
			MemoryContextSwitchTo(row_cxt);
			heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, datums, nulls);
			LoadRow(d, SPI_tuptable->tupdesc, datums, nulls, params, task_open);
			MemoryContextSwitchTo(old);
			MemoryContextReset(row_cxt);
		}
		SPI_freetuptable(SPI_tuptable);
		JobProgress(d->rows_read, 0, d->rows_read * 1e6 / Max(GetCurrentTimestamp() - start, 1), 0);
	} while (SPI_processed > 0 && !JobPauseRequested());
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
	uint64		hash = hash_bytes_extended((const unsigned char *) LLMAPP_VERSION, strlen(LLMAPP_VERSION), 0);

	for (int32 i = 0; i < roles->inputs + roles->targets; i++)
	{
		const column *c = i < roles->inputs ? &roles->columns[i] : &roles->target_columns[i - roles->inputs];

		hash = hash_bytes_extended((const unsigned char *) c->name, strlen(c->name), hash);
		hash = hash_bytes_extended((const unsigned char *) c->sql_type, strlen(c->sql_type), hash);
	}
	return hash;
}

static void
ReadQuery(Dataset *d, const char *query, const train_params *params, bool task_open)
{
	SPIPlanPtr	plan;
	Portal		portal;

	SPI_connect();
	plan = SPI_prepare(query, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	LoadRows(d, portal, params, task_open);
	SPI_cursor_close(portal);
	SPI_finish();
}

static void
CheckRows(const Dataset *d)
{
	if (d->rows >= MIN_ROWS)
		return;
	if (d->rows_read > 0 && d->rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the target is NULL in all " INT64_FORMAT " rows", d->rows_read),
				 errhint("Name a column with known values as target.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the source has " INT64_FORMAT " rows with a target, a training needs at least %d", d->rows, MIN_ROWS),
			 errhint("Count them: SELECT count(*) FROM the source; row security may hide rows from you.")));
}

/* Few integers that come again and again are classes, others are numbers. */
static void
DecideTask(Dataset *d)
{
	RawRows    *raw = d->raw;

	if (raw->strata != NULL && d->rows < MIN_CLASS_ROWS * hash_get_num_entries(raw->strata))
	{
		hash_destroy(raw->strata);
		raw->strata = NULL;
	}
	d->task = raw->strata != NULL ? "classification" : "regression";
}

Dataset *
LoadDataset(const TrainingSpec *spec, const train_params *params, const manifest *base)
{
	MemoryContext cxt = CurrentMemoryContext;
	Dataset    *d = palloc0(sizeof(Dataset));
	TupleDesc	tupdesc;
	char	   *query;
	bool		task_open;

	JobPhase("loading", 0);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	tupdesc = DescribeSource(spec->query);
	MemoryContextSwitchTo(cxt);
	d->seed = params->seed;
	d->roles = AssignRoles(tupdesc, spec->target, params, base ? base->encoder : NULL);
	if (base != NULL)
		CheckBaseTarget(base, d->roles, spec->task);
	d->task = ResolveTask(spec->task, d->roles);
	task_open = d->task == NULL;
	query = OrderedQuery(spec->query, d->roles, tupdesc);
	d->fingerprint = FingerprintStart(d->roles);
	d->raw = CreateRawRows(d->roles, tupdesc, params);
	if (task_open || strcmp(d->task, "classification") == 0)
		CreateStrata(d->raw);
	ReadQuery(d, query, params, task_open);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	if (JobPauseRequested())	/* the rows are not complete */
		return d;
	CheckRows(d);
	if (task_open)
		DecideTask(d);
	CheckTaskSettings(d->task, params);
	return d;
}

/* ---- passes over the loaded rows ---- */

static void
StartStratum(Stratum *stratum, double fraction)
{
	stratum->left = stratum->rows;
	stratum->wanted = Min((int64) rint(fraction * stratum->rows), stratum->rows - 1);
}

static void
StartPass(Dataset *d)
{
	RawRows    *raw = d->raw;

	if (BufFileSeek(raw->file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in the temporary file of a training")));
	raw->row = 0;
	StartStratum(&raw->all, raw->fraction);
	if (raw->strata != NULL)
	{
		HASH_SEQ_STATUS scan;
		Stratum    *stratum;

		hash_seq_init(&scan, raw->strata);
		while ((stratum = hash_seq_search(&scan)) != NULL)
			StartStratum(stratum, raw->fraction);
	}
}

/* Draw the row with the probability that leaves exactly the wanted number in the end. */
static bool
DrawHeldOut(Stratum *stratum, uint64 seed, int64 row)
{
	uint32		random[4];
	double		uniform;
	bool		drawn;

	philox(seed ^ SPLIT_KEY, (uint64) row, 0, 0, random);
	uniform = (random[0] + random[1] * 0x1p-32) * 0x1p-32;
	drawn = uniform * stratum->left < stratum->wanted;
	stratum->left--;
	stratum->wanted -= drawn;
	return drawn;
}

static bool
IsHeldOut(Dataset *d)
{
	RawRows    *raw = d->raw;

	if (raw->by_column)
		return HELD_OUT_VALUE(d)->kind == VALUE_NUMBER && HELD_OUT_VALUE(d)->number != 0;
	if (raw->by_order)
		return raw->row >= d->rows - raw->all.wanted;
	return DrawHeldOut(raw->stratum, d->seed, raw->row);
}

/* The next row into raw->values; false at the end. */
static bool
NextRow(Dataset *d)
{
	RawRows    *raw = d->raw;
	llm_error	err = {0};
	uint32		bytes;

	CHECK_FOR_INTERRUPTS();
	if (raw->row == d->rows)
		return false;
	BufFileReadOrFail(raw->file, &bytes, sizeof(bytes));
	if (bytes > raw->capacity)
		elog(ERROR, "a row of the temporary file is damaged");
	BufFileReadOrFail(raw->file, raw->buffer, bytes);
	if (!value_unpack(raw->buffer, bytes, raw->values, raw->values_count, &err))
		ThrowError(&err);
	raw->stratum = &raw->all;
	if (raw->strata != NULL)
	{
		uint64		key = LabelKey(TARGETS(d));

		raw->stratum = hash_search(raw->strata, &key, HASH_FIND, NULL);
		if (raw->stratum == NULL)
			elog(ERROR, "a row of the temporary file is damaged");
	}
	raw->held_out = IsHeldOut(d);
	raw->row++;
	return true;
}

/* ---- fitting ---- */

/* What the check of columns that copy the target compares with. */
static double
TargetNumber(const Dataset *d)
{
	const value *v = TARGETS(d);

	if (d->raw->strata != NULL)
		return d->raw->stratum->number;
	return v->kind == VALUE_NUMBER ? v->number : v->kind == VALUE_VECTOR && v->length > 0 ? v->vector[0] : 0;
}

static void
CheckTrainingRows(const Dataset *d, const train_params *params)
{
	if (d->training_rows > 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("column \"%s\" holds out all rows", params->validation_column),
			 errhint("Rows to learn from have false or NULL there.")));
}

static void
CountSplit(Dataset *d)
{
	d->training_rows += !d->raw->held_out;
	d->held_out_rows += d->raw->held_out;
}

static void
FitRows(Dataset *d, fitter *columns, target_fitter *targets)
{
	llm_error	err = {0};

	StartPass(d);
	while (NextRow(d))
	{
		CountSplit(d);
		if (!d->raw->held_out && (!target_fitter_add(targets, TARGETS(d), &err) ||
								  !fitter_add(columns, d->raw->values, TargetNumber(d), &err)))
			ThrowError(&err);
	}
}

static void
CountRows(Dataset *d)
{
	StartPass(d);
	while (NextRow(d))
		CountSplit(d);
}

void
FitDataset(Dataset *d, const train_params *params, const manifest *base)
{
	fit_options options = {.linear = params->hidden_count == 0,.one_hot_max = params->one_hot_max,
	.text_buckets = params->text_buckets,.seed = params->seed};
	bool		classes = strcmp(d->task, "classification") == 0;
	llm_error	err = {0};
	fitter	   *columns;
	target_fitter *targets;
	encoder    *e;
	target	   *t;

	if (base != NULL)
	{
		CountRows(d);
		CheckTrainingRows(d, params);
		d->encoder = base->encoder;
		d->target = base->target;
		return;
	}
	columns = fitter_new(d->roles->columns, d->roles->inputs, &options, &err);
	targets = target_fitter_new(classes ? TARGET_CLASS : TARGET_NUMBER, d->roles->target_columns, d->roles->targets, &err);
	if (columns == NULL || targets == NULL)
		ThrowError(&err);
	FitRows(d, columns, targets);
	CheckTrainingRows(d, params);
	d->target = t = target_fitter_finish(targets, &err);
	if (t == NULL)
		ThrowError(&err);
	OWN(t, target_free);
	d->encoder = e = fitter_finish(columns, &d->findings, &err);
	if (d->findings != NULL)
		OWN(d->findings, finding_free);
	if (e == NULL)
		ThrowError(&err);
	OWN(e, encoder_free);
}

/* ---- encoding ---- */

static void
ThrowUnknownLabel(const target *t, const char *label)
{
	StringInfoData labels;

	initStringInfo(&labels);
	for (int32 i = 0; i < t->class_count && i < 20; i++)
		appendStringInfo(&labels, "%s\"%s\"", i > 0 ? ", " : "", t->classes[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("parameter \"class_weight\" names \"%s\", which is no label of the target", label),
			 errhint("Labels: %s%s.", labels.data, t->class_count > 20 ? ", ..." : "")));
}

/* (class_count) weights; labels that an object does not name weigh 1. */
static double *
ClassWeights(const Dataset *d, const train_params *params)
{
	const target *t = d->target;
	double	   *weights = palloc(Max(t->class_count, 1) * sizeof(double));
	const char *label;
	json_t	   *weight;

	for (int32 i = 0; i < t->class_count; i++)
		weights[i] = params->class_weight_balanced && t->class_rows[i] > 0 ?
			(double) d->training_rows / ((double) t->class_count * t->class_rows[i]) : 1;
	json_object_foreach(params->class_weight, label, weight)
	{
		int32		i = 0;

		while (i < t->class_count && strcmp(t->classes[i], label) != 0)
			i++;
		if (i == t->class_count)
			ThrowUnknownLabel(t, label);
		weights[i] = json_number_value(weight);
	}
	return weights;
}

void
EncodeDataset(Dataset *d, const train_params *params, Size budget)
{
	double		total = 0;

	d->class_weights = ClassWeights(d, params);
	d->budget = budget;
	d->training = CreateRecords(&d->budget);
	d->held_out = CreateRecords(&d->budget);
	StartPass(d);
	while (NextRow(d))
	{
		double		weight = d->roles->weight >= 0 ? WEIGHT_VALUE(d)->number : 1;

		if (d->target->kind == TARGET_CLASS)
		{
			int32		label = target_class_of(d->target, TARGETS(d));

			if (label < 0 && d->raw->held_out)
			{
				d->unseen_rows++;
				continue;
			}
			if (label < 0)		/* only a base model can be without it */
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("target column \"%s\" has a label that the base model does not know",
								d->target->names[0]),
						 errhint("Leave such rows out of the source, or train without base.")));
			weight *= d->class_weights[label];
		}
		total += d->raw->held_out ? 0 : weight;
		AddRecord(d->raw->held_out ? d->held_out : d->training, d->encoder, d->target, d->raw->values,
				  TARGETS(d), (float) weight);
	}
	FinishRecords(d->training);
	FinishRecords(d->held_out);
	BufFileClose(d->raw->file);
	d->raw->file = NULL;
	if (total == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the weights of all training rows are zero"),
				 errhint("Change parameter \"weight_column\" or \"class_weight\".")));
}
