/*
 * gguf.c
 *	  Read GGUF files.
 *
 * What lies before the data, the head, is read into one buffer that doubles, and is parsed there:
 * every length is compared with the rest of the file, and with GGUF_HEAD_MAX, before bytes are asked
 * for.  Places are offsets into the buffer while it moves.  Sums and products of what the file says
 * are checked, the addition of padding included.
 */
#include "gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ggml_blocks.h"

#define FIRST_BYTES 65536 /* read at first */
#define KEY_BYTES_MAX 65535
#define KEY_RECORD_MIN 14    /* length and a byte of its name, type, a byte of value */
#define TENSOR_RECORD_MIN 25 /* length and a byte of its name, ndim, type, offset */
#define ALIGNMENT_KEY "general.alignment"
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MIN 8
#define ALIGNMENT_MAX 65536
#define CORRUPT(err, ...) llm_fail((err), LLM_CORRUPT, __VA_ARGS__)

/* Bytes of the head with a zero byte behind. */
typedef struct span
{
	uint32_t at, length;
} span;

typedef struct item
{
	char *key;
	uint32_t type; /* of the elements of an array */
	bool array;
	size_t count; /* 1 for what is no array */
	size_t at;    /* of numbers: offset in the head; of strings: number of the first one */
} item;

struct gguf
{
	source_reader read;
	void *arg;
	int32_t file;
	uint64_t size;

	uint8_t *head;
	size_t have; /* bytes of the file in it */
	uint64_t at; /* parsed so far, <= have */

	item *items; /* (item_count) by key */
	int32_t item_count;
	span *strings; /* (string_count) of all items */
	size_t string_count, string_capacity;

	uint64_t alignment;
	tensor_source tensors;
};

static const struct
{
	const char *name;
	size_t bytes; /* 0: no number */
} types[] = {
	[GGUF_U8] = {"u8", 1},         [GGUF_I8] = {"i8", 1},       [GGUF_U16] = {"u16", 2}, [GGUF_I16] = {"i16", 2},
	[GGUF_U32] = {"u32", 4},       [GGUF_I32] = {"i32", 4},     [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1},
	[GGUF_STRING] = {"string", 0}, [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8}, [GGUF_I64] = {"i64", 8},
	[GGUF_F64] = {"f64", 8},
};

#define TYPES (sizeof(types) / sizeof(types[0]))

/* ---- bytes of the head ---- */

/* Read on, so that at least `end` bytes are there, which the file has. */
static bool
read_on(gguf *g, size_t end, llm_error *err)
{
	uint64_t limit = g->size < GGUF_HEAD_MAX ? g->size : GGUF_HEAD_MAX;
	size_t capacity = 2 * g->have > FIRST_BYTES ? 2 * g->have : FIRST_BYTES;
	uint8_t *head;

	capacity = capacity < end ? end : capacity;
	capacity = capacity < limit ? capacity : (size_t) limit;
	head = realloc(g->head, capacity);
	if (head == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	g->head = head;
	if (!g->read(g->arg, g->file, g->have, head + g->have, capacity - g->have, err))
		return false;
	g->have = capacity;
	return true;
}

/* The next `bytes` bytes are in memory. */
static bool
need(gguf *g, uint64_t bytes, llm_error *err)
{
	if (bytes <= g->have - g->at)
		return true;
	if (bytes > g->size - g->at)
		return CORRUPT(err, "the file needs %llu bytes from byte %llu on, it ends after %llu",
					   (unsigned long long) bytes, (unsigned long long) g->at,
					   (unsigned long long) (g->size - g->at));
	if (bytes > GGUF_HEAD_MAX - g->at)
		return CORRUPT(err, "more than %d bytes of the file come before its data", GGUF_HEAD_MAX);
	return read_on(g, (size_t) (g->at + bytes), err);
}

static uint64_t
little_endian(const uint8_t *b, size_t bytes)
{
	uint64_t n = 0;

	for (size_t i = 0; i < bytes; i++)
		n |= (uint64_t) b[i] << (8 * i);
	return n;
}

static bool
take_u32(gguf *g, uint32_t *out, llm_error *err)
{
	if (!need(g, sizeof(*out), err))
		return false;
	*out = (uint32_t) little_endian(g->head + g->at, sizeof(*out));
	g->at += sizeof(*out);
	return true;
}

static bool
take_u64(gguf *g, uint64_t *out, llm_error *err)
{
	if (!need(g, sizeof(*out), err))
		return false;
	*out = little_endian(g->head + g->at, sizeof(*out));
	g->at += sizeof(*out);
	return true;
}

/*
 * A string gets its zero byte in place: it moves one byte down, over the highest byte of its length,
 * which has been read.
 */
static bool
take_string(gguf *g, span *out, llm_error *err)
{
	uint64_t length;

	if (!take_u64(g, &length, err) || !need(g, length, err))
		return false;
	*out = (span) {(uint32_t) g->at - 1, (uint32_t) length};
	memmove(g->head + out->at, g->head + g->at, length);
	g->head[out->at + length] = '\0';
	g->at += length;
	return true;
}

/* A name of at most `max` bytes, printable ASCII without a space; what is "key" or "tensor". */
static bool
take_name(gguf *g, const char *what, size_t max, span *out, llm_error *err)
{
	if (!take_string(g, out, err))
		return false;
	if (out->length < 1 || out->length > max)
		return CORRUPT(err, "the name of a %s has %u bytes, 1 to %zu are allowed", what, out->length, max);
	for (uint32_t i = 0; i < out->length; i++)
		if (g->head[out->at + i] <= ' ' || g->head[out->at + i] > '~')
			return CORRUPT(err, "the name of %s \"%s\" has other bytes than printable ASCII", what,
						   SHOWN((char *) g->head + out->at));
	return true;
}

/* ---- keys ---- */

static bool
add_string(gguf *g, span s, llm_error *err)
{
	if (g->string_count == g->string_capacity)
	{
		size_t capacity = g->string_capacity > 0 ? 2 * g->string_capacity : 64;
		span *strings = realloc(g->strings, capacity * sizeof(span));

		if (strings == NULL)
			return llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
		g->strings = strings;
		g->string_capacity = capacity;
	}
	g->strings[g->string_count++] = s;
	return true;
}

static bool
take_strings(gguf *g, item *k, llm_error *err)
{
	span s;

	k->at = g->string_count;
	for (size_t i = 0; i < k->count; i++)
		if (!take_string(g, &s, err) || !add_string(g, s, err))
			return false;
	return true;
}

static bool
take_numbers(gguf *g, item *k, llm_error *err)
{
	uint64_t bytes = (uint64_t) k->count * types[k->type].bytes; /* count is below the file's size */

	if (!need(g, bytes, err))
		return false;
	k->at = (size_t) g->at;
	g->at += bytes;
	for (size_t i = 0; k->type == GGUF_BOOL && i < k->count; i++)
		if (g->head[k->at + i] > 1)
			return CORRUPT(err, "key \"%s\" holds a truth value of %d", SHOWN(k->key), g->head[k->at + i]);
	return true;
}

static bool
take_array(gguf *g, item *k, llm_error *err)
{
	uint64_t count, least;

	if (!take_u32(g, &k->type, err) || !take_u64(g, &count, err))
		return false;
	if (k->type == GGUF_ARRAY)
		return CORRUPT(err, "key \"%s\" holds an array of arrays", SHOWN(k->key));
	if (k->type >= TYPES)
		return CORRUPT(err, "key \"%s\" holds an array of unknown type %u", SHOWN(k->key), k->type);
	least = k->type == GGUF_STRING ? sizeof(uint64_t) : types[k->type].bytes;
	if (count > (g->size - g->at) / least)
		return CORRUPT(err, "key \"%s\" holds an array of %llu elements, for which the file is too short",
					   SHOWN(k->key), (unsigned long long) count);
	k->array = true;
	k->count = (size_t) count;
	return true;
}

static bool
take_item(gguf *g, item *k, llm_error *err)
{
	span name;

	if (!take_name(g, "key", KEY_BYTES_MAX, &name, err))
		return false;
	k->key = strdup((char *) g->head + name.at);
	if (k->key == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	g->item_count++;
	if (!take_u32(g, &k->type, err))
		return false;
	if (k->type >= TYPES)
		return CORRUPT(err, "key \"%s\" is of unknown type %u", SHOWN(k->key), k->type);
	k->count = 1;
	if (k->type == GGUF_ARRAY && !take_array(g, k, err))
		return false;
	return k->type == GGUF_STRING ? take_strings(g, k, err) : take_numbers(g, k, err);
}

static int
by_key(const void *a, const void *b)
{
	return strcmp(((const item *) a)->key, ((const item *) b)->key);
}

static bool
take_items(gguf *g, uint64_t count, llm_error *err)
{
	g->items = calloc((size_t) count + 1, sizeof(item));
	if (g->items == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	for (uint64_t i = 0; i < count; i++)
		if (!take_item(g, &g->items[i], err))
			return false;
	qsort(g->items, g->item_count, sizeof(item), by_key);
	for (int32_t i = 1; i < g->item_count; i++)
		if (by_key(&g->items[i - 1], &g->items[i]) == 0)
			return CORRUPT(err, "key \"%s\" is there twice", SHOWN(g->items[i].key));
	return true;
}

static const item *
find(const gguf *g, const char *key)
{
	item k = {.key = (char *) key};

	return bsearch(&k, g->items, g->item_count, sizeof(item), by_key);
}

static bool
find_alignment(gguf *g, llm_error *err)
{
	const item *k = find(g, ALIGNMENT_KEY);

	g->alignment = ALIGNMENT_DEFAULT;
	if (k == NULL)
		return true;
	if (k->array || k->type != GGUF_U32)
		return CORRUPT(err, "key \"" ALIGNMENT_KEY "\" is not of type u32");
	g->alignment = little_endian(g->head + k->at, sizeof(uint32_t));
	if (g->alignment < ALIGNMENT_MIN || g->alignment > ALIGNMENT_MAX || (g->alignment & (g->alignment - 1)) != 0)
		return CORRUPT(err, "\"" ALIGNMENT_KEY "\" is %llu, not a power of two from %d to %d",
					   (unsigned long long) g->alignment, ALIGNMENT_MIN, ALIGNMENT_MAX);
	return true;
}

/* ---- tensors ---- */

/* The next multiple of the alignment. */
static bool
pad(const gguf *g, uint64_t at, uint64_t *out, llm_error *err)
{
	if (__builtin_add_overflow(at, g->alignment - 1, out))
		return CORRUPT(err, "a tensor of the file lies beyond every file");
	*out &= ~(g->alignment - 1);
	return true;
}

/* Dims in the order of the file, and their product. */
static bool
take_shape(gguf *g, source_tensor *t, llm_error *err)
{
	uint32_t ndim;

	if (!take_u32(g, &ndim, err))
		return false;
	if (ndim > GGUF_DIMS_MAX)
		return CORRUPT(err, "tensor \"%s\" has %u dimensions, at most %d are allowed", SHOWN(t->name), ndim,
					   GGUF_DIMS_MAX);
	t->ndim = (int32_t) ndim;
	t->count = 1;
	for (int32_t i = t->ndim - 1; i >= 0; i--)
	{
		uint64_t dim;

		if (!take_u64(g, &dim, err))
			return false;
		if (dim > INT64_MAX || __builtin_mul_overflow(t->count, (size_t) dim, &t->count))
			return CORRUPT(err, "the shape of tensor \"%s\" is too large", SHOWN(t->name));
		t->dims[i] = (int64_t) dim;
	}
	return true;
}

static bool
take_type(gguf *g, source_tensor *t, llm_error *err)
{
	int64_t row = t->ndim > 0 ? t->dims[t->ndim - 1] : 1;
	const ggml_type *type;
	uint32_t number;
	size_t bytes;

	if (!take_u32(g, &number, err))
		return false;
	type = ggml_type_numbered(number);
	if (type == NULL)
		return CORRUPT(err, "tensor \"%s\" is of unknown type %u", SHOWN(t->name), number);
	t->type = type->source;
	t->type_name = type->name;
	if (row % (int64_t) type->length != 0)
		return CORRUPT(err, "rows of tensor %s are not made of blocks of %zu numbers", SOURCE_TEXT(t), type->length);
	if (__builtin_mul_overflow(t->count / type->length, type->bytes, &bytes))
		return CORRUPT(err, "the shape of tensor \"%s\" is too large", SHOWN(t->name));
	t->bytes = bytes;
	return true;
}

/* *end is where the tensor before ends, from the data on, and then where this one does. */
static bool
take_offset(gguf *g, source_tensor *t, uint64_t *end, llm_error *err)
{
	uint64_t expected;

	if (!take_u64(g, &t->offset, err) || !pad(g, *end, &expected, err))
		return false;
	if (t->offset != expected)
		return CORRUPT(err, "tensor \"%s\" begins at byte %llu of the data, not at byte %llu behind the one before",
					   SHOWN(t->name), (unsigned long long) t->offset, (unsigned long long) expected);
	if (__builtin_add_overflow(t->offset, t->bytes, end))
		return CORRUPT(err, "a tensor of the file lies beyond every file");
	return true;
}

static bool
take_tensor(gguf *g, uint64_t *end, llm_error *err)
{
	char name[GGUF_NAME_BYTES];
	source_tensor t = {.name = name, .file = g->file};
	span s;

	if (!take_name(g, "tensor", GGUF_NAME_BYTES - 1, &s, err))
		return false;
	memcpy(name, g->head + s.at, s.length + 1);
	return take_shape(g, &t, err) && take_type(g, &t, err) && take_offset(g, &t, end, err) &&
		   tensor_source_add(&g->tensors, &t, err);
}

/* Offsets become those in the file, behind whose head the data begins. */
static bool
place_tensors(gguf *g, llm_error *err)
{
	uint64_t data;

	if (!pad(g, g->at, &data, err))
		return false;
	for (int32_t i = 0; i < g->tensors.count; i++)
	{
		source_tensor *t = &g->tensors.tensors[i];

		if (data > g->size || t->offset > g->size - data || t->bytes > g->size - data - t->offset)
			return CORRUPT(err, "tensor %s has %llu bytes, which do not end within the file", SOURCE_TEXT(t),
						   (unsigned long long) t->bytes);
		t->offset += data;
	}
	return tensor_source_sort(&g->tensors, err);
}

static bool
take_tensors(gguf *g, uint64_t count, llm_error *err)
{
	uint64_t end = 0;

	for (uint64_t i = 0; i < count; i++)
		if (!take_tensor(g, &end, err))
			return false;
	return place_tensors(g, err);
}

/* ---- the file ---- */

static bool
take_version(gguf *g, llm_error *err)
{
	uint32_t version;

	if (g->size < 8 || !need(g, 8, err) || memcmp(g->head, "GGUF", 4) != 0)
		return llm_fail(err, LLM_INVALID, "the file is not a GGUF file: it does not begin with \"GGUF\"");
	g->at = 4;
	if (!take_u32(g, &version, err))
		return false;
	if (version == 2 || version == 3)
		return true;
	if (version != 0 && (version & 0xffff) == 0)
		return llm_fail(err, LLM_INVALID, "the file is a GGUF file for big-endian machines, which is not read");
	return llm_fail(err, LLM_INVALID, "the file is a GGUF file of version %u; versions 2 and 3 are read", version);
}

/* How many records of at least `least` bytes follow. */
static bool
take_count(gguf *g, const char *what, uint64_t least, uint64_t *count, llm_error *err)
{
	if (!take_u64(g, count, err))
		return false;
	if (*count > (g->size - g->at) / least)
		return CORRUPT(err, "the file claims to have %llu %s, for which it is too short", (unsigned long long) *count,
					   what);
	return *count <= GGUF_ITEMS_MAX || CORRUPT(err, "the file has %llu %s, at most %d are allowed",
											   (unsigned long long) *count, what, GGUF_ITEMS_MAX);
}

gguf *
gguf_open(source_reader read, void *arg, int32_t file, uint64_t size, llm_error *err)
{
	gguf *g = calloc(1, sizeof(gguf));
	uint64_t tensors, items;

	if (g == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
		return NULL;
	}
	g->read = read;
	g->arg = arg;
	g->file = file;
	g->size = size;
	if (take_version(g, err) && take_count(g, "tensors", TENSOR_RECORD_MIN, &tensors, err) &&
		take_count(g, "keys", KEY_RECORD_MIN, &items, err) && take_items(g, items, err) && find_alignment(g, err) &&
		take_tensors(g, tensors, err))
		return g;
	gguf_close(g);
	return NULL;
}

void
gguf_close(gguf *g)
{
	if (g == NULL)
		return;
	for (int32_t i = 0; i < g->item_count; i++)
		free(g->items[i].key);
	free(g->items);
	free(g->strings);
	free(g->head);
	tensor_source_clear(&g->tensors);
	free(g);
}

bool
gguf_source(const gguf *g, tensor_source *s, llm_error *err)
{
	for (int32_t i = 0; i < g->tensors.count; i++)
		if (!tensor_source_add(s, &g->tensors.tensors[i], err))
			return false;
	return true;
}

/* ---- values ---- */

int32_t
gguf_key_count(const gguf *g)
{
	return g->item_count;
}

const char *
gguf_key(const gguf *g, int32_t i)
{
	return g->items[i].key;
}

bool
gguf_has(const gguf *g, const char *key)
{
	return find(g, key) != NULL;
}

/* The value of a key, unless it is an array where none is allowed. */
static const item *
find_value(const gguf *g, const char *key, bool array, llm_error *err)
{
	const item *k = find(g, key);

	if (k == NULL)
		CORRUPT(err, "key \"%s\" is missing", key);
	else if (k->array && !array)
		CORRUPT(err, "key \"%s\" is an array", key);
	else
		return k;
	return NULL;
}

/* Element i as an integer; false when it is none, or beyond int64_t. */
static bool
integer_at(const gguf *g, const item *k, size_t i, int64_t *out)
{
	size_t bytes = types[k->type].bytes;
	uint64_t bits = little_endian(g->head + k->at + i * bytes, bytes);

	switch (k->type)
	{
		case GGUF_I8:
		case GGUF_I16:
		case GGUF_I32:
		case GGUF_I64: *out = (int64_t) (bits << (64 - 8 * bytes)) >> (64 - 8 * bytes); return true;
		case GGUF_U8:
		case GGUF_U16:
		case GGUF_U32:
		case GGUF_U64: *out = (int64_t) bits; return bits <= INT64_MAX;
		default: return false;
	}
}

/* Element i as a number, NAN when it is none. */
static double
number_at(const gguf *g, const item *k, size_t i)
{
	const uint8_t *bytes = g->head + k->at + i * types[k->type].bytes;
	int64_t integer;
	double number;
	float f;

	if (k->type == GGUF_F32)
	{
		ggml_type_of(SOURCE_F32)->decode(bytes, 1, &f);
		return f;
	}
	if (k->type == GGUF_F64)
	{
		uint64_t bits = little_endian(bytes, sizeof(bits));

		memcpy(&number, &bits, sizeof(number));
		return number;
	}
	return integer_at(g, k, i, &integer) ? (double) integer : NAN;
}

bool
gguf_read_int(const gguf *g, const char *key, int64_t low, int64_t high, int64_t *out, llm_error *err)
{
	const item *k = find_value(g, key, false, err);

	if (k == NULL)
		return false;
	if (types[k->type].bytes == 0 || !integer_at(g, k, 0, out))
		return CORRUPT(err, "key \"%s\" is of type %s, not an integer", key, types[k->type].name);
	return (*out >= low && *out <= high) || CORRUPT(err, "\"%s\" is %lld, outside %lld to %lld", key,
													(long long) *out, (long long) low, (long long) high);
}

bool
gguf_read_number(const gguf *g, const char *key, double low, double high, double *out, llm_error *err)
{
	const item *k = find_value(g, key, false, err);

	if (k == NULL)
		return false;
	*out = types[k->type].bytes > 0 && k->type != GGUF_BOOL ? number_at(g, k, 0) : NAN;
	return (isfinite(*out) && *out >= low && *out <= high) ||
		   CORRUPT(err, "key \"%s\" is not a number from %g to %g", key, low, high);
}

bool
gguf_read_bool(const gguf *g, const char *key, bool *out, llm_error *err)
{
	const item *k = find_value(g, key, false, err);

	if (k == NULL)
		return false;
	if (k->type != GGUF_BOOL)
		return CORRUPT(err, "key \"%s\" is of type %s, not a truth value", key, types[k->type].name);
	*out = g->head[k->at] != 0;
	return true;
}

bool
gguf_read_string(const gguf *g, const char *key, const char **out, size_t *length, llm_error *err)
{
	const item *k = find_value(g, key, false, err);

	if (k == NULL)
		return false;
	if (k->type != GGUF_STRING)
		return CORRUPT(err, "key \"%s\" is of type %s, not a string", key, types[k->type].name);
	*out = gguf_string_at(&(gguf_strings) {g, k->at, 1}, 0, length);
	return true;
}

static bool
check_count(const char *key, const item *k, size_t min, size_t max, llm_error *err)
{
	return (k->count >= min && k->count <= max) ||
		   CORRUPT(err, "key \"%s\" holds %zu elements, %zu to %zu are allowed", key, k->count, min, max);
}

bool
gguf_read_numbers(const gguf *g, const char *key, size_t min, size_t max, double low, double high, double **out,
				  size_t *count, llm_error *err)
{
	const item *k = find_value(g, key, true, err);

	*out = NULL;
	if (k == NULL || !check_count(key, k, min, max, err))
		return false;
	if (types[k->type].bytes == 0)
		return CORRUPT(err, "key \"%s\" does not hold numbers", key);
	*out = malloc((k->count + 1) * sizeof(double));
	if (*out == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	for (size_t i = 0; i < k->count; i++)
	{
		double number = k->type == GGUF_BOOL ? g->head[k->at + i] : number_at(g, k, i);

		if (!isfinite(number) || number < low || number > high)
		{
			free(*out);
			*out = NULL;
			return CORRUPT(err, "element %zu of \"%s\" is not a number from %g to %g", i, key, low, high);
		}
		(*out)[i] = number;
	}
	*count = k->count;
	return true;
}

bool
gguf_read_strings(const gguf *g, const char *key, size_t max, gguf_strings *out, llm_error *err)
{
	const item *k = find_value(g, key, true, err);

	if (k == NULL || !check_count(key, k, 0, max, err))
		return false;
	if (!k->array || k->type != GGUF_STRING)
		return CORRUPT(err, "key \"%s\" is not an array of strings", key);
	*out = (gguf_strings) {g, k->at, k->count};
	return true;
}

const char *
gguf_string_at(const gguf_strings *s, size_t i, size_t *length)
{
	const span *at = &s->file->strings[s->first + i];

	*length = at->length;
	return (const char *) s->file->head + at->at;
}
