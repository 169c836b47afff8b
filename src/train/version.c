/*
 * version.c
 *	  From a finished training to a published version of its model.
 *
 * Everything happens in one transaction as the submitter: the table, the version, its
 * going live and the job's success are visible together or not at all.  The table is
 * locked before the live version is looked at, so of two trainings that end at the same
 * time the second compares itself with the first.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "../model/model.h"
#include "corpus.h"
#include "../job/gpu.h"
#include "version.h"

static json_t *
ServerString(const char *string)
{
	return json_string(pg_server_to_any(string, strlen(string), PG_UTF8));
}

static json_t *
FindingsJson(const finding *list)
{
	json_t *json = json_array();

	for (; list != NULL; list = list->next)
	{
		json_t *entry = json_object();

		json_object_set_new(entry, "column", ServerString(list->column));
		json_object_set_new(entry, "kind", json_string(list->kind));
		json_object_set_new(entry, "dropped", json_boolean(list->dropped));
		json_object_set_new(entry, "message", ServerString(list->message));
		json_array_append_new(json, entry);
	}
	return json;
}

static json_t *
LineageJson(const TrainedNetwork *trained)
{
	const Dataset *d = trained->data;
	json_t *json = json_object();

	json_object_set_new(json, "query", ServerString(trained->spec->query));
	json_object_set_new(json, "rows", json_integer(d->rows));
	json_object_set_new(json, "rows_read", json_integer(d->rows_read));
	json_object_set_new(json, "training_rows", json_integer(d->training_rows));
	json_object_set_new(json, "validation_rows", json_integer(d->held_out_rows));
	json_object_set_new(json, "fingerprint", json_string(psprintf("%016llx", (unsigned long long) d->fingerprint)));
	json_object_set_new(json, "seed", json_integer(trained->params->seed));
	json_object_set_new(json, "device", json_string(DeviceName()));
	json_object_set_new(json, "extension_version", json_string(LLMAPP_VERSION));
	json_object_set_new(json, "job", json_integer(trained->job));
	json_object_set_new(json, "trained_at", json_string(timestamptz_to_str(GetCurrentTimestamp())));
	json_object_set_new(json, "steps", json_integer(trained->state->step));
	json_object_set_new(json, "epochs", json_integer(trained->state->epoch));
	json_object_set_new(json, "best_epoch", json_integer(trained->state->best_epoch));
	json_object_set_new(json, "seconds", json_real(trained->state->elapsed));
	if (trained->base != NULL)
	{
		char *name = get_rel_name(trained->base->relid);

		json_object_set_new(json, "base", name ? ServerString(name) : json_null());
		json_object_set_new(json, "base_version", json_integer(trained->base->version));
	}
	return json;
}

static bool
KeepsApart(const TrainedNetwork *trained)
{
	return !trained->params->lora_merge;
}

/* The network with the types that its version keeps, freed with the current memory context. */
static const net *
KeptNetwork(const TrainedNetwork *trained)
{
	llm_error err = {0};
	net *kept = net_new(net_get_config(trained->net), &err);

	if (kept == NULL)
		ThrowError(&err);
	OWN(kept, net_free);
	net_keep_all(kept, trained->params->weights);
	net_keep_fitting(kept, trained->weights);
	return kept;
}

static WeightBytes
TrainedBytes(const TrainedNetwork *trained, const net *kept)
{
	const Corpus *corpus = trained->data->corpus;
	const void *bytes = trained->weights;
	llm_error err = {0};

	if (net_kept_type(kept) != WEIGHT_F32)
	{
		void *encoded = MemoryContextAllocHuge(CurrentMemoryContext, net_kept_bytes(kept));

		if (!net_encode(kept, trained->weights, encoded, &err))
			ThrowError(&err);
		bytes = encoded;
	}
	return (WeightBytes) {.network = bytes,
						  .network_size = net_kept_bytes(kept),
						  .tokenizer = corpus ? corpus->tokenizer_block : NULL,
						  .tokenizer_size = corpus ? corpus->tokenizer_size : 0};
}

/* What is stored when the version is kept apart, and "adapter" of the manifest, which says so. */
static WeightBytes
AddedBytes(const TrainedNetwork *trained, json_t *manifest)
{
	const Model *base = trained->base;
	const train_params *p = trained->params;
	char *name = get_rel_name(base->relid);
	llm_error err = {0};
	adapter *a = adapter_new(trained->net, trained->weights, base->manifest->net, base->weights, trained->matrices,
							 p->lora_rank, (float) p->lora_alpha, &err);
	float *stored;
	WeightBytes bytes;

	if (a == NULL)
		ThrowError(&err);
	OWN(a, adapter_free);
	name = pg_server_to_any(name ? name : "", name ? strlen(name) : 0, PG_UTF8);
	if (!adapter_set_base(a, name, base->version, base->manifest->sha256, &err))
		ThrowError(&err);
	stored = MemoryContextAllocHuge(CurrentMemoryContext, a->bytes + 1);
	adapter_store(a, trained->weights, trained->matrices,
				  trained->weights + net_weight_bytes(trained->net) / sizeof(float), stored);
	bytes = (WeightBytes) {.network = stored, .network_size = a->bytes};
	HashWeights(&bytes, a->sha256);
	json_object_set_new(manifest, "adapter", adapter_json(a));
	return bytes;
}

/* The manifest's text in the server's encoding, and what is stored beside it. */
static char *
ManifestOf(const TrainedNetwork *trained, json_t *findings, WeightBytes *stored)
{
	const Dataset *d = trained->data;
	const net *kept = KeptNetwork(trained);
	WeightBytes weights = TrainedBytes(trained, kept);
	char sha256[65];
	json_t *manifest;
	char *text;
	char *result;

	HashWeights(&weights, sha256);
	manifest = manifest_build(trained->spec->architecture, d->task, kept, d->encoder, d->target,
							  weights.tokenizer_size, sha256, TaskSettings(d->task, trained->params),
							  trained->evaluation, findings, LineageJson(trained));
	if (manifest && trained->base != NULL && trained->base->manifest->chat_template != NULL &&
		!encoder_has_tokens(d->encoder)) /* which is asked by its prompts alone */
		json_object_set_new(manifest, "chat_template", json_string(trained->base->manifest->chat_template));
	*stored = KeepsApart(trained) && manifest ? AddedBytes(trained, manifest) : weights;
	text = manifest ? json_text(manifest) : NULL;
	json_decref(manifest);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not write the manifest of the model"),
						errdetail("Memory is used up, or a name or label is not valid UTF-8.")));
	result = pstrdup(pg_any_to_server(text, strlen(text), PG_UTF8));
	free(text);
	return result;
}

/* ---- going live ---- */

/* The metric by which versions are compared. */
static const char *
ScoreName(const target *t)
{
	return t->kind == TARGET_CLASS ? "log_loss" : t->kind == TARGET_NUMBER ? "rmse" : "loss";
}

/* Score of the live version; NAN when it cannot be compared with this training. */
static double
LiveScore(Oid relid, int32 live, const TrainedNetwork *trained)
{
	const target *mine = trained->data->target;
	const char *metric = ScoreName(mine);
	char *text = ReadManifestText(relid, live);
	llm_error err = {0};
	manifest *m = manifest_parse(text, strlen(text), &err);
	json_t *score;
	double result = NAN;

	if (m == NULL)
		return NAN;
	score = json_object_get(json_object_get(json_object_get(m->json, "metrics"), "metrics"), metric);
	if (json_is_number(score) && strcmp(m->task, trained->data->task) == 0 && m->target->columns == mine->columns &&
		strcmp(m->target->names[0], mine->names[0]) == 0)
		result = json_number_value(score);
	manifest_free(m);
	return result;
}

/* Whether the new version goes live; *why says why not. */
static bool
GoesLive(Oid relid, int32 live, const TrainedNetwork *trained, const char **why)
{
	double score;

	if (strcmp(trained->params->deploy, "always") == 0)
		return true;
	*why = "deploy is never";
	if (strcmp(trained->params->deploy, "never") == 0)
		return false;
	if (live == 0)
		return true;
	score = LiveScore(relid, live, trained);
	if (isnan(score) || trained->score <= score)
		return true;
	*why = psprintf("%s is %g, that of the live version %d is %g", ScoreName(trained->data->target), trained->score,
					live, score);
	return false;
}

static void
ReportVersion(int32 version, bool live, const char *why)
{
	JobReport("version", json_integer(version));
	JobReport("live", json_boolean(live));
	if (!live)
		JobReport("not_live_because", json_string(why));
}

void
PublishTraining(const TrainedNetwork *trained)
{
	MemoryContext cxt = CurrentMemoryContext;
	json_t *findings = FindingsJson(trained->data->findings);
	WeightBytes stored;
	const char *why = NULL;
	char *manifest;
	Oid relid;
	int32 before;
	int32 version;
	bool live;

	JobPhase("saving", 0);
	JobReport("findings", json_incref(findings));
	StartTransactionCommand();
	RenewSnapshot();
	relid = EnsureModelTable(trained->spec->schema, trained->spec->model);
	if (KeepsApart(trained))
		DependOnBase(relid, trained->base->relid);
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	RenewSnapshot();
	before = LiveVersion(relid);
	live = GoesLive(relid, before, trained, &why);
	manifest = ManifestOf(trained, findings, &stored);
	version = PublishVersion(relid, manifest, &stored);
	RenewSnapshot();
	if (KeepsApart(trained))
		CheckWeights(relid, version);
	if (live)
		PromoteVersion(relid, version);
	ReportVersion(version, live, why);
	JobSucceeded(quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)),
				 version);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}
