/*
 * model.h
 *	  Model tables: create, publish, promote, open.
 *
 * A model is a table OF llmapp.model_part with primary key (version, part).  Row (0, 0)
 * of kind 'head' holds {"live": version}; part 0 of a version is its manifest, parts
 * 1..n of kind 'weights' are its bytes, at most 1 MiB each.  Writers hold
 * ShareUpdateExclusiveLock on the table, so versions are numbered without gaps or
 * races; readers use their snapshot.
 */
#ifndef LLMAPP_MODEL_H
#define LLMAPP_MODEL_H

#include "utils/palloc.h"

#include "../manifest/manifest.h"

#define MODEL_PART_BYTES (1024 * 1024)

typedef enum DeployPolicy
{
	DEPLOY_IF_BETTER,
	DEPLOY_ALWAYS,
	DEPLOY_NEVER
} DeployPolicy;

/* ---- write (in the caller's transaction, as the caller) ---- */

/*
 * Schema and table for the name that a user gives a model: one that the search path finds, or a
 * new one in the first schema where it may be created.  ERROR where CheckModelName() has one.
 */
extern void ResolveModelName(const char *model, char **schema, char **name);
/* Check that `name` can become, or is, a model the current user may write; InvalidOid when it is to be created. */
extern Oid CheckModelName(const char *schema, const char *name);
/* That model, created when there is none. */
extern Oid EnsureModelTable(const char *schema, const char *name);
/* What a version holds beside its manifest. */
typedef struct WeightBytes
{
	const void *network;
	Size network_size;
	const void *tokenizer; /* of a language model */
	Size tokenizer_size;
} WeightBytes;

/* SHA-256 as 64 hexadecimal digits and a terminator, as a manifest holds it. */
extern void HashWeights(const WeightBytes *weights, char *hex);
/* The text of a manifest in the server's encoding, to publish; palloc'd. */
extern char *ManifestText(const json_t *json);
/* Returns the new version.  manifest comes from manifest_build(). */
extern int32 PublishVersion(Oid relid, const char *manifest_text, const WeightBytes *weights);

/*
 * The same for weights that are larger than memory: WriteNumbers() puts numbers of a tensor from `begin` on, whole
 * blocks, into the type in which the network keeps it, ERROR where that cannot hold them; tensors and their numbers
 * come in order.  EndWeights(), with the tokenizer, returns the SHA-256 for the manifest with which EndVersion()
 * ends.  All in one transaction.
 */
typedef struct VersionWriter VersionWriter;
extern VersionWriter *BeginVersion(Oid relid);
extern void WriteNumbers(VersionWriter *w, const net *n, int32 tensor, Size begin, const float *numbers, Size count);
extern const char *EndWeights(VersionWriter *w, const net *n, const void *tokenizer, Size tokenizer_size);
extern int32 EndVersion(VersionWriter *w, const char *manifest_text);

/*
 * For versions that are kept apart from the base they were trained from: ERROR unless the current user may let a
 * model, new when relid is invalid, depend on this base; let it depend, with the base locked so that none of its
 * versions is dropped before the transaction ends; ERROR unless the weights of a version are what its manifest says.
 */
extern void RequireMayDepend(Oid relid, Oid base);
extern void DependOnBase(Oid relid, Oid base);
extern void CheckWeights(Oid relid, int32 version);
/* A snapshot that sees what this transaction did, and others before its locks. */
extern void RenewSnapshot(void);
/* Make a version live; 0 is not a version. */
extern void PromoteVersion(Oid relid, int32 version);
extern int32 LiveVersion(Oid relid); /* 0 when none; by the active snapshot */

/* ---- read ---- */

/* One open version.  Valid while pinned. */
typedef struct Model
{
	Oid relid;
	int32 version;
	manifest *manifest;
	const void *weights;  /* as manifest->net keeps them: shared, read-only, 64-byte aligned */
	predictor *predictor; /* for one row at a time; NULL for a language model */
	predictor *bulk;      /* for many rows, made on first use by ModelBulkPredictor() */
} Model;

#define MODEL_BULK_ROWS 256

extern void RequireModelTable(Oid relid);       /* ERROR unless a sound model table */
extern void RequirePredictPrivilege(Oid relid); /* SELECT on column meta */
extern void RequireWeightsPrivilege(Oid relid); /* SELECT on column data */

/*
 * Open the live version (version = 0) or a given one, pinned until cxt is reset.  Checks
 * relation, privileges to predict, manifest and weights; ERROR otherwise.
 */
extern Model *OpenModel(Oid relid, int32 version, MemoryContext cxt);
/* ERROR with a hint what the model is for, unless it predicts rows, or texts, or reads the tokens of a text. */
extern void RequireRowModel(const Model *m);
extern void RequireLanguageModel(const Model *m);
extern void RequireTokenModel(const Model *m);
extern void RequireLabelModel(const Model *m); /* unless it labels tokens */
/*
 * True while m is what OpenModel would return to this user: cheap enough for every row.
 * False after publish, promote, drop, or in another statement's snapshot.
 */
extern bool ModelIsCurrent(const Model *m);
/* The tokenizer of a model that reads tokens, as a version holds it, behind the weights. */
extern const void *ModelTokenizer(const Model *m, Size *size);
/* A tokenizer used where it lies, freed with the current memory context; ERROR when it is damaged. */
extern tokenizer *OpenTokenizer(const void *block, Size size, llm_poll poll);
/* Its batch has room for MODEL_BULK_ROWS rows, or fewer where rows take much memory. */
extern predictor *ModelBulkPredictor(Model *m);
extern int32 ModelBulkRows(Model *m);

/* The manifest's text of a version, without opening weights; palloc'd. */
extern char *ReadManifestText(Oid relid, int32 version);

#endif /* LLMAPP_MODEL_H */
