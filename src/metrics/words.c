/*
 * words.c
 *	  Words of BLEU, ROUGE and SQuAD.
 *
 * The reference implementations of "13a" and "zh" run regular expressions over the text one
 * after the other.  Here one pass decides at each character what all of them would do; where
 * that is not obvious a comment says why.
 */
#include "words.h"

#include <stdlib.h>
#include <string.h>

#include "../feature/hash.h"
#include "../text/unicode.h"

#define WORK_BETWEEN_POLLS (1 << 20)

typedef struct char_range
{
	int32_t first, last;
} char_range;

static const char_range ideographs[] = {{0x3005, 0x3007}, {0x3040, 0x312F}, {0x31A0, 0x31BF},
										{0x31F0, 0x31FF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF},
										{0xF900, 0xFAFF}, {0xFF66, 0xFF9F}, {0x20000, 0x323AF}};

static const char_range east_asian[] = {{0x2E80, 0x2FDF}, {0x2FF0, 0x2FFF},  {0x3001, 0x312F}, {0x31A0, 0x4DBF},
										{0x4E00, 0x9FFF}, {0xF900, 0xFAFF},  {0xFE10, 0xFE1F}, {0xFE30, 0xFE4F},
										{0xFF00, 0xFFEF}, {0x20000, 0x323AF}};

/*
 * sacrebleu means U+20000 to U+2A6D6, but compares with the two characters U+2000 and "0" up to U+2A6D and "6".
 * All published figures are computed so: dashes, curly quotes and dots of Chinese text are words.
 */
static const char_range sacrebleu_zh = {0x2001, 0x2A6D};

#define IN_RANGES(c, ranges) in_ranges(c, ranges, (int) (sizeof(ranges) / sizeof((ranges)[0])))

static bool
in_ranges(int32_t c, const char_range *ranges, int count)
{
	if (c < ranges[0].first)
		return false;
	for (int i = 0; i < count; i++)
		if (c <= ranges[i].last)
			return c >= ranges[i].first;
	return false;
}

/* Also the separators of information, which Python counts among white space. */
static bool
is_space(int32_t c)
{
	return (char_class(c) & CHAR_SPACE) != 0 || (c >= 0x1C && c <= 0x1F);
}

static bool
is_digit(uint8_t byte)
{
	return byte >= '0' && byte <= '9';
}

/* string.punctuation of Python. */
static bool
is_ascii_punctuation(int32_t c)
{
	return (c > ' ' && c < '0') || (c > '9' && c < 'A') || (c > 'Z' && c < 'a') || (c > 'z' && c < 0x7F);
}

bool
watch_work(watch *w, int64_t work, llm_error *err)
{
	w->work += work;
	if (w->work < WORK_BETWEEN_POLLS)
		return true;
	w->work = 0;
	return w->poll == NULL || !w->poll(w->poll_arg) || llm_fail(err, LLM_CANCELLED, "cancelled");
}

/* ---- building a list ---- */

typedef struct word_builder
{
	word_list *words;
	uint64_t hash; /* of the word that has begun; HASH_START: none has */
	watch *watch;
	llm_error *err;
} word_builder;

static word_builder
start_words(word_list *words, watch *w, llm_error *err)
{
	words->count = 0;
	return (word_builder) {.words = words, .hash = HASH_START, .watch = w, .err = err};
}

void
words_free(word_list *words)
{
	free(words->hash);
	*words = (word_list) {0};
}

/* The word goes on with this character. */
static void
add_char(word_builder *b, int32_t c)
{
	b->hash = hash_bytes(b->hash, &c, sizeof(c));
}

static bool
end_word(word_builder *b)
{
	word_list *words = b->words;
	uint64_t hash = hash_end(b->hash);

	if (b->hash == HASH_START)
		return true;
	if (words->count == words->capacity)
	{
		int64_t capacity = words->capacity * 2 + 64;
		uint64_t *grown = realloc(words->hash, capacity * sizeof(uint64_t));

		if (grown == NULL)
			return llm_fail(b->err, LLM_MEMORY, "out of memory for the words of a text");
		words->hash = grown;
		words->capacity = capacity;
	}
	words->hash[words->count++] = hash + (hash == 0);
	b->hash = HASH_START;
	return true;
}

/* A word of one character. */
static bool
add_single(word_builder *b, int32_t c)
{
	if (!end_word(b))
		return false;
	add_char(b, c);
	return end_word(b);
}

/* ---- BLEU ---- */

bool
text_is_east_asian(const char *text, size_t length)
{
	const uint8_t *at = (const uint8_t *) text, *end = at + length;
	int32_t size;

	for (; at < end; at += size)
		if (IN_RANGES(utf8_read(at, end, &size), east_asian))
			return true;
	return false;
}

/* Replace all of `from` by `to`, which is not longer, in place; returns the new length. */
static size_t
replace_all(char *text, size_t length, const char *from, const char *to)
{
	size_t find = strlen(from), put = strlen(to), out = 0;

	for (size_t at = 0; at < length;)
	{
		if (text[at] == from[0] && length - at >= find && memcmp(text + at, from, find) == 0)
		{
			memcpy(text + out, to, put);
			out += put;
			at += find;
		}
		else
			text[out++] = text[at++];
	}
	return out;
}

/* Bytes up to the last character that is no white space. */
static size_t
trimmed_length(const char *text, size_t length)
{
	const uint8_t *start = (const uint8_t *) text, *at = start, *end = start + length, *last = start;
	int32_t size;

	for (; at < end; at += size)
		if (!is_space(utf8_read(at, end, &size)))
			last = at + size;
	return last - start;
}

/* A copy of the text as 13a reads it, *length bytes of it, to be freed; NULL: LLM_MEMORY, LLM_CANCELLED. */
static char *
unescape_13a(const char *text, size_t *length, watch *w, llm_error *err)
{
	static const char *const replaced[][2] = {{"<skipped>", ""}, {"-\n", ""},   {"&quot;", "\""},
											  {"&amp;", "&"},    {"&lt;", "<"}, {"&gt;", ">"}};
	char *copy;

	*length = trimmed_length(text, *length);
	copy = malloc(*length + 1);
	if (copy == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for a text");
		return NULL;
	}
	memcpy(copy, text, *length);
	for (int i = 0; i < (int) (sizeof(replaced) / sizeof(replaced[0])); i++)
	{
		*length = replace_all(copy, *length, replaced[i][0], replaced[i][1]);
		if (!watch_work(w, (int64_t) *length, err))
		{
			free(copy);
			return NULL;
		}
	}
	return copy;
}

/*
 * A run of periods and commas of `run` bytes, between a digit or something else before it and
 * behind it.  They are words each, but a single one between digits is part of the number.  The
 * first regular expression takes pairs of a character that is no digit and a period; so in a run that it
 * happens to leave with a last one, that one begins the number behind it.
 */
static bool
add_periods(word_builder *b, const uint8_t *at, size_t run, bool digit_before, bool digit_behind)
{
	bool joins = digit_behind && run % 2 == (digit_before ? 1 : 0);

	if (run == 1 && joins)
	{
		add_char(b, *at);
		return true;
	}
	if (!end_word(b))
		return false;
	for (size_t i = 0; i < run - joins; i++)
		if (!add_single(b, at[i]))
			return false;
	if (joins)
		add_char(b, at[run - 1]);
	return true;
}

/* Characters that 13a cuts out wherever they stand: all punctuation of ASCII but ' , - . */
static bool
is_cut_out(int32_t c)
{
	return is_ascii_punctuation(c) && c != '\'' && c != ',' && c != '-' && c != '.';
}

/* The ends of a text count as digits in "zh", which has no spaces there, unlike 13a. */
static bool
cut_bleu(word_builder *b, const uint8_t *start, const uint8_t *end, bool zh)
{
	int32_t size;

	for (const uint8_t *at = start; at < end; at += size)
	{
		int32_t c = utf8_read(at, end, &size);
		bool ok = true;

		if (is_space(c))
			ok = end_word(b);
		else if (c == '.' || c == ',')
		{
			while (at + size < end && (at[size] == '.' || at[size] == ','))
				size++;
			ok = add_periods(b, at, size, at > start ? is_digit(at[-1]) : zh,
							 at + size < end ? is_digit(at[size]) : zh);
		}
		else if (is_cut_out(c) || (c == '-' && at > start && is_digit(at[-1])) ||
				 (zh && (IN_RANGES(c, east_asian) || in_ranges(c, &sacrebleu_zh, 1))))
			ok = add_single(b, c);
		else
			add_char(b, c);
		if (!ok || !watch_work(b->watch, 1, b->err))
			return false;
	}
	return end_word(b);
}

bool
words_bleu(word_list *words, const char *text, size_t length, bool zh, watch *w, llm_error *err)
{
	word_builder b = start_words(words, w, err);
	const uint8_t *start, *end;
	char *copy = NULL;
	int32_t size;
	bool ok;

	if (zh)
		length = trimmed_length(text, length);
	else if ((text = copy = unescape_13a(text, &length, w, err)) == NULL)
		return false;
	start = (const uint8_t *) text;
	end = start + length;
	while (zh && start < end && is_space(utf8_read(start, end, &size)))
		start += size;
	ok = cut_bleu(&b, start, end, zh);
	free(copy);
	return ok;
}

/* ---- ROUGE ---- */

bool
words_rouge(word_list *words, const char *text, size_t length, watch *w, llm_error *err)
{
	const uint8_t *at = (const uint8_t *) text, *end = at + length;
	word_builder b = start_words(words, w, err);
	int32_t size;

	for (; at < end; at += size)
	{
		int32_t c = char_lower(utf8_read(at, end, &size));
		bool ok = true;

		if ((char_class(c) & (CHAR_LETTER | CHAR_NUMBER | CHAR_NONSPACING)) == 0)
			ok = end_word(&b);
		else if (IN_RANGES(c, ideographs))
			ok = add_single(&b, c);
		else
			add_char(&b, c);
		if (!ok || !watch_work(w, 1, err))
			return false;
	}
	return end_word(&b);
}

/* ---- SQuAD ---- */

/* The next character that is no punctuation, in lower case, or -1; *at: behind it. */
static int32_t
next_of_answer(const uint8_t **at, const uint8_t *end)
{
	while (*at < end)
	{
		int32_t size, c = utf8_read(*at, end, &size);

		*at += size;
		if (!is_ascii_punctuation(c) && (char_class(c) & CHAR_PUNCTUATION) == 0)
			return char_lower(c);
	}
	return -1;
}

static bool
is_letter(int32_t c)
{
	return c >= 0 && (char_class(c) & (CHAR_LETTER | CHAR_NUMBER)) != 0;
}

/* Does an article begin at the letter c, with the text behind it at `at`, and end with its letters?  Its end, or NULL. */
static const uint8_t *
skip_article(int32_t c, const uint8_t *at, const uint8_t *end)
{
	static const char *const articles[] = {"a", "an", "the"};

	for (int i = 0; i < 3; i++)
	{
		const uint8_t *behind = at, *last = at;
		const char *letter = articles[i];
		int32_t next = c;

		for (; *letter != '\0' && next == *letter; letter++)
		{
			last = behind;
			next = next_of_answer(&behind, end);
		}
		if (*letter == '\0' && !is_letter(next))
			return last;
	}
	return NULL;
}

bool
words_answer(word_list *words, const char *text, size_t length, watch *w, llm_error *err)
{
	const uint8_t *at = (const uint8_t *) text, *end = at + length, *behind;
	word_builder b = start_words(words, w, err);
	bool in_letters = false; /* the character before was a letter or digit: no article begins */
	int32_t c;

	while ((c = next_of_answer(&at, end)) >= 0)
	{
		bool ok = true, letter = is_letter(c);

		if (letter && !in_letters && (behind = skip_article(c, at, end)) != NULL)
		{
			at = behind;
			ok = end_word(&b);
		}
		else if (is_space(c))
			ok = end_word(&b);
		else if (IN_RANGES(c, ideographs))
			ok = add_single(&b, c);
		else
			add_char(&b, c);
		in_letters = letter;
		if (!ok || !watch_work(w, 1, err))
			return false;
	}
	return end_word(&b);
}
