/*
 * decoder.h
 *	  Tokens of many texts through a language model at once, with keys and values in pages: for a process
 *	  that serves many sessions.
 *
 * A page has the keys and values of DECODER_PAGE tokens of a text, of all layers.  Which pages are whose is the
 * caller's business: texts that begin alike may share full pages, as a page is written only with the tokens of a
 * pass that lie in it.  Everything is allocated by decoder_new().
 *
 * On the CPU a text's numbers do not depend on the others of a pass while it has at most 8 tokens; beyond, and on
 * a GPU, they may differ by rounding.
 */
#ifndef LLMAPP_DECODER_H
#define LLMAPP_DECODER_H

#include "net.h"

#define DECODER_PAGE 64

typedef struct decoder_shape
{
	int32_t pages;  /* of keys and values */
	int32_t tokens; /* most of a pass */
	int32_t texts;  /* most of a pass, at most tokens */
} decoder_shape;

/* Tokens of one text that follow each other, in a pass. */
typedef struct decoder_text
{
	const int32_t *pages; /* ((first + count) / DECODER_PAGE, rounded up): of its tokens, in their order */
	const int32_t *ids;   /* (count) */
	int32_t first;        /* tokens before these, whose keys and values lie in its pages */
	int32_t count;        /* at least 1 */
	bool wanted;          /* the logits of what follows the last one */
} decoder_text;

typedef struct decoder decoder;
struct cuda_device;

/* Bytes that decoder_new() will allocate: of the CPU, or of a GPU, weights included, without scratch of its operations. */
extern bool decoder_memory(const net *n, const decoder_shape *s, bool gpu, size_t *bytes, llm_error *err);
/*
 * weights: net_kept_bytes() bytes, 64-byte aligned, never written; the caller keeps them as long as the decoder
 * lives, or with a device, until this returns.  device: an open GPU, NULL: the CPU.  LLM_INVALID for a network that does
 * not write texts, or has an encoder.
 */
extern decoder *decoder_new(const net *n, const void *weights, const decoder_shape *s, struct cuda_device *device,
							llm_error *err);
extern void decoder_free(decoder *d); /* d may be NULL */
extern void decoder_set_poll(decoder *d, llm_poll poll, void *arg);

/*
 * One pass.  LLM_INVALID for a token, a page or a length out of range, with nothing done; LLM_CANCELLED when the
 * poll asks to stop: then the pass can be run again.
 */
extern bool decoder_run(decoder *d, const decoder_text *texts, int32_t count, llm_error *err);
/* (vocab), of what follows texts[i] of the last run, which succeeded and wanted it; valid until the next run. */
extern const float *decoder_logits(const decoder *d, int32_t i);

#endif /* LLMAPP_DECODER_H */
