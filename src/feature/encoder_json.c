/*
 * encoder_json.c
 *	  An encoder to JSON and back.
 *
 * What is written is what fitting found, in the units of the column, so that a person can read
 * it.  What is read is hostile: every size has a cap before memory is taken, every number a range,
 * and everything derived comes from encoder_layout() as after fitting.
 *
 *	{ "columns": [{"name", "type", "kind", "integer", "encoding", ...}] }
 * with, by encoding,
 *	 dropped
 *	 number		missing, center, scale, low, high, squash, edges
 *	 time		the same and parts
 *	 one_hot, embedding	missing, rare, categories
 *	 text		missing, buckets, rarity (of each, 0: not read; as hexadecimal digits), pairs, length; tokens {vocab, context} where a
 *				transformer reads them
 *	 vector		missing, squash, means, scales
 *	 image		shape (channels, height, width), means, scales
 */
#include <stdlib.h>
#include <string.h>

#include "encoder.h"
#include "text.h"

static const char *const kind_names[] = {
	[COLUMN_NUMBER] = "number", [COLUMN_BOOLEAN] = "boolean", [COLUMN_TIME] = "time", [COLUMN_CATEGORY] = "category",
	[COLUMN_TEXT] = "text",     [COLUMN_VECTOR] = "vector",   [COLUMN_JSON] = "json"};

static const char *const encoding_names[] = {
	[ENCODING_DROPPED] = "dropped", [ENCODING_NUMBER] = "number",   [ENCODING_TIME] = "time",
	[ENCODING_ONE_HOT] = "one_hot", [ENCODING_EMBED] = "embedding", [ENCODING_TEXT] = "text",
	[ENCODING_VECTOR] = "vector",   [ENCODING_IMAGE] = "image"};

static const char *const part_names[] = {
	[PART_HOUR] = "hour", [PART_WEEKDAY] = "weekday", [PART_DAY] = "day", [PART_MONTH] = "month"};

/* ---- writing ---- */

static json_t *
numbers_json(const double *numbers, int32_t count)
{
	json_t *array = json_array();

	for (int32_t i = 0; i < count; i++)
		json_array_append_new(array, json_real(numbers[i]));
	return array;
}

static void
write_number(const encoding *c, json_t *o)
{
	json_object_set_new(o, "missing", json_boolean(c->indicator));
	json_object_set_new(o, "center", json_real(c->center));
	json_object_set_new(o, "scale", json_real(c->scale));
	json_object_set_new(o, "low", json_real(c->low));
	json_object_set_new(o, "high", json_real(c->high));
	json_object_set_new(o, "squash", json_boolean(c->squash));
	json_object_set_new(o, "edges", numbers_json(c->edges, c->bins > 0 ? c->bins + 1 : 0));
}

static void
write_time(const encoding *c, json_t *o)
{
	json_t *parts = json_array();

	write_number(c, o);
	for (int i = 0; i < TIME_PARTS; i++)
		if (c->parts[i])
			json_array_append_new(parts, json_string(part_names[i]));
	json_object_set_new(o, "parts", parts);
}

static void
write_categories(const encoding *c, json_t *o)
{
	json_t *array = json_array();

	for (int32_t i = 0; i < c->categories->count; i++)
		json_array_append_new(array, json_bytes(strings_at(c->categories, i), c->categories->length[i]));
	json_object_set_new(o, "missing", json_boolean(c->null_slot >= 0));
	json_object_set_new(o, "rare", json_boolean(c->other_slot >= 0));
	json_object_set_new(o, "categories", array);
}

static void
write_text(const encoding *c, json_t *o)
{
	uint8_t *rarity = calloc(c->buckets + 1, 1);
	char *hex = malloc(2 * (size_t) c->buckets + 1);

	if (rarity != NULL && hex != NULL)
	{
		for (int32_t i = 0; i < c->buckets; i++)
			rarity[i] = c->row_of[i] >= 0 ? c->rarity[c->row_of[i]] : 0;
		json_hex(rarity, c->buckets, hex);
		json_object_set_new(o, "rarity", json_string(hex));
	}
	else
		json_fail_memory();
	free(rarity);
	free(hex);
	if (c->column.tokens)
		json_object_set_new(o, "tokens", json_pack("{s:i, s:i}", "vocab", c->vocab, "context", c->context));
	json_object_set_new(o, "missing", json_boolean(c->null_slot >= 0));
	json_object_set_new(o, "buckets", json_integer(c->buckets));
	json_object_set_new(o, "pairs", json_integer(c->pairs_max));
	json_object_set_new(o, "length", json_real(c->text_length));
}

static void
write_vector(const encoding *c, json_t *o)
{
	json_object_set_new(o, "missing", json_boolean(c->indicator));
	json_object_set_new(o, "squash", json_boolean(c->squash));
	json_object_set_new(o, "means", numbers_json(c->means, c->length));
	json_object_set_new(o, "scales", numbers_json(c->scales, c->length));
}

static void
write_image(const encoding *c, json_t *o)
{
	json_object_set_new(o, "shape", json_pack("[i, i, i]", c->image[0], c->image[1], c->image[2]));
	json_object_set_new(o, "means", numbers_json(c->means, c->image[0]));
	json_object_set_new(o, "scales", numbers_json(c->scales, c->image[0]));
}

/* Members that cannot be made for want of memory are missing, which reading will report. */
static json_t *
encoding_json(const encoding *c)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_bytes(c->column.name, strlen(c->column.name)));
	json_object_set_new(o, "type", json_bytes(c->column.sql_type, strlen(c->column.sql_type)));
	json_object_set_new(o, "kind", json_string(kind_names[c->column.kind]));
	json_object_set_new(o, "integer", json_boolean(c->column.integer));
	json_object_set_new(o, "encoding", json_string(encoding_names[c->kind]));
	switch (c->kind)
	{
		case ENCODING_DROPPED: break;
		case ENCODING_NUMBER: write_number(c, o); break;
		case ENCODING_TIME: write_time(c, o); break;
		case ENCODING_ONE_HOT:
		case ENCODING_EMBED: write_categories(c, o); break;
		case ENCODING_TEXT: write_text(c, o); break;
		case ENCODING_VECTOR: write_vector(c, o); break;
		case ENCODING_IMAGE: write_image(c, o); break;
	}
	return o;
}

json_t *
encoder_json(const encoder *e)
{
	json_t *o = json_object();
	json_t *columns = json_array();

	for (int32_t i = 0; i < e->count; i++)
		json_array_append_new(columns, encoding_json(&e->encodings[i]));
	json_object_set_new(o, "columns", columns);
	return o;
}

/* ---- reading ---- */

static bool
no_memory(llm_error *err)
{
	return llm_fail(err, LLM_MEMORY, "out of memory while reading the input columns");
}

/* Index of a name in a list, LLM_CORRUPT when it is not there. */
static bool
read_choice(const json_t *o, const char *key, const char *const *names, int count, int *out, llm_error *err)
{
	const char *name;

	if (!json_read_string(o, key, &name, err))
		return false;
	for (*out = 0; *out < count; (*out)++)
		if (strcmp(name, names[*out]) == 0)
			return true;
	return llm_fail(err, LLM_CORRUPT, "\"%s\" is \"%.32s\", which this version does not know", key, name);
}

static bool
read_edges(const json_t *o, encoding *c, llm_error *err)
{
	int32_t count;

	if (!json_read_numbers(o, "edges", 0, BINS_MAX + 1, -NUMBER_MAX, NUMBER_MAX, &c->edges, &count, err))
		return false;
	if (count == 1 || count == 2)
		return llm_fail(err, LLM_CORRUPT, "\"edges\" has %d elements, none or at least 3 are needed", count);
	c->bins = count > 0 ? count - 1 : 0;
	for (int32_t i = 0; i < c->bins; i++)
		if (c->edges[i] >= c->edges[i + 1])
			return llm_fail(err, LLM_CORRUPT, "element %d of \"edges\" is not larger than the one before", i + 1);
	return true;
}

static bool
read_number(const json_t *o, encoding *c, llm_error *err)
{
	return json_read_bool(o, "missing", &c->indicator, err) &&
		   json_read_number(o, "center", -NUMBER_MAX, NUMBER_MAX, &c->center, err) &&
		   json_read_number(o, "scale", SCALE_MIN, 2 * NUMBER_MAX, &c->scale, err) &&
		   json_read_number(o, "low", -NUMBER_MAX, NUMBER_MAX, &c->low, err) &&
		   json_read_number(o, "high", c->low, NUMBER_MAX, &c->high, err) &&
		   json_read_bool(o, "squash", &c->squash, err) && read_edges(o, c, err);
}

static bool
read_time(const json_t *o, encoding *c, llm_error *err)
{
	const json_t *parts;

	if (!read_number(o, c, err) || !json_read_array(o, "parts", TIME_PARTS, &parts, err))
		return false;
	for (size_t i = 0; i < json_array_size(parts); i++)
	{
		const char *name = json_string_value(json_array_get(parts, i));
		int part = 0;

		while (part < TIME_PARTS && (name == NULL || strcmp(name, part_names[part]) != 0))
			part++;
		if (part == TIME_PARTS || c->parts[part])
			return llm_fail(err, LLM_CORRUPT, "element %zu of \"parts\" is unknown or repeated", i);
		c->parts[part] = true;
	}
	return true;
}

static bool
read_category(const json_t *element, encoding *c, llm_error *err)
{
	size_t length;
	int32_t before = c->categories->count;
	char *text = json_take_bytes(element, "categories", CATEGORY_BYTES_MAX, &length, err);
	int32_t index;

	if (text == NULL)
		return false;
	index = strings_put(c->categories, text, length);
	free(text);
	if (index == STRINGS_NO_MEMORY)
		return no_memory(err);
	if (index == STRINGS_FULL)
		return llm_fail(err, LLM_CORRUPT, "\"categories\" of column \"%s\" are too large", c->column.name);
	return index == before || llm_fail(err, LLM_CORRUPT, "element %d of \"categories\" is repeated", before);
}

static bool
read_categories(const json_t *o, encoding *c, llm_error *err)
{
	const json_t *array;
	bool missing, rare;

	if (!json_read_bool(o, "missing", &missing, err) || !json_read_bool(o, "rare", &rare, err) ||
		!json_read_array(o, "categories", CATEGORIES_MAX, &array, err))
		return false;
	c->categories = strings_new(CATEGORIES_MAX, CATEGORY_BYTES_MAX);
	if (c->categories == NULL)
		return no_memory(err);
	for (size_t i = 0; i < json_array_size(array); i++)
		if (!read_category(json_array_get(array, i), c, err))
			return false;
	encoding_slots(c, missing, rare);
	if (c->categories->count == 0 && c->null_slot < 0 && c->other_slot < 0)
		return llm_fail(err, LLM_CORRUPT, "\"categories\" of column \"%s\" is empty", c->column.name);
	return true;
}

static bool
read_rarity(const json_t *o, encoding *c, llm_error *err)
{
	const char *hex;

	if (!json_read_string(o, "rarity", &hex, err))
		return false;
	c->rarity = malloc(c->buckets + 1);
	c->row_of = malloc((c->buckets + 1) * sizeof(int32_t));
	if (c->rarity == NULL || c->row_of == NULL)
		return no_memory(err);
	if (strlen(hex) != 2 * (size_t) c->buckets || !json_unhex(hex, c->rarity, c->buckets))
		return llm_fail(err, LLM_CORRUPT, "\"rarity\" is not %d bytes of hexadecimal digits", c->buckets);
	for (int32_t i = 0; i < c->buckets; i++)
	{
		c->row_of[i] = c->rarity[i] > 0 ? c->kept : -1;
		c->rarity[c->kept] = c->rarity[i]; /* never ahead of what is read */
		c->kept += c->rarity[i] > 0;
	}
	return true;
}

static bool
read_tokens(const json_t *o, encoding *c, llm_error *err)
{
	const json_t *tokens;
	int64_t vocab, context;

	if (json_object_get(o, "tokens") == NULL)
		return true;
	if (!json_read_object(o, "tokens", &tokens, err) || !json_read_int(tokens, "vocab", 2, INT32_MAX, &vocab, err) ||
		!json_read_int(tokens, "context", 1, INT32_MAX, &context, err))
		return false;
	c->column.tokens = true;
	c->vocab = (int32_t) vocab;
	c->context = (int32_t) context;
	return true;
}

static bool
read_text(const json_t *o, encoding *c, llm_error *err)
{
	int64_t buckets, pairs;
	bool missing;

	if (!read_tokens(o, c, err) || !json_read_bool(o, "missing", &missing, err) ||
		!json_read_int(o, "buckets", c->column.tokens ? 0 : 2, BUCKETS_MAX, &buckets, err) ||
		!json_read_int(o, "pairs", c->column.tokens ? 0 : 1, TEXT_PAIRS_MAX, &pairs, err) ||
		!json_read_number(o, "length", 0, TEXT_LENGTH_MAX, &c->text_length, err))
		return false;
	c->buckets = (int32_t) buckets;
	c->pairs_max = (int32_t) pairs;
	if (!read_rarity(o, c, err))
		return false;
	encoding_slots(c, missing, false);
	if (c->kept == 0 && !missing && !c->column.tokens)
		return llm_fail(err, LLM_CORRUPT, "\"rarity\" of column \"%s\" is empty", c->column.name);
	return true;
}

static bool
read_vector(const json_t *o, encoding *c, llm_error *err)
{
	int32_t count;

	if (!json_read_bool(o, "missing", &c->indicator, err) || !json_read_bool(o, "squash", &c->squash, err) ||
		!json_read_numbers(o, "means", 1, VECTOR_MAX, -NUMBER_MAX, NUMBER_MAX, &c->means, &c->length, err) ||
		!json_read_numbers(o, "scales", 1, VECTOR_MAX, 0, 2 * NUMBER_MAX, &c->scales, &count, err))
		return false;
	return count == c->length ||
		   llm_fail(err, LLM_CORRUPT, "\"scales\" has %d elements, \"means\" has %d", count, c->length);
}

static bool
read_image(const json_t *o, encoding *c, llm_error *err)
{
	const json_t *shape;
	int32_t dims[3], means, scales;

	if (!json_read_array(o, "shape", 3, &shape, err))
		return false;
	for (int i = 0; i < 3; i++)
	{
		const json_t *dim = json_array_get(shape, i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 1 || json_integer_value(dim) > IMAGE_MAX)
			return llm_fail(err, LLM_CORRUPT, "\"shape\" is not an array of channels, height and width");
		dims[i] = (int32_t) json_integer_value(dim);
	}
	if ((double) dims[0] * dims[1] * dims[2] > IMAGE_MAX)
		return llm_fail(err, LLM_CORRUPT, "\"shape\" has more than %d numbers", IMAGE_MAX);
	memcpy(c->image, dims, sizeof(dims));
	c->length = dims[0] * dims[1] * dims[2];
	c->column.image = true;
	return json_read_numbers(o, "means", dims[0], dims[0], -NUMBER_MAX, NUMBER_MAX, &c->means, &means, err) &&
		   json_read_numbers(o, "scales", dims[0], dims[0], 0, 2 * NUMBER_MAX, &c->scales, &scales, err);
}

/* Can a column of this kind be encoded so? */
static bool
kinds_agree(column_kind column, encoding_kind encoding)
{
	switch (encoding)
	{
		case ENCODING_DROPPED: return true;
		case ENCODING_NUMBER: return column == COLUMN_NUMBER || column == COLUMN_BOOLEAN || column == COLUMN_JSON;
		case ENCODING_TIME: return column == COLUMN_TIME;
		case ENCODING_ONE_HOT:
		case ENCODING_EMBED: return column == COLUMN_CATEGORY || column == COLUMN_TEXT || column == COLUMN_JSON;
		case ENCODING_TEXT: return column == COLUMN_TEXT;
		case ENCODING_VECTOR:
		case ENCODING_IMAGE: return column == COLUMN_VECTOR;
	}
	return false;
}

static bool
read_column(const json_t *o, encoding *c, llm_error *err)
{
	int kind, encoding;

	if (!json_read_name(o, "name", NAME_BYTES_MAX, &c->column.name, err) ||
		!json_read_name(o, "type", NAME_BYTES_MAX, &c->column.sql_type, err) ||
		!read_choice(o, "kind", kind_names, sizeof(kind_names) / sizeof(char *), &kind, err) ||
		!json_read_bool(o, "integer", &c->column.integer, err) ||
		!read_choice(o, "encoding", encoding_names, sizeof(encoding_names) / sizeof(char *), &encoding, err))
		return false;
	c->column.kind = (column_kind) kind;
	c->kind = (encoding_kind) encoding;
	return kinds_agree(c->column.kind, c->kind) ||
		   llm_fail(err, LLM_CORRUPT, "column \"%s\" of kind %s cannot have \"encoding\" %s", c->column.name,
					kind_names[kind], encoding_names[encoding]);
}

static bool
read_encoding(const json_t *o, encoding *c, llm_error *err)
{
	if (!read_column(o, c, err))
		return false;
	switch (c->kind)
	{
		case ENCODING_DROPPED: return true;
		case ENCODING_NUMBER: return read_number(o, c, err);
		case ENCODING_TIME: return read_time(o, c, err);
		case ENCODING_ONE_HOT:
		case ENCODING_EMBED: return read_categories(o, c, err);
		case ENCODING_TEXT: return read_text(o, c, err);
		case ENCODING_VECTOR: return read_vector(o, c, err);
		case ENCODING_IMAGE: return read_image(o, c, err);
	}
	return false;
}

static bool
names_differ(const encoder *e, llm_error *err)
{
	strings *names = strings_new(COLUMNS_MAX, COLUMNS_MAX * (NAME_BYTES_MAX + 1));
	bool ok = names != NULL || no_memory(err);

	for (int32_t i = 0; ok && i < e->count; i++)
	{
		const char *name = e->encodings[i].column.name;
		int32_t index = strings_put(names, name, strlen(name));

		if (index == STRINGS_NO_MEMORY)
			ok = no_memory(err);
		else if (index != i)
			ok = llm_fail(err, LLM_CORRUPT, "two \"columns\" have the \"name\" \"%.64s\"", name);
	}
	strings_free(names);
	return ok;
}

static bool
read_columns(const json_t *columns, encoder *e, llm_error *err)
{
	for (int32_t i = 0; i < e->count; i++)
	{
		const json_t *o = json_array_get(columns, i);

		if (!json_is_object(o))
			return llm_fail(err, LLM_CORRUPT, "element %d of \"columns\" is not an object", i);
		e->encodings[i].null_slot = e->encodings[i].other_slot = -1;
		if (!read_encoding(o, &e->encodings[i], err))
			return false;
	}
	return names_differ(e, err) && encoder_layout(e, LLM_CORRUPT, err);
}

encoder *
encoder_from_json(const json_t *json, llm_error *err)
{
	const json_t *columns;
	encoder *e;

	if (!json_read_array(json, "columns", COLUMNS_MAX, &columns, err))
		return NULL;
	e = calloc(1, sizeof(encoder));
	if (e != NULL)
		e->encodings = calloc(json_array_size(columns) + 1, sizeof(encoding));
	if (e == NULL || e->encodings == NULL)
	{
		free(e);
		no_memory(err);
		return NULL;
	}
	e->count = (int32_t) json_array_size(columns);
	if (read_columns(columns, e, err))
		return e;
	encoder_free(e);
	return NULL;
}
