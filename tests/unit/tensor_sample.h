/*
 * tensor_sample.h
 *	  A file of tensors as PyTorch would write it, and the parameters that make a model of it.
 */
#ifndef LLMAPP_TENSOR_SAMPLE_H
#define LLMAPP_TENSOR_SAMPLE_H

#include "../../src/format/safetensors.h"
#include "fixture.h"

#define SAMPLE_TENSORS 18

typedef struct sample_tensor
{
	const char *name;
	int32_t ndim;
	int64_t dims[4];
	float numbers[512];
} sample_tensor;

/* An image of 2 x 5 x 6: (channels, height, width) */
static sample_tensor sample_tensors[SAMPLE_TENSORS] = {
	{"c1.weight", 4, {3, 2, 3, 2}},
	{"c1.bias", 1, {3}},
	{"bn.weight", 1, {3}},
	{"bn.bias", 1, {3}},
	{"bn.running_mean", 1, {3}},
	{"bn.running_var", 1, {3}},
	{"ln.weight", 3, {3, 2, 2}},
	{"ln.bias", 3, {3, 2, 2}},
	{"flat.weight", 1, {12}},
	{"flat.bias", 1, {12}},
	{"flat.running_mean", 1, {12}},
	{"flat.running_var", 1, {12}},
	{"fc.weight", 2, {4, 15}},
	{"fc.bias", 1, {4}},
	{"out.weight", 2, {3, 4}},
	{"out.bias", 1, {3}},
	{"bn.num_batches_tracked", 0, {0}},
	{"flat.num_batches_tracked", 0, {0}},
};

static const char *const sample_params =
	"{\"layers\": [{\"type\": \"conv2d\", \"name\": \"c1\", \"channels\": 3, \"kernel\": [3, 2], \"padding\": [1, "
	"0]},"
	"{\"type\": \"batch_norm\", \"name\": \"bn\"}, {\"type\": \"activation\", \"function\": \"relu\"},"
	"{\"type\": \"max_pool\"}, {\"type\": \"layer_norm\", \"name\": \"ln\"}, {\"type\": \"flatten\"},"
	"{\"type\": \"batch_norm\", \"name\": \"flat\"}, {\"type\": \"global_avg_pool\", \"input\": \"ln\"},"
	"{\"type\": \"concat\", \"inputs\": [7, 8]}, {\"type\": \"linear\", \"name\": \"fc\", \"width\": 4},"
	"{\"type\": \"activation\", \"function\": \"tanh\"}, {\"type\": \"linear\", \"name\": \"out\", \"width\": 3}],"
	"\"classes\": [\"b\", \"c\", \"a\"], \"input\": {\"name\": \"pixels\", \"shape\": [2, 5, 6],"
	"\"mean\": [0.25, 0.5], \"std\": [0.5, 2]}}";

static inline size_t
sample_count(const sample_tensor *t)
{
	size_t count = 1;

	for (int32_t i = 0; i < t->ndim; i++)
		count *= (size_t) t->dims[i];
	return count;
}

/* Numbers from -1 to 1, above 0 where a variance needs it. */
static inline void
sample_fill(void)
{
	for (int t = 0; t < SAMPLE_TENSORS; t++)
		for (size_t i = 0; i < sample_count(&sample_tensors[t]); i++)
			sample_tensors[t].numbers[i] =
				strstr(sample_tensors[t].name, "_var") ? 0.1f + next_uniform() : 2 * next_uniform() - 1;
}

/* The file of the first `count` tensors, malloc'd. */
static inline uint8_t *
sample_tensor_file(int32_t count, const json_t *metadata, size_t *size)
{
	safetensors_entry entries[SAMPLE_TENSORS];
	llm_error err = {0};
	size_t header_bytes;
	uint8_t *header, *file;

	for (int32_t i = 0; i < count; i++)
	{
		entries[i] = (safetensors_entry) {sample_tensors[i].name, sample_tensors[i].ndim, .id = i};
		memcpy(entries[i].dims, sample_tensors[i].dims, sizeof(sample_tensors[i].dims));
	}
	header = safetensors_header(entries, count, metadata, &header_bytes, size, &err);
	file = malloc(*size);
	memcpy(file, header, header_bytes);
	for (int32_t i = 0; i < count; i++)
		safetensors_put(SOURCE_F32, sample_tensors[entries[i].id].numbers, sample_count(&sample_tensors[entries[i].id]),
						file + entries[i].offset);
	free(header);
	return file;
}

#endif /* LLMAPP_TENSOR_SAMPLE_H */
