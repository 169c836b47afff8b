/*
 * compat.h
 *	  Differences between PostgreSQL 15, 16, 17 and 18, and nothing else.
 *
 * No other file tests PG_VERSION_NUM.
 */
#ifndef LLMAPP_COMPAT_H
#define LLMAPP_COMPAT_H

#include "catalog/pg_namespace.h"

/* ERROR unless the current user may read all that a planned statement reads. */
#if PG_VERSION_NUM >= 160000
#define CheckStatementPermissions(stmt) ExecCheckPermissions((stmt)->rtable, (stmt)->permInfos, true)
#define MayCreateInSchema(schema) \
	(object_aclcheck(NamespaceRelationId, (schema), GetUserId(), ACL_CREATE) == ACLCHECK_OK)
#else
#define CheckStatementPermissions(stmt) ExecCheckRTPerms((stmt)->rtable, true)
#define MayCreateInSchema(schema) (pg_namespace_aclcheck((schema), GetUserId(), ACL_CREATE) == ACLCHECK_OK)
#endif

#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#include "varatt.h"
#define BufFileReadOrFail(file, ptr, size) BufFileReadExact((file), (ptr), (size))
#else
#define BufFileReadOrFail(file, ptr, size) \
	do \
	{ \
		if (BufFileRead((file), (ptr), (size)) != (size)) \
			ereport(ERROR, \
					(errcode_for_file_access(), errmsg("could not read from temporary file: read too few bytes"))); \
	} while (0)
#endif

/* False when there is no type of this name; ERROR when it is not a name of a type at all. */
#if PG_VERSION_NUM >= 160000
#define ParseTypeName(name, typid, typmod) \
	(parseTypeString((name), (typid), (typmod), (Node *) &(ErrorSaveContext) {T_ErrorSaveContext}) && \
	 OidIsValid(*(typid)))
#else
#define ParseTypeName(name, typid, typmod) (parseTypeString((name), (typid), (typmod), true), OidIsValid(*(typid)))
#endif

/* Number of this backend's transaction, which has no transaction id while it only reads. */
#if PG_VERSION_NUM >= 170000
#define MyLocalTransaction (MyProc->vxid.lxid)
#else
#define MyLocalTransaction (MyProc->lxid)
#endif

#if PG_VERSION_NUM >= 170000
#define LockIsHeldByMe(tag, mode) LockHeldByMe((tag), (mode), false)
#else
#define LockIsHeldByMe(tag, mode) LockHeldByMe((tag), (mode))
#endif

/* Before the declaration, as from 18 on; pg_attribute_noreturn() behind it is gone there. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn _Noreturn
#endif

#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#endif
#if PG_VERSION_NUM >= 170000
#define HAVE_STANDARD_EXPLAIN
#endif

#endif /* LLMAPP_COMPAT_H */
