/*
 * tokenizer_source.c
 *	  What the readers of tokenizer files collect, and the block that is built from it.
 */
#include "tokenizer_source.h"

#include <stdlib.h>
#include <string.h>

#include "../feature/strings.h"

#define HOLES_MAX 65536 /* ids without a token, so that a small file takes little memory */

void
source_free(tokenizer_source *s)
{
	free(s->token);
	free(s->merge);
	free(s->character_map);
	free(s->kept);
	for (int i = 0; i < s->documents; i++)
		json_decref(s->document[i]);
}

const json_t *
source_parse(tokenizer_source *s, const char *name, file_bytes file, llm_error *err)
{
	json_t *json = json_parse_large(file.bytes, file.size, err);

	if (json == NULL)
	{
		llm_detail(err, "This was found in %s.", name);
		return NULL;
	}
	s->document[s->documents++] = json;
	if (json_is_object(json))
		return json;
	llm_fail(err, LLM_CORRUPT, "%s is not a JSON object", name);
	return NULL;
}

bool
source_unsupported(llm_error *err, const char *what, const char *name, const char *supported)
{
	llm_fail(err, LLM_INVALID, "the tokenizer has %s \"%.100s\", which is not supported", what, name);
	return llm_hint(err, "%s", supported);
}

bool
source_keys(const json_t *object, const char *what, const char *const *known, llm_error *err)
{
	const char *key;
	const json_t *value;

	json_object_foreach((json_t *) object, key, value)
	{
		int i = 0;

		while (known[i] != NULL && strcmp(known[i], key) != 0)
			i++;
		if (known[i] == NULL)
		{
			llm_fail(err, LLM_INVALID, "the tokenizer has a setting \"%.100s\" in %s, which is not known", key, what);
			return llm_hint(err, "Save the tokenizer with a version of its library that writes known settings only.");
		}
	}
	return true;
}

bool
source_bool(const json_t *object, const char *key, bool otherwise, bool *out, llm_error *err)
{
	const json_t *value = json_object_get(object, key);

	*out = otherwise;
	return value == NULL || json_is_null(value) || json_read_bool(object, key, out, err);
}

bool
source_added_flags(const json_t *object, uint8_t *flags, bool *special, llm_error *err)
{
	static const struct
	{
		const char *key;
		uint8_t flag;
	} keys[] = {{"lstrip", ADDED_LEFT}, {"rstrip", ADDED_RIGHT}, {"single_word", ADDED_ALONE}};
	bool set;

	*flags = 0;
	if (!source_bool(object, "special", false, special, err))
		return false;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
	{
		if (!source_bool(object, keys[i].key, false, &set, err))
			return false;
		*flags |= set ? keys[i].flag : 0;
	}
	if (!source_bool(object, "normalized", !*special, &set, err))
		return false;
	*flags |= set ? ADDED_NORMALISED : 0;
	return true;
}

bool
source_class(const json_t *config, char *name, size_t size, llm_error *err)
{
	const char *text = "";
	size_t length;

	if (json_object_get(config, "tokenizer_class") != NULL &&
		!json_is_null(json_object_get(config, "tokenizer_class")) &&
		!json_read_string(config, "tokenizer_class", &text, err))
		return false;
	length = strlen(text);
	if (length > 4 && strcmp(text + length - 4, "Fast") == 0)
		length -= 4;
	length = length < size ? length : size - 1;
	memcpy(name, text, length);
	name[length] = '\0';
	return true;
}

/* ---- tokens ---- */

/* Bytes of a text, which need not end with a zero byte, that a message shows. */
static int
shown(size_t length)
{
	return length < 100 ? (int) length : 100;
}

static bool
make_room(tokenizer_source *s, int64_t id, llm_error *err)
{
	int32_t capacity = s->capacity ? s->capacity : 1024;
	source_token *token;

	if (id < 0 || id >= TOKENS_MAX || id > 2 * (int64_t) s->expected + HOLES_MAX)
		return llm_fail(err, LLM_CORRUPT, "a token of the tokenizer has the number %lld, which is out of range",
						(long long) id);
	while (capacity <= id)
		capacity *= 2;
	if (capacity > s->capacity)
	{
		token = realloc(s->token, (size_t) capacity * sizeof(source_token));
		if (token == NULL)
			return llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
		memset(token + s->capacity, 0, (size_t) (capacity - s->capacity) * sizeof(source_token));
		s->token = token;
		s->capacity = capacity;
	}
	if (id >= s->tokens)
		s->tokens = (int32_t) id + 1;
	return true;
}

bool
source_token_put(tokenizer_source *s, int64_t id, const char *text, size_t length, token_type type, double score,
				 llm_error *err)
{
	if (!make_room(s, id, err))
		return false;
	if (s->token[id].text != NULL)
		return llm_fail(err, LLM_CORRUPT, "two tokens of the tokenizer have the number %lld", (long long) id);
	if (length > TABLE_MAX)
		return llm_fail(err, LLM_INVALID, "a token of the tokenizer is too long");
	s->token[id] =
		(source_token) {.text = text, .length = (uint32_t) length, .type = type, .vocabulary = true, .score = score};
	return true;
}

bool
source_token_add(tokenizer_source *s, int64_t id, const char *text, size_t length, bool special, uint8_t flags,
				 llm_error *err)
{
	source_token *token;

	if (!make_room(s, id, err))
		return false;
	token = &s->token[id];
	if (token->text != NULL && (token->length != length || memcmp(token->text, text, length) != 0))
	{
		llm_fail(err, LLM_CORRUPT, "two tokens of the tokenizer have the number %lld", (long long) id);
		return llm_detail(err, "They are \"%.*s\" and \"%.*s\".", shown(token->length), token->text, shown(length),
						  text);
	}
	if (length > ADDED_LENGTH_MAX)
		return llm_fail(err, LLM_INVALID,
						"a token that was added to the tokenizer has %zu bytes, at most %d are allowed", length,
						ADDED_LENGTH_MAX);
	if (token->text == NULL)
		*token = (source_token) {.text = text, .length = (uint32_t) length};
	token->type = special ? TOKEN_SPECIAL : TOKEN_ADDED;
	token->added = flags;
	return true;
}

int32_t
source_find(const tokenizer_source *s, const char *text, size_t length)
{
	for (int32_t id = 0; id < s->tokens; id++)
		if (s->token[id].text != NULL && s->token[id].length == length &&
			memcmp(s->token[id].text, text, length) == 0)
			return id;
	return -1;
}

/* ---- the rest ---- */

bool
source_merges_reserve(tokenizer_source *s, size_t count, llm_error *err)
{
	if (count > TABLE_MAX)
		return llm_fail(err, LLM_INVALID, "the tokenizer has too many merges");
	free(s->merge);
	s->merge = calloc(count + 1, sizeof(source_merge));
	return s->merge != NULL || llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
}

bool
source_step_add(tokenizer_source *s, int kind, const char *first, const char *second, llm_error *err)
{
	if (s->steps == STEPS_MAX)
		return llm_fail(err, LLM_INVALID, "the tokenizer changes texts in more than %d steps", STEPS_MAX);
	s->step[s->steps++] = (source_step) {kind, first, second};
	return true;
}

bool
source_frame_add(source_frame *frame, int32_t id, int64_t type, llm_error *err)
{
	if (frame->count == SOURCE_FRAME_MAX || type < 0 || type > FRAME_TYPE_MAX)
		return llm_fail(err, LLM_INVALID, "the tokenizer puts too many tokens around a text, or of too many types");
	frame->item[frame->count++] = (frame_item) {id, (int32_t) type};
	return true;
}

/* By its text; NULL: none is added. */
static bool
add_named(tokenizer_source *s, source_frame *frame, const char *text, int64_t type, llm_error *err)
{
	int32_t id = text ? source_find(s, text, strlen(text)) : -1;

	if (text != NULL && id < 0)
		return llm_fail(err, LLM_CORRUPT, "the tokenizer puts \"%.100s\" around texts, which is none of its tokens",
						text);
	return text == NULL || source_frame_add(frame, id, type, err);
}

bool
source_frame_around(tokenizer_source *s, const char *first, const char *middle, const char *last, bool typed,
					llm_error *err)
{
	s->one.count = s->two.count = 0;
	return add_named(s, &s->one, first, 0, err) && source_frame_add(&s->one, FRAME_FIRST, 0, err) &&
		   add_named(s, &s->one, last, 0, err) && add_named(s, &s->two, first, 0, err) &&
		   source_frame_add(&s->two, FRAME_FIRST, 0, err) && add_named(s, &s->two, last, 0, err) &&
		   add_named(s, &s->two, middle, typed, err) && source_frame_add(&s->two, FRAME_SECOND, typed, err) &&
		   add_named(s, &s->two, last, typed, err);
}

/* ---- building ---- */

/*
 * A token that is both the model's and added: of characters it can come from either, of bytes or
 * as a special token it is cut out before the model sees it.
 */
static token_type
built_type(const tokenizer_source *s, const source_token *token)
{
	if (token->type == TOKEN_ADDED && token->vocabulary && s->options.spelling != SPELLING_BYTE_ALPHABET)
		return TOKEN_ADDED_WORD;
	return token->type;
}

static bool
build_tokens(tokenizer_source *s, tokenizer_builder *b, llm_error *err)
{
	for (int32_t id = 0; id < s->tokens; id++)
	{
		const source_token *token = &s->token[id];

		if (!(token->text != NULL
				  ? tokenizer_builder_token(b, token->text, token->length, built_type(s, token), token->score, err) &&
						tokenizer_builder_added(b, token->added)
				  : tokenizer_builder_token(b, "", 0, TOKEN_UNUSED, 0, err)))
			return false;
	}
	for (int i = 0; i < SPECIAL_TOKENS; i++)
		if (!tokenizer_builder_special(b, (special_token) i, s->special[i], err))
			return false;
	return true;
}

/* Texts of tokens that are cut out always, so that merges never see them; NULL: out of memory. */
static strings *
cut_out(const tokenizer_source *s)
{
	strings *set = strings_new(TOKENS_MAX, TABLE_MAX);

	for (int32_t id = 0; set != NULL && id < s->tokens; id++)
	{
		const source_token *token = &s->token[id];
		token_type type = token->text ? built_type(s, token) : TOKEN_UNUSED;

		if ((type == TOKEN_SPECIAL || type == TOKEN_ADDED) && strings_put(set, token->text, token->length) < 0)
		{
			strings_free(set);
			return NULL;
		}
	}
	return set;
}

/* Has a merge to do with one of these? */
static bool
is_cut_out(const strings *set, const source_merge *m, text_buffer *whole, llm_error *err)
{
	whole->size = 0;
	return strings_find(set, m->left, m->left_length) >= 0 || strings_find(set, m->right, m->right_length) >= 0 ||
		   (text_buffer_add(whole, m->left, m->left_length, err) &&
			text_buffer_add(whole, m->right, m->right_length, err) &&
			strings_find(set, whole->bytes, whole->size) >= 0);
}

static bool
build_merges(tokenizer_source *s, tokenizer_builder *b, llm_error *err)
{
	strings *set = cut_out(s);
	text_buffer whole = {0};
	bool ok = set != NULL || llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");

	for (int32_t i = 0; ok && i < s->merges; i++)
	{
		const source_merge *m = &s->merge[i];

		if (set->count == 0 || !is_cut_out(set, m, &whole, err))
			ok = err->code == LLM_OK &&
				 tokenizer_builder_merge(b, m->left, m->left_length, m->right, m->right_length, err);
	}
	strings_free(set);
	free(whole.bytes);
	return ok && (!s->merge_by_score || tokenizer_builder_merge_by_score(b, err));
}

static bool
build_text(tokenizer_source *s, tokenizer_builder *b, llm_error *err)
{
	bool ok =
		s->character_map == NULL || tokenizer_builder_character_map(b, s->character_map, s->character_map_bytes, err);

	for (int32_t i = 0; ok && i < s->steps; i++)
		ok = tokenizer_builder_step(b, s->step[i].kind, s->step[i].first, s->step[i].second, err);
	return ok && (s->one.count + s->two.count == 0 ||
				  tokenizer_builder_frame(b, s->one.item, s->one.count, s->two.item, s->two.count, err));
}

void *
source_build(tokenizer_source *s, size_t *block_bytes, llm_error *err)
{
	tokenizer_builder *b;
	void *block = NULL;

	if (s->space_marks)
	{
		s->options.spelling = SPELLING_SPACE_MARK;
		s->options.flags |= FLAG_SPACE_MARKS;
	}
	b = tokenizer_builder_new(&s->options, err);
	if (b == NULL)
		return NULL;
	if (build_tokens(s, b, err) && build_merges(s, b, err) && build_text(s, b, err))
		block = tokenizer_builder_finish(b, block_bytes, err);
	tokenizer_builder_free(b);
	return block;
}
