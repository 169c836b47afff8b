/*
 * llmapp.c
 *	  Module load: settings, kinds of jobs, hooks of the subsystems.
 *
 * Loading does nothing but define settings: no BLAS, no CUDA, no thread.  When the
 * library is preloaded, the launcher is registered too (src/job/launcher.c).
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "common.h"
#include "embed/embed.h"
#include "infer/infer.h"
#include "job/job.h"
#include "score/scoring.h"
#include "serve/batching.h"
#include "serve/explain.h"
#include "serve/stat.h"
#include "train/training.h"
#include "transfer/transfer.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);
PG_FUNCTION_INFO_V1(llm_version);

void
_PG_init(void)
{
	if (IsBinaryUpgrade)
		return;
	DefineSettings();
	InitJobs();
	DefineJobKind("train", "training", RunTraining, NULL);
	DefineJobKind("score", "scoring with", RunScoring, NULL);
	DefineJobKind("import", "importing", RunImport, NULL);
	DefineJobKind("embed", "embedding with", RunEmbedding, FindEmbeddingJob);
	if (process_shared_preload_libraries_in_progress)
	{
		RequestStatMemory();
		InitInference();
		InstallBatching();
		InstallExplain();
	}
}

Datum
llm_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(LLMAPP_VERSION));
}
