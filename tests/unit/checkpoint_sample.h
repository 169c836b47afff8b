/*
 * checkpoint_sample.h
 *	  Tiny checkpoints of golden/checkpoints, from their own files or GGUF files, one file of them changed.
 */
#ifndef CHECKPOINT_SAMPLE_H
#define CHECKPOINT_SAMPLE_H

#include <stdlib.h>

#include "../../src/checkpoint/checkpoint.h"
#include "../../src/engine/generator.h"
#include "../../src/engine/transformer.h"
#include "../../src/format/safetensors.h"
#include "net_check.h"

#define LIMIT 1e-10
#define GOLDEN "golden."
#define SEPARATOR 3

/* A file, and what of it is the checkpoint's. */
typedef struct sample
{
	uint8_t *bytes;
	size_t size;
	safetensors *file;
	tensor_source tensors;
	json_t *gguf; /* metadata, of GGUF files */
	const char *changed_file;
	const char *changed; /* what stands in that file instead; NULL: there is none */
} sample;

static inline bool
read_memory(void *arg, int32_t file, uint64_t offset, void *out, size_t bytes, llm_error *err)
{
	const sample *s = arg;

	if (offset > s->size || bytes > s->size - offset)
		return llm_fail(err, LLM_CORRUPT, "beyond the end");
	memcpy(out, s->bytes + offset, bytes);
	return true;
}

/* All tensors but golden ones and `without`. */
static inline void
take_tensors(sample *s, const char *without)
{
	tensor_source all = {0};
	llm_error err = {0};

	CHECK(safetensors_source(s->file, 0, &all, &err));
	for (int32_t i = 0; i < all.count; i++)
		if (strncmp(all.tensors[i].name, GOLDEN, strlen(GOLDEN)) != 0 &&
			!(without && strcmp(all.tensors[i].name, without) == 0))
			CHECK(tensor_source_add(&s->tensors, &all.tensors[i], &err));
	CHECK(tensor_source_sort(&s->tensors, &err));
	s->tensors.read = read_memory;
	s->tensors.arg = s;
	tensor_source_clear(&all);
}

static inline bool
open_sample(const char *name, sample *s)
{
	llm_error err = {0};
	char path[4096];
	FILE *f;
	long size;

	memset(s, 0, sizeof(*s));
	snprintf(path, sizeof(path), "%.*sgolden/checkpoints/%s.safetensors",
			 (int) (strrchr(__FILE__, '/') ? strrchr(__FILE__, '/') + 1 - __FILE__ : 0), __FILE__, name);
	f = fopen(path, "rb");
	if (!CHECK(f != NULL))
		return false;
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	s->bytes = malloc(size);
	s->size = fread(s->bytes, 1, size, f);
	fclose(f);
	s->file = safetensors_open(s->bytes, s->size, &err);
	if (!CHECK(s->file != NULL))
		return false;
	if (safetensors_metadata(s->file, "gguf"))
		s->gguf = json_loads(safetensors_metadata(s->file, "gguf"), 0, NULL);
	return true;
}

static inline void
close_sample(sample *s)
{
	tensor_source_clear(&s->tensors);
	safetensors_close(s->file);
	json_decref(s->gguf);
	free(s->bytes);
}

/* ---- the checkpoint of a sample ---- */

static inline bool
metadata_number(void *arg, const char *key, double *out)
{
	const json_t *value = json_object_get(((sample *) arg)->gguf, key);

	*out = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
	return json_is_number(value) || json_is_boolean(value);
}

static const char *
metadata_string(void *arg, const char *key)
{
	return json_string_value(json_object_get(((sample *) arg)->gguf, key));
}

static inline bool
metadata_has(void *arg, const char *key)
{
	return json_object_get(((sample *) arg)->gguf, key) != NULL;
}

static inline checkpoint_text
text_of(const sample *s, const char *name)
{
	bool changed = s->changed_file && strcmp(s->changed_file, name) == 0;
	const char *text = changed ? s->changed : safetensors_metadata(s->file, name);

	return (checkpoint_text) {text, text ? strlen(text) : 0};
}

static inline checkpoint *
make_checkpoint(sample *s, const char *params, const char *config, llm_error *err)
{
	json_t *json = params ? json_loads(params, 0, NULL) : NULL;
	checkpoint_metadata m = {metadata_number, metadata_string, metadata_has, s};
	checkpoint_files files = {
		.config = text_of(s, "config.json"),
		.generation_config = text_of(s, "generation_config.json"),
		.modules = text_of(s, "modules.json"),
		.pooling = text_of(s, "1_Pooling/config.json"),
		.sentence_config = text_of(s, "sentence_bert_config.json"),
		.separator = SEPARATOR,
	};
	checkpoint_folders folders;
	checkpoint *c;

	(void) checkpoint_dense_folders(&files.modules, &folders, &(llm_error) {0});
	for (int32_t i = 0; i < folders.count; i++)
	{
		char name[128];

		snprintf(name, sizeof(name), "%s/config.json", folders.name[i]);
		files.dense[i] = text_of(s, name);
	}
	if (config)
		files.config = (checkpoint_text) {config, strlen(config)};
	c = s->gguf ? checkpoint_new_gguf(&m, &s->tensors, SEPARATOR, json, err)
				: checkpoint_new(&files, &s->tensors, json, err);
	json_decref(json);
	return c;
}

/* Row by row is what all at once is. */
static inline float *
read_weights(const checkpoint *c)
{
	float *weights = aligned_alloc(64, net_weight_bytes(c->net));
	llm_error err = {0};

	memset(weights, 0, net_weight_bytes(c->net));
	CHECK(checkpoint_read_all(c, weights, NULL, NULL, &err));
	check_no_error(&err);
	for (int32_t i = 0; i < net_tensor_count(c->net); i++)
	{
		const net_tensor_info *info = net_tensor(c->net, i);
		int64_t columns = info->count / info->dims[0];
		float *row = malloc(columns * sizeof(float));

		for (int64_t k = 0; k < info->dims[0]; k++)
		{
			CHECK(checkpoint_read(c, i, k, 1, row, NULL, NULL, &err));
			CHECK_BYTES(row, weights + info->offset + k * columns, columns * sizeof(float));
		}
		free(row);
	}
	return weights;
}

/*
 * A file of a sample with one value changed, a missing one where json is NULL; of modules.json that of the module
 * before the last Dense.  NULL: key is.
 */
static inline char *
change_file(const sample *s, const char *file, const char *key, const char *json)
{
	json_t *all = json_loads(safetensors_metadata(s->file, file), 0, NULL);
	json_t *config = json_is_array(all) ? json_array_get(all, 3) : all;
	char *text;

	if (json)
		json_object_set_new(config, key, json_loads(json, JSON_DECODE_ANY, NULL));
	else if (key)
		json_object_del(config, key);
	text = key ? json_dumps(all, 0) : NULL;
	json_decref(all);
	return text;
}

static inline char *
changed_config(const sample *s, const char *key, const char *json)
{
	return change_file(s, "config.json", key, json);
}

#endif /* CHECKPOINT_SAMPLE_H */
