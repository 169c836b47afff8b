/*
 * tokenizer_gguf.c
 *	  The tokenizer of a GGUF file.
 *
 * Keys and numbers of types are those of docs/gguf.md of github.com/ggml-org/ggml; what a key that is not
 * there means, and which rule a name of "tokenizer.ggml.pre" stands for, is as src/llama-vocab.cpp of
 * github.com/ggml-org/llama.cpp has it.  Texts stay in the file until the block is built.
 */
#include "tokenizer_gguf.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_source.h"

#define KEY(name) "tokenizer.ggml." name
#define MAP_BYTES_MAX (1 << 24)

/* Numbers of tokenizer.ggml.token_type. */
enum gguf_token_type
{
	GGUF_TOKEN_NORMAL = 1,
	GGUF_TOKEN_UNKNOWN,
	GGUF_TOKEN_CONTROL,
	GGUF_TOKEN_USER,
	GGUF_TOKEN_UNUSED,
	GGUF_TOKEN_BYTE
};

#define GGUF_TOKEN_TYPES (GGUF_TOKEN_BYTE + 1)

static const token_type types[GGUF_TOKEN_TYPES] = {
	[0] = TOKEN_NORMAL, /* not said */
	[GGUF_TOKEN_NORMAL] = TOKEN_NORMAL,
	[GGUF_TOKEN_UNKNOWN] = TOKEN_SPECIAL,
	[GGUF_TOKEN_CONTROL] = TOKEN_SPECIAL,
	[GGUF_TOKEN_USER] = TOKEN_ADDED,
	[GGUF_TOKEN_UNUSED] = TOKEN_UNUSED,
	[GGUF_TOKEN_BYTE] = TOKEN_BYTE,
};

/* ---- values ---- */

static bool
read_flag(const gguf *g, const char *key, bool otherwise, bool *out, llm_error *err)
{
	*out = otherwise;
	return !gguf_has(g, key) || gguf_read_bool(g, key, out, err);
}

/* A text without zero bytes; NULL: there is none. */
static bool
read_text(const gguf *g, const char *key, const char **text, llm_error *err)
{
	size_t length = 0;

	*text = NULL;
	if (!gguf_has(g, key))
		return true;
	if (!gguf_read_string(g, key, text, &length, err))
		return false;
	return strlen(*text) == length || llm_fail(err, LLM_CORRUPT, "\"%s\" of the GGUF file has a zero byte", key);
}

/* Ids of tokens that have a role; of two keys for one both are in use. */
static const struct
{
	const char *key;
	special_token name;
} roles[] = {
	{KEY("unknown_token_id"), SPECIAL_UNKNOWN},
	{KEY("bos_token_id"), SPECIAL_BEGIN},
	{KEY("eos_token_id"), SPECIAL_END},
	{KEY("padding_token_id"), SPECIAL_PADDING},
	{KEY("cls_token_id"), SPECIAL_CLASS},
	{KEY("separator_token_id"), SPECIAL_SEPARATOR},
	{KEY("seperator_token_id"), SPECIAL_SEPARATOR},
	{KEY("mask_token_id"), SPECIAL_MASK},
};

#define ROLE_COUNT (sizeof(roles) / sizeof(roles[0]))

/* All bits set: there is none, too. */
static bool
read_roles(tokenizer_source *s, const gguf *g, llm_error *err)
{
	for (size_t i = 0; i < ROLE_COUNT; i++)
	{
		int64_t id;

		if (!gguf_has(g, roles[i].key))
			continue;
		if (!gguf_read_int(g, roles[i].key, -1, UINT32_MAX, &id, err))
			return false;
		if (id >= 0 && id < s->tokens)
			s->special[roles[i].name] = (int32_t) id;
	}
	return true;
}

/* ---- tokens ---- */

typedef struct token_list_of_file
{
	gguf_strings texts;
	double *types, *scores; /* (texts.count), or NULL: the file has none */
} token_list_of_file;

static bool
read_numbers(const gguf *g, const char *key, size_t count, double low, double high, double **out, llm_error *err)
{
	size_t found;

	*out = NULL;
	return !gguf_has(g, key) || gguf_read_numbers(g, key, count, count, low, high, out, &found, err);
}

static bool
read_list(const gguf *g, token_list_of_file *list, llm_error *err)
{
	return gguf_read_strings(g, KEY("tokens"), TOKENS_MAX, &list->texts, err) &&
		   read_numbers(g, KEY("token_type"), list->texts.count, 0, GGUF_TOKEN_TYPES - 1, &list->types, err) &&
		   read_numbers(g, KEY("scores"), list->texts.count, -1e30, 1e30, &list->scores, err);
}

static bool
put_token(tokenizer_source *s, const token_list_of_file *list, size_t i, llm_error *err)
{
	int kind = list->types ? (int) list->types[i] : GGUF_TOKEN_NORMAL;
	token_type type = types[kind];
	size_t length;
	const char *text = gguf_string_at(&list->texts, i, &length);

	if (kind == GGUF_TOKEN_BYTE)
		s->options.flags |= FLAG_BYTE_FALLBACK;
	if (kind == GGUF_TOKEN_UNKNOWN && s->special[SPECIAL_UNKNOWN] < 0)
		s->special[SPECIAL_UNKNOWN] = (int32_t) i;
	if (kind == GGUF_TOKEN_USER && length > ADDED_LENGTH_MAX)
		return llm_fail(err, LLM_INVALID, "token %zu of the GGUF file is too long", i);
	return source_token_put(s, (int64_t) i, text, length, type,
							list->scores && (type == TOKEN_NORMAL || type == TOKEN_ADDED) ? list->scores[i] : 0, err);
}

static bool
read_tokens(tokenizer_source *s, const gguf *g, const char *needed, llm_error *err)
{
	token_list_of_file list = {.types = NULL};
	bool ok = read_list(g, &list, err);

	if (ok && list.texts.count == 0)
		ok = llm_fail(err, LLM_CORRUPT, "the GGUF file has no tokens");
	if (ok && needed && !gguf_has(g, needed))
		ok = llm_fail(err, LLM_CORRUPT, "the GGUF file has no \"%s\"", needed);
	s->expected = list.texts.count;
	for (size_t i = 0; ok && i < list.texts.count; i++)
		ok = put_token(s, &list, i, err);
	free(list.types);
	free(list.scores);
	return ok && read_roles(s, g, err);
}

/* ---- frames ---- */

/* Text of the token that stands at one end of a text, if it does; NULL: none. */
static bool
read_end(const tokenizer_source *s, const gguf *g, const char *key, bool otherwise, special_token name, int32_t *id,
		 llm_error *err)
{
	bool add;

	if (!read_flag(g, key, otherwise, &add, err))
		return false;
	*id = add ? s->special[name] : -1;
	return true;
}

/* begin A end; of two texts each so (of sentences of BERT's kin, begin A end end B end). */
static bool
read_frame(tokenizer_source *s, const gguf *g, bool begins, bool ends, bool sentences, llm_error *err)
{
	int32_t begin, end;

	if (!read_end(s, g, KEY("add_bos_token"), begins, SPECIAL_BEGIN, &begin, err) ||
		!read_end(s, g, KEY("add_eos_token"), ends, SPECIAL_END, &end, err))
		return false;
	if (begin < 0 && end < 0)
		return true;
	for (int second = 0; second < 2; second++)
		for (int pair = second; pair < 2; pair++)
		{
			source_frame *f = pair ? &s->two : &s->one;
			int32_t first = second && sentences && begin >= 0 ? end : begin;

			if ((first >= 0 && !source_frame_add(f, first, sentences ? 0 : second, err)) ||
				!source_frame_add(f, second ? FRAME_SECOND : FRAME_FIRST, sentences ? 0 : second, err) ||
				(end >= 0 && !source_frame_add(f, end, sentences ? 0 : second, err)))
				return false;
		}
	return true;
}

/* ---- gpt2: byte pair encoding of bytes ---- */

/* How texts are cut, by "tokenizer.ggml.pre". */
static const struct
{
	const char *name;
	pretokenizer rule;
	bool whole, composes, begins; /* a piece that is a token is that one; NFC first; the beginning is marked */
} rules[] = {
	{"", PRETOKENIZER_GPT2, false, false, false}, /* of the time before there was the key */
	{"default", PRETOKENIZER_GPT2, false, false, false},
	{"gpt-2", PRETOKENIZER_GPT2, false, false, false},
	{"phi-2", PRETOKENIZER_GPT2, false, false, false},
	{"olmo", PRETOKENIZER_GPT2, false, false, false},
	{"smollm", PRETOKENIZER_GPT2_DIGITS, false, false, false},
	{"llama-bpe", PRETOKENIZER_LLAMA3, true, false, true},
	{"llama3", PRETOKENIZER_LLAMA3, true, false, true},
	{"llama-v3", PRETOKENIZER_LLAMA3, true, false, true},
	{"dbrx", PRETOKENIZER_LLAMA3, false, false, false},
	{"smaug-bpe", PRETOKENIZER_LLAMA3, false, false, false},
	{"qwen2", PRETOKENIZER_QWEN2, false, true, false},
	{"deepseek-r1-qwen", PRETOKENIZER_QWEN2, false, false, false},
};

#define RULE_COUNT (sizeof(rules) / sizeof(rules[0]))

/* "left right" */
static bool
read_merges(tokenizer_source *s, const gguf *g, llm_error *err)
{
	gguf_strings merges;

	if (!gguf_read_strings(g, KEY("merges"), TABLE_MAX, &merges, err) || !source_merges_reserve(s, merges.count, err))
		return false;
	for (size_t i = 0; i < merges.count; i++)
	{
		size_t length;
		const char *text = gguf_string_at(&merges, i, &length);
		const char *space = length > 1 ? memchr(text + 1, ' ', length - 1) : NULL;

		if (space == NULL)
			return llm_fail(err, LLM_CORRUPT, "merge %zu of the GGUF file is not a pair of texts", i + 1);
		s->merge[s->merges++] =
			(source_merge) {text, space + 1, (uint32_t) (space - text), (uint32_t) (text + length - space - 1)};
	}
	return true;
}

static bool
read_gpt2(tokenizer_source *s, const gguf *g, llm_error *err)
{
	const char *name;
	size_t n = 0;

	if (!read_text(g, KEY("pre"), &name, err))
		return false;
	while (n < RULE_COUNT && strcmp(rules[n].name, name ? name : "") != 0)
		n++;
	if (n == RULE_COUNT)
		return source_unsupported(err, "a rule by which texts are cut", name,
								  "Import the model from the folder that the file was made of.");
	s->options.kind = TOKENIZER_BPE;
	s->options.spelling = SPELLING_BYTE_ALPHABET;
	s->options.pretokenizer = rules[n].rule;
	s->options.flags = rules[n].whole ? FLAG_IGNORE_MERGES : 0;
	return read_tokens(s, g, KEY("merges"), err) && read_merges(s, g, err) &&
		   (!rules[n].composes || source_step_add(s, STEP_NFC, NULL, NULL, err)) &&
		   source_step_add(s, STEP_CUT, NULL, NULL, err) && read_frame(s, g, rules[n].begins, false, false, err);
}

/* ---- llama and t5: SentencePiece ---- */

/* What SentencePiece does to a text first. */
static bool
read_sentence(tokenizer_source *s, const gguf *g, bool once, llm_error *err)
{
	bool prefix;

	if (!read_flag(g, KEY("add_space_prefix"), true, &prefix, err) ||
		!read_flag(g, KEY("remove_extra_whitespaces"), once, &once, err))
		return false;
	s->options.flags |= (prefix ? FLAG_PREFIX_SPACE : 0) | (once ? FLAG_SPACES_ONCE : 0);
	s->space_marks = true;
	return source_step_add(s, STEP_SENTENCE, NULL, NULL, err) && source_step_add(s, STEP_CUT, NULL, NULL, err);
}

/* Added tokens of SentencePiece are looked for in the normal form of a text. */
static void
normalise_added(tokenizer_source *s)
{
	for (int32_t id = 0; id < s->tokens; id++)
		if (s->token[id].type == TOKEN_ADDED)
			s->token[id].added = ADDED_NORMALISED;
}

/* Bytes, each a number of the file. */
static bool
read_map(tokenizer_source *s, const gguf *g, llm_error *err)
{
	double *numbers;
	size_t count;

	if (!gguf_has(g, KEY("precompiled_charsmap")))
		return true;
	if (!gguf_read_numbers(g, KEY("precompiled_charsmap"), 0, MAP_BYTES_MAX, -128, 255, &numbers, &count, err))
		return false;
	s->character_map = count > 0 ? malloc(count) : NULL;
	s->character_map_bytes = count;
	for (size_t i = 0; s->character_map && i < count; i++)
		s->character_map[i] = (char) (int) numbers[i];
	free(numbers);
	return count == 0 || s->character_map != NULL ||
		   llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
}

static bool
read_llama(tokenizer_source *s, const gguf *g, llm_error *err)
{
	s->options.kind = TOKENIZER_BPE;
	s->options.flags = FLAG_CHARACTERS | FLAG_FUSE_UNKNOWN;
	s->merge_by_score = true;
	if (!read_tokens(s, g, KEY("scores"), err) || !read_map(s, g, err) || !read_sentence(s, g, false, err))
		return false;
	normalise_added(s);
	return read_frame(s, g, true, false, false, err);
}

static bool
read_t5(tokenizer_source *s, const gguf *g, llm_error *err)
{
	s->options.kind = TOKENIZER_UNIGRAM;
	s->options.flags = FLAG_FLOAT_SCORES;
	if (!read_tokens(s, g, KEY("scores"), err) || !read_map(s, g, err) || !read_sentence(s, g, false, err))
		return false;
	normalise_added(s);
	return read_frame(s, g, false, true, true, err);
}

/* ---- bert: pieces of words ---- */

/* A word begins with a mark, and what goes on with one does not; in older files special tokens have none either. */
static bool
spell_piece(source_token *token, char **room)
{
	bool bracketed = token->length > 2 && token->text[0] == '[' && token->text[token->length - 1] == ']';
	size_t mark = sizeof(CONTINUATION) - 1;
	char *text = *room;

	if (token->type != TOKEN_NORMAL || token->length == 0)
		return false;
	if (token->length > SPACE_MARK_BYTES && memcmp(token->text, SPACE_MARK, SPACE_MARK_BYTES) == 0)
	{
		token->text += SPACE_MARK_BYTES;
		token->length -= SPACE_MARK_BYTES;
		return true;
	}
	if (bracketed)
		return false;
	memcpy(text, CONTINUATION, mark);
	memcpy(text + mark, token->text, token->length);
	*room += mark + token->length;
	token->text = text;
	token->length += mark;
	return true;
}

static bool
has_capital(const source_token *token)
{
	for (uint32_t i = 0; i < token->length; i++)
		if (isascii((unsigned char) token->text[i]) && isupper((unsigned char) token->text[i]))
			return true;
	return false;
}

static bool
spell_pieces(tokenizer_source *s, bool *capitals, llm_error *err)
{
	size_t bytes = 1;
	char *room;

	for (int32_t id = 0; id < s->tokens; id++)
		bytes += s->token[id].length + sizeof(CONTINUATION);
	room = s->kept = malloc(bytes);
	if (room == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
	for (int32_t id = 0; id < s->tokens; id++)
		if (spell_piece(&s->token[id], &room) && !*capitals)
			*capitals = has_capital(&s->token[id]);
	return true;
}

/* Roles whose tokens texts do not have; the file may call them normal ones. */
static const struct
{
	special_token name;
	const char *usual;
} bert_roles[] = {
	{SPECIAL_UNKNOWN, "[UNK]"},   {SPECIAL_PADDING, "[PAD]"}, {SPECIAL_CLASS, "[CLS]"},
	{SPECIAL_SEPARATOR, "[SEP]"}, {SPECIAL_MASK, "[MASK]"},
};

static void
find_bert_roles(tokenizer_source *s)
{
	for (size_t i = 0; i < sizeof(bert_roles) / sizeof(bert_roles[0]); i++)
	{
		int32_t *id = &s->special[bert_roles[i].name];

		if (*id < 0)
			*id = source_find(s, bert_roles[i].usual, strlen(bert_roles[i].usual));
		if (*id < 0 && bert_roles[i].name == SPECIAL_CLASS)
			*id = s->special[SPECIAL_BEGIN];
		if (*id >= 0)
			s->token[*id].type = TOKEN_SPECIAL;
	}
}

/* [CLS] A [SEP], and [CLS] A [SEP] B [SEP] with types */
static bool
add_bert_frame(tokenizer_source *s, llm_error *err)
{
	int32_t begin = s->special[SPECIAL_CLASS], end = s->special[SPECIAL_SEPARATOR];

	if (begin < 0 || end < 0 || s->special[SPECIAL_UNKNOWN] < 0)
		return llm_fail(err, LLM_CORRUPT, "the tokenizer of the GGUF file lacks [CLS], [SEP] or [UNK]");
	return source_frame_add(&s->one, begin, 0, err) && source_frame_add(&s->one, FRAME_FIRST, 0, err) &&
		   source_frame_add(&s->one, end, 0, err) && source_frame_add(&s->two, begin, 0, err) &&
		   source_frame_add(&s->two, FRAME_FIRST, 0, err) && source_frame_add(&s->two, end, 0, err) &&
		   source_frame_add(&s->two, FRAME_SECOND, 1, err) && source_frame_add(&s->two, end, 1, err);
}

static bool
read_bert(tokenizer_source *s, const gguf *g, llm_error *err)
{
	bool capitals = false;

	s->options.kind = TOKENIZER_WORDPIECE;
	if (!read_tokens(s, g, NULL, err))
		return false;
	find_bert_roles(s);
	if (!spell_pieces(s, &capitals, err))
		return false;
	s->options.flags = FLAG_CLEAN_TEXT | FLAG_SPLIT_CJK | (capitals ? 0 : FLAG_STRIP_ACCENTS | FLAG_LOWERCASE);
	return add_bert_frame(s, err);
}

/* ---- the file ---- */

static const struct
{
	const char *name;
	bool (*read)(tokenizer_source *s, const gguf *g, llm_error *err);
} models[] = {{"gpt2", read_gpt2}, {"llama", read_llama}, {"bert", read_bert}, {"t5", read_t5}};

#define MODEL_COUNT (sizeof(models) / sizeof(models[0]))

static bool
read_model(tokenizer_source *s, const gguf *g, llm_error *err)
{
	const char *name;
	size_t n = 0;

	if (!read_text(g, KEY("model"), &name, err))
		return false;
	if (name == NULL)
		return llm_fail(err, LLM_INVALID, "the GGUF file has no tokenizer");
	while (n < MODEL_COUNT && strcmp(models[n].name, name) != 0)
		n++;
	if (n == MODEL_COUNT)
		return source_unsupported(err, "a model", name, "Supported are gpt2, llama, bert and t5.");
	return models[n].read(s, g, err);
}

static bool
read_template(const gguf *g, tokenizer_file_info *info, llm_error *err)
{
	const char *text;

	if (!read_text(g, "tokenizer.chat_template", &text, err))
		return false;
	info->chat_template = text ? strdup(text) : NULL;
	return text == NULL || info->chat_template != NULL ||
		   llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
}

void *
tokenizer_from_gguf(const gguf *g, tokenizer_file_info *info, size_t *block_bytes, llm_error *err)
{
	tokenizer_source s = {.options = {.kind = TOKENIZER_BPE}};
	void *block = NULL;

	*info = (tokenizer_file_info) {0};
	memset(s.special, 0xFF, sizeof(s.special));
	if (read_model(&s, g, err) && read_template(g, info, err))
		block = source_build(&s, block_bytes, err);
	source_free(&s);
	if (block == NULL)
		tokenizer_file_info_free(info);
	return block;
}
