/*
 * input.h
 *	  A row to predict: SQL values to the values of src/feature by column name.
 *
 * Strings and vectors of the values produced live in the memory context current at the
 * call; callers reset it per row.
 */
#ifndef LLMAPP_INPUT_H
#define LLMAPP_INPUT_H

#include "value_reader.h"

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
