/*
 * decoder_device.h
 *	  What a decoder holds, and the device on which its passes run; for decoder*.c.
 */
#ifndef LLMAPP_DECODER_DEVICE_H
#define LLMAPP_DECODER_DEVICE_H

#include "decoder.h"

struct decoder
{
	const net *n;
	const void *weights;
	decoder_shape shape;
	const struct decoder_device *device;
	void *state; /* of the device */
	llm_poll poll;
	void *poll_arg;
	int32_t *ids; /* (shape.tokens): of the pass at hand, text behind text */
	int32_t *row; /* (shape.texts): of its logits in the last run, -1: none */
};

typedef struct decoder_device
{
	bool (*memory)(const net *n, const decoder_shape *s, size_t *bytes, llm_error *err);
	bool (*start)(decoder *d, struct cuda_device *gpu, llm_error *err);
	void (*stop)(decoder *d); /* also after a start that failed, or none */
	/* Texts that were checked; d->row says which are wanted, and in which row of the logits. */
	bool (*run)(decoder *d, const decoder_text *texts, int32_t count, llm_error *err);
	const float *(*logits)(const decoder *d); /* (rows wanted, vocab) */
} decoder_device;

extern const decoder_device decoder_cpu, decoder_cuda;

#endif /* LLMAPP_DECODER_DEVICE_H */
