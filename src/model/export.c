/*
 * export.c
 *	  A model's live version as the bytes of a safetensors file: llm_export().
 *
 * The tensors have PyTorch's names and orders, so the file can be read without llmapp; the
 * manifest in its metadata makes the same model of it again, preprocessing included.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../manifest/tensor_file.h"
#include "parts.h"

PG_FUNCTION_INFO_V1(llm_export);

#define EXPORT_MAX (MaxAllocSize - VARHDRSZ)

/* "format" is what PyTorch's readers ask for. */
static json_t *
Metadata(const manifest *m)
{
	char *text = json_text(m->json);
	json_t *metadata = json_pack("{s:s, s:s}", "format", "pt", "llmapp", text ? text : "");

	free(text);
	if (text == NULL || json_memory_failed())
	{
		json_decref(metadata);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory while writing the model's manifest")));
	}
	return metadata;
}

/* The layout of the file, freed with the current memory context. */
static tensor_file *
PlanFile(const exchange *x, const manifest *m)
{
	tensor_file *file = palloc(sizeof(tensor_file));
	json_t *metadata = Metadata(m);
	llm_error err = {0};
	bool ok = tensor_file_plan(file, x, metadata, &err);

	json_decref(metadata);
	if (!ok)
		ThrowError(&err);
	OWN(file, tensor_file_free);
	return file;
}

Datum
llm_export(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	llm_error err = {0};
	exchange x;
	tensor_file *file;
	Model *model;
	bytea *result;

	RequireModelTable(relid);
	RequireWeightsPrivilege(relid);
	model = OpenModel(relid, 0, CurrentMemoryContext);
	if (model->manifest->tokenizer_bytes > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("model \"%s\" is a language model", ModelName(relid)),
				 errdetail("A file of tensors does not hold its tokenizer."),
				 errhint("Move it as a table: pg_dump --table=%s", ModelName(relid))));
	if (!exchange_init(&x, model->manifest->net, ORDER_PYTORCH, &err))
		ThrowError(&err);
	file = PlanFile(&x, model->manifest);
	if (file->bytes > EXPORT_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("model \"%s\" is too large for a value of type bytea", ModelName(relid)),
						errdetail("The file would have %zu bytes; bytea holds at most %zu.", file->bytes,
								  (Size) EXPORT_MAX)));
	result = palloc(VARHDRSZ + file->bytes);
	SET_VARSIZE(result, VARHDRSZ + file->bytes);
	if (!tensor_file_write(file, &x, model->weights, (uint8 *) VARDATA(result), InterruptRequested, NULL, &err))
		ThrowError(&err);
	PG_RETURN_BYTEA_P(result);
}
