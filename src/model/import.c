/*
 * import.c
 *	  A model from the bytes of a safetensors or ONNX file: llm_import().
 *
 * The file may hold tensors alone; then the user's parameters say which network they are.  An ONNX file
 * says it itself.  Or llm_export() wrote the file; then the manifest is in its metadata, and manifest_parse() believes
 * as little of it as of one in a table.  Either way the version is published as every other:
 * in the caller's transaction, with the caller's rights.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "../format/onnx.h"
#include "../manifest/import_params.h"
#include "parts.h"

PG_FUNCTION_INFO_V1(llm_import);

/* What is about to be published. */
typedef struct Import
{
	const safetensors *file;
	json_t *origin; /* where it came from, for the lineage */
	json_t *manifest;
	float *weights;
	Size bytes;
} Import;

static json_t *
OwnJson(json_t *json)
{
	OWN(json, json_decref);
	return json;
}

/* ---- what the caller gave ---- */

static const safetensors *
OpenFile(const void *bytes, Size size)
{
	llm_error err = {0};
	safetensors *file = safetensors_open(bytes, size, &err);

	if (file == NULL)
		ThrowError(&err);
	OWN(file, safetensors_close);
	return file;
}

/* The bytes as a source_reader has them. */
typedef struct MemoryFile
{
	const char *bytes;
	Size size;
} MemoryFile;

static bool
ReadMemory(void *arg, int32_t file, uint64_t offset, void *out, size_t bytes, llm_error *err)
{
	const MemoryFile *m = arg;

	if (offset > m->size || bytes > m->size - offset)
		return llm_fail(err, LLM_CORRUPT, "the file ends before its tensors do");
	memcpy(out, m->bytes + offset, bytes);
	return true;
}

static json_t *
OriginJson(const char *format, const void *bytes, Size size)
{
	char sha256[65];

	HashWeights(&(WeightBytes) {.network = bytes, .network_size = size}, sha256);
	return OwnJson(json_pack("{s:s, s:s, s:I, s:s, s:s}", "format", format, "sha256", sha256, "bytes",
							 (json_int_t) size, "extension_version", LLMAPP_VERSION, "at",
							 timestamptz_to_str(GetCurrentTimestamp())));
}

/* ---- tensors that the parameters explain ---- */

/* The plan's weights as they were read, malloc'd; NULL: why not. */
static void
TakeWeights(Import *import, const import_plan *plan, float *weights, const llm_error *err)
{
	json_t *lineage;
	char sha256[65];

	if (weights == NULL)
		ThrowError(err);
	OWN(weights, free);
	import->weights = weights;
	lineage = json_pack("{s:s, s:O}", "extension_version", LLMAPP_VERSION, "imported", import->origin);
	import->bytes = net_weight_bytes(plan->net);
	HashWeights(&(WeightBytes) {.network = import->weights, .network_size = import->bytes}, sha256);
	import->manifest =
		OwnJson(manifest_build(plan->architecture, plan->task, plan->net, plan->encoder, plan->target, 0, sha256,
							   json_incref(plan->settings), json_object(), json_array(), lineage));
}

static void
ReadTensors(Import *import, const json_t *params)
{
	llm_error err = {0};
	import_plan *plan = import_plan_new(params, &err);

	if (plan == NULL)
		ThrowError(&err);
	OWN(plan, import_plan_free);
	TakeWeights(import, plan, import_plan_read(plan, import->file, InterruptRequested, NULL, &err), &err);
}

/* ---- an ONNX file ---- */

static void
ReadOnnx(Import *import, const char *bytes, Size size, const json_t *params)
{
	MemoryFile *file = palloc(sizeof(MemoryFile));
	tensor_source *source = palloc0(sizeof(tensor_source));
	json_t *graph = OwnJson(json_object());
	import_plan *plan = NULL;
	llm_error err = {0};

	*file = (MemoryFile) {bytes, size};
	source->read = ReadMemory;
	source->arg = file;
	OWN(source, tensor_source_clear);
	if (onnx_source(source, 0, size, graph, &err) && tensor_source_sort(source, &err))
		plan = import_plan_onnx(graph, source, params, &err);
	if (plan == NULL)
		ThrowError(&err);
	OWN(plan, import_plan_free);
	TakeWeights(import, plan, import_plan_read_onnx(plan, source, InterruptRequested, NULL, &err), &err);
}

/* ---- a file of llm_export() ---- */

static manifest *
OpenOwnManifest(const safetensors *file)
{
	const char *text = safetensors_metadata(file, "llmapp");
	llm_error err = {0};
	manifest *m;

	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the file does not say which network it holds"),
				 errdetail("Files of llm_export() do; others hold tensors alone."),
				 errhint("Name the layers: params => '{\"layers\": [...], \"input\": {\"shape\": [...]}}'.")));
	m = manifest_parse(text, strlen(text), &err);
	if (m == NULL && err.code == LLM_CORRUPT)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the manifest in the file is damaged"),
						errdetail_internal("%s.%s%s", err.message, err.detail[0] ? " " : "", err.detail),
						err.hint[0] ? errhint("%s", err.hint) : 0));
	if (m == NULL)
		ThrowError(&err);
	OWN(m, manifest_free);
	if (m->tokenizer_bytes > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("the file holds a language model"),
				 errdetail("Its tokenizer is not in the file."),
				 errhint("Move it as a table: pg_dump --table, or CREATE TABLE ... (LIKE ... INCLUDING ALL) and "
						 "INSERT ... SELECT.")));
	return m;
}

/* Weights that the manifest's network takes from the file under its own names. */
static float *
ReadOwnWeights(const safetensors *file, const net *n)
{
	int32 count = net_tensor_count(n);
	char(*text)[EXCHANGE_NAME_BYTES] = palloc(count * sizeof(*text));
	const char **names = palloc(count * sizeof(char *));
	float *weights = NULL;
	llm_error err = {0};
	exchange x;

	for (int32 i = 0; i < count; i++)
		names[i] = exchange_name(n, i, text[i]);
	if (exchange_init(&x, n, ORDER_PYTORCH, &err))
		weights = tensor_file_read(&x, file, names, InterruptRequested, NULL, &err);
	if (weights == NULL)
		ThrowError(&err);
	OWN(weights, free);
	return weights;
}

/*
 * The manifest stays what it was, with the checksum of the weights as they are here.  Whoever
 * changed them in between has left metrics that are not theirs.  The number of a job means nothing
 * in another database.
 */
static void
ReadOwnModel(Import *import)
{
	manifest *m = OpenOwnManifest(import->file);
	json_t *lineage = json_object_get(m->json, "lineage");
	char sha256[65];

	import->weights = ReadOwnWeights(import->file, m->net);
	import->bytes = m->weight_bytes;
	import->manifest = m->json;
	HashWeights(&(WeightBytes) {.network = import->weights, .network_size = import->bytes}, sha256);
	json_object_set_new(json_object_get(m->json, "weights"), "sha256", json_string(sha256));
	if (strcmp(sha256, m->sha256) != 0)
		json_object_set_new(m->json, "metrics", json_object());
	json_object_del(lineage, "job");
	json_object_set(lineage, "imported", import->origin);
}

/* ---- publishing ---- */

char *
ManifestText(const json_t *json)
{
	char *text = json_text(json);
	char *result;

	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory while writing the manifest of the model")));
	OWN(text, free);
	result = pg_any_to_server(text, strlen(text), PG_UTF8);
	return result;
}

static Oid
Publish(const char *schema, const char *name, const Import *import)
{
	char *text = ManifestText(import->manifest);
	Oid relid = EnsureModelTable(schema, name);
	int32 version;

	version = PublishVersion(relid, text, &(WeightBytes) {.network = import->weights, .network_size = import->bytes});
	CommandCounterIncrement();
	PromoteVersion(relid, version);
	return relid;
}

static void
ReadFile(Import *import, const char *bytes, Size size, const json_t *params)
{
	bool onnx = size >= ONNX_HEAD_BYTES && onnx_begins((const uint8 *) bytes);

	if (!onnx)
		import->file = OpenFile(bytes, size);
	import->origin = OriginJson(onnx ? "onnx" : "safetensors", bytes, size);
	if (onnx)
		ReadOnnx(import, bytes, size, params);
	else if (json_object_size(params) > 0)
		ReadTensors(import, params);
	else
		ReadOwnModel(import);
}

Datum
llm_import(PG_FUNCTION_ARGS)
{
	bytea *data = PG_GETARG_BYTEA_PP(1);
	Import import = {NULL};
	char *schema, *name;
	json_t *params;

	PreventCommandDuringRecovery("llm_import()");
	PreventCommandIfReadOnly("llm_import()");
	ResolveModelName(text_to_cstring(PG_GETARG_TEXT_PP(0)), &schema, &name);
	params = JsonOfParams(PG_GETARG_DATUM(2));
	ReadFile(&import, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data), params);
	PG_RETURN_OID(Publish(schema, name, &import));
}
