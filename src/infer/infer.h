/*
 * infer.h
 *	  The inference server: a process that has models on a GPU, or for all sessions on the CPU, and lets the
 *	  texts of all sessions go through a model together.
 *
 * It makes logits and nothing else: sampling, schemas and stop strings stay in the session, so a text is what the
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

/*
 * Room for `texts` texts of a model, freed with cxt.  NULL when no server takes them within
 * llmapp.gpu_queue_timeout, or none ever does with this model.
 */
extern InferenceCall *OpenInference(const Model *m, int32 texts, MemoryContext cxt);
/* Keep the first `keep` tokens of a text, append others, and ask for what follows; not yet answered ones must not be given again. */
extern void GiveTokens(InferenceCall *call, int32 text, int32 keep, const int32 *ids, int32 count);
/* Wait until all is answered.  False when the server is gone, or has no memory: the call is of no more use. */
extern bool AwaitLogits(InferenceCall *call);
/* (vocab), of a text, until it is given tokens again. */
extern const float *InferenceLogits(const InferenceCall *call, int32 text);
extern const char *InferenceDevice(const InferenceCall *call);

#endif /* LLMAPP_INFER_H */
