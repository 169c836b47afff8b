/*
 * publish.c
 *	  Add, promote and drop versions, in ordinary transactions of the caller.
 *
 * Rows are written by SQL as the caller, so privileges, WAL, replication and ROLLBACK are those
 * of any table.  ShareUpdateExclusiveLock lets one writer at a time look at the newest rows and
 * number the next version; readers go on.  Nothing here changes a row of a published version.
 *
 * A statement runs what the table's owner attached to it (triggers, rules, defaults, checks,
 * expressions of indexes) with the rights of whoever writes.  A model table needs none of these, so
 * a table that has any is written by its owner only.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "../common.h"
#include "base.h"
#include "cache.h"
#include "parts.h"

PG_FUNCTION_INFO_V1(llm_promote);
PG_FUNCTION_INFO_V1(llm_drop_version);

/* ---- the right to write ---- */

static void
RequireTablePrivilege(Oid relid, AclMode mode, const char *privileges)
{
	if (pg_class_aclmask(relid, GetUserId(), mode, ACLMASK_ALL) == mode)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for model \"%s\"", ModelName(relid)),
			 errhint("GRANT %s ON %s TO %s;", privileges,
					 DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid))),
					 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

/* Would a statement of ours run code that the owner attached? */
static bool
HasOwnersCode(Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	List *indexes = RelationGetIndexList(rel);
	int index_count = list_length(indexes);

	list_free(indexes);
	return rel->trigdesc != NULL || rel->rd_rules != NULL || index_count > 1 ||
		   (constr != NULL && (constr->num_check > CountBaseChecks(rel) || constr->num_defval > 0));
}

/*
 * Open a model for writing.  The privilege is asked for before the lock, so that a user
 * without it cannot hold up others.
 */
static void
OpenForWriting(ModelTable *table, Oid relid, AclMode mode, const char *privileges, const char *command)
{
	PreventCommandDuringRecovery(command);
	PreventCommandIfReadOnly(command);
	RequireModelTable(relid);
	RequireTablePrivilege(relid, mode, privileges);
	OpenModelTable(table, relid, ShareUpdateExclusiveLock, SNAPSHOT_LATEST);
	if (table->rel->rd_rel->relowner != GetUserId() && HasOwnersCode(table->rel))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only its owner may write to model \"%s\"", ModelName(relid)),
				 errdetail("It has triggers, rules, defaults, check constraints or further indexes, which would run "
						   "with your rights."),
				 errhint("SET ROLE %s;", quote_identifier(GetUserNameFromId(table->rel->rd_rel->relowner, false)))));
}

/* ---- statements ---- */

static char *
QualifiedName(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* Run one statement and return how many rows it touched. */
static uint64
RunWrite(const char *sql, int count, Oid *types, Datum *values)
{
	int result = SPI_execute_with_args(sql, count, types, values, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "SPI_execute_with_args returned %s for: %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}

static void
Connect(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
Disconnect(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

static void
WriteManifest(Oid relid, int32 version, const char *text)
{
	Oid types[2] = {INT4OID, JSONBOID};
	Datum values[2] = {Int32GetDatum(version), DirectFunctionCall1(jsonb_in, CStringGetDatum(text))};

	RunWrite(
		psprintf("INSERT INTO %s (version, part, kind, meta) VALUES ($1, 0, 'manifest', $2)", QualifiedName(relid)),
		2, types, values);
}

/* ---- a version, piece by piece ---- */

#define WRITTEN_NUMBERS 4096 /* at a time, whole blocks */

struct VersionWriter
{
	Oid relid;
	int32 version;
	SPIPlanPtr insert;       /* of a part */
	bytea *part;             /* the next one to write */
	Size filled;             /* bytes in it */
	int32 parts;             /* written */
	Size bytes;              /* of the weights so far */
	pg_cryptohash_ctx *hash; /* of them */
	char sha256[65];         /* once they are complete */
};

/* Number for the next version; versions dropped at the end are numbered again. */
static int32
NextNumber(const ModelTable *table)
{
	int32 last = LastVersion(table);

	if (last == INT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("model \"%s\" has no version number left", ModelName(table->relid)),
						errhint("SELECT llm_drop_version(%s, %d);", ModelNameLiteral(table->relid), last)));
	return last + 1;
}

VersionWriter *
BeginVersion(Oid relid)
{
	VersionWriter *w = palloc0(sizeof(VersionWriter));
	ModelTable table;

	OpenForWriting(&table, relid, ACL_INSERT, "INSERT", "publishing a version");
	w->relid = relid;
	w->version = NextNumber(&table);
	CloseModelTable(&table, NoLock);
	w->part = palloc(VARHDRSZ + MODEL_PART_BYTES);
	w->hash = BeginHash();
	return w;
}

static void
PrepareInsert(VersionWriter *w)
{
	Oid types[3] = {INT4OID, INT4OID, BYTEAOID};

	w->insert = SPI_prepare(psprintf("INSERT INTO %s (version, part, kind, data) VALUES ($1, $2, 'weights', $3)",
									 QualifiedName(w->relid)),
							3, types);
	if (w->insert == NULL || SPI_keepplan(w->insert) != 0)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
}

static void
WritePart(VersionWriter *w)
{
	Datum values[3] = {Int32GetDatum(w->version), Int32GetDatum(++w->parts), PointerGetDatum(w->part)};
	int result;

	CHECK_FOR_INTERRUPTS();
	SET_VARSIZE(w->part, VARHDRSZ + w->filled);
	HashBytes(w->hash, VARDATA(w->part), w->filled);
	Connect();
	if (w->insert == NULL)
		PrepareInsert(w);
	result = SPI_execute_plan(w->insert, values, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_plan returned %s", SPI_result_code_string(result));
	Disconnect();
	w->filled = 0;
}

/* Parts have MODEL_PART_BYTES, the last one has fewer. */
static void
WriteBytes(VersionWriter *w, const void *bytes, Size size)
{
	const char *next = bytes;

	w->bytes = add_size(w->bytes, size);
	while (size > 0)
	{
		Size length = Min(size, MODEL_PART_BYTES - w->filled);

		memcpy(VARDATA(w->part) + w->filled, next, length);
		w->filled += length;
		next += length;
		size -= length;
		if (w->filled == MODEL_PART_BYTES)
			WritePart(w);
	}
}

/* Zeros up to a place. */
static void
FillUpTo(VersionWriter *w, Size place)
{
	static const char zeros[64];

	while (w->bytes < place)
		WriteBytes(w, zeros, Min(place - w->bytes, sizeof(zeros)));
}

void
WriteNumbers(VersionWriter *w, const net *n, int32 tensor, Size begin, const float *numbers, Size count)
{
	const net_tensor_info *t = net_tensor(n, tensor);

	FillUpTo(w, t->place + weight_bytes(t->type, begin));
	for (Size done = 0, some; done < count; done += some)
	{
		char kept[WRITTEN_NUMBERS * sizeof(float)];
		llm_error err = {0};

		some = Min(count - done, WRITTEN_NUMBERS);
		if (!net_encode_numbers(n, tensor, numbers + done, some, kept, &err))
			ThrowError(&err);
		WriteBytes(w, kept, weight_bytes(t->type, some));
	}
}

static const char *
EndBytes(VersionWriter *w)
{
	if (w->filled > 0)
		WritePart(w);
	EndHash(w->hash, w->sha256);
	return w->sha256;
}

const char *
EndWeights(VersionWriter *w, const net *n, const void *tokenizer, Size tokenizer_size)
{
	FillUpTo(w, net_kept_bytes(n));
	WriteBytes(w, tokenizer, tokenizer_size);
	return EndBytes(w);
}

/* A version that could not be opened is not published. */
static void
CheckPublication(const VersionWriter *w, const char *text)
{
	manifest *m = ParseManifest(w->relid, 0, text);

	if (manifest_stored_bytes(m) != w->bytes)
		ThrowDamaged(w->relid, 0, "Its manifest names %zu bytes of weights, there are %zu.", manifest_stored_bytes(m),
					 w->bytes);
	if (strcmp(w->sha256, manifest_stored_sha256(m)) != 0)
		ThrowDamaged(w->relid, 0, "The weights do not have the SHA-256 of the manifest.");
}

int32
EndVersion(VersionWriter *w, const char *manifest_text)
{
	CheckPublication(w, manifest_text);
	Connect();
	WriteManifest(w->relid, w->version, manifest_text);
	Disconnect();
	if (w->insert != NULL)
		SPI_freeplan(w->insert);
	CacheInvalidateRelcacheByRelid(w->relid);
	return w->version;
}

int32
PublishVersion(Oid relid, const char *manifest_text, const WeightBytes *weights)
{
	VersionWriter *w = BeginVersion(relid);

	WriteBytes(w, weights->network, weights->network_size);
	WriteBytes(w, weights->tokenizer, weights->tokenizer_size);
	EndBytes(w);
	return EndVersion(w, manifest_text);
}

void
RenewSnapshot(void)
{
	CommandCounterIncrement();
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* ---- promote, drop ---- */

/* The version exists, its manifest is sound, and so is its base if it needs one. */
static void
RequireSoundVersion(const ModelTable *table, int32 version)
{
	RowIdentity identity;
	char *text;

	if (!FindManifest(table, version, &identity, &text))
		ThrowNoVersion(table->relid, version);
	(void) ListBases(table, version, ParseManifest(table->relid, version, text));
}

void
PromoteVersion(Oid relid, int32 version)
{
	Oid types[1] = {JSONBOID};
	Datum values[1];
	ModelTable table;

	OpenForWriting(&table, relid, ACL_SELECT | ACL_INSERT | ACL_UPDATE, "SELECT, INSERT, UPDATE", "llm_promote()");
	RequireSoundVersion(&table, version);
	CloseModelTable(&table, NoLock);
	Connect();
	values[0] = DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"live\": %d}", version)));
	if (RunWrite(
			psprintf("INSERT INTO %s AS head (version, part, kind, meta) VALUES (0, 0, 'head', $1) "
					 "ON CONFLICT (version, part) DO UPDATE SET kind = 'head', meta = EXCLUDED.meta, data = NULL",
					 QualifiedName(relid)),
			1, types, values) != 1)
		elog(ERROR, "could not write the head of model %u", relid);
	Disconnect();
	CacheInvalidateRelcacheByRelid(relid);
}

/* Report that the version to drop is live, with a hint that makes another one live or drops all. */
static void
ThrowLive(const ModelTable *table, int32 version)
{
	int count;
	int32 *versions = ListVersions(table, &count);
	int32 other = 0;

	for (int i = 0; i < count; i++)
		if (versions[i] != version)
			other = versions[i];
	ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
					errmsg("version %d of model \"%s\" is live", version, ModelName(table->relid)),
					other > 0 ? errhint("Make another version live first: SELECT llm_promote(%s, %d);",
										ModelNameLiteral(table->relid), other)
							  : errhint("It is the only one: DROP TABLE %s; removes the model.",
										QualifiedName(table->relid))));
}

static void
DropVersion(Oid relid, int32 version)
{
	Oid types[1] = {INT4OID};
	Datum values[1] = {Int32GetDatum(version)};
	ModelTable table;

	OpenForWriting(&table, relid, ACL_SELECT | ACL_DELETE, "SELECT, DELETE", "llm_drop_version()");
	if (version > 0 && version == ReadHead(&table))
		ThrowLive(&table, version);
	RequireNoDependents(&table, version);
	CloseModelTable(&table, NoLock);
	Connect();
	if (version <= 0 ||
		RunWrite(psprintf("DELETE FROM %s WHERE version OPERATOR(pg_catalog.=) $1", QualifiedName(relid)), 1, types,
				 values) == 0)
		ThrowNoVersion(relid, version);
	Disconnect();
	ForgetWeights(relid, version);
	CacheInvalidateRelcacheByRelid(relid);
}

int32
LiveVersion(Oid relid)
{
	ModelTable table;
	int32 live;

	OpenModelTable(&table, relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	RequirePredictPrivilege(relid);
	live = ReadHead(&table);
	CloseModelTable(&table, NoLock);
	return live;
}

Datum
llm_promote(PG_FUNCTION_ARGS)
{
	PromoteVersion(PG_GETARG_OID(0), PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}

Datum
llm_drop_version(PG_FUNCTION_ARGS)
{
	DropVersion(PG_GETARG_OID(0), PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}
