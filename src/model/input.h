/*
 * input.h
 *	  SQL values to the values of src/feature: by type when a training set is read, and
 *	  by column name when a row is to be predicted.
 *
 * Strings and vectors of the values produced live in the memory context current at the
 * call; callers reset it per row.
 */
#ifndef LLMAPP_INPUT_H
#define LLMAPP_INPUT_H

#include "access/tupdesc.h"
#include "fmgr.h"

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

/* Binds inputs of one SQL type (and, for records, one row type) to an encoder's columns. */
typedef struct InputBinding InputBinding;

/*
 * input is a record, jsonb, text (one text column models), tensor or real[] (one vector column, or as
 * many numbers as there are used columns).  ERROR naming a column that is missing or retyped.
 */
extern InputBinding *BindInput(const encoder *e, Oid typid, MemoryContext cxt);
/* Values in the encoder's column order; rebinding when a record's row type changes. */
extern const value *ReadInput(InputBinding *binding, Datum input);

#endif /* LLMAPP_INPUT_H */
