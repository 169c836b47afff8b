/*
 * transformer_record.h
 *	  Transformers: their forward pass.
 */
#ifndef LLMAPP_TRANSFORMER_RECORD_H
#define LLMAPP_TRANSFORMER_RECORD_H

#include "transformer.h"

/* What the recorder reads and makes. */
typedef struct transformer_graph
{
	graph *g;
	const net *n;
	const net_tuning *tuning;     /* NULL: all is trained */
	int32_t token, start;         /* inputs */
	int32_t source, source_start; /* those of the encoder */
	bool training;
	bool recompute;   /* layers keep only their input for the backward pass */
	int64_t dropouts; /* so far */
	int32_t embed;    /* the table, once it is recorded */
} transformer_graph;

/* The stream behind the last norm, (tokens, width). */
extern int32_t transformer_record(transformer_graph *t);
/* That of the encoder alone, (source tokens, width). */
extern int32_t transformer_record_encoder(transformer_graph *t);
/* What stands for texts, (rows, width), through the dense layers of an embedding: (rows, net_embedding_width()). */
extern int32_t transformer_record_dense(transformer_graph *t, int32_t x);
/* x (tokens, width), weight (vocab, width) and bias (vocab) or none, as op_language_loss() takes them with a cap. */
typedef struct transformer_head
{
	int32_t x, weight, bias;
	float cap;
} transformer_head;

/* What makes logits of that stream. */
extern transformer_head transformer_record_head(transformer_graph *t, int32_t x);

#endif /* LLMAPP_TRANSFORMER_RECORD_H */
