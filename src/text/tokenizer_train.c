/*
 * tokenizer_train.c
 *	  Count the words or characters of documents, and build the tokenizer they lead to.
 */
#include "tokenizer_train.h"

#include <stdlib.h>
#include <string.h>

#include "../feature/strings.h"
#include "bpe_merge.h"
#include "tokenizer_block.h"
#include "tokenizer_build.h"
#include "unicode.h"

#define WORD_BYTES ((size_t) 64 << 20)
#define WORDS_MAX (1 << 28)
#define CODE_POINTS INVALID_BYTE
#define POLL_WORDS 4096

struct bpe_trainer
{
	bpe_trainer_options options;
	strings *words;
	int64_t *times; /* (words->count) */
	int32_t capacity;
	int64_t counted; /* words, repeated ones too */
};

/* ---- what every tokenizer that is trained ends with ---- */

static bool
check_specials(const special_text *specials, int32_t count, llm_error *err)
{
	for (int32_t i = 0; i < count; i++)
	{
		size_t length = strlen(specials[i].text);

		if (length == 0 || length > ADDED_LENGTH_MAX)
			return llm_fail(err, LLM_INVALID, "a special token must have 1 to %d bytes", ADDED_LENGTH_MAX);
		for (int32_t k = 0; k < i; k++)
			if (strcmp(specials[k].text, specials[i].text) == 0)
				return llm_fail(err, LLM_INVALID, "special token \"%s\" is given twice", specials[i].text);
	}
	return true;
}

static bool
add_specials(tokenizer_builder *b, int32_t first, const special_text *specials, int32_t count, llm_error *err)
{
	for (int32_t i = 0; i < count; i++)
	{
		tokenizer_builder_token(b, specials[i].text, strlen(specials[i].text), TOKEN_SPECIAL, 0, err);
		if (specials[i].name >= 0)
			tokenizer_builder_special(b, (special_token) specials[i].name, first + i, err);
	}
	return err->code == LLM_OK;
}

static void
add_bytes(tokenizer_builder *b, llm_error *err)
{
	for (int byte = 0; byte < 256; byte++)
		tokenizer_builder_token(b, &(char) {(char) byte}, 1, TOKEN_NORMAL, 0, err);
}

void *
byte_tokenizer(const special_text *specials, int32_t special_count, size_t *bytes, llm_error *err)
{
	tokenizer_options options = {.kind = TOKENIZER_BYTES};
	tokenizer_builder *b = check_specials(specials, special_count, err) ? tokenizer_builder_new(&options, err) : NULL;
	void *block = NULL;

	if (b == NULL)
		return NULL;
	add_bytes(b, err);
	if (add_specials(b, 256, specials, special_count, err))
		block = tokenizer_builder_finish(b, bytes, err);
	tokenizer_builder_free(b);
	return block;
}

/* ---- words ---- */

bpe_trainer *
bpe_trainer_new(const bpe_trainer_options *options, llm_error *err)
{
	bpe_trainer *t;

	if (options->vocabulary < 256 + options->special_count || options->vocabulary > TOKENS_MAX)
	{
		llm_fail(err, LLM_INVALID, "a vocabulary of %d tokens is out of range", options->vocabulary);
		llm_hint(err, "Byte pair encoding needs the 256 bytes and %d special tokens.", options->special_count);
		return NULL;
	}
	if (!check_specials(options->specials, options->special_count, err))
		return NULL;
	t = calloc(1, sizeof(bpe_trainer));
	if (t != NULL)
	{
		t->options = *options;
		if (t->options.max_word_bytes == 0)
			t->options.max_word_bytes = WORD_BYTES;
		t->words = strings_new(WORDS_MAX, t->options.max_word_bytes);
	}
	if (t == NULL || t->words == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for the words of a tokenizer");
		free(t);
		return NULL;
	}
	return t;
}

void
bpe_trainer_free(bpe_trainer *t)
{
	if (t == NULL)
		return;
	strings_free(t->words);
	free(t->times);
	free(t);
}

int64_t
bpe_trainer_words(const bpe_trainer *t)
{
	return t->words->count;
}

/* Keep the words that occur more often than `rare` times; false: out of memory. */
static bool
forget(bpe_trainer *t, int64_t rare)
{
	strings *kept = strings_new(WORDS_MAX, t->options.max_word_bytes), *all = t->words;

	if (kept == NULL)
		return false;
	for (int32_t i = 0; i < all->count; i++)
	{
		int32_t index = t->times[i] > rare ? strings_put(kept, strings_at(all, i), all->length[i]) : STRINGS_FULL;

		if (index == STRINGS_NO_MEMORY)
		{
			strings_free(kept);
			return false;
		}
		if (index >= 0)
			t->times[index] = t->times[i]; /* index <= i */
	}
	strings_free(all);
	t->words = kept;
	return true;
}

static bool
make_room(bpe_trainer *t)
{
	for (int64_t rare = 1; t->words->byte_count > t->options.max_word_bytes / 2; rare *= 2)
		if (!forget(t, rare))
			return false;
	return true;
}

static bool
grow_times(bpe_trainer *t)
{
	int32_t capacity = t->capacity ? t->capacity * 2 : 4096;
	int64_t *times = realloc(t->times, capacity * sizeof(int64_t));

	if (times == NULL)
		return false;
	t->times = times;
	t->capacity = capacity;
	return true;
}

static bool
count_word(bpe_trainer *t, const char *word, size_t length, llm_error *err)
{
	int32_t before = t->words->count, index = strings_put(t->words, word, length);

	if (index == STRINGS_FULL && length < t->options.max_word_bytes / 4)
	{
		if (!make_room(t))
			return llm_fail(err, LLM_MEMORY, "out of memory for the words of a tokenizer");
		before = t->words->count;
		index = strings_put(t->words, word, length);
	}
	if (index == STRINGS_FULL)
		return true; /* longer than any word that could be kept */
	if (index == STRINGS_NO_MEMORY || (index == t->capacity && !grow_times(t)))
		return llm_fail(err, LLM_MEMORY, "out of memory for the words of a tokenizer");
	t->times[index] = (index == before ? 0 : t->times[index]) + 1;
	return true;
}

static bool
counts_on(bpe_trainer *t, llm_error *err)
{
	if (++t->counted % POLL_WORDS != 0 || t->options.poll == NULL || !t->options.poll(t->options.poll_arg))
		return true;
	return llm_fail(err, LLM_CANCELLED, "counting words was cancelled");
}

static bool
count_words(bpe_trainer *t, const char *text, size_t length, llm_error *err)
{
	pretokenize next_word = pretokenizer_scanner(t->options.pretokenizer);
	const char *end = text + length;

	while (text < end)
	{
		size_t word = next_word((const uint8_t *) text, (const uint8_t *) end);

		if (!counts_on(t, err) || !count_word(t, text, word, err))
			return false;
		text += word;
	}
	return true;
}

/* Bytes of the special that stands at `text`, or 0. */
static size_t
special_at(const bpe_trainer *t, const char *text, size_t left)
{
	size_t longest = 0;

	for (int32_t i = 0; i < t->options.special_count; i++)
	{
		size_t length = strlen(t->options.specials[i].text);

		if (length > longest && length <= left && memcmp(text, t->options.specials[i].text, length) == 0)
			longest = length;
	}
	return longest;
}

bool
bpe_trainer_add(bpe_trainer *t, const char *text, size_t length, llm_error *err)
{
	bool first[256] = {false};
	size_t start = 0;

	for (int32_t i = 0; i < t->options.special_count; i++)
		first[(uint8_t) t->options.specials[i].text[0]] = true;
	for (size_t i = 0; t->options.special_count > 0 && i < length;)
	{
		size_t special = first[(uint8_t) text[i]] ? special_at(t, text + i, length - i) : 0;

		if (special > 0 && !count_words(t, text + start, i - start, err))
			return false;
		if (special > 0)
			start = i + special;
		i += special > 0 ? special : 1;
	}
	return count_words(t, text + start, length - start, err);
}

static void *
build_bpe(const bpe_trainer *t, const bpe_merge *merge, int32_t merges, size_t *bytes, llm_error *err)
{
	tokenizer_options options = {.kind = TOKENIZER_BPE, .pretokenizer = t->options.pretokenizer};
	tokenizer_builder *b = tokenizer_builder_new(&options, err);
	int32_t tokens = 256;
	void *block = NULL;

	if (b == NULL)
		return NULL;
	add_bytes(b, err);
	for (int32_t i = 0; i < merges; i++)
		if (merge[i].id == tokens)
		{
			tokenizer_builder_join(b, merge[i].left, merge[i].right, err);
			tokens++;
		}
	for (int32_t i = 0; i < merges; i++)
		tokenizer_builder_merge_ids(b, merge[i].left, merge[i].right, merge[i].id, err);
	if (add_specials(b, tokens, t->options.specials, t->options.special_count, err))
		block = tokenizer_builder_finish(b, bytes, err);
	tokenizer_builder_free(b);
	return block;
}

void *
bpe_trainer_finish(bpe_trainer *t, size_t *bytes, llm_error *err)
{
	bpe_words words = {t->words->bytes, t->words->start, t->words->length, t->times, t->words->count};
	bpe_merge *merge = NULL;
	int32_t merges = 0;
	void *block = NULL;

	if (bpe_learn(&words, t->options.vocabulary - 256 - t->options.special_count, t->options.min_count, &merge,
				  &merges, t->options.poll, t->options.poll_arg, err))
		block = build_bpe(t, merge, merges, bytes, err);
	free(merge);
	return block;
}

/* ---- characters ---- */

struct character_trainer
{
	int32_t vocabulary;
	const special_text *specials;
	int32_t special_count;
	int64_t *times; /* (CODE_POINTS) */
};

character_trainer *
character_trainer_new(int32_t vocabulary, const special_text *specials, int32_t special_count, llm_error *err)
{
	character_trainer *t;

	if (vocabulary < 2 + special_count || vocabulary > TOKENS_MAX)
	{
		llm_fail(err, LLM_INVALID, "a vocabulary of %d characters is out of range", vocabulary);
		return NULL;
	}
	if (!check_specials(specials, special_count, err))
		return NULL;
	t = calloc(1, sizeof(character_trainer));
	if (t != NULL)
		t->times = calloc(CODE_POINTS, sizeof(int64_t));
	if (t == NULL || t->times == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for the characters of a tokenizer");
		free(t);
		return NULL;
	}
	t->vocabulary = vocabulary;
	t->specials = specials;
	t->special_count = special_count;
	return t;
}

void
character_trainer_free(character_trainer *t)
{
	if (t == NULL)
		return;
	free(t->times);
	free(t);
}

void
character_trainer_add(character_trainer *t, const char *text, size_t length)
{
	const uint8_t *at = (const uint8_t *) text, *end = at + length;

	for (int32_t bytes; at < end; at += bytes)
	{
		int32_t c = utf8_read(at, end, &bytes);

		if (c < INVALID_BYTE && c != REPLACEMENT_CHARACTER)
			t->times[c]++;
	}
}

static int
more_frequent(const void *a, const void *b)
{
	const int64_t *x = *(int64_t *const *) a, *y = *(int64_t *const *) b;

	if (*x != *y)
		return *x > *y ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* Forget all but the `most` most frequent characters; false: out of memory. */
static bool
keep_frequent(character_trainer *t, int32_t most)
{
	int64_t **order = malloc(CODE_POINTS * sizeof(int64_t *));
	int32_t seen = 0;

	if (order == NULL)
		return false;
	for (int32_t c = 0; c < CODE_POINTS; c++)
		if (t->times[c] > 0)
			order[seen++] = &t->times[c];
	qsort(order, seen, sizeof(int64_t *), more_frequent);
	for (int32_t i = most; i < seen; i++)
		*order[i] = 0;
	free(order);
	return true;
}

static int32_t
add_characters(const character_trainer *t, tokenizer_builder *b, llm_error *err)
{
	int32_t count = 0;

	for (int32_t c = 0; c < CODE_POINTS; c++)
		if (t->times[c] > 0)
		{
			uint8_t text[UTF8_BYTES_MAX];

			tokenizer_builder_token(b, (char *) text, utf8_write(c, text), TOKEN_NORMAL, 0, err);
			count++;
		}
	return count;
}

void *
character_trainer_finish(character_trainer *t, size_t *bytes, llm_error *err)
{
	tokenizer_options options = {.kind = TOKENIZER_CHARACTERS};
	tokenizer_builder *b = tokenizer_builder_new(&options, err);
	bool unknown = true;
	int32_t count;
	void *block = NULL;

	if (b == NULL)
		return NULL;
	for (int32_t i = 0; i < t->special_count; i++)
		unknown = unknown && t->specials[i].name != SPECIAL_UNKNOWN;
	if (!keep_frequent(t, t->vocabulary - t->special_count - unknown))
		llm_fail(err, LLM_MEMORY, "out of memory for the characters of a tokenizer");
	count = add_characters(t, b, err);
	if (unknown)
	{
		tokenizer_builder_token(b, "\xEF\xBF\xBD", 3, TOKEN_NORMAL, 0, err);
		tokenizer_builder_special(b, SPECIAL_UNKNOWN, count, err);
	}
	if (add_specials(b, count + unknown, t->specials, t->special_count, err))
		block = tokenizer_builder_finish(b, bytes, err);
	tokenizer_builder_free(b);
	return block;
}
