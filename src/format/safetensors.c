/*
 * safetensors.c
 *	  Read and write safetensors files.
 *
 * Nothing in a file is believed: the header must lie within the file, every entry must have
 * exactly the three known members, a tensor's bytes must be those of its shape and type, and all
 * tensors together must be the data, byte for byte.  What the directory then says can be used
 * without a further check.
 */
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "ggml_blocks.h"

#define LENGTH_BYTES 8
#define METADATA_KEY "__metadata__"
#define CORRUPT(err, ...) llm_fail((err), LLM_CORRUPT, __VA_ARGS__)

struct safetensors
{
	json_t *header;
	int32_t count;
	safetensor *tensors; /* (count) by offset */
};

/* Types of the format and their bytes. */
typedef struct dtype
{
	const char *name;
	size_t bytes;
	source_type source;
} dtype;

const char *
safetensor_text(const safetensor *t, char *text)
{
	return source_text(t->name, t->dtype, t->dims, t->ndim, text);
}

/* ---- numbers ---- */

static const dtype dtypes[] = {
	{"F32", 4, SOURCE_F32},       {"F16", 2, SOURCE_F16},   {"BF16", 2, SOURCE_BF16}, {"F64", 8, SOURCE_F64},
	{"BOOL", 1, SOURCE_OTHER},    {"U8", 1, SOURCE_OTHER},  {"I8", 1, SOURCE_OTHER},  {"F8_E5M2", 1, SOURCE_OTHER},
	{"F8_E4M3", 1, SOURCE_OTHER}, {"I16", 2, SOURCE_OTHER}, {"U16", 2, SOURCE_OTHER}, {"I32", 4, SOURCE_OTHER},
	{"U32", 4, SOURCE_OTHER},     {"I64", 8, SOURCE_OTHER}, {"U64", 8, SOURCE_OTHER},
};

static const dtype *
find_dtype(const char *name)
{
	for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
		if (strcmp(dtypes[i].name, name) == 0)
			return &dtypes[i];
	return NULL;
}

bool
safetensor_floats(const safetensor *t, size_t first, size_t count, float *out, llm_error *err)
{
	const dtype *type = find_dtype(t->dtype);

	if (type->source == SOURCE_OTHER)
		return llm_fail(err, LLM_INVALID,
						"tensor %s cannot be read as numbers of type real; F32, F16, BF16 and F64 can",
						safetensor_text(t, (char[SAFETENSORS_TEXT_BYTES]) {0}));
	ggml_type_of(type->source)->decode(t->data + first * type->bytes, count, out);
	return true;
}

/* ---- one entry of the header ---- */

static bool
check_members(const char *name, const json_t *entry, llm_error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(entry))
		return CORRUPT(err, "tensor \"%s\" of the file is not described by an object", SHOWN(name));
	json_object_foreach((json_t *) entry, key, value)
		if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0)
			return CORRUPT(err, "tensor \"%s\" of the file has unknown member \"%s\"", SHOWN(name), SHOWN(key));
	return true;
}

static bool
read_dtype(const json_t *entry, safetensor *t, llm_error *err)
{
	t->dtype = json_string_value(json_object_get(entry, "dtype"));
	if (t->dtype == NULL)
		return CORRUPT(err, "tensor \"%s\" of the file has no \"dtype\"", SHOWN(t->name));
	return find_dtype(t->dtype) != NULL ||
		   CORRUPT(err, "tensor \"%s\" of the file has unknown dtype \"%s\"", SHOWN(t->name), SHOWN(t->dtype));
}

static bool
read_shape(const json_t *entry, safetensor *t, llm_error *err)
{
	const json_t *shape = json_object_get(entry, "shape");

	if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_DIMS_MAX)
		return CORRUPT(err, "\"shape\" of tensor \"%s\" is not an array of at most %d lengths", SHOWN(t->name),
					   SAFETENSORS_DIMS_MAX);
	t->ndim = (int32_t) json_array_size(shape);
	t->count = 1;
	for (int32_t i = 0; i < t->ndim; i++)
	{
		const json_t *dim = json_array_get(shape, i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 0)
			return CORRUPT(err, "\"shape\" of tensor \"%s\" holds something else than lengths", SHOWN(t->name));
		t->dims[i] = json_integer_value(dim);
		if (__builtin_mul_overflow(t->count, (size_t) t->dims[i], &t->count))
			return CORRUPT(err, "\"shape\" of tensor \"%s\" is too large", SHOWN(t->name));
	}
	return true;
}

/* The data is `size` bytes from `data` on. */
static bool
read_offsets(const json_t *entry, uint64_t data, uint64_t size, safetensor *t, llm_error *err)
{
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
	size_t bytes;

	if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
		json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
		return CORRUPT(err, "\"data_offsets\" of tensor \"%s\" is not an array of begin and end", SHOWN(t->name));
	if ((uint64_t) json_integer_value(end) > size)
		return CORRUPT(err, "tensor \"%s\" ends at byte %lld of %llu bytes of data", SHOWN(t->name),
					   (long long) json_integer_value(end), (unsigned long long) size);
	t->offset = data + (uint64_t) json_integer_value(begin);
	t->bytes = (size_t) (json_integer_value(end) - json_integer_value(begin));
	if (__builtin_mul_overflow(t->count, find_dtype(t->dtype)->bytes, &bytes) || bytes != t->bytes)
		return CORRUPT(err, "tensor \"%s\" has %zu bytes, which are not those of its shape and dtype", SHOWN(t->name),
					   t->bytes);
	return true;
}

static bool
read_metadata(const json_t *metadata, llm_error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(metadata))
		return CORRUPT(err, "\"" METADATA_KEY "\" of the file is not an object");
	json_object_foreach((json_t *) metadata, key, value)
		if (!json_is_string(value))
			return CORRUPT(err, "\"%s\" in \"" METADATA_KEY "\" of the file is not a string", SHOWN(key));
	return true;
}

/* ---- the directory ---- */

/* Empty tensors come before the one that begins at the same byte. */
static int
by_offset(const void *a, const void *b)
{
	const safetensor *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->bytes != y->bytes ? (x->bytes < y->bytes ? -1 : 1) : strcmp(x->name, y->name);
}

/* The tensors are the data: each begins where the one before ends. */
static bool
check_data(const safetensors *file, uint64_t data, uint64_t size, llm_error *err)
{
	uint64_t end = data;

	for (int32_t i = 0; i < file->count; i++)
	{
		const safetensor *t = &file->tensors[i];

		if (t->offset < end)
			return CORRUPT(err, "tensors \"%s\" and \"%s\" of the file overlap", SHOWN(file->tensors[i - 1].name),
						   SHOWN(t->name));
		if (t->offset > end)
			return CORRUPT(err, "%llu bytes before tensor \"%s\" belong to no tensor",
						   (unsigned long long) (t->offset - end), SHOWN(t->name));
		end += t->bytes;
	}
	return end == data + size || CORRUPT(err, "%llu bytes at the end of the file belong to no tensor",
										 (unsigned long long) (data + size - end));
}

static bool
read_tensors(safetensors *file, uint64_t data, uint64_t size, llm_error *err)
{
	const char *name;
	json_t *entry;

	json_object_foreach(file->header, name, entry)
	{
		safetensor *t = &file->tensors[file->count];

		if (strcmp(name, METADATA_KEY) == 0)
		{
			if (!read_metadata(entry, err))
				return false;
			continue;
		}
		t->name = name;
		if (!check_members(name, entry, err) || !read_dtype(entry, t, err) || !read_shape(entry, t, err) ||
			!read_offsets(entry, data, size, t, err))
			return false;
		file->count++;
	}
	qsort(file->tensors, file->count, sizeof(safetensor), by_offset);
	return check_data(file, data, size, err);
}

/* The file has room for the length of its header. */
static bool
check_size(uint64_t size, llm_error *err)
{
	return size >= LENGTH_BYTES ||
		   llm_fail(err, LLM_INVALID, "the file is too short to be a safetensors file: %llu bytes",
					(unsigned long long) size);
}

/* Length of the header, which lies within the file of `size` bytes. */
static bool
read_length(const uint8_t bytes[LENGTH_BYTES], uint64_t size, size_t *length, llm_error *err)
{
	uint64_t n = 0;

	for (int i = 0; i < LENGTH_BYTES; i++)
		n |= (uint64_t) bytes[i] << (8 * i);
	if (n > SAFETENSORS_HEADER_MAX)
	{
		llm_fail(err, LLM_INVALID, "the header of the file has %llu bytes, at most %d are allowed",
				 (unsigned long long) n, SAFETENSORS_HEADER_MAX);
		return llm_detail(err, "A safetensors file begins with this number, in 8 bytes; is it one?");
	}
	if (n > size - LENGTH_BYTES)
		return CORRUPT(err, "the header of the file has %llu bytes, the file ends after %llu", (unsigned long long) n,
					   (unsigned long long) (size - LENGTH_BYTES));
	*length = (size_t) n;
	return true;
}

/* The header as JSON, with messages that tell it from the user's own JSON. */
static bool
parse_header(safetensors *file, const char *text, size_t length, llm_error *err)
{
	llm_error why = {.code = LLM_OK};

	if (length == 0 || text[0] != '{')
		return llm_fail(err, LLM_INVALID, "the header of the file does not begin with \"{\"");
	file->header = json_parse(text, length, &why);
	if (file->header == NULL)
	{
		if (strstr(why.message, "duplicate object key") != NULL)
			CORRUPT(err, "two tensors of the file, or two members of one, have the same name");
		else
			llm_fail(err, why.code, "the header of the file cannot be read");
		return llm_detail(err, "%s", SHOWN(why.message));
	}
	if (json_object_size(file->header) > SAFETENSORS_TENSORS_MAX)
		return CORRUPT(err, "the file has %zu tensors, at most %d are allowed", json_object_size(file->header),
					   SAFETENSORS_TENSORS_MAX);
	return true;
}

/* All that is checked: what the header says of a file of `size` bytes. */
static safetensors *
read_header(const char *text, size_t length, uint64_t size, llm_error *err)
{
	safetensors *file = calloc(1, sizeof(safetensors));
	uint64_t data = LENGTH_BYTES + length;

	if (file != NULL && parse_header(file, text, length, err))
	{
		file->tensors = calloc(json_object_size(file->header) + 1, sizeof(safetensor));
		if (file->tensors != NULL && read_tensors(file, data, size - data, err))
			return file;
	}
	llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	safetensors_close(file);
	return NULL;
}

safetensors *
safetensors_open(const void *bytes, size_t size, llm_error *err)
{
	const uint8_t *start = bytes;
	size_t length = 0;
	safetensors *file;

	if (!check_size(size, err) || !read_length(start, size, &length, err))
		return NULL;
	file = read_header((const char *) start + LENGTH_BYTES, length, size, err);
	for (int32_t i = 0; file != NULL && i < file->count; i++)
		file->tensors[i].data = start + file->tensors[i].offset;
	return file;
}

safetensors *
safetensors_open_header(source_reader read, void *arg, int32_t file, uint64_t size, llm_error *err)
{
	uint8_t first[LENGTH_BYTES];
	size_t length = 0;
	safetensors *header = NULL;
	char *text;

	if (!check_size(size, err) || !read(arg, file, 0, first, LENGTH_BYTES, err) ||
		!read_length(first, size, &length, err))
		return NULL;
	text = malloc(length + 1);
	if (text == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	else if (read(arg, file, LENGTH_BYTES, text, length, err))
		header = read_header(text, length, size, err);
	free(text);
	return header;
}

bool
safetensors_source(const safetensors *header, int32_t file, tensor_source *s, llm_error *err)
{
	for (int32_t i = 0; i < header->count; i++)
	{
		const safetensor *from = &header->tensors[i];
		const dtype *type = find_dtype(from->dtype);
		source_tensor t = {
			.name = (char *) from->name,
			.type = type->source,
			.ndim = from->ndim,
			.count = from->count,
			.file = file,
			.offset = from->offset,
			.bytes = from->bytes,
			.type_name = type->name,
		};

		memcpy(t.dims, from->dims, sizeof(t.dims));
		if (!tensor_source_add(s, &t, err))
			return false;
	}
	return true;
}

void
safetensors_close(safetensors *file)
{
	if (file == NULL)
		return;
	json_decref(file->header);
	free(file->tensors);
	free(file);
}

int32_t
safetensors_count(const safetensors *file)
{
	return file->count;
}

const safetensor *
safetensors_at(const safetensors *file, int32_t i)
{
	return &file->tensors[i];
}

const safetensor *
safetensors_find(const safetensors *file, const char *name)
{
	for (int32_t i = 0; i < file->count; i++)
		if (strcmp(file->tensors[i].name, name) == 0)
			return &file->tensors[i];
	return NULL;
}

const char *
safetensors_metadata(const safetensors *file, const char *key)
{
	return json_string_value(json_object_get(json_object_get(file->header, METADATA_KEY), key));
}

/* ---- writing ---- */

/* Every number lies at a multiple of its bytes. */
static int
by_alignment(const void *a, const void *b)
{
	const safetensors_entry *x = a, *y = b;
	size_t bytes_x = ggml_type_of(x->type)->bytes, bytes_y = ggml_type_of(y->type)->bytes;

	return bytes_x != bytes_y ? (bytes_x > bytes_y ? -1 : 1) : strcmp(x->name, y->name);
}

/* Add one entry at byte `begin` of the data; returns where the next one begins. */
static size_t
add_entry(json_t *header, const safetensors_entry *e, size_t begin)
{
	const ggml_type *type = ggml_type_of(e->type);
	json_t *shape = json_array();
	size_t end = type->bytes;

	for (int32_t i = 0; i < e->ndim; i++)
	{
		json_array_append_new(shape, json_integer(e->dims[i]));
		end *= (size_t) e->dims[i];
	}
	end += begin;
	json_object_set_new(header, e->name,
						json_pack("{s:s, s:o, s:[I, I]}", "dtype", type->name, "shape", shape, "data_offsets",
								  (json_int_t) begin, (json_int_t) end));
	return end;
}

/* The JSON with its length in front and spaces behind. */
static uint8_t *
pad_header(const char *text, size_t *bytes)
{
	size_t length = strlen(text), padded = (length + 7) & ~(size_t) 7;
	uint8_t *out = malloc(LENGTH_BYTES + padded);

	if (out == NULL)
		return NULL;
	for (int i = 0; i < LENGTH_BYTES; i++)
		out[i] = (uint8_t) (padded >> (8 * i));
	memcpy(out + LENGTH_BYTES, text, length);
	memset(out + LENGTH_BYTES + length, ' ', padded - length);
	*bytes = LENGTH_BYTES + padded;
	return out;
}

uint8_t *
safetensors_header(safetensors_entry *entries, int32_t count, const json_t *metadata, size_t *header_bytes,
				   size_t *file_bytes, llm_error *err)
{
	json_t *header = json_object();
	size_t end = 0;
	char *text;
	uint8_t *out;

	qsort(entries, count, sizeof(safetensors_entry), by_alignment);
	if (metadata != NULL)
		json_object_set(header, METADATA_KEY, (json_t *) metadata);
	for (int32_t i = 0; i < count; i++)
	{
		entries[i].offset = end;
		end = add_entry(header, &entries[i], end);
	}
	text = json_text(header);
	json_decref(header);
	out = text != NULL && strlen(text) <= SAFETENSORS_HEADER_MAX - 8 ? pad_header(text, header_bytes) : NULL;
	if (text != NULL && strlen(text) > SAFETENSORS_HEADER_MAX - 8)
		llm_fail(err, LLM_MEMORY, "the header of the file would have more than %d bytes", SAFETENSORS_HEADER_MAX);
	else if (out == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory while writing the header of the file");
	free(text);
	for (int32_t i = 0; out != NULL && i < count; i++)
		entries[i].offset += *header_bytes;
	*file_bytes = out != NULL ? *header_bytes + end : 0;
	return out;
}

void
safetensors_put(source_type type, const float *numbers, size_t count, uint8_t *out)
{
	ggml_type_of(type)->encode(numbers, count, out);
}
