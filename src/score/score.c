/*
 * score.c
 *	  llm_score(): check what is to be scored, and queue the job.
 *
 * Everything that can be wrong before the first row is wrong here, where the user sees it: the
 * source, the model's columns in it, the key, the table.  The worker checks again when it starts.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "../common.h"
#include "../row/input.h"
#include "../row/source.h"
#include "scoring.h"
#include "../job/device.h"
#include "../job/worker.h"

PG_FUNCTION_INFO_V1(llm_score);

/* ---- the arguments ---- */

/* The relation that a name stands for, as SourceQuery() reads it; NULL when the source is a SELECT. */
static RangeVar *
RelationName(const char *text)
{
	List *names;
	List *parts = NIL;
	ListCell *cell;

	if (!SplitIdentifierString(pstrdup(text), '.', &names) || names == NIL || list_length(names) > 3)
		return NULL;
	foreach(cell, names)
		parts = lappend(parts, makeString((char *) lfirst(cell)));
	return makeRangeVarFromNameList(parts);
}

static void
SetKey(ScoringSpec *spec, const ArrayType *array)
{
	Datum *names;
	bool *nulls;

	deconstruct_array(unconstify(ArrayType *, array), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &spec->keys);
	spec->key = palloc(Max(spec->keys, 1) * sizeof(char *));
	for (int i = 0; i < spec->keys; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a column of the key must not be null")));
		spec->key[i] = TextDatumGetCString(names[i]);
	}
}

/* The primary key of the relation that is the source. */
static void
SetPrimaryKey(ScoringSpec *spec, const char *source)
{
	RangeVar *name = RelationName(source);
	Oid relid = name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;
	Oid constraint;
	Bitmapset *columns = OidIsValid(relid) ? get_primary_key_attnos(relid, false, &constraint) : NULL;
	int column = -1;

	spec->key = palloc(Max(bms_num_members(columns), 1) * sizeof(char *));
	while ((column = bms_next_member(columns, column)) >= 0)
		spec->key[spec->keys++] = get_attname(relid, column + FirstLowInvalidHeapAttributeNumber, false);
}

/* Schema and name of the table to fill, which may exist. */
static void
SetTable(ScoringSpec *spec, const char *into)
{
	List *names;
	RangeVar *wanted;
	Oid relid;
	Oid schema;

	if (!SplitIdentifierString(pstrdup(into), '.', &names) || names == NIL || list_length(names) > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is not a name for a table", into),
						errhint("Use 'name', 'schema.name' or '\"Any Name\"'.")));
	wanted = makeRangeVar(list_length(names) == 2 ? linitial(names) : NULL, llast(names), -1);
	relid = RangeVarGetRelid(wanted, NoLock, true);
	schema = OidIsValid(relid) ? get_rel_namespace(relid) : RangeVarGetCreationNamespace(wanted);
	spec->schema = get_namespace_name(schema);
	spec->table = wanted->relname;
}

/* ERROR naming the first column of the model that the source lacks: as a row of it would raise it. */
static void
CheckInput(const Model *model, TupleDesc source)
{
	InputBinding *binding = BindInput(model->manifest->encoder, RECORDOID, CurrentMemoryContext);
	Datum *values = palloc0(Max(source->natts, 1) * sizeof(Datum));
	bool *nulls = palloc(Max(source->natts, 1) * sizeof(bool));

	memset(nulls, true, source->natts * sizeof(bool));
	(void) ReadInput(binding, HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(source), values, nulls)));
}

/* In memory that the statement frees, which also closes the model. */
static void
CheckScoring(ScoringSpec *spec)
{
	TupleDesc source = DescribeSource(spec->query);
	Model *model = OpenModel(spec->model, 0, CurrentMemoryContext);

	RequireRowModel(model);
	spec->version = model->version;
	CheckInput(model, source);
	if (spec->keys == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the key is missing"),
						errdetail("Each prediction is stored with the columns that identify its row."),
						errhint("Name them, key => ARRAY['id'], or give a table that has a primary key as source.")));
	(void) FindScoreTable(spec, source, model->manifest->target);
}

static void
CopySettings(ScoringSpec *spec)
{
	spec->search_path = pstrdup(GetConfigOption("search_path", false, false));
	spec->timezone = pstrdup(GetConfigOption("TimeZone", false, false));
	spec->datestyle = pstrdup(GetConfigOption("DateStyle", false, false));
	spec->gpu_memory = llmapp_gpu_memory;
}

/* ---- to and from JSON ---- */

static json_t *
ScoringSpecJson(const ScoringSpec *spec)
{
	json_t *json = json_object();
	json_t *key = json_object();

	for (int i = 0; i < spec->keys; i++)
		SetSpecText(key, psprintf("%d", i), spec->key[i]);
	json_object_set_new(json, "model", json_integer(spec->model));
	json_object_set_new(json, "version", json_integer(spec->version));
	json_object_set_new(json, "keys", json_integer(spec->keys));
	json_object_set_new(json, "key", key);
	SetSpecText(json, "query", spec->query);
	SetSpecText(json, "schema", spec->schema);
	SetSpecText(json, "table", spec->table);
	SetSpecText(json, "device", spec->device);
	SetSpecText(json, "search_path", spec->search_path);
	SetSpecText(json, "timezone", spec->timezone);
	SetSpecText(json, "datestyle", spec->datestyle);
	json_object_set_new(json, "gpu_memory", json_integer(spec->gpu_memory));
	return json;
}

static bool
IsComplete(const ScoringSpec *spec)
{
	for (int i = 0; i < spec->keys; i++)
		if (spec->key[i] == NULL)
			return false;
	return spec->keys > 0 && spec->version > 0 && spec->query && spec->schema && spec->table && spec->search_path &&
		   spec->timezone && spec->datestyle;
}

ScoringSpec *
ScoringSpecFromJson(const char *text, Size length)
{
	llm_error err = {0};
	json_t *json = json_parse(text, length, &err);
	ScoringSpec *spec = palloc0(sizeof(ScoringSpec));

	if (json == NULL)
		ThrowError(&err);
	spec->model = (Oid) json_integer_value(json_object_get(json, "model"));
	spec->version = json_integer_value(json_object_get(json, "version"));
	spec->keys = Min(json_integer_value(json_object_get(json, "keys")), MaxTupleAttributeNumber);
	spec->key = palloc0(Max(spec->keys, 1) * sizeof(char *));
	for (int i = 0; i < spec->keys; i++)
		spec->key[i] = GetSpecText(json_object_get(json, "key"), psprintf("%d", i));
	spec->query = GetSpecText(json, "query");
	spec->schema = GetSpecText(json, "schema");
	spec->table = GetSpecText(json, "table");
	spec->device = GetSpecText(json, "device");
	spec->search_path = GetSpecText(json, "search_path");
	spec->timezone = GetSpecText(json, "timezone");
	spec->datestyle = GetSpecText(json, "datestyle");
	spec->gpu_memory = json_integer_value(json_object_get(json, "gpu_memory"));
	json_decref(json);
	if (!IsComplete(spec))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the description of the job is incomplete")));
	return spec;
}

/* ---- the function ---- */

/* llm_score(model, source, into_table, key, device, wait) */
Datum
llm_score(PG_FUNCTION_ARGS)
{
	char *source = RequireText(fcinfo, 1, "llm_score()", "source");
	char *into = RequireText(fcinfo, 2, "llm_score()", "into_table");
	bool wait = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	JobRequest request = {.kind = "score", .function = "llm_score()", .verb = "score"};
	ScoringSpec spec = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"model\" of llm_score() must not be null")));
	RequireSubmission(request.function, request.verb, wait);
	spec.model = PG_GETARG_OID(0);
	spec.device = ResolveDevice(TextArgument(fcinfo, 4));
	spec.query = SourceQuery(source);
	if (PG_ARGISNULL(3))
		SetPrimaryKey(&spec, source);
	else
		SetKey(&spec, PG_GETARG_ARRAYTYPE_P(3));
	SetTable(&spec, into);
	CheckScoring(&spec);
	CopySettings(&spec);
	request.model =
		quote_qualified_identifier(get_namespace_name(get_rel_namespace(spec.model)), get_rel_name(spec.model));
	request.device = spec.device;
	request.spec = ScoringSpecJson(&spec);
	PG_RETURN_INT64(SubmitJob(&request, wait));
}
