/*
 * tensor_file.c
 *	  A network's weights from a safetensors file, and back into one.
 *
 * All names and shapes are compared before memory is taken for weights, so a small file that
 * claims to be a large network costs nothing.
 */
#include "tensor_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_NUMBERS (1 << 20) /* between two polls */

typedef struct reader
{
	const exchange *x;
	const safetensors *file;
	const char *const *names; /* by tensor of the network */
	bool *used;               /* by tensor of the file */
	llm_poll poll;
	void *poll_arg;
	llm_error *err;
} reader;

#define TENSOR_TEXT(t) safetensor_text((t), (char[SAFETENSORS_TEXT_BYTES]) {0})

/* ---- names and shapes ---- */

/* DETAIL: what the file has, as far as there is room. */
static bool
add_list(const reader *r)
{
	int32_t count = safetensors_count(r->file);
	char list[sizeof(r->err->detail)] = "";
	size_t used = 0, room = sizeof(list) - 48;

	for (int32_t i = 0; i < count; i++)
	{
		const char *text = TENSOR_TEXT(safetensors_at(r->file, i));

		if (used + strlen(text) + 2 > room)
		{
			snprintf(list + used, sizeof(list) - used, ", and %d more", count - i);
			break;
		}
		used += (size_t) snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "", text);
	}
	return llm_detail(r->err, "The file has: %s.", count > 0 ? list : "no tensor");
}

/* "(2, 3)" */
static const char *
dims_text(const int64_t *dims, int32_t ndim, char text[112])
{
	int used = 0;

	for (int32_t i = 0; i < ndim; i++)
		used += sprintf(text + used, "%s%lld", i > 0 ? ", " : "(", (long long) dims[i]);
	strcpy(text + used, ")");
	return text;
}

static bool
has_shape(const safetensor *t, const int64_t *dims, int32_t ndim)
{
	return t->ndim == ndim && memcmp(t->dims, dims, ndim * sizeof(int64_t)) == 0;
}

/* The file's tensor i of the network, when it has the right shape. */
static bool
check_tensor(reader *r, int32_t i)
{
	const safetensor *t = safetensors_find(r->file, r->names[i]);
	int64_t dims[4];
	int32_t ndim = exchange_shape(r->x, i, dims);
	const char *needed = dims_text(dims, ndim, (char[112]) {0});

	if (t == NULL)
	{
		llm_fail(r->err, LLM_INVALID, "the file has no tensor \"%s\" of shape %s", SHOWN(r->names[i]), needed);
		return add_list(r);
	}
	r->used[t - safetensors_at(r->file, 0)] = true;
	if (has_shape(t, dims, ndim))
		return true;
	llm_fail(r->err, LLM_INVALID, "tensor %s does not have the shape %s that the network needs", TENSOR_TEXT(t),
			 needed);
	return add_list(r);
}

/* PyTorch counts the batches that running statistics have seen; predictions do not need it. */
static void
pass_over_counter(reader *r, int32_t i)
{
	static const char mean[] = "running_mean", counter[] = "num_batches_tracked";
	size_t length = strlen(r->names[i]);
	char name[512];
	const safetensor *t;

	if (length < sizeof(mean) - 1 || strcmp(r->names[i] + length - (sizeof(mean) - 1), mean) != 0 ||
		length >= sizeof(name) - sizeof(counter))
		return;
	memcpy(name, r->names[i], length);
	strcpy(name + length - (sizeof(mean) - 1), counter);
	t = safetensors_find(r->file, name);
	if (t != NULL)
		r->used[t - safetensors_at(r->file, 0)] = true;
}

static bool
check_names(reader *r)
{
	const net *n = r->x->n;

	for (int32_t i = 0; i < net_tensor_count(n); i++)
	{
		if (r->names[i] == NULL)
			continue;
		if (!check_tensor(r, i))
			return false;
		pass_over_counter(r, i);
	}
	for (int32_t i = 0; i < safetensors_count(r->file); i++)
		if (!r->used[i])
		{
			llm_fail(r->err, LLM_INVALID, "no layer takes tensor %s of the file",
					 TENSOR_TEXT(safetensors_at(r->file, i)));
			return add_list(r);
		}
	return true;
}

/* ---- numbers ---- */

static bool
read_numbers(const reader *r, const safetensor *t, float *numbers)
{
	for (size_t first = 0; first < t->count; first += CHUNK_NUMBERS)
	{
		size_t count = t->count - first < CHUNK_NUMBERS ? t->count - first : CHUNK_NUMBERS;

		if (r->poll != NULL && r->poll(r->poll_arg))
			return llm_fail(r->err, LLM_CANCELLED, "cancelled");
		if (!safetensor_floats(t, first, count, numbers + first, r->err))
			return false;
		for (size_t i = first; i < first + count; i++)
			if (!isfinite(numbers[i]))
				return llm_fail(r->err, LLM_INVALID, "tensor %s holds a number that is not finite", TENSOR_TEXT(t));
	}
	return true;
}

static bool
read_tensor(const reader *r, int32_t i, float *weights)
{
	const safetensor *t = safetensors_find(r->file, r->names[i]);
	float *outside = malloc(t->count * sizeof(float));
	bool ok = outside != NULL || llm_fail(r->err, LLM_MEMORY, "out of memory for tensor %s", TENSOR_TEXT(t));

	ok = ok && read_numbers(r, t, outside) &&
		 exchange_read(r->x, i, outside, weights + net_tensor(r->x->n, i)->offset, r->poll, r->poll_arg, r->err);
	free(outside);
	return ok;
}

float *
tensor_file_read(const exchange *x, const safetensors *file, const char *const *names, llm_poll poll, void *arg,
				 llm_error *err)
{
	reader r = {x, file, names, calloc((size_t) safetensors_count(file) + 1, sizeof(bool)), poll, arg, err};
	float *weights = NULL;
	bool ok;

	if (r.used != NULL && !check_names(&r))
	{
		free(r.used);
		return NULL;
	}
	if (r.used != NULL)
		weights = calloc(1, net_weight_bytes(x->n));
	ok = weights != NULL || llm_fail(err, LLM_MEMORY, "out of memory for the weights of the network");
	for (int32_t i = 0; ok && i < net_tensor_count(x->n); i++)
		ok = names[i] == NULL || read_tensor(&r, i, weights);
	free(r.used);
	if (ok)
		return weights;
	free(weights);
	return NULL;
}

/* ---- writing ---- */

bool
tensor_file_plan(tensor_file *f, const exchange *x, const json_t *metadata, llm_error *err)
{
	int32_t count = net_tensor_count(x->n);

	*f = (tensor_file) {.count = count};
	f->entries = calloc(count, sizeof(safetensors_entry));
	f->names = calloc(count, sizeof(*f->names));
	for (int32_t i = 0; f->entries != NULL && f->names != NULL && i < count; i++)
	{
		int64_t dims[4];

		f->entries[i].name = exchange_name(x->n, i, f->names[i]);
		f->entries[i].ndim = exchange_shape(x, i, dims);
		f->entries[i].id = i;
		memcpy(f->entries[i].dims, dims, f->entries[i].ndim * sizeof(int64_t));
	}
	if (f->entries != NULL && f->names != NULL)
		f->header = safetensors_header(f->entries, count, metadata, &f->header_bytes, &f->bytes, err);
	if (f->header != NULL)
		return true;
	tensor_file_free(f);
	return llm_fail(err, LLM_MEMORY, "out of memory while laying out the file");
}

bool
tensor_file_write(const tensor_file *f, const exchange *x, const float *weights, uint8_t *out, llm_poll poll,
				  void *arg, llm_error *err)
{
	bool ok = true;

	memcpy(out, f->header, f->header_bytes);
	for (int32_t i = 0; ok && i < f->count; i++)
	{
		const net_tensor_info *t = net_tensor(x->n, f->entries[i].id);
		float *outside = malloc(t->count * sizeof(float));

		ok = outside != NULL || llm_fail(err, LLM_MEMORY, "out of memory for tensor \"%s\"", t->name);
		ok = ok && exchange_write(x, f->entries[i].id, weights + t->offset, outside, poll, arg, err);
		if (ok)
			safetensors_put(SOURCE_F32, outside, t->count, out + f->entries[i].offset);
		free(outside);
	}
	return ok;
}

void
tensor_file_free(tensor_file *f)
{
	free(f->entries);
	free(f->names);
	free(f->header);
	*f = (tensor_file) {.entries = NULL};
}
