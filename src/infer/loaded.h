/*
 * loaded.h
 *	  The models that an inference server has in memory: loaded when a call wants one, given up when another one needs
 *	  the room and nobody uses it.
 */
#ifndef LLMAPP_LOADED_H
#define LLMAPP_LOADED_H

#include "../engine/embedder.h"
#include "../engine/scheduler.h"
#include "../model/cache.h"
#include "board.h"

#define EMBEDDED_TEXTS 256  /* most of a pass of an embedder */
#define PREDICTED_ROWS 1024 /* of a predictor */

typedef struct LoadedModel
{
	Oid database, relid;
	int32 version;
	InferenceKind kind;
	manifest *manifest;
	WeightFile file;
	embedder *embedder;   /* of one that embeds, */
	int32 texts, tokens;  /* the most of a pass, */
	int32 *ids;           /* (tokens): of it, text behind text, */
	float *results;       /* (texts, width); */
	predictor *predictor; /* of one that predicts rows */
	decoder *decoder;     /* of one that writes */
	scheduler *scheduler;
	Size bytes;
	int32 calls;   /* that have texts of it */
	int64 used;    /* in the order of uses */
	void *weights; /* of a model without a file */
	struct LoadedModel *next;
} LoadedModel;

/* All models go to this device, NULL: the CPU, and take so many bytes of its memory at most. */
extern void InitLoadedModels(struct cuda_device *device, Size budget);
/* The model of a segment; NULL when it cannot be had, for now or ever: there is no room, or it is damaged. */
extern LoadedModel *RequireLoaded(Segment *s);
extern LoadedModel *FirstLoaded(void);
extern void UnloadAll(void);
extern Size LoadedBytes(void);
extern scheduler_counts CountWork(void); /* with that of models that were unloaded */

#endif /* LLMAPP_LOADED_H */
