/*
 * adapter.c
 *	  A version that is kept apart from its base: which tensors it stores, and how the others are made.
 */
#include "adapter.h"

#include <stdlib.h>
#include <string.h>

#include "../engine/tuning.h"

#define ALPHA_MAX 1e6
#define SHA256_DIGITS 64

static const char *const matrix_names[2] = {"lora_A.weight", "lora_B.weight"};

/* ---- places ---- */

static size_t
padded(size_t count)
{
	return (count + 15) & ~(size_t) 15;
}

/* Where everything is stored, once origins are known. */
static void
place_tensors(adapter *a)
{
	size_t next = 0;

	for (int32_t i = 0; i < net_tensor_count(a->n); i++)
	{
		const net_tensor_info *info = net_tensor(a->n, i);
		tensor_place *p = &a->places[i];

		if (p->origin == ORIGIN_BASE)
			continue;
		p->stored = next;
		next += padded(p->origin == ORIGIN_OWN ? info->count : (size_t) (a->rank * info->dims[1]));
		p->b = next;
		if (p->origin == ORIGIN_ADAPTED)
			next += padded((size_t) (a->rank * info->dims[0]));
	}
	a->bytes = next * sizeof(float);
}

/* Number of the base's tensor of the same name and size; -1: it has none. */
static int32_t
find_in_base(const net *base, const net_tensor_info *info)
{
	for (int32_t i = 0; i < net_tensor_count(base); i++)
		if (strcmp(net_tensor(base, i)->name, info->name) == 0)
			return net_tensor(base, i)->count == info->count ? i : -1;
	return -1;
}

#define COMPARED 1024 /* numbers at once */

/* Is it what the base has? */
static bool
equals_base(const float *x, size_t count, const net *base, int32_t tensor, const void *base_weights)
{
	float numbers[COMPARED];
	bool same = true;

	for (size_t i = 0; same && i < count; i += COMPARED)
	{
		size_t part = count - i < COMPARED ? count - i : COMPARED;

		net_decode_tensor(base, tensor, i, part, base_weights, numbers);
		same = memcmp(x + i, numbers, part * sizeof(float)) == 0;
	}
	return same;
}

/* Number of the tensor's matrix A among adapters, B behind it; -1: it has none. */
static int32_t
find_matrices(const net *matrices, const net_tensor_info *info)
{
	size_t length = strlen(info->name), end = strlen("weight");

	if (length < end)
		return -1;
	for (int32_t i = 0; matrices && i < net_tensor_count(matrices); i += 2)
	{
		const char *name = net_tensor(matrices, i)->name;

		if (strncmp(name, info->name, length - end) == 0 && strcmp(name + length - end, matrix_names[0]) == 0)
			return i;
	}
	return -1;
}

static adapter *
new_adapter(const net *n, llm_error *err)
{
	adapter *a = calloc(1, sizeof(adapter));

	if (a)
		a->places = calloc((size_t) net_tensor_count(n) + 1, sizeof(tensor_place));
	if (!a || !a->places)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		adapter_free(a);
		return NULL;
	}
	a->n = n;
	return a;
}

adapter *
adapter_new(const net *n, const float *weights, const net *base, const void *base_weights, const net *matrices,
			int32_t rank, float alpha, llm_error *err)
{
	adapter *a = new_adapter(n, err);

	if (!a)
		return NULL;
	a->rank = rank;
	a->alpha = alpha;
	for (int32_t i = 0; i < net_tensor_count(n); i++)
	{
		const net_tensor_info *info = net_tensor(n, i);
		int32_t from = find_in_base(base, info);

		if (from < 0)
			a->places[i].origin = ORIGIN_OWN;
		else if (find_matrices(matrices, info) >= 0)
			a->places[i].origin = ORIGIN_ADAPTED;
		else if (!equals_base(weights + info->offset, info->count, base, from, base_weights))
			a->places[i].origin = ORIGIN_OWN;
	}
	place_tensors(a);
	return a;
}

void
adapter_free(adapter *a)
{
	if (!a)
		return;
	free(a->places);
	free(a->base);
	free(a);
}

void
adapter_store(const adapter *a, const float *weights, const net *matrices, const float *numbers, float *stored)
{
	memset(stored, 0, a->bytes);
	for (int32_t i = 0; i < net_tensor_count(a->n); i++)
	{
		const net_tensor_info *info = net_tensor(a->n, i);
		const tensor_place *p = &a->places[i];

		if (p->origin == ORIGIN_OWN)
			memcpy(stored + p->stored, weights + info->offset, info->count * sizeof(float));
		else if (p->origin == ORIGIN_ADAPTED)
		{
			const net_tensor_info *m = net_tensor(matrices, find_matrices(matrices, info));
			const net_tensor_info *up = m + 1;

			memcpy(stored + p->stored, numbers + m->offset, m->count * sizeof(float));
			memcpy(stored + p->b, numbers + up->offset, up->count * sizeof(float));
		}
	}
}

/* ---- to and from JSON ---- */

bool
adapter_set_base(adapter *a, const char *name, int32_t version, const char *sha256, llm_error *err)
{
	free(a->base);
	a->base = strdup(name);
	a->version = version;
	memcpy(a->base_sha256, sha256, SHA256_DIGITS + 1);
	return a->base || llm_fail(err, LLM_MEMORY, "out of memory");
}

static json_t *
names_json(const adapter *a, tensor_origin origin)
{
	json_t *names = json_array();

	for (int32_t i = 0; i < net_tensor_count(a->n); i++)
		if (a->places[i].origin == origin)
			json_array_append_new(names, json_string(net_tensor(a->n, i)->name));
	return names;
}

json_t *
adapter_json(const adapter *a)
{
	return json_pack("{s:s, s:i, s:s, s:i, s:f, s:o, s:o, s:I, s:s}", "base", a->base, "version", a->version,
					 "base_sha256", a->base_sha256, "rank", a->rank, "alpha", (double) a->alpha, "adapted",
					 names_json(a, ORIGIN_ADAPTED), "own", names_json(a, ORIGIN_OWN), "bytes", (json_int_t) a->bytes,
					 "sha256", a->sha256);
}

/* Names of tensors, in their order; only matrices can be adapted. */
static bool
read_names(adapter *a, const json_t *o, const char *key, tensor_origin origin, llm_error *err)
{
	const json_t *names;
	int32_t i = 0, count = net_tensor_count(a->n);

	if (!json_read_array(o, key, count, &names, err))
		return false;
	for (size_t k = 0; k < json_array_size(names); k++, i++)
	{
		const char *name = json_string_value(json_array_get(names, k));

		while (i < count && (!name || strcmp(net_tensor(a->n, i)->name, name) != 0))
			i++;
		if (i == count || (origin == ORIGIN_ADAPTED && net_tensor(a->n, i)->ndim != 2))
			return llm_fail(err, LLM_CORRUPT, "element %zu of \"%s\" names no tensor that can be there", k, key);
		a->places[i].origin = origin;
	}
	return true;
}

static bool
read_sha256(const json_t *o, const char *key, char *out, llm_error *err)
{
	const char *text;
	unsigned char digest[SHA256_DIGITS / 2];

	if (!json_read_string(o, key, &text, err))
		return false;
	if (strlen(text) != SHA256_DIGITS || !json_unhex(text, digest, sizeof(digest)))
		return llm_fail(err, LLM_CORRUPT, "\"%s\" is not %d hexadecimal digits", key, SHA256_DIGITS);
	memcpy(out, text, SHA256_DIGITS + 1);
	return true;
}

static bool
read_adapter(adapter *a, const json_t *o, llm_error *err)
{
	const char *name;
	char sha256[SHA256_DIGITS + 1];
	int64_t version, rank, bytes;
	double alpha;

	if (!json_read_string(o, "base", &name, err) || !json_read_int(o, "version", 1, INT32_MAX, &version, err) ||
		!read_sha256(o, "base_sha256", sha256, err) || !adapter_set_base(a, name, (int32_t) version, sha256, err) ||
		!json_read_int(o, "rank", 0, LORA_RANK_MAX, &rank, err) ||
		!json_read_number(o, "alpha", 0, ALPHA_MAX, &alpha, err) ||
		!read_names(a, o, "adapted", ORIGIN_ADAPTED, err) || !read_names(a, o, "own", ORIGIN_OWN, err) ||
		!json_read_int(o, "bytes", 0, INT64_MAX, &bytes, err) || !read_sha256(o, "sha256", a->sha256, err))
		return false;
	a->rank = (int32_t) rank;
	a->alpha = (float) alpha;
	place_tensors(a);
	if ((uint64_t) bytes != a->bytes)
		return llm_fail(err, LLM_CORRUPT, "\"bytes\" of \"adapter\" is %lld, its tensors have %zu", (long long) bytes,
						a->bytes);
	return true;
}

adapter *
adapter_from_json(const json_t *json, const net *n, llm_error *err)
{
	adapter *a = new_adapter(n, err);

	if (a && read_adapter(a, json, err))
		return a;
	adapter_free(a);
	return NULL;
}

/* ---- both parts together ---- */

struct adapter_view
{
	const adapter *a;
	const float *stored;
	const simd_kernels *simd;
	const net *base;
	const void *base_weights;
	int32_t from[]; /* the base's number of each tensor, -1: it has none */
};

adapter_view *
adapter_open(const adapter *a, const float *stored, const net *base, const void *base_weights, llm_error *err)
{
	int32_t count = net_tensor_count(a->n);
	adapter_view *v = malloc(sizeof(adapter_view) + count * sizeof(int32_t));

	if (!v)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	v->a = a;
	v->stored = stored;
	v->simd = simd_best();
	v->base = base;
	v->base_weights = base_weights;
	for (int32_t i = 0; i < count; i++)
	{
		v->from[i] = find_in_base(base, net_tensor(a->n, i));
		if (v->from[i] < 0 && a->places[i].origin != ORIGIN_OWN)
		{
			llm_fail(err, LLM_CORRUPT, "the base has no tensor \"%s\" of this size", net_tensor(a->n, i)->name);
			free(v);
			return NULL;
		}
	}
	return v;
}

void
adapter_close(adapter_view *v)
{
	free(v);
}

/* `count` numbers of an adapted tensor: parts of rows, added to those of the base. */
static void
read_adapted(const adapter_view *v, int32_t tensor, size_t begin, size_t count, float *out)
{
	const adapter *a = v->a;
	const tensor_place *p = &a->places[tensor];
	size_t width = (size_t) net_tensor(a->n, tensor)->dims[1];
	float scale = lora_scale(a->alpha, a->rank);

	for (size_t end = begin + count; begin < end;)
	{
		size_t row = begin / width, column = begin % width;
		size_t length = width - column < end - begin ? width - column : end - begin;

		net_decode_tensor(v->base, v->from[tensor], begin, length, v->base_weights, out);
		lora_add(v->simd, out, scale, v->stored + p->b + row * a->rank, a->rank, v->stored + p->stored + column,
				 (int64_t) width, out, (int64_t) length);
		begin += length;
		out += length;
	}
}

static void
read_tensor(const adapter_view *v, int32_t tensor, size_t begin, size_t count, float *out)
{
	const tensor_place *p = &v->a->places[tensor];

	if (p->origin == ORIGIN_ADAPTED && v->a->rank > 0)
		read_adapted(v, tensor, begin, count, out);
	else if (p->origin == ORIGIN_OWN)
		memcpy(out, v->stored + p->stored + begin, count * sizeof(float));
	else
		net_decode_tensor(v->base, v->from[tensor], begin, count, v->base_weights, out);
}

void
adapter_read(const adapter_view *v, size_t begin, size_t count, float *out)
{
	const net *n = v->a->n;
	size_t end = begin + count;

	memset(out, 0, count * sizeof(float)); /* between tensors */
	for (int32_t i = 0; i < net_tensor_count(n); i++)
	{
		const net_tensor_info *info = net_tensor(n, i);
		size_t from = info->offset > begin ? info->offset : begin;
		size_t to = info->offset + info->count < end ? info->offset + info->count : end;

		if (from < to)
			read_tensor(v, i, from - info->offset, to - from, out + (from - begin));
	}
}
