/*
 * tokenizer_write.c
 *	  A tokenizer as tokenizer.json, the way of tokenizer_json.c and tokenizer_json_text.c back.
 */
#include "tokenizer_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"
#include "tokenizer_build.h"
#include "unicode.h"

static bool
no_memory(llm_error *err)
{
	return llm_fail(err, LLM_MEMORY, "out of memory while writing a tokenizer");
}

static bool
is_byte_level(const tokenizer *t)
{
	tokenizer_kind kind = tokenizer_get_kind(t);

	return kind == TOKENIZER_BYTES || (kind == TOKENIZER_BPE && !(tokenizer_flags(t) & FLAG_CHARACTERS));
}

static bool
has_flag(const tokenizer *t, uint32_t flag)
{
	return (tokenizer_flags(t) & flag) != 0;
}

/* ---- tokens ---- */

static bool
spell_bytes(const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	for (size_t i = 0; i < length; i++)
	{
		uint8_t utf8[UTF8_BYTES_MAX];
		int32_t bytes = utf8_write(byte_alphabet(text[i]), utf8);

		if (!text_buffer_add(out, utf8, (size_t) bytes, err))
			return false;
	}
	return true;
}

static bool
spell_spaces(const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	for (size_t i = 0; i < length; i++)
		if (!(text[i] == ' ' ? text_buffer_add(out, SPACE_MARK, SPACE_MARK_BYTES, err)
							 : text_buffer_add(out, &text[i], 1, err)))
			return false;
	return true;
}

bool
tokenizer_spelled(const tokenizer *t, int32_t id, text_buffer *out, llm_error *err)
{
	size_t length;
	const uint8_t *text = (const uint8_t *) tokenizer_token(t, id, &length);
	token_type type = tokenizer_type(t, id);
	bool normal = (TYPES_NORMAL >> type & 1) != 0;
	char name[32];

	out->size = 0;
	if (type == TOKEN_BYTE && length == 1)
	{
		snprintf(name, sizeof(name), "<0x%02X>", text[0]);
		return text_buffer_add(out, name, strlen(name), err);
	}
	if (length == 0 || type == TOKEN_UNUSED || (normal && tokenizer_find(t, (const char *) text, length) != id))
	{
		snprintf(name, sizeof(name), "<|unused %d|>", id);
		return text_buffer_add(out, name, strlen(name), err);
	}
	if (normal && is_byte_level(t))
		return spell_bytes(text, length, out, err);
	if (normal && has_flag(t, FLAG_SPACE_MARKS))
		return spell_spaces(text, length, out, err);
	return text_buffer_add(out, text, length, err);
}

static json_t *
token_json(const tokenizer *t, int32_t id, text_buffer *room, llm_error *err)
{
	json_t *json = tokenizer_spelled(t, id, room, err) ? json_stringn(room->bytes, room->size) : NULL;

	if (json == NULL && err->code == LLM_OK)
		llm_fail(err, LLM_INVALID, "token %d of the tokenizer is no text, which tokenizer.json cannot say", id);
	return json;
}

/* ---- merges ---- */

static int
by_rank(const void *a, const void *b)
{
	const tokenizer_merge *m = a, *n = b;

	return m->rank != n->rank   ? (m->rank > n->rank) - (m->rank < n->rank)
		   : m->left != n->left ? (m->left > n->left) - (m->left < n->left)
								: (m->right > n->right) - (m->right < n->right);
}

tokenizer_merge *
tokenizer_merges(const tokenizer *t, int32_t *count, llm_error *err)
{
	size_t slots = section_count(t->header, SECTION_MERGE_SLOT);
	tokenizer_merge *merges = malloc((slots + 1) * sizeof(tokenizer_merge));

	*count = 0;
	if (merges == NULL)
	{
		no_memory(err);
		return NULL;
	}
	for (size_t i = 0; i < slots; i++)
	{
		const merge_slot *s = &t->merge_slot[i];

		if (s->left >= 0)
			merges[(*count)++] = (tokenizer_merge) {s->rank, s->left, s->right, s->id};
	}
	qsort(merges, *count, sizeof(tokenizer_merge), by_rank);
	return merges;
}

/* [["left", "right"], ...] */
static json_t *
merges_json(const tokenizer *t, llm_error *err)
{
	text_buffer room = {0};
	json_t *list = json_array();
	int32_t count;
	tokenizer_merge *merges = tokenizer_merges(t, &count, err);

	for (int32_t i = 0; merges && err->code == LLM_OK && i < count; i++)
	{
		json_t *left = token_json(t, merges[i].left, &room, err);
		json_t *right = left ? token_json(t, merges[i].right, &room, err) : NULL;

		json_array_append_new(list, right ? json_pack("[o, o]", left, right) : left);
	}
	free(merges);
	free(room.bytes);
	return list;
}

/* ---- model ---- */

/* {"text": id}; two tokens of one text are an error. */
static json_t *
vocabulary_json(const tokenizer *t, llm_error *err)
{
	text_buffer room = {0};
	json_t *vocabulary = json_object();

	for (int32_t id = 0; err->code == LLM_OK && id < tokenizer_size(t); id++)
	{
		json_t *text = token_json(t, id, &room, err);

		if (text != NULL && json_object_get(vocabulary, json_string_value(text)) != NULL)
			llm_fail(err, LLM_INVALID,
					 "two tokens of the tokenizer are written \"%.60s\", which tokenizer.json cannot say",
					 json_string_value(text));
		else if (text != NULL && strlen(json_string_value(text)) != json_string_length(text))
			llm_fail(err, LLM_INVALID, "token %d of the tokenizer has a zero byte, which tokenizer.json cannot say",
					 id);
		else if (text != NULL)
			json_object_set_new(vocabulary, json_string_value(text), json_integer(id));
		json_decref(text);
	}
	free(room.bytes);
	return vocabulary;
}

/* [["text", score], ...] */
static json_t *
pieces_json(const tokenizer *t, llm_error *err)
{
	text_buffer room = {0};
	json_t *list = json_array();

	for (int32_t id = 0; err->code == LLM_OK && id < tokenizer_size(t); id++)
	{
		json_t *text = token_json(t, id, &room, err);

		json_array_append_new(list, text ? json_pack("[o, f]", text, t->score[id]) : NULL);
	}
	free(room.bytes);
	return list;
}

static json_t *
unknown_json(const tokenizer *t, llm_error *err)
{
	int32_t id = tokenizer_special(t, SPECIAL_UNKNOWN);
	text_buffer room = {0};
	json_t *json = id < 0 ? json_null() : token_json(t, id, &room, err);

	free(room.bytes);
	return json;
}

static json_t *
model_json(const tokenizer *t, llm_error *err)
{
	bool fallback = has_flag(t, FLAG_BYTE_FALLBACK);
	int32_t unknown = tokenizer_special(t, SPECIAL_UNKNOWN);

	switch (tokenizer_get_kind(t))
	{
		case TOKENIZER_WORDPIECE:
			return json_pack("{s:s, s:o, s:s, s:i, s:o}", "type", "WordPiece", "unk_token", unknown_json(t, err),
							 "continuing_subword_prefix", CONTINUATION, "max_input_chars_per_word",
							 WORDPIECE_CHARACTERS, "vocab", vocabulary_json(t, err));
		case TOKENIZER_UNIGRAM:
			return json_pack("{s:s, s:o, s:o, s:b}", "type", "Unigram", "unk_id",
							 unknown < 0 ? json_null() : json_integer(unknown), "vocab", pieces_json(t, err),
							 "byte_fallback", fallback);
		default:
			return json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
							 "unk_token", unknown_json(t, err), "continuing_subword_prefix", "end_of_word_suffix",
							 "fuse_unk", has_flag(t, FLAG_FUSE_UNKNOWN), "byte_fallback", fallback, "ignore_merges",
							 has_flag(t, FLAG_IGNORE_MERGES), "vocab", vocabulary_json(t, err), "merges",
							 merges_json(t, err));
	}
}

/* ---- added tokens ---- */

static json_t *
added_json(const tokenizer *t, llm_error *err)
{
	json_t *list = json_array();

	for (int32_t id = 0; err->code == LLM_OK && id < tokenizer_size(t); id++)
	{
		token_type type = tokenizer_type(t, id);
		uint8_t flags = t->added ? t->added[id] : 0;
		text_buffer room = {0};
		json_t *text;
		size_t length;

		(void) tokenizer_token(t, id, &length);
		if ((type != TOKEN_SPECIAL && type != TOKEN_ADDED && type != TOKEN_ADDED_WORD) || length == 0)
			continue;
		text = token_json(t, id, &room, err);
		free(room.bytes);
		if (text != NULL)
			json_array_append_new(list, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text,
												  "single_word", (flags & ADDED_ALONE) != 0, "lstrip",
												  (flags & ADDED_LEFT) != 0, "rstrip", (flags & ADDED_RIGHT) != 0,
												  "normalized", (flags & ADDED_NORMALISED) != 0, "special",
												  type == TOKEN_SPECIAL));
	}
	return list;
}

/* ---- normalizer ---- */

static json_t *
plain_json(const char *type)
{
	return json_pack("{s:s}", "type", type);
}

static json_t *
replace_json(const char *kind, const char *pattern, size_t length, const char *content, size_t content_length)
{
	return json_pack("{s:s, s:{s:s%}, s:s%}", "type", "Replace", "pattern", kind, pattern, length, "content", content,
					 content_length);
}

static json_t *
strip_json(bool left, bool right)
{
	return json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", left, "strip_right", right);
}

/* RFC 4648 */
static json_t *
map_json(const tokenizer *t)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *bytes = (const uint8_t *) t->header + t->header->part[SECTION_CHARACTER_MAP].offset;
	size_t size = section_count(t->header, SECTION_CHARACTER_MAP), length = 0;
	char *text = malloc(size / 3 * 4 + 5);
	json_t *json = NULL;

	for (size_t i = 0; text && i < size; i += 3)
	{
		size_t left = size - i;
		uint32_t bits =
			(uint32_t) bytes[i] << 16 | (left > 1 ? (uint32_t) bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);

		for (int k = 0; k < 4; k++)
			text[length++] = k <= (int) left ? digits[bits >> (18 - 6 * k) & 63] : '=';
	}
	if (text != NULL)
		json = json_pack("{s:s, s:s%}", "type", "Precompiled", "precompiled_charsmap", text, length);
	free(text);
	return json;
}

static json_t *
bert_json(bool clean, bool ideographs, bool accents, bool lower)
{
	return json_pack("{s:s, s:b, s:b, s:b, s:b}", "type", "BertNormalizer", "clean_text", clean,
					 "handle_chinese_chars", ideographs, "strip_accents", accents, "lowercase", lower);
}

static json_t *
metaspace_json(const char *scheme, bool split)
{
	return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", SPACE_MARK, "prepend_scheme", scheme,
					 "split", split);
}

typedef struct text_parts
{
	json_t *normalizers, *cuts; /* lists */
	const char *scheme;         /* of Metaspace, in front of which a space is put; NULL: none */
	bool prefix;                /* of ByteLevel */
} text_parts;

static bool
splits(const tokenizer *t)
{
	return tokenizer_get_kind(t) == TOKENIZER_UNIGRAM || tokenizer_pretokenizer(t) == PRETOKENIZER_SPACES;
}

/* What SentencePiece does in one. */
static void
add_sentence(const tokenizer *t, text_parts *p)
{
	bool prefix = has_flag(t, FLAG_PREFIX_SPACE);

	if (t->character_map != NULL)
		json_array_append_new(p->normalizers, map_json(t));
	if (has_flag(t, FLAG_SPACES_ONCE))
	{
		json_array_append_new(p->normalizers, strip_json(true, true));
		json_array_append_new(p->normalizers, replace_json("Regex", " {2,}", 5, " ", 1));
		json_array_append_new(p->cuts, metaspace_json(prefix ? "always" : "never", splits(t)));
		return;
	}
	if (prefix)
		json_array_append_new(p->normalizers, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", SPACE_MARK));
	json_array_append_new(p->normalizers, replace_json("String", " ", 1, SPACE_MARK, SPACE_MARK_BYTES));
}

/* A step of normalizer; false: it is none. */
static bool
add_normalizer(const tokenizer *t, const step *s, text_parts *p)
{
	const char *first = (const char *) s->text[0], *second = (const char *) s->text[1];
	json_t *json = NULL;

	switch ((enum step_kind) s->kind)
	{
		case STEP_NFC: json = plain_json("NFC"); break;
		case STEP_NFD: json = plain_json("NFD"); break;
		case STEP_LOWER: json = plain_json("Lowercase"); break;
		case STEP_MARKS: json = plain_json("StripAccents"); break;
		case STEP_NONSPACING: json = plain_json("StripAccents"); break;
		case STEP_CLEAN: json = bert_json(true, false, false, false); break;
		case STEP_IDEOGRAPHS: json = bert_json(false, true, false, false); break;
		case STEP_STRIP_LEFT: json = strip_json(true, false); break;
		case STEP_STRIP_RIGHT: json = strip_json(false, true); break;
		case STEP_REPLACE: json = replace_json("String", first, s->length[0], second, s->length[1]); break;
		case STEP_SPACE_RUNS: json = replace_json("Regex", " {2,}", 5, second, s->length[1]); break;
		case STEP_PREPEND:
			json = json_pack("{s:s, s:s%}", "type", "Prepend", "prepend", second, (size_t) s->length[1]);
			break;
		case STEP_MAP: json = map_json(t); break;
		case STEP_SPACE_MARKS: json = replace_json("String", " ", 1, SPACE_MARK, SPACE_MARK_BYTES); break;
		default: return false;
	}
	json_array_append_new(p->normalizers, json);
	return true;
}

/* A step behind that where added tokens are cut out. */
static bool
add_cut(const tokenizer *t, const step *s, text_parts *p)
{
	switch ((enum step_kind) s->kind)
	{
		case STEP_SPACE_MARKS: p->scheme = "never"; return true;
		case STEP_PREFIX:
			p->prefix = p->scheme == NULL;
			p->scheme = p->scheme ? "always" : NULL;
			return true;
		case STEP_PREFIX_FIRST: p->scheme = "first"; return true;
		case STEP_WORDS:
			json_array_append_new(p->cuts, plain_json("WhitespaceSplit"));
			p->scheme = "always";
			return true;
		default: return false;
	}
}

/* Steps of BERT that stand beside each other are one part, so that they are done as it does them. */
static int
add_bert(const step *s, int left, text_parts *p)
{
	bool clean = s->kind == STEP_CLEAN, ideographs, accents, lower;
	int at = clean;

	ideographs = at < left && s[at].kind == STEP_IDEOGRAPHS;
	at += ideographs;
	accents = at + 1 < left && s[at].kind == STEP_NFD && s[at + 1].kind == STEP_NONSPACING;
	at += 2 * accents;
	lower = at < left && s[at].kind == STEP_LOWER && (clean || ideographs || accents);
	at += lower;
	if (clean || ideographs || accents)
		json_array_append_new(p->normalizers, bert_json(clean, ideographs, accents, lower));
	return at;
}

static bool
add_steps(const tokenizer *t, text_parts *p, llm_error *err)
{
	bool cut = false;

	for (int32_t i = 0; i < t->step_count; i++)
	{
		const step *s = &t->steps[i];
		int bert = cut ? 0 : add_bert(s, t->step_count - i, p);

		if (bert > 0)
			i += bert - 1;
		else if (s->kind == STEP_SENTENCE)
			add_sentence(t, p);
		else if (s->kind == STEP_CUT)
			cut = true;
		else if (!(cut ? add_cut(t, s, p) : add_normalizer(t, s, p)))
			return llm_fail(err, LLM_INVALID, "the tokenizer changes texts in a way that tokenizer.json cannot say");
	}
	return true;
}

/* A tokenizer without steps follows its flags. */
static bool
add_flags(const tokenizer *t, text_parts *p, llm_error *err)
{
	if (tokenizer_get_kind(t) == TOKENIZER_WORDPIECE)
		json_array_append_new(p->normalizers,
							  bert_json(has_flag(t, FLAG_CLEAN_TEXT), has_flag(t, FLAG_SPLIT_CJK),
										has_flag(t, FLAG_STRIP_ACCENTS), has_flag(t, FLAG_LOWERCASE)));
	else if (has_flag(t, FLAG_SPACE_MARKS))
		add_sentence(t, p);
	else if (has_flag(t, FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE) || t->character_map != NULL)
		return llm_fail(err, LLM_INVALID, "the tokenizer changes texts in a way that tokenizer.json cannot say");
	else if (has_flag(t, FLAG_NFC))
		json_array_append_new(p->normalizers, plain_json("NFC"));
	return true;
}

/* ---- pre_tokenizer ---- */

static void
add_scanner(const tokenizer *t, text_parts *p)
{
	pretokenizer rule = tokenizer_pretokenizer(t);
	bool own = rule == PRETOKENIZER_LLAMA3 || rule == PRETOKENIZER_QWEN2;

	if (tokenizer_get_kind(t) == TOKENIZER_BYTES)
		rule = PRETOKENIZER_NONE;
	if (rule == PRETOKENIZER_GPT2_DIGITS)
		json_array_append_new(p->cuts, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", true));
	if (own)
		json_array_append_new(p->cuts, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
												 pretokenizer_regex(rule), "behavior", "Isolated", "invert", false));
	json_array_append_new(p->cuts, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
											 p->prefix, "trim_offsets", true, "use_regex",
											 rule == PRETOKENIZER_GPT2 || rule == PRETOKENIZER_GPT2_DIGITS));
}

static json_t *
sequence_json(json_t *list, const char *members)
{
	json_t *first = json_incref(json_array_get(list, 0));
	size_t count = json_array_size(list);

	if (count > 1)
	{
		json_decref(first);
		return json_pack("{s:s, s:o}", "type", "Sequence", members, list);
	}
	json_decref(list);
	return count == 1 ? first : json_null();
}

static bool
set_text(const tokenizer *t, json_t *file, llm_error *err)
{
	text_parts p = {.normalizers = json_array(), .cuts = json_array()};
	bool ok = t->step_count > 0 ? add_steps(t, &p, err) : add_flags(t, &p, err);

	if (is_byte_level(t))
		add_scanner(t, &p);
	else if (tokenizer_get_kind(t) == TOKENIZER_WORDPIECE)
		json_array_append_new(p.cuts, plain_json("BertPreTokenizer"));
	else if (p.scheme != NULL)
		json_array_append_new(p.cuts, metaspace_json(p.scheme, splits(t)));
	json_object_set_new(file, "normalizer", sequence_json(p.normalizers, "normalizers"));
	json_object_set_new(file, "pre_tokenizer", sequence_json(p.cuts, "pretokenizers"));
	return ok;
}

/* ---- post_processor ---- */

static json_t *
item_json(const tokenizer *t, frame_item item, json_t *specials, llm_error *err)
{
	text_buffer room = {0};
	json_t *text, *json;

	if (item.id < 0)
		return json_pack("{s:{s:s, s:i}}", "Sequence", "id", item.id == FRAME_FIRST ? "A" : "B", "type_id",
						 item.type);
	text = token_json(t, item.id, &room, err);
	free(room.bytes);
	if (text == NULL)
		return NULL;
	json_object_set_new(specials, json_string_value(text),
						json_pack("{s:O, s:[i], s:[O]}", "id", text, "ids", item.id, "tokens", text));
	json = json_pack("{s:{s:o, s:i}}", "SpecialToken", "id", text, "type_id", item.type);
	return json;
}

/* Items up to the end, or to where that of two texts begins. */
static json_t *
frame_json(const tokenizer *t, const frame_item *item, size_t count, json_t *specials, llm_error *err)
{
	json_t *list = json_array();

	for (size_t i = 0; err->code == LLM_OK && i < count && item[i].id != FRAME_PAIR; i++)
		json_array_append_new(list, item_json(t, item[i], specials, err));
	return list;
}

static json_t *
processor_json(const tokenizer *t, bool whole, llm_error *err)
{
	int32_t end = tokenizer_special(t, SPECIAL_END);
	const frame_item plain_one[] = {{FRAME_FIRST, 0}, {end, 0}};
	const frame_item plain_two[] = {{FRAME_FIRST, 0}, {FRAME_SECOND, 1}};
	size_t count = t->frame ? section_count(t->header, SECTION_FRAME) : 0, ones = 0;
	bool ends = whole && end >= 0 && !tokenizer_has_frame(t, false);
	json_t *specials = json_object(), *one, *two;

	while (ones < count && t->frame[ones].id != FRAME_PAIR)
		ones++;
	if (count == 0 && !ends)
	{
		json_decref(specials);
		return is_byte_level(t) ? json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", true,
											"trim_offsets", false, "use_regex", true)
								: json_null();
	}
	one = tokenizer_has_frame(t, false) ? frame_json(t, t->frame, ones, specials, err)
										: frame_json(t, plain_one, ends ? 2 : 1, specials, err);
	two = tokenizer_has_frame(t, true) ? frame_json(t, t->frame + ones + 1, count - ones - 1, specials, err)
									   : frame_json(t, plain_two, 2, specials, err);
	return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", one, "pair", two,
					 "special_tokens", specials);
}

/* ---- decoder ---- */

static json_t *
decoder_json(const tokenizer *t)
{
	json_t *list;

	if (is_byte_level(t))
		return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", true, "trim_offsets", true,
						 "use_regex", true);
	if (tokenizer_get_kind(t) == TOKENIZER_WORDPIECE)
		return json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix", CONTINUATION, "cleanup", false);
	list = json_array();
	if (has_flag(t, FLAG_SPACE_MARKS))
		json_array_append_new(list, replace_json("String", SPACE_MARK, SPACE_MARK_BYTES, " ", 1));
	json_array_append_new(list, plain_json("ByteFallback"));
	json_array_append_new(list, plain_json("Fuse"));
	if (has_flag(t, FLAG_PREFIX_SPACE))
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
	return sequence_json(list, "decoders");
}

/* ---- the files ---- */

static json_t *
finish(json_t *file, llm_error *err)
{
	if (json_memory_failed() && err->code == LLM_OK)
		no_memory(err);
	if (err->code == LLM_OK)
		return file;
	json_decref(file);
	return NULL;
}

json_t *
tokenizer_to_json(const tokenizer *t, bool whole, llm_error *err)
{
	json_t *file = json_pack("{s:s, s:n, s:n}", "version", "1.0", "truncation", "padding");

	json_object_set_new(file, "added_tokens", added_json(t, err));
	if (err->code == LLM_OK && set_text(t, file, err))
	{
		json_object_set_new(file, "post_processor", processor_json(t, whole, err));
		json_object_set_new(file, "decoder", decoder_json(t));
		json_object_set_new(file, "model", model_json(t, err));
	}
	return finish(file, err);
}

static const struct
{
	special_token name;
	const char *key;
} roles[] = {
	{SPECIAL_UNKNOWN, "unk_token"}, {SPECIAL_BEGIN, "bos_token"}, {SPECIAL_END, "eos_token"},
	{SPECIAL_PADDING, "pad_token"}, {SPECIAL_CLASS, "cls_token"}, {SPECIAL_SEPARATOR, "sep_token"},
	{SPECIAL_MASK, "mask_token"},
};

json_t *
tokenizer_to_config(const tokenizer *t, int32_t context, const char *chat_template, llm_error *err)
{
	json_t *file = json_pack("{s:s, s:i, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "model_max_length",
							 context, "clean_up_tokenization_spaces", false);
	text_buffer room = {0};

	for (size_t i = 0; err->code == LLM_OK && i < sizeof(roles) / sizeof(roles[0]); i++)
		if (tokenizer_special(t, roles[i].name) >= 0)
			json_object_set_new(file, roles[i].key, token_json(t, tokenizer_special(t, roles[i].name), &room, err));
	if (chat_template != NULL)
		json_object_set_new(file, "chat_template", json_string(chat_template));
	free(room.bytes);
	return finish(file, err);
}
