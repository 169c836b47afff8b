/*
 * tokenizer_json.c
 *	  tokenizer.json of the library tokenizers: its model, added tokens, post_processor and decoder.
 *
 * What the file does to texts before the model is in tokenizer_json_text.c.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_source.h"

/* ---- model ---- */

/* Byte tokens are written <0x00> to <0xFF>. */
static token_type
vocabulary_type(const tokenizer_source *s, const char *text, size_t length)
{
	bool byte = (s->options.flags & FLAG_BYTE_FALLBACK) && length == 6 && memcmp(text, "<0x", 3) == 0 &&
				strspn(text + 3, "0123456789ABCDEF") == 2 && text[5] == '>';

	return byte ? TOKEN_BYTE : TOKEN_NORMAL;
}

/* {"text": id, ...} */
static bool
read_vocabulary(tokenizer_source *s, const json_t *model, llm_error *err)
{
	const json_t *vocabulary, *id;
	const char *text;

	if (!json_read_object(model, "vocab", &vocabulary, err))
		return false;
	s->expected = json_object_size(vocabulary);
	json_object_foreach((json_t *) vocabulary, text, id)
	{
		size_t length = strlen(text);

		if (!json_is_integer(id))
			return llm_fail(err, LLM_CORRUPT, "token \"%.100s\" of the tokenizer has no number", text);
		if (!source_token_put(s, json_integer_value(id), text, length, vocabulary_type(s, text, length), 0, err))
			return false;
	}
	return true;
}

/* [["text", score], ...] */
static bool
read_pieces(tokenizer_source *s, const json_t *model, llm_error *err)
{
	const json_t *vocabulary;

	if (!json_read_array(model, "vocab", TOKENS_MAX, &vocabulary, err))
		return false;
	s->expected = json_array_size(vocabulary);
	for (size_t i = 0; i < json_array_size(vocabulary); i++)
	{
		const json_t *piece = json_array_get(vocabulary, i), *text = json_array_get(piece, 0),
					 *score = json_array_get(piece, 1);

		if (json_array_size(piece) != 2 || !json_is_string(text) || !json_is_number(score))
			return llm_fail(err, LLM_CORRUPT, "token %zu of the tokenizer is not a text and a score", i);
		if (!source_token_put(s, (int64_t) i, json_string_value(text), json_string_length(text),
							  vocabulary_type(s, json_string_value(text), json_string_length(text)),
							  json_number_value(score), err))
			return false;
	}
	return true;
}

/* "left right", or ["left", "right"]. */
static bool
read_merge(source_merge *m, const json_t *json)
{
	const json_t *left = json_array_get(json, 0), *right = json_array_get(json, 1);

	if (json_is_string(json))
	{
		const char *text = json_string_value(json), *space = strchr(text, ' ');

		if (space == NULL)
			return false;
		*m = (source_merge) {text, space + 1, (uint32_t) (space - text),
							 (uint32_t) (json_string_length(json) - (size_t) (space + 1 - text))};
		return true;
	}
	if (json_array_size(json) != 2 || !json_is_string(left) || !json_is_string(right))
		return false;
	*m = (source_merge) {json_string_value(left), json_string_value(right), (uint32_t) json_string_length(left),
						 (uint32_t) json_string_length(right)};
	return true;
}

static bool
read_merges(tokenizer_source *s, const json_t *model, llm_error *err)
{
	const json_t *list;
	size_t count;

	if (!json_read_array(model, "merges", TABLE_MAX, &list, err))
		return false;
	count = json_array_size(list);
	if (!source_merges_reserve(s, count, err))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!read_merge(&s->merge[i], json_array_get(list, i)))
			return llm_fail(err, LLM_CORRUPT, "merge %zu of the tokenizer is not a pair of texts", i + 1);
	s->merges = (int32_t) count;
	return true;
}

/* A setting that must be absent, null, zero or empty. */
static bool
read_nothing(const json_t *model, const char *key, llm_error *err)
{
	const json_t *value = json_object_get(model, key);

	if (value == NULL || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
		(json_is_number(value) && json_number_value(value) == 0))
		return true;
	return source_unsupported(err, "a setting of its model", key, "Supported are models without it.");
}

static bool
set_flag(tokenizer_source *s, const json_t *model, const char *key, uint32_t flag, llm_error *err)
{
	bool set;

	if (!source_bool(model, key, false, &set, err))
		return false;
	s->options.flags |= set ? flag : 0;
	return true;
}

/* The token for what is unknown, by its text; null: none. */
static bool
read_unknown(tokenizer_source *s, const json_t *model, llm_error *err)
{
	const json_t *text = json_object_get(model, "unk_token");

	if (text == NULL || json_is_null(text))
		return true;
	if (!json_is_string(text))
		return llm_fail(err, LLM_CORRUPT, "unk_token of the tokenizer is not a string");
	s->special[SPECIAL_UNKNOWN] = source_find(s, json_string_value(text), json_string_length(text));
	return true;
}

static bool
read_bpe(tokenizer_source *s, const json_t *model, llm_error *err)
{
	static const char *const known[] = {"type",
										"dropout",
										"unk_token",
										"continuing_subword_prefix",
										"end_of_word_suffix",
										"fuse_unk",
										"byte_fallback",
										"ignore_merges",
										"vocab",
										"merges",
										NULL};
	bool bytes = s->options.spelling == SPELLING_BYTE_ALPHABET;

	s->options.kind = TOKENIZER_BPE;
	s->options.flags |= bytes ? 0 : FLAG_CHARACTERS;
	return source_keys(model, "its model", known, err) && read_nothing(model, "dropout", err) &&
		   read_nothing(model, "continuing_subword_prefix", err) && read_nothing(model, "end_of_word_suffix", err) &&
		   set_flag(s, model, "fuse_unk", FLAG_FUSE_UNKNOWN, err) &&
		   set_flag(s, model, "byte_fallback", FLAG_BYTE_FALLBACK, err) &&
		   set_flag(s, model, "ignore_merges", FLAG_IGNORE_MERGES, err) && read_vocabulary(s, model, err) &&
		   read_merges(s, model, err) && read_unknown(s, model, err);
}

static bool
read_wordpiece(tokenizer_source *s, const json_t *model, llm_error *err)
{
	static const char *const known[] = {"type",  "unk_token", "continuing_subword_prefix", "max_input_chars_per_word",
										"vocab", NULL};
	const char *prefix = CONTINUATION;
	int64_t longest = WORDPIECE_CHARACTERS;

	if (s->options.kind != TOKENIZER_WORDPIECE)
		return source_unsupported(err, "another pre_tokenizer than BertPreTokenizer with the model", "WordPiece",
								  "Supported is BertPreTokenizer.");
	if (!source_keys(model, "its model", known, err) ||
		(json_object_get(model, "continuing_subword_prefix") != NULL &&
		 !json_read_string(model, "continuing_subword_prefix", &prefix, err)) ||
		(json_object_get(model, "max_input_chars_per_word") != NULL &&
		 !json_read_int(model, "max_input_chars_per_word", 0, INT32_MAX, &longest, err)))
		return false;
	if (strcmp(prefix, CONTINUATION) != 0)
		return source_unsupported(err, "a continuing_subword_prefix", prefix, "Supported is \"" CONTINUATION "\".");
	if (longest != WORDPIECE_CHARACTERS)
		return source_unsupported(err, "a setting", "max_input_chars_per_word", "Supported is 100.");
	return read_vocabulary(s, model, err) && read_unknown(s, model, err);
}

static bool
read_unigram(tokenizer_source *s, const json_t *model, llm_error *err)
{
	static const char *const known[] = {"type", "unk_id", "vocab", "byte_fallback", NULL};
	const json_t *unknown = json_object_get(model, "unk_id");
	int64_t id = -1;

	s->options.kind = TOKENIZER_UNIGRAM;
	if (s->options.spelling == SPELLING_BYTE_ALPHABET)
		return source_unsupported(err, "a pre_tokenizer ByteLevel with the model", "Unigram",
								  "Supported is ByteLevel with the model BPE.");
	if (!source_keys(model, "its model", known, err) ||
		!set_flag(s, model, "byte_fallback", FLAG_BYTE_FALLBACK, err) || !read_pieces(s, model, err))
		return false;
	if (unknown != NULL && !json_is_null(unknown) && !json_read_int(model, "unk_id", 0, s->tokens - 1, &id, err))
		return false;
	s->special[SPECIAL_UNKNOWN] = (int32_t) id;
	return true;
}

static const struct
{
	const char *type;
	bool (*read)(tokenizer_source *s, const json_t *model, llm_error *err);
} models[] = {{"BPE", read_bpe}, {"WordPiece", read_wordpiece}, {"Unigram", read_unigram}};

#define MODEL_COUNT (sizeof(models) / sizeof(models[0]))

/* Old files do not say. */
static const char *
guess_model(const json_t *model)
{
	return json_is_array(json_object_get(model, "vocab")) ? "Unigram"
		   : json_object_get(model, "merges") != NULL     ? "BPE"
														  : "WordPiece";
}

static bool
read_model(tokenizer_source *s, const json_t *json, llm_error *err)
{
	const json_t *model;
	const char *type;

	if (!json_read_object(json, "model", &model, err))
		return false;
	type = guess_model(model);
	if (json_object_get(model, "type") != NULL && !json_read_string(model, "type", &type, err))
		return false;
	for (size_t i = 0; i < MODEL_COUNT; i++)
		if (strcmp(models[i].type, type) == 0)
		{
			if (s->options.kind == TOKENIZER_WORDPIECE && models[i].read != read_wordpiece)
				return source_unsupported(err, "a pre_tokenizer BertPreTokenizer with the model", type,
										  "Supported is WordPiece.");
			return models[i].read(s, model, err);
		}
	return source_unsupported(err, "a model", type, "Supported are BPE, WordPiece and Unigram.");
}

/* ---- added_tokens ---- */

static bool
read_added(tokenizer_source *s, const json_t *json, llm_error *err)
{
	static const char *const known[] = {"id",     "content",    "single_word", "lstrip",
										"rstrip", "normalized", "special",     NULL};
	int64_t id;
	const char *text;
	bool special;
	uint8_t flags;

	return json_read_int(json, "id", 0, TOKENS_MAX, &id, err) && json_read_string(json, "content", &text, err) &&
		   source_keys(json, "added_tokens", known, err) && source_added_flags(json, &flags, &special, err) &&
		   source_token_add(s, id, text, strlen(text), special, flags, err);
}

static bool
read_all_added(tokenizer_source *s, const json_t *json, llm_error *err)
{
	const json_t *list = json_object_get(json, "added_tokens");

	if (list == NULL || json_is_null(list))
		return true;
	if (!json_read_array(json, "added_tokens", TOKENS_MAX, &list, err))
		return false;
	s->expected += json_array_size(list);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!read_added(s, json_array_get(list, i), err))
			return false;
	return true;
}

/* ---- post_processor ---- */

#define POST_PROCESSORS "Supported are TemplateProcessing, BertProcessing, RobertaProcessing and ByteLevel."

/* {"Sequence": {"id": "A", "type_id": 0}} or {"SpecialToken": {"id": "[CLS]", "type_id": 0}} */
static bool
read_template_item(tokenizer_source *s, source_frame *frame, const json_t *json, const json_t *tokens, llm_error *err)
{
	const json_t *item = json_object_get(json, "Sequence"), *ids;
	const char *name;
	int64_t type, id;

	if (item != NULL)
		return json_read_string(item, "id", &name, err) &&
			   json_read_int(item, "type_id", 0, FRAME_TYPE_MAX, &type, err) &&
			   source_frame_add(frame, strcmp(name, "A") == 0 ? FRAME_FIRST : FRAME_SECOND, type, err);
	if (!json_read_object(json, "SpecialToken", &item, err) || !json_read_string(item, "id", &name, err) ||
		!json_read_int(item, "type_id", 0, FRAME_TYPE_MAX, &type, err) ||
		!json_read_object(tokens, name, &item, err) || !json_read_array(item, "ids", SOURCE_FRAME_MAX, &ids, err))
		return false;
	for (size_t i = 0; i < json_array_size(ids); i++)
	{
		id = json_is_integer(json_array_get(ids, i)) ? json_integer_value(json_array_get(ids, i)) : -1;
		if (id < 0 || id >= s->tokens || s->token[id].text == NULL)
			return llm_fail(err, LLM_CORRUPT,
							"the tokenizer puts \"%.100s\" around texts, which is none of its tokens", name);
		if (!source_frame_add(frame, (int32_t) id, type, err))
			return false;
	}
	return true;
}

/* Each text must be there once. */
static bool
read_template(tokenizer_source *s, source_frame *frame, const json_t *json, const char *key, bool pair,
			  llm_error *err)
{
	const json_t *list, *tokens;
	int texts[2] = {0, 0};

	frame->count = 0;
	if (!json_read_array(json, key, SOURCE_FRAME_MAX, &list, err) ||
		!json_read_object(json, "special_tokens", &tokens, err))
		return false;
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!read_template_item(s, frame, json_array_get(list, i), tokens, err))
			return false;
	for (int32_t i = 0; i < frame->count; i++)
		if (frame->item[i].id < 0)
			texts[frame->item[i].id == FRAME_SECOND]++;
	if (texts[0] == 1 && texts[1] == pair)
		return true;
	return llm_fail(err, LLM_INVALID, "the tokenizer has a template \"%s\" without each text once", key);
}

static bool
read_templates(tokenizer_source *s, const json_t *json, llm_error *err)
{
	static const char *const known[] = {"type", "single", "pair", "special_tokens", NULL};

	return source_keys(json, "TemplateProcessing", known, err) &&
		   read_template(s, &s->one, json, "single", false, err) &&
		   read_template(s, &s->two, json, "pair", true, err);
}

/* ["[SEP]", 102] */
static bool
read_named(const json_t *json, const char *key, const char **text, llm_error *err)
{
	const json_t *list;

	if (!json_read_array(json, key, 2, &list, err))
		return false;
	*text = json_string_value(json_array_get(list, 0));
	return *text != NULL || llm_fail(err, LLM_CORRUPT, "\"%s\" of the tokenizer is not a token", key);
}

static bool
read_bert_frame(tokenizer_source *s, const json_t *json, llm_error *err)
{
	static const char *const known[] = {"type", "sep", "cls", NULL};
	const char *sep, *cls;

	return source_keys(json, "BertProcessing", known, err) && read_named(json, "sep", &sep, err) &&
		   read_named(json, "cls", &cls, err) && source_frame_around(s, cls, NULL, sep, true, err);
}

static bool
read_roberta_frame(tokenizer_source *s, const json_t *json, llm_error *err)
{
	static const char *const known[] = {"type", "sep", "cls", "trim_offsets", "add_prefix_space", NULL};
	const char *sep, *cls;

	return source_keys(json, "RobertaProcessing", known, err) && read_named(json, "sep", &sep, err) &&
		   read_named(json, "cls", &cls, err) && source_frame_around(s, cls, sep, sep, false, err);
}

/* Changes only where tokens begin in the text, which nobody asks here. */
static bool
read_no_frame(tokenizer_source *s, const json_t *json, llm_error *err)
{
	return true;
}

static const struct
{
	const char *type;
	bool (*read)(tokenizer_source *s, const json_t *json, llm_error *err);
} post_processors[] = {
	{"TemplateProcessing", read_templates},
	{"BertProcessing", read_bert_frame},
	{"RobertaProcessing", read_roberta_frame},
	{"ByteLevel", read_no_frame},
};

#define POST_PROCESSOR_COUNT (sizeof(post_processors) / sizeof(post_processors[0]))

static bool
read_post_processor(tokenizer_source *s, const json_t *json, int depth, llm_error *err)
{
	const char *type;
	const json_t *list;

	if (json == NULL || json_is_null(json))
		return true;
	if (!json_read_string(json, "type", &type, err))
		return false;
	for (size_t i = 0; i < POST_PROCESSOR_COUNT; i++)
		if (strcmp(post_processors[i].type, type) == 0)
			return post_processors[i].read(s, json, err);
	if (strcmp(type, "Sequence") != 0 || depth > 0)
		return source_unsupported(err, "a post_processor", type, POST_PROCESSORS);
	if (!json_read_array(json, "processors", 8, &list, err))
		return false;
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!read_post_processor(s, json_array_get(list, i), depth + 1, err))
			return false;
	return true;
}

/* ---- decoder ---- */

/*
 * Tokens become text by what they are; all that is asked of a decoder is whether it takes away
 * the space in front of a text.
 */
static bool
read_decoder(tokenizer_source *s, const json_t *json, int depth, llm_error *err)
{
	static const char *const known[] = {"ByteLevel", "WordPiece", "ByteFallback", "Fuse", "Replace", NULL};
	const char *type, *scheme = "always", *content = "";
	const json_t *list;
	int64_t start = 0;

	if (json == NULL || json_is_null(json))
		return true;
	if (!json_read_string(json, "type", &type, err))
		return false;
	for (int i = 0; known[i] != NULL; i++)
		if (strcmp(known[i], type) == 0)
			return true;
	if (strcmp(type, "Sequence") == 0 && depth == 0)
	{
		if (!json_read_array(json, "decoders", 8, &list, err))
			return false;
		for (size_t i = 0; i < json_array_size(list); i++)
			if (!read_decoder(s, json_array_get(list, i), depth + 1, err))
				return false;
		return true;
	}
	if (strcmp(type, "Strip") == 0)
	{
		if (!json_read_string(json, "content", &content, err) || !json_read_int(json, "start", 0, 16, &start, err))
			return false;
		s->options.flags |= start == 1 && strcmp(content, " ") == 0 ? FLAG_PREFIX_SPACE : 0;
		return true;
	}
	if (strcmp(type, "Metaspace") != 0)
		return source_unsupported(
			err, "a decoder", type,
			"Supported are ByteLevel, WordPiece, Metaspace, ByteFallback, Fuse, Replace, Strip.");
	if (json_object_get(json, "prepend_scheme") != NULL && !json_read_string(json, "prepend_scheme", &scheme, err))
		return false;
	s->options.flags |= strcmp(scheme, "never") != 0 ? FLAG_PREFIX_SPACE : 0;
	return true;
}

/* ---- the file ---- */

/* BERT's steps are done by its own encoder in one pass, if nothing else looks at the text between. */
static void
bert_steps_to_flags(tokenizer_source *s)
{
	static const uint32_t flags[STEP_KINDS] = {
		[STEP_CLEAN] = FLAG_CLEAN_TEXT,
		[STEP_IDEOGRAPHS] = FLAG_SPLIT_CJK,
		[STEP_NONSPACING] = FLAG_STRIP_ACCENTS,
		[STEP_LOWER] = FLAG_LOWERCASE,
	};
	uint32_t all = 0;

	for (int32_t id = 0; id < s->tokens; id++)
		if (s->token[id].added & ADDED_NORMALISED)
			return;
	for (int32_t i = 0; i < s->steps; i++)
	{
		int kind = s->step[i].kind;
		bool decomposes = kind == STEP_NFD && i + 1 < s->steps && s->step[i + 1].kind == STEP_NONSPACING;
		bool composed = kind == STEP_NONSPACING && (i == 0 || s->step[i - 1].kind != STEP_NFD);

		if (kind == STEP_CUT || decomposes)
			continue;
		if (flags[kind] <= all || composed) /* no step of BERT's, or not in its order */
			return;
		all |= flags[kind];
	}
	s->options.flags |= all;
	s->steps = 0;
}

bool
tokenizer_json_read(tokenizer_source *s, const json_t *json, llm_error *err)
{
	static const char *const known[] = {"version",       "truncation",     "padding", "added_tokens", "normalizer",
										"pre_tokenizer", "post_processor", "decoder", "model",        NULL};

	if (!source_keys(json, "tokenizer.json", known, err) || !tokenizer_json_text(s, json, err) ||
		!read_model(s, json, err) || !read_all_added(s, json, err) ||
		!read_post_processor(s, json_object_get(json, "post_processor"), 0, err) ||
		!read_decoder(s, json_object_get(json, "decoder"), 0, err))
		return false;
	if (s->options.kind == TOKENIZER_WORDPIECE)
		bert_steps_to_flags(s);
	return true;
}
