/*
 * quantise.c
 *	  A version whose weights are kept in fewer bits than those of the live one: llm_quantise().
 *
 * It is published as every other, and goes live when llm_promote() says so.  Its manifest is that of the live version
 * but for tensors and checksum; its metrics are those of the live version, too.  Of a version that is kept apart from
 * its base it is the whole, without one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "../common.h"
#include "parts.h"

PG_FUNCTION_INFO_V1(llm_quantise);

#define CHUNK_NUMBERS (1024 * 1024) /* a multiple of QUANT_BLOCK */

static weight_type
ParseType(const char *name)
{
	weight_type type;

	if (!weight_type_parse(name, &type))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("weights cannot be kept as \"%s\"", name),
						errhint("Use f32, bf16, f16, q8_0 or q4_0.")));
	return type;
}

/* The network of a model with its matrices in the type, freed with the current memory context. */
static const net *
NetworkInType(const Model *model, weight_type type)
{
	const net_config *config = net_get_config(model->manifest->net);
	llm_error err = {0};
	net *n;

	if (net_predicts_rows(config))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("model \"%s\" is no language model and embeds no texts", ModelName(model->relid)),
						errdetail("Only networks that read tokens alone can be kept in fewer bits.")));
	n = net_new(config, &err);
	if (n == NULL)
		ThrowError(&err);
	OWN(n, net_free);
	net_keep_all(n, type);
	if (net_kept_type(n) != type)
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("no matrix of model \"%s\" can be kept as %s", ModelName(model->relid), weight_type_name(type)),
			 errdetail("Their rows are %d numbers long; blocks have %d.", config->text.width, QUANT_BLOCK)));
	return n;
}

static void
WriteWeights(VersionWriter *w, const Model *model, const net *to)
{
	float *numbers = palloc(CHUNK_NUMBERS * sizeof(float));

	for (int32 i = 0; i < net_tensor_count(to); i++)
	{
		size_t count = net_tensor(to, i)->count;

		for (size_t at = 0; at < count; at += CHUNK_NUMBERS)
		{
			size_t part = Min(count - at, CHUNK_NUMBERS);

			CHECK_FOR_INTERRUPTS();
			net_decode_tensor(model->manifest->net, i, at, part, model->weights, numbers);
			WriteNumbers(w, to, i, at, numbers, part);
		}
	}
	pfree(numbers);
}

/* What the live version's says, of these weights. */
static char *
NewManifest(const Model *model, const net *n, Size tokenizer_size, const char *sha256)
{
	json_t *json = json_deep_copy(model->manifest->json);
	const char *type = weight_type_name(net_kept_type(n));

	OWN(json, json_decref);
	manifest_keep(json, n, tokenizer_size, sha256);
	json_object_set_new(json_object_get(json, "settings"), "weights",
						json_pack("{s:s, s:s}", "value", type, "source", "user"));
	json_object_set_new(json_object_get(json, "lineage"), "quantised_from", json_integer(model->version));
	return ManifestText(json);
}

Datum
llm_quantise(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	weight_type type = ParseType(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	VersionWriter *w;
	const void *tokenizer;
	Size tokenizer_size;
	const char *sha256;
	const net *n;
	Model *model;

	PreventCommandDuringRecovery("llm_quantise()");
	PreventCommandIfReadOnly("llm_quantise()");
	RequireModelTable(relid);
	RequireWeightsPrivilege(relid);
	model = OpenModel(relid, 0, CurrentMemoryContext);
	n = NetworkInType(model, type);
	tokenizer = ModelTokenizer(model, &tokenizer_size);
	w = BeginVersion(relid);
	WriteWeights(w, model, n);
	sha256 = EndWeights(w, n, tokenizer, tokenizer_size);
	PG_RETURN_INT32(EndVersion(w, NewManifest(model, n, tokenizer_size, sha256)));
}
