/*
 * infer.h
 *	  The inference server: a process that has models on a GPU, or for all sessions on the CPU, and lets the
 *	  texts and rows of all sessions go through a model together.
 *
 * Of texts that are written it makes logits and nothing else: sampling, schemas and stop strings stay in the session, so a text is what the
 * session would have made alone, but for rounding.  There are servers only when llmapp is preloaded, see
 * llmapp.inference_device; whoever finds none that answers in time works alone.  Include after postgres.h.
 */
#ifndef LLMAPP_INFER_H
#define LLMAPP_INFER_H

#include "../model/model.h"

#define INFERENCE_TEXTS 8 /* most of a call */

extern void InitInference(void); /* in the postmaster, when preloaded */

/* Texts of one call at a server. */
typedef struct InferenceCall InferenceCall;

typedef enum InferenceKind
{
	INFERENCE_WRITE, /* results: (vocab), logits of what follows a text */
	/* These two on GPUs alone: on the CPU each session has its own. */
	INFERENCE_EMBED,  /* (width), a whole text as the model pools it */
	INFERENCE_PREDICT /* (rows, outputs), of the rows of a batch */
} InferenceKind;

/*
 * Room for so many texts of a model, or rows given together, freed with cxt.  NULL when no server takes them within
 * llmapp.gpu_queue_timeout, or none ever does with this model.
 */
extern InferenceCall *OpenInference(const Model *m, InferenceKind kind, int32 count, MemoryContext cxt);
/* Keep the first `keep` tokens of a text, append others, and ask for its result, which must be there before more are given. */
extern void GiveTokens(InferenceCall *call, int32 text, int32 keep, const int32 *ids, int32 count);
/* Ask for the predictions of the rows of a batch, the results of text 0. */
extern void GiveRows(InferenceCall *call, const batch *b);
/* Wait until all is answered.  False when the server is gone, or has no memory: the call is of no more use. */
extern bool AwaitResults(InferenceCall *call);
/* Of a text, until it is given tokens again. */
extern const float *InferenceResult(const InferenceCall *call, int32 text);

#endif /* LLMAPP_INFER_H */
