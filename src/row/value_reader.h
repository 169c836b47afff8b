/*
 * value_reader.h
 *	  SQL values to the values of src/feature, by their type.
 *
 * Strings and vectors of the values produced live in the memory context current at the
 * call; callers reset it per row.  Include after postgres.h.
 */
#ifndef LLMAPP_VALUE_READER_H
#define LLMAPP_VALUE_READER_H

#include "fmgr.h"
#include "utils/jsonb.h"

#include "../feature/feature.h"

/* How to read one SQL type; cheap to use per value. */
typedef struct ValueReader
{
	Oid typid;
	Oid basetype; /* domain resolved */
	Oid elemtype; /* of arrays, domain resolved */
	int16 elemlen;
	bool elembyval;
	char elemalign;
	column_kind kind;
	FmgrInfo output; /* of types read through their text form or a cast to real[]; lives in the
								 * memory context current at InitValueReader() */
} ValueReader;

/* False when the type cannot be a model column (bytea, composite, ...). */
extern bool InitValueReader(ValueReader *reader, Oid typid);
extern void ReadValue(ValueReader *reader, Datum datum, bool isnull, value *result);
/* palloc'd strings; sql_type is the base type of a domain.  ERROR when the type cannot be a model column. */
extern column MakeColumn(const char *name, Oid typid, int32 typmod);

/* ---- the pieces, for other forms of the same values ---- */

extern bool IsNumberType(Oid typid);
extern void SetNumber(value *result, double number); /* not finite: NULL */
extern void SetString(value *result, const char *string, Size length);
extern void ConvertToUtf8(value *v); /* a string in the server's encoding; palloc'd when it changes */
extern void SetJsonScalar(value *result, const JsonbValue *scalar);
extern double NumericToDouble(Datum datum);

#endif /* LLMAPP_VALUE_READER_H */
