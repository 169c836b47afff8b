/*
 * tensor_file.h
 *	  A network's weights from a safetensors file, and back into one.
 */
#ifndef LLMAPP_TENSOR_FILE_H
#define LLMAPP_TENSOR_FILE_H

#include "../engine/exchange.h"
#include "../format/safetensors.h"

/*
 * names[i] is what the file calls tensor i of the network, NULL: it does not have it, all are 0.
 * Every tensor must be there with its shape, hold finite numbers, and no other may be there but
 * the counters that PyTorch keeps beside running statistics.  Returns net_weight_bytes(x->n)
 * bytes, malloc'd, padding 0; or NULL: LLM_INVALID, its DETAIL listing the file's tensors,
 * LLM_MEMORY, LLM_CANCELLED.
 */
extern float *tensor_file_read(const exchange *x, const safetensors *file, const char *const *names, llm_poll poll,
							   void *arg, llm_error *err);

/* A file to write, in the exchange's order and with its usual names. */
typedef struct tensor_file
{
	safetensors_entry *entries; /* (count); id is the number of the tensor */
	int32_t count;
	char (*names)[EXCHANGE_NAME_BYTES];
	uint8_t *header;
	size_t header_bytes, bytes; /* bytes of the whole file */
} tensor_file;

/* Lay out the file; metadata as for safetensors_header().  LLM_MEMORY; then there is nothing to free. */
extern bool tensor_file_plan(tensor_file *f, const exchange *x, const json_t *metadata, llm_error *err);
/* Write it to out, f->bytes long.  LLM_MEMORY, LLM_CANCELLED. */
extern bool tensor_file_write(const tensor_file *f, const exchange *x, const float *weights, uint8_t *out,
							  llm_poll poll, void *arg, llm_error *err);
extern void tensor_file_free(tensor_file *f); /* what it holds */

#endif /* LLMAPP_TENSOR_FILE_H */
