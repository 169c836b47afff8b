/*
 * net_keep.c
 *	  How a version keeps the weights of a network: types and places of its tensors, to and from float32.
 */
#include "net_record.h"

#include <string.h>

#include "transformer.h"

#define ALIGNMENT 64

/* Positions and types are added to a row as they are, and biases of scores are few: neither is what a matrix multiplies. */
static bool
is_matrix(const net *n, int32_t i)
{
	const net_tensor_info *t = &n->tensors[i];
	transformer_tensors numbers;

	if (n->config.text.vocab == 0 || net_predicts_rows(&n->config) || t->ndim != 2)
		return false;
	transformer_tensors_of(&n->config.text, &numbers);
	return i != numbers.position && i != numbers.types && i != numbers.encoder.relative &&
		   i != numbers.stack.relative;
}

bool
net_can_keep(const net *n, int32_t i, weight_type type)
{
	return type == WEIGHT_F32 || (is_matrix(n, i) && n->tensors[i].dims[1] % QUANT_BLOCK == 0);
}

/* One behind the other. */
static void
place_tensors(net *n)
{
	n->kept_bytes = 0;
	for (int32_t i = 0; i < n->tensor_count; i++)
	{
		net_tensor_info *t = &n->tensors[i];

		t->place = n->kept_bytes;
		n->kept_bytes += (weight_bytes(t->type, t->count) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	}
}

void
net_keep(net *n, int32_t i, weight_type type)
{
	n->tensors[i].type = type;
	place_tensors(n);
}

void
net_keep_all(net *n, weight_type type)
{
	for (int32_t i = 0; i < n->tensor_count; i++)
		n->tensors[i].type = net_can_keep(n, i, type) ? type : WEIGHT_F32;
	place_tensors(n);
}

weight_type
net_kept_type(const net *n)
{
	size_t counts[WEIGHT_TYPES] = {0};
	weight_type most = WEIGHT_F32;

	for (int32_t i = 0; i < n->tensor_count; i++)
		if (n->tensors[i].type != WEIGHT_F32)
			counts[n->tensors[i].type] += n->tensors[i].count;
	for (int t = 0; t < WEIGHT_TYPES; t++)
		if (counts[t] > counts[most])
			most = (weight_type) t;
	return most;
}

size_t
net_kept_bytes(const net *n)
{
	return n->kept_bytes;
}

bool
net_encode_numbers(const net *n, int32_t i, const float *x, size_t count, void *out, llm_error *err)
{
	const net_tensor_info *t = &n->tensors[i];

	if (weight_encode(t->type, x, count, out))
		return true;
	llm_fail(err, LLM_INVALID, "tensor \"%s\" has a number that %s cannot hold", t->name, weight_type_name(t->type));
	return llm_hint(err, "Keep the weights in bf16 or f32.");
}

bool
net_encode_tensor(const net *n, int32_t i, size_t begin, size_t count, const float *x, void *kept, llm_error *err)
{
	const net_tensor_info *t = &n->tensors[i];

	return net_encode_numbers(n, i, x, count, (char *) kept + t->place + weight_bytes(t->type, begin), err);
}

void
net_decode_tensor(const net *n, int32_t i, size_t begin, size_t count, const void *kept, float *x)
{
	const net_tensor_info *t = &n->tensors[i];

	weight_decode(t->type, (const char *) kept + t->place, begin, count, x);
}

void
net_keep_fitting(net *n, const float *weights)
{
	for (int32_t i = 0; i < n->tensor_count; i++)
		if (!weight_fits(n->tensors[i].type, weights + n->tensors[i].offset, n->tensors[i].count))
			n->tensors[i].type = WEIGHT_F32;
	place_tensors(n);
}

bool
net_encode(const net *n, const float *weights, void *kept, llm_error *err)
{
	memset(kept, 0, n->kept_bytes);
	for (int32_t i = 0; i < n->tensor_count; i++)
		if (!net_encode_tensor(n, i, 0, n->tensors[i].count, weights + n->tensors[i].offset, kept, err))
			return false;
	return true;
}
