/*
 * parts.c
 *	  Read the rows of a model table by primary key, believing none of them.
 *
 * Sizes are looked at before a value is detoasted, so a row that claims to hold gigabytes
 * costs nothing.  Parts of weights must be numbered 1, 2, ..., have the size that follows from
 * the manifest, and together the manifest's SHA-256.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "../common.h"
#include "parts.h"

#define HEAD_BYTES_MAX 1024
#define META_BYTES_MAX (256 * 1024 * 1024)

void
ThrowDamaged(Oid relid, int32 version, const char *format, ...)
{
	StringInfoData detail;
	int needed;

	initStringInfo(&detail);
	if (version > 0)
		appendStringInfo(&detail, "Version %d: ", version);
	do
	{
		va_list args;

		va_start(args, format);
		needed = appendStringInfoVA(&detail, format, args);
		va_end(args);
		if (needed > 0)
			enlargeStringInfo(&detail, needed);
	} while (needed > 0);
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("model \"%s\" is damaged", ModelName(relid)),
					errdetail_internal("%s", detail.data),
					errhint("SELECT version, problem FROM llmapp.model_versions WHERE model = %s::regclass shows "
							"which versions are sound.",
							ModelNameLiteral(relid))));
}

void
ThrowNoVersion(Oid relid, int32 version)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" has no version %d", ModelName(relid), version),
			 errhint("SELECT version FROM llmapp.model_versions WHERE model = %s::regclass lists its versions.",
					 ModelNameLiteral(relid))));
}

/* ---- rows ---- */

static SysScanDesc
BeginScan(const ModelTable *table, ScanKey keys, int count)
{
	return systable_beginscan_ordered(table->rel, table->index, table->snapshot, count, keys);
}

/* Scan of part 0 of a version, or of its parts from 1 on. */
static SysScanDesc
BeginVersionScan(const ModelTable *table, ScanKeyData keys[2], int32 version, bool weights)
{
	ScanKeyInit(&keys[0], PART_VERSION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(version));
	if (weights)
		ScanKeyInit(&keys[1], PART_NUMBER, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(0));
	else
		ScanKeyInit(&keys[1], PART_NUMBER, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(0));
	return BeginScan(table, keys, 2);
}

static Datum
Column(const ModelTable *table, HeapTuple tuple, int column, bool *isnull)
{
	return heap_getattr(tuple, column, RelationGetDescr(table->rel), isnull);
}

static int32
IntColumn(const ModelTable *table, HeapTuple tuple, int column)
{
	bool isnull;
	Datum datum = Column(table, tuple, column, &isnull);

	return isnull ? -1 : DatumGetInt32(datum);
}

static void
RequireKind(const ModelTable *table, HeapTuple tuple, int32 version, int32 part, const char *kind)
{
	bool isnull;
	Datum datum = Column(table, tuple, PART_KIND, &isnull);
	Size length = strlen(kind);
	text *found;

	if (!isnull && toast_raw_datum_size(datum) == VARHDRSZ + length)
	{
		found = DatumGetTextPP(datum);
		if (VARSIZE_ANY_EXHDR(found) == length && memcmp(VARDATA_ANY(found), kind, length) == 0)
			return;
	}
	ThrowDamaged(table->relid, version, "Part %d is not of kind \"%s\".", part, kind);
}

/*
 * jsonb writes numbers in full, so what was 1e+20 comes back as an integer that no reader of
 * integers takes.  Give whole numbers beyond 64 bits a fraction.
 */
static char *
WithWideNumbers(const char *json)
{
	StringInfoData out;
	bool quoted = false;

	initStringInfo(&out);
	for (const char *c = json; *c != '\0';)
	{
		Size length = quoted ? 0 : strspn(c, "-.0123456789"); /* a string may be one long row of digits */

		if (length == 0)
		{
			if (quoted && *c == '\\')
				appendStringInfoChar(&out, *c++);
			else if (*c == '"')
				quoted = !quoted;
			appendStringInfoChar(&out, *c++);
			continue;
		}
		appendBinaryStringInfo(&out, c, length);
		if (length > 18 && memchr(c, '.', length) == NULL)
		{
			errno = 0;
			(void) strtoll(c, NULL, 10);
			if (errno == ERANGE)
				appendStringInfoString(&out, ".0");
		}
		c += length;
	}
	return out.data;
}

/* Column meta as JSON text in UTF-8; palloc'd. */
static char *
MetaText(const ModelTable *table, HeapTuple tuple, int32 version, Size max)
{
	bool isnull;
	Datum datum = Column(table, tuple, PART_META, &isnull);
	Jsonb *jsonb;
	char *text;
	char *result;

	if (isnull)
		ThrowDamaged(table->relid, version, "Column meta of part 0 is NULL.");
	if (toast_raw_datum_size(datum) > max)
		ThrowDamaged(table->relid, version, "Column meta of part 0 has %zu bytes, at most %zu are allowed.",
					 toast_raw_datum_size(datum), max);
	jsonb = DatumGetJsonbP(datum);
	text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	result = WithWideNumbers(text);
	pfree(text);
	return pg_server_to_any(result, strlen(result), PG_UTF8);
}

/* ---- head and versions ---- */

static int32
ParseHead(Oid relid, const char *text)
{
	llm_error err = {0};
	json_t *head = json_parse(text, strlen(text), &err);
	int64_t live = 0;
	bool ok = head != NULL && json_read_int(head, "live", 0, INT32_MAX, &live, &err);

	json_decref(head);
	if (!ok)
		ThrowDamaged(relid, 0, "The row that names the live version is wrong: %s.", err.message);
	return (int32) live;
}

int32
ReadHead(const ModelTable *table)
{
	ScanKeyData keys[2];
	SysScanDesc scan = BeginVersionScan(table, keys, 0, false);
	HeapTuple tuple = systable_getnext_ordered(scan, ForwardScanDirection);
	char *text = NULL;
	int32 live = 0;

	if (HeapTupleIsValid(tuple))
	{
		RequireKind(table, tuple, 0, 0, "head");
		text = MetaText(table, tuple, 0, HEAD_BYTES_MAX);
	}
	systable_endscan_ordered(scan);
	if (text != NULL)
	{
		live = ParseHead(table->relid, text);
		pfree(text);
	}
	return live;
}

int32
LastVersion(const ModelTable *table)
{
	SysScanDesc scan = BeginScan(table, NULL, 0);
	HeapTuple tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	int32 last = HeapTupleIsValid(tuple) ? IntColumn(table, tuple, PART_VERSION) : 0;

	systable_endscan_ordered(scan);
	return Max(last, 0);
}

/* Smallest version above one; 0 when there is none. */
static int32
NextVersion(const ModelTable *table, int32 version)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	int32 next;

	ScanKeyInit(&key, PART_VERSION, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(version));
	scan = BeginScan(table, &key, 1);
	tuple = systable_getnext_ordered(scan, ForwardScanDirection);
	next = HeapTupleIsValid(tuple) ? IntColumn(table, tuple, PART_VERSION) : 0;
	systable_endscan_ordered(scan);
	return next;
}

int32 *
ListVersions(const ModelTable *table, int *count)
{
	int capacity = 16;
	int32 *versions = palloc(capacity * sizeof(int32));

	*count = 0;
	for (int32 version = NextVersion(table, 0); version > 0; version = NextVersion(table, version))
	{
		CHECK_FOR_INTERRUPTS();
		if (*count == capacity)
			versions = repalloc_huge(versions, mul_size(capacity *= 2, sizeof(int32)));
		versions[(*count)++] = version;
	}
	return versions;
}

/* ---- manifests ---- */

static void
IdentifyRow(const ModelTable *table, HeapTuple tuple, RowIdentity *identity)
{
	identity->filenode = table->rel->rd_rel->relfilenode;
	identity->tid = tuple->t_self;
	identity->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	identity->cid = HeapTupleHeaderGetRawCommandId(tuple->t_data);
}

bool
FindManifest(const ModelTable *table, int32 version, RowIdentity *identity, char **text)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;
	bool found;

	if (version <= 0)
		return false;
	scan = BeginVersionScan(table, keys, version, false);
	tuple = systable_getnext_ordered(scan, ForwardScanDirection);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		IdentifyRow(table, tuple, identity);
		if (text != NULL)
		{
			RequireKind(table, tuple, version, 0, "manifest");
			*text = MetaText(table, tuple, version, META_BYTES_MAX);
		}
	}
	systable_endscan_ordered(scan);
	return found;
}

static void
ReleaseManifest(void *m)
{
	manifest_free(m);
}

manifest *
ParseManifest(Oid relid, int32 version, const char *text)
{
	MemoryContextCallback *release = palloc0(sizeof(MemoryContextCallback));
	llm_error err = {0};
	manifest *m = manifest_parse(text, strlen(text), &err);

	if (m == NULL && err.code == LLM_CORRUPT)
		ThrowDamaged(relid, version, "%s.%s%s", err.message, err.detail[0] ? " " : "", err.detail);
	if (m == NULL)
		ThrowError(&err);
	release->func = ReleaseManifest;
	release->arg = m;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, release);
	return m;
}

manifest *
TryParseManifest(const char *text)
{
	llm_error ignored = {0};

	return manifest_parse(text, strlen(text), &ignored);
}

/* ---- weights ---- */

static void
CheckHash(pg_cryptohash_ctx *hash, int result)
{
	if (result < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not compute SHA-256: %s", pg_cryptohash_error(hash))));
}

pg_cryptohash_ctx *
BeginHash(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	CheckHash(hash, pg_cryptohash_init(hash));
	return hash;
}

void
EndHash(pg_cryptohash_ctx *hash, char *hex)
{
	uint8 digest[PG_SHA256_DIGEST_LENGTH];

	CheckHash(hash, pg_cryptohash_final(hash, digest, sizeof(digest)));
	pg_cryptohash_free(hash);
	json_hex(digest, sizeof(digest), hex);
}

void
HashBytes(pg_cryptohash_ctx *hash, const void *bytes, Size size)
{
	const uint8 *next = bytes;

	while (size > 0)
	{
		Size length = Min(size, MODEL_PART_BYTES);

		CHECK_FOR_INTERRUPTS();
		CheckHash(hash, pg_cryptohash_update(hash, next, length));
		next += length;
		size -= length;
	}
}

void
HashWeights(const WeightBytes *weights, char *hex)
{
	pg_cryptohash_ctx *hash = BeginHash();

	HashBytes(hash, weights->network, weights->network_size);
	HashBytes(hash, weights->tokenizer, weights->tokenizer_size);
	EndHash(hash, hex);
}

/* Bytes of one part of the weights, which must be exactly `expected`; palloc'd or in the tuple. */
static struct varlena *
PartData(const ModelTable *table, HeapTuple tuple, int32 version, int64 part, Size expected)
{
	bool isnull;
	Datum datum;
	struct varlena *data = NULL;
	Size found = 0;

	RequireKind(table, tuple, version, (int32) part, "weights");
	datum = Column(table, tuple, PART_DATA, &isnull);
	if (isnull)
		ThrowDamaged(table->relid, version, "Column data of part %d is NULL.", (int) part);
	found = toast_raw_datum_size(datum) - VARHDRSZ;
	if (found == expected)
	{
		data = PG_DETOAST_DATUM_PACKED(datum);
		found = VARSIZE_ANY_EXHDR(data);
	}
	if (found != expected)
		ThrowDamaged(table->relid, version, "Part %d has %zu bytes instead of %zu.", (int) part, found, expected);
	return data;
}

bool
ReadWeights(const ModelTable *table, int32 version, const manifest *m, PartSink sink, void *arg)
{
	MemoryContext part_cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp part", ALLOCSET_DEFAULT_SIZES);
	pg_cryptohash_ctx *hash = BeginHash();
	ScanKeyData keys[2];
	SysScanDesc scan = BeginVersionScan(table, keys, version, true);
	HeapTuple tuple;
	Size left = manifest_stored_bytes(m);
	int64 part = 0;
	bool wanted = true;
	char hex[65];

	while (wanted && HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		MemoryContext old = MemoryContextSwitchTo(part_cxt);
		Size length = Min(left, MODEL_PART_BYTES);
		struct varlena *data;

		CHECK_FOR_INTERRUPTS();
		if (IntColumn(table, tuple, PART_NUMBER) != ++part)
			ThrowDamaged(table->relid, version, "Part " INT64_FORMAT " is missing.", part);
		if (left == 0)
			ThrowDamaged(table->relid, version, "Part " INT64_FORMAT " is more than the manifest names.", part);
		data = PartData(table, tuple, version, part, length);
		CheckHash(hash, pg_cryptohash_update(hash, (const uint8 *) VARDATA_ANY(data), length));
		wanted = sink(arg, VARDATA_ANY(data), length);
		left -= length;
		MemoryContextSwitchTo(old);
		MemoryContextReset(part_cxt);
	}
	systable_endscan_ordered(scan);
	MemoryContextDelete(part_cxt);
	if (wanted && left > 0)
		ThrowDamaged(table->relid, version, "Part " INT64_FORMAT " is missing.", part + 1);
	EndHash(hash, hex);
	if (wanted && strcmp(hex, manifest_stored_sha256(m)) != 0)
		ThrowDamaged(table->relid, version, "The weights do not have the SHA-256 of the manifest.");
	return wanted;
}
