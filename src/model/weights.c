/*
 * weights.c
 *	  The whole weights of a version: what its rows hold, or that and its base.
 *
 * The weights of a base come from its own cache file, or its rows.  They, what the rows of the version
 * hold, and the sum of both are each compared with the checksum of a manifest, so a base that is not the
 * one of the training never gives a prediction.
 */
#include "postgres.h"

#include <sys/mman.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../common.h"
#include "base.h"
#include "cache.h"

/* A sink of weights that go to one block of memory. */
typedef struct MemoryWriter
{
	char *next;
} MemoryWriter;

static bool
WriteToMemory(void *arg, const char *bytes, Size length)
{
	MemoryWriter *writer = arg;

	memcpy(writer->next, bytes, length);
	writer->next += length;
	return true;
}

/* ---- what is kept apart, and its base ---- */

/* What the rows of a version hold, in memory. */
static const float *
ReadStored(const ModelTable *table, int32 version, const manifest *m)
{
	char *stored = MemoryContextAllocHuge(CurrentMemoryContext, m->adapter->bytes + 1);
	MemoryWriter writer = {stored};

	(void) ReadWeights(table, version, m, WriteToMemory, &writer);
	return (const float *) stored;
}

/* The two parts of a version. */
typedef struct Parts
{
	MemoryContext cxt; /* holds what follows */
	const manifest *m;
	adapter_view *view;
	const char *tokenizer; /* of the base */
} Parts;

static Parts
OpenParts(const ModelTable *table, int32 version, const manifest *m)
{
	Parts parts = {AllocSetContextCreate(CurrentMemoryContext, "llmapp base", ALLOCSET_DEFAULT_SIZES), m};
	MemoryContext old;
	ModelTable base;
	manifest *base_manifest;
	const void *weights;
	llm_error err = {0};

	old = MemoryContextSwitchTo(parts.cxt);
	OpenBase(&base, table, version, m->adapter, &base_manifest);
	if (base_manifest->tokenizer_bytes != m->tokenizer_bytes)
		ThrowDamaged(table->relid, version, "Its base has another tokenizer.");
	weights = LoadWeights(&base, m->adapter->version, base_manifest);
	CloseModelTable(&base, NoLock);
	parts.tokenizer = (const char *) weights + net_kept_bytes(base_manifest->net);
	parts.view = adapter_open(m->adapter, ReadStored(table, version, m), base_manifest->net, weights, &err);
	if (parts.view == NULL && err.code == LLM_CORRUPT)
		ThrowDamaged(table->relid, version, "%s.", err.message);
	if (parts.view == NULL)
		ThrowError(&err);
	OWN(parts.view, adapter_close);
	MemoryContextSwitchTo(old);
	return parts;
}

/* The next bytes of network and tokenizer, at most MODEL_PART_BYTES of one of them. */
static Size
ReadPiece(const Parts *parts, Size position, char *piece)
{
	Size network = net_weight_bytes(parts->m->net);
	bool in_network = position < network;
	Size length = Min((in_network ? network : parts->m->weight_bytes) - position, MODEL_PART_BYTES);

	if (in_network)
		adapter_read(parts->view, position / sizeof(float), length / sizeof(float), (float *) piece);
	else
		memcpy(piece, parts->tokenizer + (position - network), length);
	return length;
}

/* As ReadWeights(), of the sum of both. */
static bool
JoinParts(const ModelTable *table, int32 version, const manifest *m, PartSink sink, void *arg)
{
	Parts parts = OpenParts(table, version, m);
	pg_cryptohash_ctx *hash = BeginHash();
	char *piece = palloc(MODEL_PART_BYTES);
	bool wanted = true;
	char hex[65];

	for (Size position = 0, length; wanted && position < m->weight_bytes; position += length)
	{
		CHECK_FOR_INTERRUPTS();
		length = ReadPiece(&parts, position, piece);
		HashBytes(hash, piece, length);
		wanted = sink(arg, piece, length);
	}
	pfree(piece);
	EndHash(hash, hex);
	if (wanted && strcmp(hex, m->sha256) != 0)
		ThrowDamaged(table->relid, version,
					 "Its base and what it adds do not have the SHA-256 of the manifest together.");
	MemoryContextDelete(parts.cxt);
	return wanted;
}

/* ---- the whole ---- */

/* As ReadWeights(). */
static bool
GiveWeights(const ModelTable *table, int32 version, const manifest *m, PartSink sink, void *arg)
{
	return (m->adapter == NULL ? ReadWeights : JoinParts)(table, version, m, sink, arg);
}

/* Where weights are; lives in the memory context that owns them. */
typedef struct Weights
{
	MemoryContextCallback release;
	WeightFile file; /* without bytes: none */
	void *memory;    /* of this process, or NULL */
} Weights;

static void
CopyWeights(Weights *weights, const ModelTable *table, int32 version, const manifest *m)
{
	MemoryWriter writer;

	if (posix_memalign(&weights->memory, 64, m->weight_bytes) != 0)
	{
		weights->memory = NULL;
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("out of memory for the weights of model \"%s\"", ModelName(table->relid)),
						errdetail("They have %zu bytes.", m->weight_bytes)));
	}
	writer.next = weights->memory;
	(void) GiveWeights(table, version, m, WriteToMemory, &writer);
}

static void
ReleaseWeights(void *arg)
{
	Weights *weights = arg;

	if (weights->file.bytes > 0)
		(void) munmap(weights->file.memory, weights->file.bytes);
	free(weights->memory);
}

const void *
LoadWeights(const ModelTable *table, int32 version, const manifest *m)
{
	Weights *weights = palloc0(sizeof(Weights));

	weights->release.func = ReleaseWeights;
	weights->release.arg = weights;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &weights->release);
	if (MapWeightFile(&weights->file, table, version, m, GiveWeights))
		return weights->file.weights;
	CopyWeights(weights, table, version, m);
	return weights->memory;
}

static bool
Ignore(void *arg, const char *bytes, Size length)
{
	return true;
}

void
CheckWeights(Oid relid, int32 version)
{
	ModelTable table;
	RowIdentity identity;
	manifest *m;
	char *text;

	OpenModelTable(&table, relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	if (!FindManifest(&table, version, &identity, &text))
		ThrowNoVersion(relid, version);
	m = ParseManifest(relid, version, text);
	(void) ListBases(&table, version, m);
	(void) GiveWeights(&table, version, m, Ignore, NULL);
	CloseModelTable(&table, NoLock);
}
