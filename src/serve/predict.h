/*
 * predict.h
 *	  One call of a prediction function in a query: what it keeps from row to row.
 *
 * The state of a call site lives in its FmgrInfo: the open model, how inputs bind to its
 * columns, and memory for one row.  Include after postgres.h.
 */
#ifndef LLMAPP_PREDICT_H
#define LLMAPP_PREDICT_H

#include "fmgr.h"

#include "../infer/infer.h"
#include "../model/model.h"
#include "../row/input.h"
#include "output.h"
#include "stat.h"

typedef struct PredictCall
{
	Oid input_type;          /* of the argument, as the query says */
	MemoryContext model_cxt; /* what belongs to the open model; reset when it changes */
	MemoryContext row_cxt;   /* values of the row at hand */
	Model *model;            /* NULL while none is open */
	InputBinding *binding;
	bool read_json; /* the input is a string or json, to be read as jsonb */
	Output *output; /* NULL until a prediction is asked for */
	Oid output_type;
	int32 label; /* class that label_text names, -1 for none yet */
	text *label_text;
	llm_error error;       /* kept empty between rows */
	double row_work;       /* multiplications, of the longest text */
	InferenceCall *server; /* where rows are predicted; NULL: nowhere yet */
	bool alone;            /* no server takes them */
	UseMeter meter;
	MemoryContextCallback release; /* ends the use of the model */
} PredictCall;

/* State of this call site; argument `input` is the one whose type decides how inputs are read. */
extern PredictCall *GetPredictCall(FunctionCallInfo fcinfo, int input);
/*
 * Network output for one row, valid until the next call for any row of that model.  Opens the
 * model's live version when it is not the one already open.
 */
extern const float *PredictRow(PredictCall *call, Oid relid, Datum input);

/* The prediction in a network's output as a value of a type; see OutputDatum() for how long it lives. */
extern Datum PredictionDatum(PredictCall *call, const float *out, Oid type);

/* The steps of PredictRow(), for callers that run many rows at once. */
extern void OpenPredictModel(PredictCall *call, Oid relid);
/* Append a row to b; what it allocates in the current memory context can be reset afterwards. */
extern void EncodePredictRow(PredictCall *call, Datum input, batch *b);
/* The rows of its batch, by it or at an inference server. */
extern const float *RunPredictor(PredictCall *call, predictor *p);

/* ---- what evaluation and explanation share ---- */

/* ERROR unless the model predicts labels. */
extern const target *RequireClasses(const Model *model);
/* Index of a label; ERROR when the model does not have it. */
extern int32 RequireLabel(const Model *model, const char *label);
/* Quoted name of a model for a HINT that can be run; palloc'd. */
extern char *ModelLiteral(Oid relid);

#endif /* LLMAPP_PREDICT_H */
