/*
 * output.h
 *	  From a network's output to an SQL value of the type a caller wants.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_OUTPUT_H
#define LLMAPP_OUTPUT_H

#include "../feature/feature.h"

typedef struct Output Output;

/*
 * Predictions of target t as values of type typid; both must outlive the result, which
 * lives in cxt.  Labels become text that casts to the target's own type, as do numbers; several
 * numbers become an array.
 */
extern Output *MakeOutput(const target *t, Oid typid, MemoryContext cxt);
/*
 * The prediction of one row.  A label lives as long as the Output, a number in the current
 * context.  ERROR as the type's input function or cast raises it.
 */
extern Datum OutputDatum(Output *output, const float *out);

#endif /* LLMAPP_OUTPUT_H */
