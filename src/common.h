/*
 * common.h
 *	  What every part of the extension that includes postgres.h shares: settings,
 *	  catalog names, and the bridge from code that knows nothing of PostgreSQL.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_COMMON_H
#define LLMAPP_COMMON_H

#include "utils/palloc.h"

#include "compat.h"
#include "engine/error.h"

#define LLMAPP_SCHEMA "llmapp"
#define JOB_SLOTS 32 /* most jobs running at once in a cluster */

extern void DefineSettings(void); /* at module load */

extern char *llmapp_device;            /* auto, cpu, cuda, cuda:N */
extern int llmapp_threads;             /* 0 = half the processors, at most 4 */
extern int llmapp_train_memory;        /* kB */
extern int llmapp_cache_size;          /* MB of weight cache files */
extern int llmapp_gpu_memory;          /* kB of a GPU that a job may use, 0: what is free */
extern int llmapp_max_gpu_jobs;        /* jobs on one GPU at once */
extern char *llmapp_inference_device;  /* auto, off, cpu, cuda, cuda:N; NULL unless preloaded */
extern int llmapp_gpu_queue_timeout;   /* ms */
extern int llmapp_max_jobs;            /* jobs running at once in the cluster */
extern int llmapp_checkpoint_interval; /* seconds */
extern bool llmapp_progress_notices;   /* NOTICE while llm_train(wait => true) waits */
extern bool llmapp_batch_predictions;  /* plain predictions may become batched ones, when preloaded */
extern char *llmapp_databases;         /* databases the launcher looks after */

/* A device failed under a job, which another worker can go on with; class 58 is "system error". */
#define ERRCODE_DEVICE_LOST MAKE_SQLSTATE('5', '8', 'L', '0', '1')

/* In the postmaster, when preloaded: room for a structure of shared memory, whose size is asked for when settings are read. */
extern void RequestSharedMemory(Size (*bytes)(void));

/* Raise a failure of PostgreSQL-free code as ERROR; the code picks the SQLSTATE. */
pg_noreturn extern void ThrowError(const llm_error *err);

/* InvalidOid when there is no such relation. */
extern Oid RelationOwner(Oid relid);

/* The table that the stored expression 'table'::regclass IS NOT NULL names; InvalidOid for any other. */
extern Oid NamedTable(const char *expression);

/* llm_poll of a session: true when its statement is to end; raises nothing. */
extern bool InterruptRequested(void *arg);

/* Threads of a job: llmapp.threads, or the number that 0 stands for. */
extern int32 ThreadCount(void);

/*
 * A value of type jsonb as format/json.h has it, in UTF-8, freed with the current memory context; the second one
 * is the argument "params" of a call, ERROR unless it is an object.
 */
struct json_t;
extern struct json_t *JsonOfJsonb(Datum jsonb);
extern struct json_t *JsonOfParams(Datum jsonb);

/* Free an object of PostgreSQL-free code together with the current memory context. */
extern void OwnObject(void *object, MemoryContextCallbackFunction release);
#define OWN(object, release) OwnObject((object), (MemoryContextCallbackFunction) (release))

/* Oid of schema llmapp's relation or type `name`; ERROR with a hint when the extension is not installed. */
extern Oid LlmappRelationOid(const char *name);
extern Oid LlmappTypeOid(const char *name);

/* Owner of the extension, under whose id own tables are written. */
extern Oid LlmappOwner(void);

#endif /* LLMAPP_COMMON_H */
