/*
 * import_job.c
 *	  llm_import(model, path): a checkpoint in files of the server, or a network in one, becomes a version of a model.
 *
 * The job is one transaction, as the submitter: what it read is published whole or not at all.
 * Memory holds one piece of a tensor at a time.  A language model must foresee a plain sentence
 * better than by guessing before its version goes live: that finds weights read in the wrong order.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "../engine/quant.h"
#include "../format/nearest.h"
#include "../job/job_table.h"
#include "../job/device.h"
#include "../job/worker.h"
#include "../manifest/import_params.h"
#include "../model/model.h"
#include "../serve/language.h"
#include "import_files.h"
#include "transfer.h"

PG_FUNCTION_INFO_V1(llm_import_path);

#define FUNCTION "llm_import()"
#define PIECE_FLOATS ((int64) 1 << 23) /* of a tensor at a time */
#define DEFAULT_INPUT "text"
#define DEFAULT_TARGET "label"

/* Of a parameter: what it may be is for checkpoint_new() to say, or for this file. */
static const char *const known_params[] = {"task",  "context", "pool",    "ignore", "classes",
										   "input", "target",  "weights", "check"};

typedef struct ImportSpec
{
	char *schema, *model;
	char *path;
	json_t *params;
} ImportSpec;

typedef struct Import
{
	const ImportSpec *spec;
	ImportFiles *from;
	const checkpoint *c;
	encoder *encoder;
	target *target;
} Import;

/* ---- the call ---- */

static json_t *
SpecJson(const ImportSpec *spec)
{
	json_t *json = json_object();

	SetSpecText(json, "schema", spec->schema);
	SetSpecText(json, "model", spec->model);
	SetSpecText(json, "path", spec->path);
	json_object_set(json, "params", spec->params);
	return json;
}

static ImportSpec *
SpecFromJson(const char *text)
{
	ImportSpec *spec = palloc0(sizeof(ImportSpec));
	llm_error err = {0};
	json_t *json = json_parse(text, strlen(text), &err);

	if (json == NULL)
		ThrowError(&err);
	OWN(json, json_decref);
	spec->schema = GetSpecText(json, "schema");
	spec->model = GetSpecText(json, "model");
	spec->path = GetSpecText(json, "path");
	spec->params = json_object_get(json, "params");
	if (!spec->schema || !spec->model || !spec->path || !json_is_object(spec->params))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the description of the job is incomplete")));
	return spec;
}

/* llm_import(model, path, params, wait) */
Datum
llm_import_path(PG_FUNCTION_ARGS)
{
	char *model = RequireText(fcinfo, 0, FUNCTION, "model");
	bool wait = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	JobRequest request = {.kind = "import", .function = FUNCTION, .verb = "import"};
	ImportSpec spec = {.path = RequireText(fcinfo, 1, FUNCTION, "path")};
	llm_error err = {0};

	RequireSubmission(FUNCTION, request.verb, wait);
	ResolveModelName(model, &spec.schema, &spec.model);
	(void) CheckModelName(spec.schema, spec.model);
	RequireServerPath(spec.path, FUNCTION);
	if (PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"params\" of %s must not be null", FUNCTION)));
	spec.params = JsonOfParams(PG_GETARG_DATUM(2));
	if (!keys_known(spec.params, "parameter", known_params, lengthof(known_params), &err))
		ThrowError(&err);
	request.model = quote_qualified_identifier(spec.schema, spec.model);
	request.device = "cpu";
	request.spec = SpecJson(&spec);
	PG_RETURN_INT64(SubmitJob(&request, wait));
}

/* ---- what rows are ---- */

static const char *
ParamText(const Import *import, const char *key, const char *fallback)
{
	const json_t *value = json_object_get(import->spec->params, key);

	if (value == NULL)
		return fallback;
	if (json_string_length(value) == 0 || strlen(json_string_value(value)) != json_string_length(value))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("parameter \"%s\" must be a string that is not empty", key)));
	return json_string_value(value);
}

static bool
IsTask(const Import *import, const char *task)
{
	return strcmp(import->c->task, task) == 0;
}

/* Labels of the checkpoint, unless the user gives others in their order. */
static const char **
Labels(const Import *import, int32 *count)
{
	const json_t *classes = json_object_get(import->spec->params, "classes");
	const char **labels;

	*count = import->c->label_count;
	if (classes != NULL && (!json_is_array(classes) || json_array_size(classes) != (size_t) *count))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("parameter \"classes\" must be an array of %d labels", *count)));
	labels = palloc(Max(*count, 1) * sizeof(char *));
	for (int32 i = 0; i < *count; i++)
	{
		const json_t *label = json_array_get(classes, i);

		labels[i] = classes ? json_string_value(label) : import->c->labels[i];
		if (labels[i] == NULL || labels[i][0] == '\0')
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("label %d of parameter \"classes\" must be a string that is not empty", i + 1)));
	}
	return labels;
}

/* Classes of a target are sorted, so the network's outputs are put in its order. */
static void
MakeClasses(Import *import, const char *name)
{
	int32 count;
	const char **labels = Labels(import, &count);
	int32 *order = palloc(Max(count, 1) * sizeof(int32));
	llm_error err = {0};

	import->target = target_of_labels(name, labels, count, &err);
	if (import->target == NULL)
		ThrowError(&err);
	for (int32 i = 0; i < count; i++)
	{
		value label = {.kind = VALUE_STRING, .string = labels[i], .length = (int32) strlen(labels[i])};

		order[target_class_of(import->target, &label)] = i;
	}
	checkpoint_set_classes(import->from->checkpoint, order);
}

/* The text that rows consist of, in a column of this name. */
static void
MakeEncoder(Import *import)
{
	const char *name = ParamText(import, "input", DEFAULT_INPUT);
	column c = {.name = unconstify(char *, name), .sql_type = "text", .kind = COLUMN_TEXT, .tokens = true};
	bool source = import->c->config.text.source_context > 0; /* an encoder reads a prompt */
	bool rows = net_predicts_rows(&import->c->config);
	llm_error err = {0};

	import->encoder = rows || source ? encoder_of_text(&c, &err) : encoder_none(&err);
	if (import->encoder == NULL)
		ThrowError(&err);
	OWN(import->encoder, encoder_free);
	if ((rows || source) &&
		!encoder_set_tokenizer(import->encoder, import->from->tokenizer, import->c->config.shape.vocab,
							   rows ? import->c->config.text.context : import->c->config.text.source_context, &err))
		ThrowError(&err);
}

/* In the type that the user asked for, as far as tensors can be. */
static void
KeepWeights(const Import *import)
{
	const char *name = ParamText(import, "weights", "f32");
	bool columns = net_predicts_rows(&import->c->config);
	weight_type type;

	if (!weight_type_parse(name, &type))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown type of weights \"%s\"", name),
						errhint("Use f32, bf16, f16, q8_0 or q4_0.")));
	if (columns && type != WEIGHT_F32)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("the weights of a model that predicts columns are kept in f32"),
						errhint("Leave out \"weights\".")));
	net_keep_all(import->from->checkpoint->net, type);
}

static void
DescribeRows(Import *import)
{
	const char *name =
		ParamText(import, "target", net_predicts_rows(&import->c->config) ? DEFAULT_TARGET : DEFAULT_INPUT);
	llm_error err = {0};

	MakeEncoder(import);
	if (IsTask(import, "classification"))
		MakeClasses(import, name);
	else if (IsTask(import, "regression"))
		import->target = target_of_numbers(name, 1, &err);
	else
		import->target = target_of_text(
			&(column) {.name = unconstify(char *, name), .sql_type = "text", .kind = COLUMN_TEXT}, &err);
	if (import->target == NULL)
		ThrowError(&err);
	OWN(import->target, target_free);
}

/* ---- weights ---- */

/* A pause ends the transaction, and the job begins anew when it is resumed. */
static void
LookForRequests(void)
{
	CHECK_FOR_INTERRUPTS();
	if (JobPauseRequested())
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the import was paused")));
}

static void
WriteTensor(const Import *import, VersionWriter *w, int32 i, float *numbers)
{
	const net_tensor_info *info = net_tensor(import->c->net, i);
	int64 width = (int64) info->count / info->dims[0];
	int64 step = Max(PIECE_FLOATS / Max(width, 1), 1);
	llm_error err = {0};

	for (int64 row = 0; row < info->dims[0]; row += step)
	{
		int64 rows = Min(step, info->dims[0] - row);

		LookForRequests();
		if (!checkpoint_read(import->c, i, row, rows, numbers, JobPoll, NULL, &err))
		{
			LookForRequests();
			ThrowError(&err);
		}
		WriteNumbers(w, import->c->net, i, row * width, numbers, rows * width);
		JobProgress((int64) ((info->place + weight_bytes(info->type, (row + rows) * width)) >> 20), 0, 0, 0);
	}
}

/* Floats of the largest piece. */
static Size
PieceFloats(const net *n)
{
	Size most = 0;

	for (int32 i = 0; i < net_tensor_count(n); i++)
	{
		const net_tensor_info *info = net_tensor(n, i);
		Size width = info->count / info->dims[0];

		most = Max(most, Min(info->count, Max((Size) PIECE_FLOATS, width)));
	}
	return most;
}

static void
WriteWeights(const Import *import, VersionWriter *w)
{
	const net *n = import->c->net;
	float *numbers = MemoryContextAllocHuge(CurrentMemoryContext, PieceFloats(n) * sizeof(float));

	JobPhase("saving", (int64) (net_kept_bytes(n) >> 20));
	for (int32 i = 0; i < net_tensor_count(n); i++)
		WriteTensor(import, w, i, numbers);
	pfree(numbers);
}

/* ---- the manifest ---- */

static void
AddSetting(json_t *settings, const char *key, const char *source, json_t *value)
{
	json_object_set_new(settings, key, json_pack("{s:o, s:s}", "value", value, "source", source));
}

static json_t *
SettingsJson(const Import *import)
{
	json_t *settings = json_object();
	const char *key;
	json_t *value;

	AddSetting(settings, "family", "auto", json_string(import->c->family));
	AddSetting(settings, "context", "auto", json_integer(import->c->config.text.context));
	json_object_foreach(import->spec->params, key, value)
		AddSetting(settings, key, "user", json_incref(value));
	return settings;
}

static json_t *
LineageJson(const Import *import, int64 job)
{
	json_t *path = json_string(pg_server_to_any(import->spec->path, strlen(import->spec->path), PG_UTF8));

	return json_pack("{s:s, s:I, s:{s:s, s:o, s:o, s:s}}", "extension_version", LLMAPP_VERSION, "job",
					 (json_int_t) job, "imported", import->c ? "family" : "format",
					 import->c ? import->c->family : "onnx", "path", path, "files", ImportFilesJson(import->from),
					 "at", timestamptz_to_str(GetCurrentTimestamp()));
}

/* Which tokens end and begin texts, where the tokenizer does not say so. */
static json_t *
TokensJson(const checkpoint *c)
{
	json_t *tokens = json_object();
	json_t *ends = json_array();

	for (int32 i = 0; i < Min(c->end_count, MANIFEST_ENDS_MAX); i++)
		json_array_append_new(ends, json_integer(c->ends[i]));
	json_object_set_new(tokens, "ends", ends);
	if (c->config.text.labels > 0)
	{
		json_t *labels = json_array();

		for (int32 i = 0; i < c->label_count; i++)
			json_array_append_new(labels, json_string(c->labels[i]));
		json_object_set_new(tokens, "labels", labels);
	}
	if (c->decoder_start >= 0)
		json_object_set_new(tokens, "start", json_integer(c->decoder_start));
	return tokens;
}

static char *
ManifestOf(const Import *import, int64 job, const char *sha256)
{
	json_t *json = manifest_build(import->c->architecture, import->c->task, import->c->net, import->encoder,
								  import->target, import->from->tokenizer_size, sha256, SettingsJson(import),
								  json_object(), json_array(), LineageJson(import, job));

	OWN(json, json_decref);
	if (IsTask(import, "generation") || IsTask(import, "token_classification"))
		json_object_set_new(json, "tokens", TokensJson(import->c));
	if (import->c->sigmoid)
		json_object_set_new(json, "score", json_string("sigmoid"));
	if (IsTask(import, "generation") && import->from->chat_template != NULL)
		json_object_set_new(json, "chat_template", json_string(import->from->chat_template));
	return ManifestText(json);
}

/* ---- publishing ---- */

/* A text that every language model knows how to go on with; made for this. */
static const char plain_text[] =
	"The house stands at the end of the street. In the morning the children go to school, and in the evening they "
	"come back home. There is a table in the kitchen, and there are four chairs around it.";

/* Decoders are, unless the user says that they do not know English. */
static bool
IsJudged(const Import *import)
{
	const json_t *check = json_object_get(import->spec->params, "check");

	if (check != NULL && !json_is_boolean(check))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("parameter \"check\" must be true or false")));
	return IsTask(import, "generation") && import->c->config.text.encoder_depth == 0 && !json_is_false(check);
}

/* The mean loss of a token; the version must be live. */
static void
JudgeModel(const Import *import, Oid relid)
{
	LanguageCall *call = NewLanguageCall(CurrentMemoryContext);
	llm_error err = {0};
	TokenScore score;

	OpenLanguageModel(call, relid);
	EncodePromptUtf8(call, plain_text, strlen(plain_text), &call->tokens);
	score = ScoreTokens(call);
	if (score.tokens == 0)
		return;
	JobReport("check",
			  json_pack("{s:f, s:I}", "loss", score.loss / score.tokens, "tokens", (json_int_t) score.tokens));
	if (!checkpoint_judge(import->c, score.loss / score.tokens, &err))
	{
		llm_hint(&err, "If it was never to know English: params => '{\"check\": false}'.");
		ThrowError(&err);
	}
}

/* Make the version live, and the job's report. */
static void
Succeed(const Import *import, Oid relid, int32 version)
{
	RenewSnapshot();
	PromoteVersion(relid, version);
	RenewSnapshot();
	if (import->c != NULL && IsJudged(import))
		JudgeModel(import, relid);
	CloseServerFiles(import->from->files);
	CloseServerFiles(import->from->weights);
	JobReport("version", json_integer(version));
	JobReport("live", json_true());
	JobSucceeded(quote_qualified_identifier(import->spec->schema, import->spec->model), version);
}

/* Its weights are in memory at once: networks on columns are small beside those of texts. */
static void
ImportOnnx(Import *import, int64 job)
{
	llm_error err = {0};
	import_plan *plan = import_plan_onnx(import->from->graph, &import->from->source, import->spec->params, &err);
	WeightBytes bytes = {NULL};
	float *weights;
	char sha256[65];
	json_t *json;
	Oid relid;

	if (plan == NULL)
		ThrowError(&err);
	OWN(plan, import_plan_free);
	JobReport("task", json_string(plan->task));
	weights = import_plan_read_onnx(plan, &import->from->source, JobPoll, NULL, &err);
	if (weights == NULL)
	{
		LookForRequests();
		ThrowError(&err);
	}
	OWN(weights, free);
	bytes.network = weights;
	bytes.network_size = net_weight_bytes(plan->net);
	HashWeights(&bytes, sha256);
	json = manifest_build(plan->architecture, plan->task, plan->net, plan->encoder, plan->target, 0, sha256,
						  json_incref(plan->settings), json_object(), json_array(), LineageJson(import, job));
	OWN(json, json_decref);
	JobPhase("saving", 0);
	relid = EnsureModelTable(import->spec->schema, import->spec->model);
	Succeed(import, relid, PublishVersion(relid, ManifestText(json), &bytes));
}

static void
ImportCheckpoint(Import *import, int64 job)
{
	Oid relid;
	VersionWriter *w;
	const char *sha256;

	import->c = import->from->checkpoint;
	DescribeRows(import);
	KeepWeights(import);
	JobReport("family", json_string(import->c->family));
	JobReport("task", json_string(import->c->task));
	relid = EnsureModelTable(import->spec->schema, import->spec->model);
	w = BeginVersion(relid);
	WriteWeights(import, w);
	sha256 = EndWeights(w, import->c->net, import->from->tokenizer_block, import->from->tokenizer_size);
	Succeed(import, relid, EndVersion(w, ManifestOf(import, job, sha256)));
}

static void
ImportModel(Import *import, int64 job)
{
	JobPhase("loading", 0);
	import->from = OpenImportFiles(import->spec->path, import->spec->params);
	if (import->from->graph != NULL)
		ImportOnnx(import, job);
	else
		ImportCheckpoint(import, job);
}

/* All in one transaction, whose memory it has. */
bool
RunImport(const ClaimedJob *claimed)
{
	MemoryContext cxt = CurrentMemoryContext;
	Import import = {NULL};

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	import.spec = SpecFromJson(claimed->spec);
	ImportModel(&import, claimed->job);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return true;
}
