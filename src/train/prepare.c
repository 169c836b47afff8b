/*
 * prepare.c
 *	  Check what a training is asked to do, and carry it to the worker as JSON; llm_train().
 *
 * A TrainingSpec holds names that are resolved and settings of the submitter's session,
 * because the worker is another session: with it a job means the same whenever it
 * starts.  The JSON is read back from a row of llmapp.job that only llmapp writes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "../common.h"
#include "../format/tensor_shape.h"
#include "../job/device.h"
#include "../job/worker.h"
#include "../model/model.h"
#include "../row/source.h"
#include "training.h"

PG_FUNCTION_INFO_V1(llm_train);

train_params *
ResolveParams(const char *architecture, const char *json)
{
	llm_error err = {0};
	train_params *params = params_resolve(architecture, json, strlen(json), &err);

	if (params == NULL)
	{
		if (err.code == LLM_CORRUPT) /* the user's own JSON is wrong, not damaged */
			err.code = LLM_INVALID;
		ThrowError(&err);
	}
	OWN(params, params_free);
	return params;
}

/* ---- task ---- */

static void
ThrowTarget(const column *c, const char *task, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("target column \"%s\" of type %s does not fit task \"%s\"", c->name, c->sql_type, task),
					errhint("%s", hint)));
}

static void
CheckRegressionTarget(const column *c, int32 targets)
{
	if (c->kind == COLUMN_VECTOR && targets > 1)
		ThrowTarget(c, "regression", "An array can be the only target; otherwise name columns of single numbers.");
	if (c->kind == COLUMN_TIME)
		ThrowTarget(c, "regression",
					psprintf("Predict a number: extract(epoch FROM %s).", quote_identifier(c->name)));
	if (c->kind != COLUMN_NUMBER && c->kind != COLUMN_BOOLEAN && c->kind != COLUMN_VECTOR)
		ThrowTarget(c, "regression", "Use task => 'classification', or convert the column to a number.");
}

static void
CheckTaskTarget(const char *task, const SourceRoles *roles)
{
	if (strcmp(task, "regression") == 0)
	{
		for (int32 i = 0; i < roles->targets; i++)
			CheckRegressionTarget(&roles->target_columns[i], roles->targets);
		return;
	}
	if (roles->targets > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a classification has one target column, not %d", roles->targets),
						errhint("Train one model for each, or use task => 'regression' for numbers.")));
	if (roles->target_columns[0].kind == COLUMN_VECTOR)
		ThrowTarget(&roles->target_columns[0], task, "Use task => 'regression' to predict an array of numbers.");
}

/* What the type of the target says; NULL for integers. */
static const char *
InferTask(const SourceRoles *roles)
{
	const column *c = &roles->target_columns[0];

	if (roles->targets > 1 || c->kind == COLUMN_VECTOR || c->kind == COLUMN_TIME)
		return "regression";
	if (c->kind == COLUMN_NUMBER)
		return c->integer ? NULL : "regression";
	return "classification";
}

/* One of the tasks that the architecture names. */
static void
CheckTaskName(const char *task, const architecture_info *architecture)
{
	const char *at = strstr(architecture->tasks, task);
	Size length = strlen(task);

	if (length > 0 && at != NULL && (at == architecture->tasks || at[-1] == ' ') &&
		(at[length] == ',' || at[length] == '\0'))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unknown task \"%s\" for architecture \"%s\"", task, architecture->name),
					errhint("Its tasks: %s. All of them: SELECT * FROM llm_architectures();", architecture->tasks)));
}

const char *
ResolveTask(const char *task, const architecture_info *architecture, const SourceRoles *roles)
{
	if (task == NULL && roles->learns_text)
		task = architecture->bit == ARCH_BERT ? "masked_lm" : "generation";
	if (task != NULL)
		CheckTaskName(task, architecture);
	if (roles->learns_text)
		return task;
	if (task == NULL)
		task = InferTask(roles);
	if (task != NULL)
		CheckTaskTarget(task, roles);
	return task;
}

static void
ThrowUseless(const char *parameter, const char *task)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("parameter \"%s\" has no meaning for task \"%s\"", parameter, task),
					errhint("Leave it out of params, or choose the task: task => '%s'.",
							strcmp(task, "classification") == 0 ? "regression" : "classification")));
}

/* Settings of networks on rows, and the one that only networks on tokens alone have. */
static const char *const kind_settings[] = {"label_smoothing", "class_weight", "weight_column", "exclude",
											"one_hot_max",     "text_buckets", "hidden",        "text",
											"ngrams",          "pool",         "loss",          "huber_delta",
											"weights"};

/* Of the settings of networks on rows, an embedding has a pool. */
static bool
HasMeaning(const char *kind_setting, const char *task)
{
	if (strcmp(kind_setting, "weights") == 0)
		return IsTextTask(task);
	return !IsTextTask(task) || (IsEmbeddingTask(task) && strcmp(kind_setting, "pool") == 0);
}

void
CheckTaskSettings(const char *task, const train_params *params)
{
	bool regression = strcmp(task, "regression") == 0;

	for (int i = 0; i < (int) lengthof(kind_settings); i++)
	{
		int32 index = params_index(kind_settings[i], params->architecture->bit);

		if (index >= 0 && params->sources[index] == SOURCE_USER && !HasMeaning(kind_settings[i], task))
			ThrowUseless(kind_settings[i], task);
	}
	if (params->prompt_column != NULL && strcmp(task, "generation") != 0 && !IsEmbeddingTask(task))
		ThrowUseless("prompt", task);
	if (IsEmbeddingTask(task) && params->batch_size == 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("parameter \"batch_size\" is 1, an embedding needs at least 2"),
						errdetail("A text is told from those of the other pairs of its batch.")));
	if (IsTextTask(task))
		return;
	if (regression && (params->class_weight != NULL || params->class_weight_balanced))
		ThrowUseless("class_weight", task);
	if (regression && params->label_smoothing > 0)
		ThrowUseless("label_smoothing", task);
	if (!regression && params->loss_given)
		ThrowUseless("loss", task);
}

json_t *
TaskSettings(const char *task, const train_params *params)
{
	json_t *settings = params_json(params);

	for (int i = 0; i < (int) lengthof(kind_settings); i++)
		if (!HasMeaning(kind_settings[i], task))
			json_object_del(settings, kind_settings[i]);
	return settings;
}

/* ---- the base model ---- */

/* Settings that decide the shape of a network, which the base model has fixed. */
const char *const base_settings[] = {
	"hidden", "activation", "layer_norm", "residual", "embed_dim", "one_hot_max", "text_buckets",   "layers", "image",
	"heads",  "kv_heads",   "ffn_dim",    "context",  "tokenizer", "vocab_size",  "source_context", NULL};

/* What else the base model has fixed when it predicts columns. */
const char *const base_row_settings[] = {"text", "ngrams", "pool", NULL};

const char *const base_embedding_settings[] = {"pool", NULL};

bool
ChangesTask(const manifest *base, const char *task)
{
	return base->target->kind == TARGET_TEXT && task != NULL && (!IsTextTask(task) || IsEmbeddingTask(task));
}

static const char *
GivenSetting(const json_t *user, const char *const *settings)
{
	while (*settings != NULL && json_object_get(user, *settings) == NULL)
		settings++;
	return *settings;
}

static void
CheckBaseSettings(const char *json, const manifest *base)
{
	llm_error err = {0};
	json_t *user = json_parse(json, strlen(json), &err);
	const char *given = GivenSetting(user, base_settings);

	if (given == NULL && base->target->kind != TARGET_TEXT)
		given = GivenSetting(user, base_row_settings);
	if (given == NULL && IsEmbeddingTask(base->task))
		given = GivenSetting(user, base_embedding_settings);
	json_decref(user);
	if (given != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("parameter \"%s\" cannot be set together with a base model", given),
						errhint("The network is that of the base model; leave the parameter out.")));
}

/* The live version of another model, which must be readable. */
static const manifest *
OpenOther(Oid relid)
{
	llm_error err = {0};
	int32 live;
	char *text;
	manifest *m;

	RequireModelTable(relid);
	RequirePredictPrivilege(relid);
	RequireWeightsPrivilege(relid);
	live = LiveVersion(relid);
	if (live == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("model \"%s\" has no live version", get_rel_name(relid)),
						errhint("Make one live: SELECT llm_promote('%s', 1);", get_rel_name(relid))));
	text = ReadManifestText(relid, live);
	m = manifest_parse(text, strlen(text), &err);
	if (m == NULL)
		ThrowError(&err);
	OWN(m, manifest_free);
	return m;
}

/* The model to start from. */
static const manifest *
OpenBase(Oid base, const char *params)
{
	const manifest *m = OpenOther(base);

	CheckBaseSettings(params, m);
	if (net_get_config(m->net)->members > 1)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("base model \"%s\" is a mean of %d networks", get_rel_name(base),
							   net_get_config(m->net)->members),
						errdetail("Only a single network can be trained further."),
						errhint("Train the base model with params => '{\"folds\": 0}', which makes one network.")));
	return m;
}

void
CheckBaseTarget(const manifest *base, const SourceRoles *roles, const char *task)
{
	const target *t = base->target;
	bool same = t->columns == roles->targets && (task == NULL || strcmp(task, base->task) == 0);

	if (ChangesTask(base, task))
		return;
	/* a language model goes on with texts of any column */
	for (int32 i = 0; i < t->columns && same && t->kind != TARGET_TEXT; i++)
		same = strcmp(t->names[i], roles->target_columns[i].name) == 0;
	if (!same)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the base model predicts another target"),
						errdetail("It is a %s of column \"%s\".", base->task, t->names[0]),
						errhint("Use the same target and task, or train without base.")));
}

/* The model that the setting names, which has a tokenizer; InvalidOid for a kind of tokenizer. */
static Oid
ResolveTokenizer(const char *name)
{
	static const char *const kinds[] = {"bpe", "characters", "bytes"};
	RangeVar *relation;
	Oid relid;

	for (int i = 0; i < (int) lengthof(kinds); i++)
		if (strcmp(name, kinds[i]) == 0)
			return InvalidOid;
	relation = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
	relid = RangeVarGetRelid(relation, NoLock, true);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("parameter \"tokenizer\" cannot be \"%s\"", name),
				 errhint("Use bpe, characters, bytes, or the name of a model with a tokenizer.")));
	if (OpenOther(relid)->tokenizer_bytes == 0)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("model \"%s\" has no tokenizer", name),
						errhint("Name a model that reads or learns texts token by token.")));
	return relid;
}

/* Without a base there is nothing to tune. */
static void
CheckNoTuning(const train_params *params)
{
	const char *given = params->lora_rank > 0 ? "lora_rank" : params->train_layers > 0 ? "train_layers" : NULL;

	if (given != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("parameter \"%s\" needs a base model", given),
				 errdetail("Random weights that stay as they are know nothing."),
				 errhint("Name the model to start from: base => 'model'.")));
}

static void
CopySettings(TrainingSpec *spec)
{
	spec->search_path = pstrdup(GetConfigOption("search_path", false, false));
	spec->timezone = pstrdup(GetConfigOption("TimeZone", false, false));
	spec->datestyle = pstrdup(GetConfigOption("DateStyle", false, false));
	spec->threads = llmapp_threads;
	spec->train_memory = llmapp_train_memory;
	spec->gpu_memory = llmapp_gpu_memory;
	spec->checkpoint_interval = llmapp_checkpoint_interval;
}

/* ---- the architecture ---- */

#define IMAGE_SIDE 8 /* tensors smaller than that are no pictures */

static bool
IsExcluded(const json_t *user, const char *name)
{
	size_t i;
	json_t *excluded;

	json_array_foreach(json_object_get(user, "exclude"), i, excluded)
		if (json_is_string(excluded) && strcmp(json_string_value(excluded), name) == 0)
			return true;
	return false;
}

/* Is an input declared as tensor(channels, height, width)? */
static bool
DeclaresImage(const TrainingSpec *spec, const json_t *user, TupleDesc tupdesc, Oid tensor)
{
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(tupdesc, i);
		int32 dims[4];

		if (a->atttypid == tensor && tensor_shape_decode(a->atttypmod, dims) == 3 && dims[0] <= 4 &&
			dims[1] >= IMAGE_SIDE && dims[2] >= IMAGE_SIDE && !IsExcluded(user, NameStr(a->attname)) &&
			(spec->target == NULL || strcmp(spec->target, NameStr(a->attname)) != 0))
			return true;
	}
	return false;
}

/* What params and columns ask for when the user names no architecture; schema: of the type tensor. */
static const char *
InferArchitecture(const TrainingSpec *spec, const char *task, TupleDesc tupdesc, Oid schema)
{
	Oid tensor = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("tensor"), ObjectIdGetDatum(schema));
	llm_error err = {0};
	json_t *user = json_parse(spec->params, strlen(spec->params), &err);
	const char *found = "mlp";

	if (user == NULL)
		ThrowError(&err);
	if (IsTextTask(task))
		found = strcmp(task, "generation") == 0 ? "gpt" : "bert";
	else if (json_object_get(user, "layers") != NULL)
		found = "layers";
	else if (json_object_get(user, "image") != NULL || DeclaresImage(spec, user, tupdesc, tensor))
		found = "cnn";
	json_decref(user);
	return found;
}

static void
ResolveArchitecture(TrainingSpec *spec, const char *architecture, const char *task, const manifest *base,
					TupleDesc tupdesc, Oid schema)
{
	if (architecture != NULL && base != NULL && strcmp(architecture, base->architecture) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the base model is of architecture \"%s\", not \"%s\"", base->architecture, architecture),
				 errhint("Leave the architecture out, or train without base.")));
	if (architecture == NULL)
		architecture = base != NULL ? base->architecture : InferArchitecture(spec, task, tupdesc, schema);
	spec->architecture = pstrdup(architecture);
}

/* Everything about source, target and params, in memory that goes with the caller's. */
static void
CheckQuery(TrainingSpec *spec, const char *architecture, const char *task, Oid schema)
{
	TupleDesc tupdesc = DescribeSource(spec->query);
	const manifest *base = OidIsValid(spec->base) ? OpenBase(spec->base, spec->params) : NULL;
	train_params *params;
	SourceRoles *roles;

	ResolveArchitecture(spec, architecture, task, base, tupdesc, schema);
	params = ResolveParams(spec->architecture, spec->params);
	if (base == NULL && params->architecture->bit & ARCH_TEXT)
		spec->tokenizer = ResolveTokenizer(params->tokenizer);
	if (task == NULL && base != NULL)
		task = base->task;
	roles = AssignRoles(tupdesc, spec->target, task, params, base);
	task = ResolveTask(task, params->architecture, roles);
	if (base != NULL)
		CheckBaseTarget(base, roles, task);
	else
		CheckNoTuning(params);
	if (!params->lora_merge && spec->model != NULL)
		RequireMayDepend(get_relname_relid(spec->model, get_namespace_oid(spec->schema, false)), spec->base);
	if (task != NULL)
		CheckTaskSettings(task, params);
	spec->task = task ? pstrdup(task) : NULL;
}

TrainingSpec *
PrepareTraining(const char *model, const char *source, const char *target, const char *task, const char *architecture,
				const char *params, Oid base, const char *device, Oid schema)
{
	TrainingSpec *spec = palloc0(sizeof(TrainingSpec));

	spec->device = ResolveDevice(device);
	spec->params = pstrdup(params ? params : "{}");
	spec->base = base;
	spec->target = target ? pstrdup(target) : NULL;
	if (model != NULL)
		ResolveModelName(model, &spec->schema, &spec->model);
	spec->query = SourceQuery(source);
	CheckQuery(spec, architecture, task, schema);
	CopySettings(spec);
	return spec;
}

/* ---- to and from JSON ---- */

static json_t *
TrainingSpecJson(const TrainingSpec *spec)
{
	json_t *json = json_object();

	SetSpecText(json, "schema", spec->schema);
	SetSpecText(json, "model", spec->model);
	SetSpecText(json, "query", spec->query);
	SetSpecText(json, "target", spec->target);
	SetSpecText(json, "task", spec->task);
	SetSpecText(json, "architecture", spec->architecture);
	SetSpecText(json, "params", spec->params);
	json_object_set_new(json, "base", json_integer(spec->base));
	json_object_set_new(json, "tokenizer", json_integer(spec->tokenizer));
	SetSpecText(json, "device", spec->device);
	SetSpecText(json, "search_path", spec->search_path);
	SetSpecText(json, "timezone", spec->timezone);
	SetSpecText(json, "datestyle", spec->datestyle);
	json_object_set_new(json, "threads", json_integer(spec->threads));
	json_object_set_new(json, "train_memory", json_integer(spec->train_memory));
	json_object_set_new(json, "gpu_memory", json_integer(spec->gpu_memory));
	json_object_set_new(json, "checkpoint_interval", json_integer(spec->checkpoint_interval));
	return json;
}

TrainingSpec *
TrainingSpecFromJson(const char *text, Size length)
{
	llm_error err = {0};
	json_t *json = json_parse(text, length, &err);
	TrainingSpec *spec = palloc0(sizeof(TrainingSpec));

	if (json == NULL)
		ThrowError(&err);
	spec->schema = GetSpecText(json, "schema");
	spec->model = GetSpecText(json, "model");
	spec->query = GetSpecText(json, "query");
	spec->target = GetSpecText(json, "target");
	spec->task = GetSpecText(json, "task");
	spec->architecture = GetSpecText(json, "architecture");
	spec->params = GetSpecText(json, "params");
	spec->base = (Oid) json_integer_value(json_object_get(json, "base"));
	spec->tokenizer = (Oid) json_integer_value(json_object_get(json, "tokenizer"));
	spec->device = GetSpecText(json, "device");
	spec->search_path = GetSpecText(json, "search_path");
	spec->timezone = GetSpecText(json, "timezone");
	spec->datestyle = GetSpecText(json, "datestyle");
	spec->threads = json_integer_value(json_object_get(json, "threads"));
	spec->train_memory = json_integer_value(json_object_get(json, "train_memory"));
	spec->gpu_memory = json_integer_value(json_object_get(json, "gpu_memory"));
	spec->checkpoint_interval = json_integer_value(json_object_get(json, "checkpoint_interval"));
	json_decref(json);
	if (!spec->schema || !spec->model || !spec->query || !spec->architecture || !spec->params || !spec->search_path ||
		!spec->timezone || !spec->datestyle)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the description of the job is incomplete")));
	return spec;
}

/* ---- llm_train ---- */

/* llm_train(model, source, target, task, architecture, params, base, device, wait) */
Datum
llm_train(PG_FUNCTION_ARGS)
{
	char *name = RequireText(fcinfo, 0, "llm_train()", "model");
	char *source = RequireText(fcinfo, 1, "llm_train()", "source");
	char *params = NULL;
	bool wait = !PG_ARGISNULL(8) && PG_GETARG_BOOL(8);
	JobRequest request = {.kind = "train", .function = "llm_train()", .verb = "train"};
	TrainingSpec *spec;

	RequireSubmission(request.function, request.verb, wait);
	if (!PG_ARGISNULL(5))
	{
		Jsonb *given = PG_GETARG_JSONB_P(5);

		params = JsonbToCString(NULL, &given->root, VARSIZE(given));
	}
	spec = PrepareTraining(name, source, TextArgument(fcinfo, 2), TextArgument(fcinfo, 3), TextArgument(fcinfo, 4),
						   params, PG_ARGISNULL(6) ? InvalidOid : PG_GETARG_OID(6), TextArgument(fcinfo, 7),
						   get_func_namespace(fcinfo->flinfo->fn_oid));
	request.model = quote_qualified_identifier(spec->schema, spec->model);
	request.device = spec->device;
	request.spec = TrainingSpecJson(spec);
	PG_RETURN_INT64(SubmitJob(&request, wait));
}
