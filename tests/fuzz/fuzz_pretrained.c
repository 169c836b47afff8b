/*
 * fuzz_pretrained.c
 *	  Any JSON as the files of a checkpoint, and the names and shapes of its tensors:
 *
 *	{"config.json": {...}, "modules.json": [...], ..., "gguf": {key: value}, "params": {...},
 *	 "separator": 3, "tensors": {name: [dims]}}
 *
 * What is accepted must read only rows that its tensors have, and write only rows that its network has.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/checkpoint/checkpoint.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WEIGHTS_MAX (1 << 20) /* bytes; a larger network teaches nothing more */

static bool
number_of(void *arg, const char *key, double *out)
{
	const json_t *value = json_object_get(arg, key);

	*out = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
	return json_is_number(value) || json_is_boolean(value);
}

static const char *
string_of(void *arg, const char *key)
{
	return json_string_value(json_object_get(arg, key));
}

static bool
has(void *arg, const char *key)
{
	return json_object_get(arg, key) != NULL;
}

/* All numbers are ones. */
static bool
read_ones(void *arg, int32_t file, uint64_t offset, void *out, size_t bytes, llm_error *err)
{
	static const float one = 1;

	for (size_t i = 0; i + sizeof(one) <= bytes; i += sizeof(one))
		memcpy((char *) out + i, &one, sizeof(one));
	return true;
}

/* False for a shape that no reader of files gives. */
static bool
shape_of(const json_t *dims, source_tensor *t)
{
	t->ndim = (int32_t) json_array_size(dims);
	t->count = 1;
	if (!json_is_array(dims) || t->ndim > SOURCE_MAX_DIMS)
		return false;
	for (int32_t i = 0; i < t->ndim; i++)
	{
		t->dims[i] = json_integer_value(json_array_get(dims, i));
		if (t->dims[i] < 0 || __builtin_mul_overflow(t->count, (size_t) t->dims[i], &t->count) || t->count > 1 << 30)
			return false;
	}
	t->bytes = t->count * sizeof(float);
	return true;
}

static void
make_tensors(const json_t *list, tensor_source *s)
{
	llm_error err = {.code = LLM_OK};
	const char *name;
	json_t *dims;

	json_object_foreach((json_t *) list, name, dims)
	{
		source_tensor t = {.name = (char *) name, .type = SOURCE_F32, .type_name = "F32"};

		if (shape_of(dims, &t))
			REQUIRE(tensor_source_add(s, &t, &err));
	}
	REQUIRE(tensor_source_sort(s, &err));
	s->read = read_ones;
}

static checkpoint_text
text_of(const json_t *all, const char *name)
{
	json_t *part = json_object_get(all, name);
	char *text = part ? json_text(part) : NULL;

	return (checkpoint_text) {text, text ? strlen(text) : 0};
}

static void
check_piece(const checkpoint *c, const net_tensor_info *info, const checkpoint_piece *p)
{
	const source_tensor *t = &c->source->tensors[p->source];
	int64_t columns = (int64_t) info->count / info->dims[0], last = p->from + (p->rows - 1) * p->step;

	REQUIRE(p->source >= 0 && p->source < c->source->count && t->ndim == info->ndim);
	REQUIRE(p->rows >= 1 && p->to >= 0 && p->to + p->rows <= info->dims[0] && p->from >= 0 && p->step >= 0);
	if (p->transpose)
		REQUIRE(t->dims[0] == columns && last < t->dims[1]);
	else
		REQUIRE(last < t->dims[0] && (t->ndim == 1 || t->dims[1] == columns));
}

static void
check(const checkpoint *c)
{
	size_t bytes = net_weight_bytes(c->net);
	llm_error err = {.code = LLM_OK};
	float *weights;

	REQUIRE(c->family && c->architecture && c->task && c->max_tokens >= 1 && c->max_tokens <= c->config.text.context);
	for (int32_t i = 0; i < net_tensor_count(c->net); i++)
		for (int32_t k = 0; k < c->recipes[i].count; k++)
			check_piece(c, net_tensor(c->net, i), &c->recipes[i].pieces[k]);
	if (bytes > WEIGHTS_MAX)
		return;
	weights = calloc(1, bytes);
	REQUIRE(checkpoint_read_all(c, weights, NULL, NULL, &err));
	free(weights);
}

static void
try_checkpoint(json_t *all)
{
	checkpoint_metadata m = {number_of, string_of, has, json_object_get(all, "gguf")};
	const json_t *params = json_object_get(all, "params"), *separator = json_object_get(all, "separator");
	checkpoint_files files = {.config = text_of(all, "config.json"),
							  .generation_config = text_of(all, "generation_config.json"),
							  .modules = text_of(all, "modules.json"),
							  .pooling = text_of(all, "1_Pooling/config.json"),
							  .sentence_config = text_of(all, "sentence_bert_config.json"),
							  .separator = json_is_integer(separator) ? (int32_t) json_integer_value(separator) : -1};
	llm_error err = {.code = LLM_OK};
	tensor_source tensors = {0};
	checkpoint_folders folders;
	checkpoint *c;

	(void) checkpoint_dense_folders(&files.modules, &folders, &(llm_error) {.code = LLM_OK});
	for (int32_t i = 0; i < folders.count; i++)
	{
		char name[CHECKPOINT_FOLDER_BYTES + 16];

		snprintf(name, sizeof(name), "%s/config.json", folders.name[i]);
		files.dense[i] = text_of(all, name);
	}
	make_tensors(json_object_get(all, "tensors"), &tensors);
	c = m.arg ? checkpoint_new_gguf(&m, &tensors, files.separator, params, &err)
			  : checkpoint_new(&files, &tensors, params, &err);
	REQUIRE((c == NULL) == (err.code != LLM_OK));
	if (c != NULL)
		check(c);
	checkpoint_free(c);
	tensor_source_clear(&tensors);
	free((char *) files.config.text);
	free((char *) files.generation_config.text);
	free((char *) files.modules.text);
	free((char *) files.pooling.text);
	free((char *) files.sentence_config.text);
	for (int32_t i = 0; i < NET_MAX_DENSE; i++)
		free((char *) files.dense[i].text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	json_t *all = json_parse((const char *) data, size, &err);

	if (json_is_object(all))
		try_checkpoint(all);
	json_decref(all);
	return 0;
}
