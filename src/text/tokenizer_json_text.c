/*
 * tokenizer_json_text.c
 *	  What tokenizer.json does to a text before its model sees it: normalizer and pre_tokenizer.
 *
 * Normalizers become steps one by one.  Pre-tokenizers cut texts, which here is done by a scanner
 * or by spaces that mark words, so that only those sequences of them are known that models have.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_source.h"

#define SEQUENCE_MAX 16

/* Components one after the other, sequences within sequences resolved. */
typedef struct sequence
{
	const json_t *item[SEQUENCE_MAX];
	const char *type[SEQUENCE_MAX];
	int count;
} sequence;

static bool
flatten(sequence *out, const json_t *json, const char *what, const char *members, int depth, llm_error *err)
{
	const char *type;
	const json_t *list;

	if (json == NULL || json_is_null(json))
		return true;
	if (!json_read_string(json, "type", &type, err))
		return llm_detail(err, "This was found in %s of tokenizer.json.", what);
	if (strcmp(type, "Sequence") != 0)
	{
		if (out->count == SEQUENCE_MAX)
			return llm_fail(err, LLM_INVALID, "the tokenizer has more than %d parts in %s", SEQUENCE_MAX, what);
		out->type[out->count] = type;
		out->item[out->count++] = json;
		return true;
	}
	if (depth > 4)
		return llm_fail(err, LLM_INVALID, "the tokenizer has sequences within sequences in %s", what);
	if (!json_read_array(json, members, SEQUENCE_MAX, &list, err))
		return false;
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!flatten(out, json_array_get(list, i), what, members, depth + 1, err))
			return false;
	return true;
}

/* ---- normalizer ---- */

#define NORMALIZERS \
	"Supported are NFC, NFD, Lowercase, StripAccents, Strip, Replace, Prepend, Precompiled and BertNormalizer."

static bool
read_plain(tokenizer_source *s, const json_t *json, int kind, llm_error *err)
{
	static const char *const known[] = {"type", NULL};

	return source_keys(json, "normalizer", known, err) && source_step_add(s, kind, NULL, NULL, err);
}

static bool
read_strip(tokenizer_source *s, const json_t *json, int kind, llm_error *err)
{
	static const char *const known[] = {"type", "strip_left", "strip_right", NULL};
	bool left, right;

	return source_keys(json, "Strip", known, err) && source_bool(json, "strip_left", true, &left, err) &&
		   source_bool(json, "strip_right", true, &right, err) &&
		   (!left || source_step_add(s, STEP_STRIP_LEFT, NULL, NULL, err)) &&
		   (!right || source_step_add(s, STEP_STRIP_RIGHT, NULL, NULL, err));
}

/* {"String": ...} or {"Regex": ...}; the other of the two is NULL. */
static bool
read_pattern(const json_t *json, const char **string, const char **regex, llm_error *err)
{
	const json_t *pattern;

	*string = *regex = NULL;
	if (!json_read_object(json, "pattern", &pattern, err))
		return false;
	if (json_object_get(pattern, "Regex") != NULL)
		return json_read_string(pattern, "Regex", regex, err);
	return json_read_string(pattern, "String", string, err);
}

static bool
read_replace(tokenizer_source *s, const json_t *json, int kind, llm_error *err)
{
	static const char *const known[] = {"type", "pattern", "content", NULL};
	const char *string, *regex, *content;

	if (!source_keys(json, "Replace", known, err) || !read_pattern(json, &string, &regex, err) ||
		!json_read_string(json, "content", &content, err))
		return false;
	if (regex != NULL && strcmp(regex, " {2,}") == 0)
		return source_step_add(s, STEP_SPACE_RUNS, NULL, content, err);
	if (regex != NULL)
		return source_unsupported(err, "a replacement of", regex, "Supported are plain texts and \" {2,}\".");
	if (*string == '\0')
		return source_unsupported(err, "a replacement of", string, "Supported are plain texts and \" {2,}\".");
	return source_step_add(s, STEP_REPLACE, string, content, err);
}

static bool
read_prepend(tokenizer_source *s, const json_t *json, int kind, llm_error *err)
{
	static const char *const known[] = {"type", "prepend", NULL};
	const char *text;

	return source_keys(json, "Prepend", known, err) && json_read_string(json, "prepend", &text, err) &&
		   source_step_add(s, STEP_PREPEND, NULL, text, err);
}

static int32_t
base64_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at ? (int32_t) (at - digits) : -1;
}

/* RFC 4648; malloc'd. */
static char *
decode_base64(const char *text, size_t length, size_t *bytes, llm_error *err)
{
	char *out = malloc(length / 4 * 3 + 3);
	uint32_t bits = 0;
	bool ok = length % 4 == 0;

	if (out == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
		return NULL;
	}
	while (length > 0 && text[length - 1] == '=')
		length--;
	*bytes = 0;
	for (size_t i = 0; ok && i < length; i++)
	{
		int32_t digit = base64_digit(text[i]);

		ok = digit >= 0;
		bits = bits << 6 | (uint32_t) digit;
		if (i % 4 > 0)
			out[(*bytes)++] = (char) (bits >> (6 - 2 * (i % 4)) & 0xFF);
	}
	if (ok)
		return out;
	free(out);
	llm_fail(err, LLM_CORRUPT, "precompiled_charsmap of the tokenizer is not written in base 64");
	return NULL;
}

static bool
read_precompiled(tokenizer_source *s, const json_t *json, int kind, llm_error *err)
{
	static const char *const known[] = {"type", "precompiled_charsmap", NULL};
	const char *text;

	if (!source_keys(json, "Precompiled", known, err) || !json_read_string(json, "precompiled_charsmap", &text, err))
		return false;
	if (s->character_map != NULL)
		return llm_fail(err, LLM_INVALID, "the tokenizer has two maps of characters");
	s->character_map = decode_base64(text, strlen(text), &s->character_map_bytes, err);
	return s->character_map != NULL && source_step_add(s, STEP_MAP, NULL, NULL, err);
}

/* strip_accents null: as lowercase.  What transformers was told comes before the file. */
static bool
read_bert(tokenizer_source *s, const json_t *json, int kind, llm_error *err)
{
	static const char *const known[] = {"type",          "clean_text", "handle_chinese_chars",
										"strip_accents", "lowercase",  NULL};
	bool clean, ideographs, accents, lower;

	if (!source_keys(json, "BertNormalizer", known, err) || !source_bool(json, "clean_text", true, &clean, err) ||
		!source_bool(json, "handle_chinese_chars", true, &ideographs, err) ||
		!source_bool(s->config, "tokenize_chinese_chars", ideographs, &ideographs, err) ||
		!source_bool(json, "lowercase", true, &lower, err) ||
		!source_bool(s->config, "do_lower_case", lower, &lower, err) ||
		!source_bool(json, "strip_accents", lower, &accents, err) ||
		!source_bool(s->config, "strip_accents", accents, &accents, err))
		return false;
	return (!clean || source_step_add(s, STEP_CLEAN, NULL, NULL, err)) &&
		   (!ideographs || source_step_add(s, STEP_IDEOGRAPHS, NULL, NULL, err)) &&
		   (!accents || (source_step_add(s, STEP_NFD, NULL, NULL, err) &&
						 source_step_add(s, STEP_NONSPACING, NULL, NULL, err))) &&
		   (!lower || source_step_add(s, STEP_LOWER, NULL, NULL, err));
}

static const struct
{
	const char *type;
	bool (*read)(tokenizer_source *s, const json_t *json, int kind, llm_error *err);
	int kind; /* of read_plain() */
} normalizers[] = {
	{"NFC", read_plain, STEP_NFC},
	{"NFD", read_plain, STEP_NFD},
	{"Lowercase", read_plain, STEP_LOWER},
	{"StripAccents", read_plain, STEP_MARKS},
	{"Strip", read_strip, 0},
	{"Replace", read_replace, 0},
	{"Prepend", read_prepend, 0},
	{"Precompiled", read_precompiled, 0},
	{"BertNormalizer", read_bert, 0},
};

#define NORMALIZER_COUNT (sizeof(normalizers) / sizeof(normalizers[0]))

static bool
is_mark(const char *text)
{
	return text != NULL && strcmp(text, SPACE_MARK) == 0;
}

/* Does the last step make each space a mark? */
static bool
marks_last(const tokenizer_source *s)
{
	const source_step *last = s->steps > 0 ? &s->step[s->steps - 1] : NULL;

	return last != NULL && last->kind == STEP_REPLACE && strcmp(last->first, " ") == 0 && is_mark(last->second);
}

static bool
read_normalizer(tokenizer_source *s, const json_t *json, llm_error *err)
{
	sequence list = {.count = 0};

	if (!flatten(&list, json, "normalizer", "normalizers", 0, err))
		return false;
	for (int i = 0; i < list.count; i++)
	{
		size_t n = 0;

		while (n < NORMALIZER_COUNT && strcmp(normalizers[n].type, list.type[i]) != 0)
			n++;
		if (n == NORMALIZER_COUNT)
			return source_unsupported(err, "a normalizer", list.type[i], NORMALIZERS);
		if (!normalizers[n].read(s, list.item[i], normalizers[n].kind, err))
			return false;
	}
	/* Tokens hold spaces for marks, so the text becomes one of spaces as well. */
	if (marks_last(s))
	{
		s->step[s->steps - 1] = (source_step) {STEP_SPACE_MARKS, NULL, NULL};
		s->space_marks = true;
	}
	return source_step_add(s, STEP_CUT, NULL, NULL, err);
}

/* ---- pre_tokenizer ---- */

#define PRE_TOKENIZERS \
	"Supported are ByteLevel, also behind Digits or the Split of Llama 3 or Qwen2, BertPreTokenizer, Metaspace, " \
	"and WhitespaceSplit before it."

/* A part with its place in the sequence; the text of all types is what is looked up. */
typedef bool (*read_cuts)(tokenizer_source *s, const sequence *list, llm_error *err);

static bool
read_byte_level(tokenizer_source *s, const json_t *json, bool *prefix, bool *regex, llm_error *err)
{
	static const char *const known[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};

	s->options.spelling = SPELLING_BYTE_ALPHABET;
	return source_keys(json, "ByteLevel", known, err) && source_bool(json, "add_prefix_space", true, prefix, err) &&
		   source_bool(json, "use_regex", true, regex, err);
}

static bool
read_bytes(tokenizer_source *s, const sequence *list, llm_error *err)
{
	bool prefix, regex;

	if (!read_byte_level(s, list->item[0], &prefix, &regex, err) ||
		!source_bool(s->config, "add_prefix_space", prefix, &prefix, err))
		return false;
	s->options.pretokenizer = regex ? PRETOKENIZER_GPT2 : PRETOKENIZER_NONE;
	return !prefix || source_step_add(s, STEP_PREFIX, NULL, NULL, err);
}

/* A space before each piece that a part in front has cut would be new. */
static bool
read_bytes_behind(tokenizer_source *s, const json_t *json, bool wanted_regex, llm_error *err)
{
	bool prefix, regex;

	if (!read_byte_level(s, json, &prefix, &regex, err))
		return false;
	if (prefix || regex != wanted_regex)
		return source_unsupported(err, "a setting of ByteLevel", prefix ? "add_prefix_space" : "use_regex",
								  PRE_TOKENIZERS);
	return true;
}

static bool
read_split(tokenizer_source *s, const sequence *list, llm_error *err)
{
	static const char *const known[] = {"type", "pattern", "behavior", "invert", NULL};
	const char *string, *regex, *behavior;
	bool invert;

	if (!source_keys(list->item[0], "Split", known, err) || !read_pattern(list->item[0], &string, &regex, err) ||
		!json_read_string(list->item[0], "behavior", &behavior, err) ||
		!source_bool(list->item[0], "invert", false, &invert, err))
		return false;
	if (regex == NULL || *regex == '\0' || !pretokenizer_from_regex(regex, &s->options.pretokenizer))
		return source_unsupported(err, "a Split by", regex ? regex : string,
								  "Supported are the expressions of GPT-2, Llama 3 and Qwen2.");
	if (strcmp(behavior, "Isolated") != 0 && !(strcmp(behavior, "Removed") == 0 && invert))
		return source_unsupported(err, "a Split that is", behavior, "Supported is Isolated.");
	return read_bytes_behind(s, list->item[1], false, err);
}

static bool
read_digits(tokenizer_source *s, const sequence *list, llm_error *err)
{
	static const char *const known[] = {"type", "individual_digits", NULL};
	bool individual;

	if (!source_keys(list->item[0], "Digits", known, err) ||
		!source_bool(list->item[0], "individual_digits", false, &individual, err))
		return false;
	if (!individual)
		return source_unsupported(err, "a setting", "individual_digits = false", "Supported is true.");
	s->options.pretokenizer = PRETOKENIZER_GPT2_DIGITS;
	return read_bytes_behind(s, list->item[1], true, err);
}

/* Gemma's: all spaces are marks by then, so that it finds none. */
static bool
read_idle_split(tokenizer_source *s, const sequence *list, llm_error *err)
{
	const char *string, *regex;

	if (!read_pattern(list->item[0], &string, &regex, err))
		return false;
	if (string == NULL || strcmp(string, " ") != 0 || !s->space_marks)
		return source_unsupported(err, "a Split by", string ? string : regex, PRE_TOKENIZERS);
	return true;
}

/* Its parts are words of BERT; anything else with them would cut differently. */
static bool
read_bert_words(tokenizer_source *s, const sequence *list, llm_error *err)
{
	static const char *const known[] = {"type", NULL};

	s->options.kind = TOKENIZER_WORDPIECE;
	return source_keys(list->item[0], "BertPreTokenizer", known, err);
}

static bool
read_scheme(const json_t *json, const char **scheme, bool *split, llm_error *err)
{
	static const char *const known[] = {"type",    "replacement", "prepend_scheme", "split", "add_prefix_space",
										"str_rep", NULL};
	const char *mark;
	bool prefix;

	*scheme = "always";
	if (!source_keys(json, "Metaspace", known, err) || !json_read_string(json, "replacement", &mark, err) ||
		!source_bool(json, "split", true, split, err) || !source_bool(json, "add_prefix_space", true, &prefix, err))
		return false;
	if (!prefix)
		*scheme = "never";
	if (json_object_get(json, "prepend_scheme") != NULL && !json_read_string(json, "prepend_scheme", scheme, err))
		return false;
	if (!is_mark(mark))
		return source_unsupported(err, "a mark of words", mark, "Supported is U+2581.");
	if (strcmp(*scheme, "always") != 0 && strcmp(*scheme, "first") != 0 && strcmp(*scheme, "never") != 0)
		return source_unsupported(err, "a prepend_scheme", *scheme, "Supported are always, first and never.");
	return true;
}

static bool
read_metaspace(tokenizer_source *s, const sequence *list, llm_error *err)
{
	const char *scheme;
	bool split;

	if (!read_scheme(list->item[0], &scheme, &split, err) || !source_step_add(s, STEP_SPACE_MARKS, NULL, NULL, err))
		return false;
	s->space_marks = true;
	s->options.pretokenizer = split ? PRETOKENIZER_SPACES : PRETOKENIZER_NONE;
	if (strcmp(scheme, "never") == 0)
		return true;
	return source_step_add(s, strcmp(scheme, "first") == 0 ? STEP_PREFIX_FIRST : STEP_PREFIX, NULL, NULL, err);
}

static bool
read_words(tokenizer_source *s, const sequence *list, llm_error *err)
{
	static const char *const known[] = {"type", NULL};
	const char *scheme;
	bool split;

	if (!source_keys(list->item[0], "WhitespaceSplit", known, err) ||
		!read_scheme(list->item[1], &scheme, &split, err))
		return false;
	if (!split || strcmp(scheme, "always") != 0)
		return source_unsupported(err, "a setting of Metaspace behind WhitespaceSplit",
								  split ? scheme : "split = false", "Supported are prepend_scheme always and split.");
	s->space_marks = true;
	s->options.pretokenizer = PRETOKENIZER_SPACES;
	return source_step_add(s, STEP_WORDS, NULL, NULL, err);
}

static const struct
{
	const char *types; /* with a space behind each */
	read_cuts read;
} pre_tokenizers[] = {
	{"ByteLevel ", read_bytes},
	{"Split ByteLevel ", read_split},
	{"Digits ByteLevel ", read_digits},
	{"Split ", read_idle_split},
	{"BertPreTokenizer ", read_bert_words},
	{"Metaspace ", read_metaspace},
	{"WhitespaceSplit Metaspace ", read_words},
};

#define PRE_TOKENIZER_COUNT (sizeof(pre_tokenizers) / sizeof(pre_tokenizers[0]))

static bool
read_pre_tokenizer(tokenizer_source *s, const json_t *json, llm_error *err)
{
	sequence list = {.count = 0};
	char types[256] = "";

	if (!flatten(&list, json, "pre_tokenizer", "pretokenizers", 0, err))
		return false;
	for (int i = 0; i < list.count; i++)
		snprintf(types + strlen(types), sizeof(types) - strlen(types), "%.40s ", list.type[i]);
	for (size_t n = 0; n < PRE_TOKENIZER_COUNT; n++)
		if (strcmp(pre_tokenizers[n].types, types) == 0)
			return pre_tokenizers[n].read(s, &list, err);
	if (list.count == 0)
		return true;
	types[strlen(types) - 1] = '\0';
	return source_unsupported(err, "a pre_tokenizer", types, PRE_TOKENIZERS);
}

/* ---- both ---- */

bool
tokenizer_json_text(tokenizer_source *s, const json_t *json, llm_error *err)
{
	return read_normalizer(s, json_object_get(json, "normalizer"), err) &&
		   read_pre_tokenizer(s, json_object_get(json, "pre_tokenizer"), err);
}
