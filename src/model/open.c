/*
 * open.c
 *	  Open versions: one per (model, version) in a session, handles on them for callers.
 *
 * An OpenVersion owns manifest, weights and predictors in a memory context of its own.  A
 * handle is what OpenModel() returns: it pins its version until the caller's context is
 * reset, and remembers for whom and under which snapshot it was checked, which is all that
 * ModelIsCurrent() compares.  A version is recognised by the row its manifest came from, so
 * one that was dropped, replaced or rolled back is never taken for another.
 *
 * Relcache invalidations (publish, promote, drop, and whatever else touches the relation) make
 * every handle on that model ask again, and close versions nobody has pinned.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "../common.h"
#include "base.h"
#include "cache.h"
#include "parts.h"

/* Versions that stay open without a pin, for the next statement. */
#define IDLE_VERSIONS_MAX 16

#define BULK_BYTES (32 * 1024 * 1024) /* memory of the predictor for many rows, about */

typedef struct VersionKey
{
	Oid relid;
	int32 version;
} VersionKey;

typedef struct OpenVersion
{
	VersionKey key;
	MemoryContext cxt;    /* holds this struct and all that it points to */
	RowIdentity identity; /* of the manifest's row */
	uint32 invalidations; /* counts relcache invalidations of the model */
	bool doubtful;        /* the model was touched since a handle last found the row in place */
	bool detached;        /* no longer in the table of open versions: closed with its last pin */
	int pins;
	uint64 used; /* clock at the last opening */
	manifest *manifest;
	List *bases; /* tables; of a version that is kept apart */
	const void *weights;
	predictor *predictor;
	predictor *bulk;
} OpenVersion;

typedef struct VersionSlot
{
	VersionKey key; /* hash key */
	OpenVersion *version;
} VersionSlot;

/* For whom and under which snapshot a handle was opened. */
typedef struct Check
{
	Oid user;
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	uint32 invalidations;
	CommandId command;
	TransactionId xmin;
	TransactionId xmax;
	uint32 xcnt;
	int32 subxcnt;
} Check;

typedef struct Handle
{
	Model model; /* first, so that a Model is its handle */
	OpenVersion *version;
	Check check;
	MemoryContextCallback release;
} Handle;

static HTAB *versions = NULL;
static uint64 clock_now = 0;

/* ---- closing ---- */

static void
Detach(OpenVersion *version)
{
	(void) hash_search(versions, &version->key, HASH_REMOVE, NULL);
	version->detached = true;
	if (version->pins == 0)
		MemoryContextDelete(version->cxt);
}

static void
Unpin(void *arg)
{
	OpenVersion *version = ((Handle *) arg)->version;

	if (--version->pins > 0)
		return;
	if (version->detached)
		MemoryContextDelete(version->cxt);
	else if (version->doubtful)
		Detach(version);
}

/* An overflow of the invalidation queue (relid invalid) says nothing about a model: all ask again, all stay. */
static void
InvalidateVersions(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	VersionSlot *slot;

	hash_seq_init(&status, versions);
	while ((slot = hash_seq_search(&status)) != NULL)
	{
		OpenVersion *version = slot->version;

		if (OidIsValid(relid) && version->key.relid != relid)
			continue;
		version->invalidations++;
		if (!OidIsValid(relid))
			continue;
		version->doubtful = true;
		if (version->pins == 0)
			Detach(version);
	}
}

/* Close the unpinned versions used least recently until there is room for one more. */
static void
CloseIdleVersions(void)
{
	for (;;)
	{
		HASH_SEQ_STATUS status;
		VersionSlot *slot;
		OpenVersion *oldest = NULL;
		int idle = 0;

		hash_seq_init(&status, versions);
		while ((slot = hash_seq_search(&status)) != NULL)
		{
			if (slot->version->pins > 0)
				continue;
			idle++;
			if (oldest == NULL || slot->version->used < oldest->used)
				oldest = slot->version;
		}
		if (idle < IDLE_VERSIONS_MAX)
			return;
		Detach(oldest);
	}
}

/* ---- opening ---- */

static void
InitVersions(void)
{
	HASHCTL control = {.keysize = sizeof(VersionKey), .entrysize = sizeof(VersionSlot)};

	if (versions != NULL)
		return;
	versions = hash_create("llmapp open versions", 16, &control, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(InvalidateVersions, (Datum) 0);
}

static void
ReleasePredictor(void *arg)
{
	predictor_free(arg);
}

/* A predictor freed with a memory context. */
static predictor *
NewPredictor(const OpenVersion *version, int64 rows)
{
	MemoryContextCallback *release = MemoryContextAllocZero(version->cxt, sizeof(MemoryContextCallback));
	llm_error err = {0};
	predictor *p = predictor_new(version->manifest->net, version->weights, rows, NULL, &err);

	if (p == NULL)
		ThrowError(&err);
	release->func = ReleasePredictor;
	release->arg = p;
	MemoryContextRegisterResetCallback(version->cxt, release);
	return p;
}

tokenizer *
OpenTokenizer(const void *block, Size size, llm_poll poll)
{
	llm_error err = {0};
	tokenizer *t = tokenizer_open(block, size, &err);

	if (t == NULL)
		ThrowError(&err);
	OWN(t, tokenizer_free);
	tokenizer_set_poll(t, poll, NULL);
	return t;
}

/* The tokenizer of a model that predicts columns from a text, used where it lies behind the weights. */
static void
BindTokenizer(const OpenVersion *version)
{
	const manifest *m = version->manifest;
	llm_error err = {0};
	tokenizer *t = OpenTokenizer((const char *) version->weights + net_kept_bytes(m->net), m->tokenizer_bytes,
								 InterruptRequested);

	if (!encoder_set_tokenizer(m->encoder, t, tokenizer_size(t), encoder_context(m->encoder), &err))
		ThrowError(&err);
}

/*
 * Read a version.  Callbacks of a memory context run last in, first out: predictors go
 * before the weights they read and the network they are made for.
 */
static OpenVersion *
ReadVersion(const ModelTable *table, int32 number)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp open version", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	OpenVersion *version = palloc0(sizeof(OpenVersion));
	char *text;

	version->cxt = cxt;
	version->key = (VersionKey) {table->relid, number};
	if (!FindManifest(table, number, &version->identity, &text))
		ThrowNoVersion(table->relid, number);
	version->manifest = ParseManifest(table->relid, number, text);
	pfree(text);
	version->bases = ListBases(table, number, version->manifest);
	version->weights = LoadWeights(table, number, version->manifest);
	if (encoder_has_tokens(version->manifest->encoder))
		BindTokenizer(version);
	if (version->manifest->target->kind != TARGET_TEXT)
		version->predictor = NewPredictor(version, 1);
	MemoryContextSwitchTo(old);
	return version;
}

/* Read a version and keep it open, in place of one whose row has changed. */
static OpenVersion *
OpenNewVersion(const ModelTable *table, int32 number)
{
	OpenVersion *version = ReadVersion(table, number);
	VersionSlot *slot;
	bool found;

	CloseIdleVersions();
	slot = hash_search(versions, &version->key, HASH_FIND, NULL);
	if (slot != NULL)
		Detach(slot->version);
	slot = hash_search(versions, &version->key, HASH_ENTER, &found);
	slot->version = version;
	MemoryContextSetParent(version->cxt, TopMemoryContext);
	return version;
}

static bool
SameRow(const RowIdentity *a, const RowIdentity *b)
{
	return a->filenode == b->filenode && a->xmin == b->xmin && a->cid == b->cid &&
		   ItemPointerEquals(unconstify(ItemPointerData *, &a->tid), unconstify(ItemPointerData *, &b->tid));
}

/* The version of this snapshot, open already or opened now. */
static OpenVersion *
GetVersion(const ModelTable *table, int32 number)
{
	VersionKey key = {table->relid, number};
	VersionSlot *slot = hash_search(versions, &key, HASH_FIND, NULL);
	RowIdentity identity;

	if (slot != NULL && FindManifest(table, number, &identity, NULL) && SameRow(&identity, &slot->version->identity))
	{
		slot->version->doubtful = false;
		return slot->version;
	}
	return OpenNewVersion(table, number);
}

static void
ThrowNotLive(const ModelTable *table)
{
	int32 last = LastVersion(table);

	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("model \"%s\" has no live version", ModelName(table->relid)),
					last > 0 ? errhint("SELECT llm_promote(%s, %d);", ModelNameLiteral(table->relid), last)
							 : errhint("llm_train adds versions to it; SELECT model, live_version FROM llmapp.models "
									   "lists the others.")));
}

/* The version to open when none is named. */
static int32
RequireLiveVersion(const ModelTable *table)
{
	int32 live = ReadHead(table);
	RowIdentity identity;

	if (live == 0)
		ThrowNotLive(table);
	if (!FindManifest(table, live, &identity, NULL))
		ThrowDamaged(table->relid, 0, "Version %d is live but does not exist.", live);
	return live;
}

static void
FillCheck(Check *check, const OpenVersion *version, Snapshot snapshot)
{
	*check = (Check) {.user = GetUserId(),
					  .transaction = MyLocalTransaction,
					  .subtransaction = GetCurrentSubTransactionId(),
					  .invalidations = version->invalidations,
					  .command = snapshot->curcid,
					  .xmin = snapshot->xmin,
					  .xmax = snapshot->xmax,
					  .xcnt = snapshot->xcnt,
					  .subxcnt = snapshot->subxcnt};
}

static Model *
NewHandle(OpenVersion *version, Snapshot snapshot, MemoryContext cxt)
{
	Handle *handle = MemoryContextAllocZero(cxt, sizeof(Handle));

	handle->model = (Model) {.relid = version->key.relid,
							 .version = version->key.version,
							 .manifest = version->manifest,
							 .weights = version->weights,
							 .predictor = version->predictor,
							 .bulk = version->bulk};
	handle->version = version;
	FillCheck(&handle->check, version, snapshot);
	handle->release.func = Unpin;
	handle->release.arg = handle;
	MemoryContextRegisterResetCallback(cxt, &handle->release);
	version->pins++;
	version->used = ++clock_now;
	return &handle->model;
}

Model *
OpenModel(Oid relid, int32 version, MemoryContext cxt)
{
	ModelTable table;
	OpenVersion *open;
	Model *model;

	InitVersions();
	OpenModelTable(&table, relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	RequirePredictPrivilege(relid);
	if (version == 0)
		version = RequireLiveVersion(&table);
	open = GetVersion(&table, version);
	RequireBasePrivileges(relid, open->bases);
	model = NewHandle(open, table.snapshot, cxt);
	CloseModelTable(&table, NoLock);
	return model;
}

static bool
EmbedsTexts(const Model *m)
{
	return strcmp(m->manifest->task, "embedding") == 0;
}

static void
ThrowEmbedding(const Model *m)
{
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("model \"%s\" embeds texts and predicts nothing", ModelName(m->relid)),
					errhint("SELECT llm_embed(%s, 'a text');", ModelNameLiteral(m->relid))));
}

static bool
LabelsTokens(const Model *m)
{
	return m->manifest->labels != NULL;
}

pg_noreturn static void
ThrowLabels(const Model *m)
{
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("model \"%s\" labels the words of a text, nothing else", ModelName(m->relid)),
					errhint("SELECT * FROM llm_extract_entities(%s, 'a text');", ModelNameLiteral(m->relid))));
}

void
RequireRowModel(const Model *m)
{
	if (EmbedsTexts(m))
		ThrowEmbedding(m);
	if (LabelsTokens(m))
		ThrowLabels(m);
	if (m->manifest->target->kind == TARGET_TEXT)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("model \"%s\" is a language model and predicts no columns", ModelName(m->relid)),
						errhint("SELECT llm_generate(%s, 'Once upon a time');", ModelNameLiteral(m->relid))));
}

static void
ThrowOtherModel(const Model *m, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("model \"%s\" %s", ModelName(m->relid), problem),
					errdetail("It is a %s of column \"%s\".", m->manifest->task, m->manifest->target->names[0]),
					errhint("SELECT llm_predict(%s, t) FROM some_table AS t;", ModelNameLiteral(m->relid))));
}

void
RequireLabelModel(const Model *m)
{
	if (!LabelsTokens(m))
		ThrowOtherModel(m, "does not label the words of a text");
}

void
RequireLanguageModel(const Model *m)
{
	if (LabelsTokens(m))
		ThrowLabels(m);
	if (m->manifest->target->kind != TARGET_TEXT)
		ThrowOtherModel(m, "is no language model");
	if (EmbedsTexts(m))
		ThrowEmbedding(m);
}

void
RequireTokenModel(const Model *m)
{
	if (m->manifest->tokenizer_bytes == 0)
		ThrowOtherModel(m, "reads no tokens");
}

/*
 * Two snapshots that one transaction takes one after the other see the same when their fields are
 * equal: below xmax no transaction starts, so the running ones can only become fewer.
 */
bool
ModelIsCurrent(const Model *m)
{
	const Handle *handle = (const Handle *) m;
	const Check *check = &handle->check;
	Snapshot snapshot = ActiveSnapshotSet() ? GetActiveSnapshot() : GetTransactionSnapshot();

	return check->invalidations == handle->version->invalidations && check->command == snapshot->curcid &&
		   check->xmax == snapshot->xmax && check->xmin == snapshot->xmin && check->xcnt == snapshot->xcnt &&
		   check->subxcnt == snapshot->subxcnt && check->user == GetUserId() &&
		   check->transaction == MyLocalTransaction && check->subtransaction == GetCurrentSubTransactionId();
}

const void *
ModelTokenizer(const Model *m, Size *size)
{
	*size = m->manifest->tokenizer_bytes;
	return (const char *) m->weights + net_kept_bytes(m->manifest->net);
}

/* As many rows as a session may spend memory on; a network on images may take megabytes for each. */
static int64
BulkRows(const net *n)
{
	int64 rows = MODEL_BULK_ROWS;
	llm_error err = {0};
	size_t bytes;

	for (;; rows /= 2)
	{
		if (!predictor_memory(n, rows, &bytes, &err))
			ThrowError(&err);
		if (rows == 1 || bytes <= BULK_BYTES)
			return rows;
	}
}

predictor *
ModelBulkPredictor(Model *m)
{
	OpenVersion *version = ((Handle *) m)->version;

	if (version->bulk == NULL)
		version->bulk = NewPredictor(version, BulkRows(version->manifest->net));
	m->bulk = version->bulk;
	return m->bulk;
}

int32
ModelBulkRows(Model *m)
{
	return (int32) predictor_batch(ModelBulkPredictor(m))->capacity;
}

char *
ReadManifestText(Oid relid, int32 version)
{
	ModelTable table;
	RowIdentity identity;
	char *text;

	OpenModelTable(&table, relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	RequirePredictPrivilege(relid);
	if (version == 0)
		version = RequireLiveVersion(&table);
	if (!FindManifest(&table, version, &identity, &text))
		ThrowNoVersion(relid, version);
	CloseModelTable(&table, NoLock);
	return text;
}
