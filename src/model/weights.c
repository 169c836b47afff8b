/*
 * weights.c
 *	  The whole weights of a version: what its rows hold, or that and its base.
 *
 * The weights of a base come from its own cache file, or its rows.  They, what the rows of the version
 * hold, and the sum of both are each compared with the checksum of a manifest, so a base that is not the
 * one of the training never gives a prediction.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../common.h"
#include "base.h"
#include "cache.h"

/* What the rows of a version hold, in memory. */
static const float *
ReadStored(const ModelTable *table, int32 version, const manifest *m)
{
	char *stored = MemoryContextAllocHuge(CurrentMemoryContext, m->adapter->bytes + 1);
	MemoryWriter writer = {stored};

	(void) ReadWeights(table, version, m, WriteToMemory, &writer);
	return (const float *) stored;
}

void
OpenWeightSource(WeightSource *source, const ModelTable *table, int32 version, const manifest *m)
{
	MemoryContext old;
	ModelTable base;
	manifest *base_manifest;
	const float *weights;
	llm_error err = {0};

	*source = (WeightSource) {.table = table, .version = version, .m = m};
	if (m->adapter == NULL)
		return;
	source->cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp base", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(source->cxt);
	OpenBase(&base, table, version, m->adapter, &base_manifest);
	if (base_manifest->tokenizer_bytes != m->tokenizer_bytes)
		ThrowDamaged(table->relid, version, "Its base has another tokenizer.");
	weights = LoadWeights(&base, m->adapter->version, base_manifest);
	CloseModelTable(&base, NoLock);
	source->tokenizer = (const char *) weights + net_weight_bytes(base_manifest->net);
	source->view = adapter_open(m->adapter, ReadStored(table, version, m), base_manifest->net, weights, &err);
	if (source->view == NULL && err.code == LLM_CORRUPT)
		ThrowDamaged(table->relid, version, "%s.", err.message);
	if (source->view == NULL)
		ThrowError(&err);
	OWN(source->view, adapter_close);
	MemoryContextSwitchTo(old);
}

void
CloseWeightSource(WeightSource *source)
{
	if (source->cxt != NULL)
		MemoryContextDelete(source->cxt);
}

/* The next bytes of network and tokenizer, at most MODEL_PART_BYTES of one of them. */
static Size
ReadPiece(const WeightSource *source, Size position, char *piece)
{
	Size network = net_weight_bytes(source->m->net);
	bool in_network = position < network;
	Size length = Min((in_network ? network : source->m->weight_bytes) - position, MODEL_PART_BYTES);

	if (in_network)
		adapter_read(source->view, position / sizeof(float), length / sizeof(float), (float *) piece);
	else
		memcpy(piece, source->tokenizer + (position - network), length);
	return length;
}

bool
GiveWeights(const WeightSource *source, PartSink sink, void *arg)
{
	pg_cryptohash_ctx *hash;
	char *piece;
	bool wanted = true;
	char hex[65];

	if (source->view == NULL)
		return ReadWeights(source->table, source->version, source->m, sink, arg);
	hash = BeginHash();
	piece = palloc(MODEL_PART_BYTES);
	for (Size position = 0, length; wanted && position < source->m->weight_bytes; position += length)
	{
		CHECK_FOR_INTERRUPTS();
		length = ReadPiece(source, position, piece);
		HashBytes(hash, piece, length);
		wanted = sink(arg, piece, length);
	}
	pfree(piece);
	EndHash(hash, hex);
	if (wanted && strcmp(hex, source->m->sha256) != 0)
		ThrowDamaged(source->table->relid, source->version,
					 "Its base and what it adds do not have the SHA-256 of the manifest together.");
	return wanted;
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
	WeightSource source;
	manifest *m;
	char *text;

	OpenModelTable(&table, relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	if (!FindManifest(&table, version, &identity, &text))
		ThrowNoVersion(relid, version);
	m = ParseManifest(relid, version, text);
	(void) ListBases(&table, version, m);
	OpenWeightSource(&source, &table, version, m);
	(void) GiveWeights(&source, Ignore, NULL);
	CloseWeightSource(&source);
	CloseModelTable(&table, NoLock);
}
