/*
 * tokenizer_lists.c
 *	  Tokenizers whose files are lists: vocab.txt of BERT, vocab.json and merges.txt of GPT-2.
 *
 * How they change and cut a text is not in the files; the class that transformers names tells.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_source.h"

/* The next line without its end; false behind the last. */
static bool
next_line(file_bytes *rest, const char **line, size_t *length)
{
	const char *end = rest->size > 0 ? memchr(rest->bytes, '\n', rest->size) : NULL;
	size_t taken = end != NULL ? (size_t) (end - rest->bytes) + 1 : rest->size;

	if (rest->size == 0)
		return false;
	*line = rest->bytes;
	*length = taken - (end != NULL);
	if (*length > 0 && rest->bytes[*length - 1] == '\r')
		--*length;
	rest->bytes += taken;
	rest->size -= taken;
	return true;
}

static bool
is_known(const char *name, const char *const *known)
{
	while (*known != NULL && strcmp(*known, name) != 0)
		known++;
	return *known != NULL;
}

/* A token that texts do not have is cut out of them; it need not be there. */
static bool
add_special(tokenizer_source *s, const char *text, uint8_t flags, llm_error *err)
{
	int32_t id = source_find(s, text, strlen(text));

	return id < 0 || source_token_add(s, id, text, strlen(text), true, flags, err);
}

/* ---- BERT ---- */

bool
vocabulary_txt_read(tokenizer_source *s, file_bytes file, llm_error *err)
{
	static const char *const classes[] = {"", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", NULL};
	static const char *const specials[] = {"[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"};
	char name[64];
	const char *line;
	size_t length;
	bool lower, accents, ideographs;

	if (!source_class(s->config, name, sizeof(name), err))
		return false;
	if (!is_known(name, classes))
		return source_unsupported(
			err, "a vocab.txt of the class", name,
			"Save the model with transformers to have a tokenizer.json, or name BertTokenizer.");
	s->expected = file.size;
	while (next_line(&file, &line, &length))
		if (!source_token_put(s, s->tokens, line, length, TOKEN_NORMAL, 0, err))
			return false;
	for (size_t i = 0; i < sizeof(specials) / sizeof(specials[0]); i++)
		if (!add_special(s, specials[i], 0, err))
			return false;
	if (!source_bool(s->config, "do_lower_case", true, &lower, err) ||
		!source_bool(s->config, "strip_accents", lower, &accents, err) ||
		!source_bool(s->config, "tokenize_chinese_chars", true, &ideographs, err))
		return false;
	s->options.kind = TOKENIZER_WORDPIECE;
	s->options.flags = FLAG_CLEAN_TEXT | (ideographs ? FLAG_SPLIT_CJK : 0) | (accents ? FLAG_STRIP_ACCENTS : 0) |
					   (lower ? FLAG_LOWERCASE : 0);
	s->special[SPECIAL_UNKNOWN] = source_find(s, "[UNK]", 5);
	return source_frame_around(s, "[CLS]", NULL, "[SEP]", true, err);
}

/* ---- GPT-2 ---- */

/* How texts are cut, and what is around them, by class. */
static const struct
{
	const char *name;
	pretokenizer rule;
	bool composes;
	const char *begin, *end; /* NULL: none */
} classes[] = {
	{"GPT2Tokenizer", PRETOKENIZER_GPT2, false, NULL, NULL},
	{"RobertaTokenizer", PRETOKENIZER_GPT2, false, "<s>", "</s>"},
	{"Qwen2Tokenizer", PRETOKENIZER_QWEN2, true, NULL, NULL},
};

#define CLASS_COUNT (sizeof(classes) / sizeof(classes[0]))

/* "#version: 0.2" on the first line, then "left right". */
static bool
read_merges(tokenizer_source *s, file_bytes file, llm_error *err)
{
	file_bytes rest = file;
	const char *line, *space;
	size_t length, count = 0;

	while (next_line(&rest, &line, &length))
		count++;
	if (!source_merges_reserve(s, count, err))
		return false;
	while (next_line(&file, &line, &length))
	{
		if (length == 0 || (s->merges == 0 && length >= 8 && memcmp(line, "#version", 8) == 0))
			continue;
		space = memchr(line, ' ', length);
		if (space == NULL)
			return llm_fail(err, LLM_CORRUPT, "merge %d of the tokenizer is not a pair of texts", s->merges + 1);
		s->merge[s->merges++] =
			(source_merge) {line, space + 1, (uint32_t) (space - line), (uint32_t) (line + length - space - 1)};
	}
	return true;
}

static bool
read_texts(tokenizer_source *s, const json_t *vocabulary, llm_error *err)
{
	const char *text;
	const json_t *id;

	s->expected = json_object_size(vocabulary);
	json_object_foreach((json_t *) vocabulary, text, id)
	{
		if (!json_is_integer(id))
			return llm_fail(err, LLM_CORRUPT, "token \"%.100s\" of the tokenizer has no number", text);
		if (!source_token_put(s, json_integer_value(id), text, strlen(text), TOKEN_NORMAL, 0, err))
			return false;
	}
	return true;
}

bool
vocabulary_json_read(tokenizer_source *s, const json_t *vocabulary, file_bytes merges, llm_error *err)
{
	char name[64];
	size_t n = 0;
	bool prefix;

	if (!source_class(s->config, name, sizeof(name), err) ||
		!source_bool(s->config, "add_prefix_space", false, &prefix, err))
		return false;
	if (merges.bytes == NULL)
	{
		llm_fail(err, LLM_INVALID, "the tokenizer has a vocab.json, but no merges.txt");
		return llm_hint(err,
						"Put merges.txt beside it, or save the model with transformers to have a tokenizer.json.");
	}
	if (name[0] == '\0')
		strcpy(name, json_object_get(vocabulary, "<mask>") != NULL ? "RobertaTokenizer" : "GPT2Tokenizer");
	while (n < CLASS_COUNT && strcmp(classes[n].name, name) != 0)
		n++;
	if (n == CLASS_COUNT)
		return source_unsupported(err, "a vocab.json of the class", name,
								  "Save the model with transformers to have a tokenizer.json.");
	s->options.kind = TOKENIZER_BPE;
	s->options.spelling = SPELLING_BYTE_ALPHABET;
	s->options.pretokenizer = classes[n].rule;
	if (!read_texts(s, vocabulary, err) || !read_merges(s, merges, err) ||
		(classes[n].composes && !source_step_add(s, STEP_NFC, NULL, NULL, err)) ||
		!source_step_add(s, STEP_CUT, NULL, NULL, err) ||
		(prefix && !source_step_add(s, STEP_PREFIX, NULL, NULL, err)))
		return false;
	if (classes[n].begin == NULL)
		return add_special(s, "<|endoftext|>", 0, err);
	return add_special(s, "<s>", 0, err) && add_special(s, "</s>", 0, err) && add_special(s, "<pad>", 0, err) &&
		   add_special(s, "<unk>", 0, err) && add_special(s, "<mask>", ADDED_LEFT, err) &&
		   source_frame_around(s, classes[n].begin, classes[n].end, classes[n].end, false, err);
}
