/*
 * checkpoint_index.c
 *	  Read the index of a checkpoint of several files.
 *
 * The names in it are opened later, so none may lead out of the folder of the index.
 */
#include "checkpoint_index.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

#define FILE_NAME_MAX 255
#define ENDING ".safetensors"
#define CORRUPT(err, ...) llm_fail((err), LLM_CORRUPT, __VA_ARGS__)

struct checkpoint_index
{
	json_t *json;
	const json_t *map;  /* tensor -> file */
	const char **files; /* (count) */
	int32_t count;
};

static bool
check_file_name(const char *name, size_t length, llm_error *err)
{
	size_t ending = sizeof(ENDING) - 1;

	if (length != strlen(name) || length > FILE_NAME_MAX || length <= ending ||
		strcmp(name + length - ending, ENDING) != 0)
		return CORRUPT(err, "the index names a file \"%s\", which is no name of a file that ends with \"" ENDING "\"",
					   SHOWN(name));
	if (name[0] == '.' || strpbrk(name, "/\\:") != NULL)
		return CORRUPT(err, "the index names a file \"%s\", which may be in another folder", SHOWN(name));
	for (size_t i = 0; i < length; i++)
		if ((unsigned char) name[i] < ' ' || name[i] == 127)
			return CORRUPT(err, "the index names a file \"%s\", which has a control character in it", SHOWN(name));
	return true;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The distinct names of the map, sorted. */
static bool
collect_files(checkpoint_index *x, llm_error *err)
{
	size_t entries = json_object_size(x->map), count = 0;
	const char *tensor;
	json_t *file;

	x->files = malloc((entries + 1) * sizeof(char *));
	if (x->files == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading the index");
	json_object_foreach((json_t *) x->map, tensor, file)
	{
		if (!json_is_string(file))
			return CORRUPT(err, "tensor \"%s\" of the index is not given the name of a file", SHOWN(tensor));
		if (!check_file_name(json_string_value(file), json_string_length(file), err))
			return false;
		x->files[count++] = json_string_value(file);
	}
	qsort(x->files, count, sizeof(char *), by_text);
	for (size_t i = 0; i < count; i++)
		if (i == 0 || strcmp(x->files[i], x->files[x->count - 1]) != 0)
			x->files[x->count++] = x->files[i];
	return x->count <= CHECKPOINT_FILES_MAX ||
		   CORRUPT(err, "the index names %d files, at most %d are allowed", x->count, CHECKPOINT_FILES_MAX);
}

static bool
find_map(checkpoint_index *x, llm_error *err)
{
	if (!json_is_object(x->json))
		return CORRUPT(err, "the index is not an object");
	if (!json_read_object(x->json, "weight_map", &x->map, err))
		return false;
	if (json_object_size(x->map) < 1 || json_object_size(x->map) > SOURCE_MAX_TENSORS)
		return CORRUPT(err, "the index names %zu tensors, 1 to %d are allowed", json_object_size(x->map),
					   SOURCE_MAX_TENSORS);
	return true;
}

checkpoint_index *
checkpoint_index_parse(const char *text, size_t length, llm_error *err)
{
	checkpoint_index *x;

	if (length > CHECKPOINT_INDEX_MAX)
	{
		CORRUPT(err, "the index has %zu bytes, at most %d are allowed", length, CHECKPOINT_INDEX_MAX);
		return NULL;
	}
	x = calloc(1, sizeof(checkpoint_index));
	if (x != NULL)
	{
		x->json = json_parse(text, length, err);
		if (x->json != NULL && find_map(x, err) && collect_files(x, err))
			return x;
	}
	llm_fail(err, LLM_MEMORY, "out of memory while reading the index");
	checkpoint_index_free(x);
	return NULL;
}

void
checkpoint_index_free(checkpoint_index *x)
{
	if (x == NULL)
		return;
	json_decref(x->json);
	free(x->files);
	free(x);
}

int32_t
checkpoint_index_count(const checkpoint_index *x)
{
	return x->count;
}

const char *
checkpoint_index_file(const checkpoint_index *x, int32_t i)
{
	return x->files[i];
}

bool
checkpoint_index_check(const checkpoint_index *x, const tensor_source *s, llm_error *err)
{
	const char *name;
	json_t *file;

	json_object_foreach((json_t *) x->map, name, file)
	{
		const source_tensor *t = tensor_source_find(s, name);

		if (t == NULL)
			return CORRUPT(err, "no file has tensor \"%s\" of the index", SHOWN(name));
		if (t->file < 0 || t->file >= x->count || strcmp(x->files[t->file], json_string_value(file)) != 0)
			return CORRUPT(err, "tensor \"%s\" is not in file \"%s\", where the index has it", SHOWN(name),
						   SHOWN(json_string_value(file)));
	}
	return true;
}
