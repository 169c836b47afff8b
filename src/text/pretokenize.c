/*
 * pretokenize.c
 *	  Scanners for the regular expressions of GPT-2, Llama 3 and Qwen2.
 *
 * The expressions in the table at the end are the specification: alternatives are tried from left
 * to right, and a scanner takes the first that matches where it stands.  "\s+(?!\S)" leaves the
 * last space of a run to the word behind it.
 */
#include "pretokenize.h"

#include <string.h>

#include "unicode.h"

#define WORD (CHAR_LETTER | CHAR_NUMBER | CHAR_SPACE)

/* Class of the character at `at`, 0xFF at the end of the text; *next: where it ends. */
static inline uint8_t
read_class(const uint8_t *at, const uint8_t *end, const uint8_t **next)
{
	int32_t length, c;

	if (at >= end)
		return 0xFF;
	if (*at < 0x80)
	{
		*next = at + 1;
		return unicode_class[*at]; /* block 0 comes first */
	}
	c = utf8_read(at, end, &length);
	*next = at + length;
	return char_class(c);
}

/* End of the run of characters whose bits of `mask` are `wanted`. */
static inline const uint8_t *
skip_run(const uint8_t *at, const uint8_t *end, uint8_t mask, uint8_t wanted)
{
	const uint8_t *next = at;

	while (at < end && (read_class(at, end, &next) & mask) == wanted)
		at = next;
	return at;
}

static inline const uint8_t *
skip_newlines(const uint8_t *at, const uint8_t *end)
{
	while (at < end && (*at == '\r' || *at == '\n'))
		at++;
	return at;
}

/* 's 't 'm 'd 're 've 'll behind the apostrophe at `text`; bytes with the apostrophe, or 0. */
static size_t
contraction(const uint8_t *text, const uint8_t *end, uint8_t ignored_case)
{
	uint8_t a = end - text > 1 ? text[1] | ignored_case : 0;
	uint8_t b = end - text > 2 ? text[2] | ignored_case : 0;

	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	if (ignored_case && end - text > 2 && text[1] == 0xC5 && text[2] == 0xBF) /* U+017F is a small s, too */
		return 3;
	if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
		return 3;
	return 0;
}

/* \s+(?!\S)|\s+ */
static size_t
space_run(const uint8_t *text, const uint8_t *end)
{
	const uint8_t *at = text, *last = text, *next = text;

	while (at < end && (read_class(at, end, &next) & CHAR_SPACE))
	{
		last = at;
		at = next;
	}
	return at < end && last > text ? last - text : at - text;
}

static size_t
gpt2_piece(const uint8_t *text, const uint8_t *end)
{
	const uint8_t *first = text + (*text == ' ' && end - text > 1), *next = text;
	uint8_t class = read_class(first, end, &next) & WORD;
	size_t length = *text == '\'' ? contraction(text, end, 0) : 0;

	if (length > 0)
		return length;
	if (class & CHAR_SPACE)
		return space_run(text, end);
	return skip_run(next, end, WORD, class) - text;
}

/* GPT-2's rule for a text that ends before its first digit. */
static size_t
gpt2_digits_piece(const uint8_t *text, const uint8_t *end)
{
	const uint8_t *next = text, *after = text;
	uint8_t class = read_class(text, end, &next);

	if (class & CHAR_NUMBER)
		return next - text;
	if (class & CHAR_SPACE)
	{
		const uint8_t *run = skip_run(text, end, CHAR_SPACE, CHAR_SPACE);

		if (run < end && (read_class(run, end, &after) & CHAR_NUMBER))
			return run - text;
	}
	return gpt2_piece(text, end);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t
line_run(const uint8_t *text, const uint8_t *end)
{
	const uint8_t *spaces = skip_run(text, end, CHAR_SPACE, CHAR_SPACE), *at = spaces;

	while (at > text && at[-1] != '\r' && at[-1] != '\n')
		at--;
	return at > text ? (size_t) (at - text) : space_run(text, end);
}

static size_t
digits(const uint8_t *text, const uint8_t *end, int most)
{
	const uint8_t *at = text, *next = text;

	for (int i = 0; i < most && at < end && (read_class(at, end, &next) & CHAR_NUMBER); i++)
		at = next;
	return at - text;
}

static inline size_t
llama_piece(const uint8_t *text, const uint8_t *end, int most_digits)
{
	const uint8_t *second = text, *third = text;
	uint8_t class = read_class(text, end, &second), following;
	size_t length = *text == '\'' ? contraction(text, end, 'a' - 'A') : 0;

	if (length > 0)
		return length;
	if (class & CHAR_LETTER)
		return skip_run(second, end, CHAR_LETTER, CHAR_LETTER) - text;
	if (class & CHAR_NUMBER)
		return digits(text, end, most_digits);
	following = read_class(second, end, &third);
	if (second < end && (following & CHAR_LETTER) && *text != '\r' && *text != '\n')
		return skip_run(third, end, CHAR_LETTER, CHAR_LETTER) - text;
	if ((class & CHAR_SPACE) == 0 || (*text == ' ' && second < end && (following & WORD) == 0))
		return skip_newlines(skip_run(second, end, WORD, 0), end) - text;
	return line_run(text, end);
}

static size_t
llama3_piece(const uint8_t *text, const uint8_t *end)
{
	return llama_piece(text, end, 3);
}

static size_t
qwen2_piece(const uint8_t *text, const uint8_t *end)
{
	return llama_piece(text, end, 1);
}

size_t
marked_word(const uint8_t *text, const uint8_t *end)
{
	const uint8_t *at = text + 1;

	while (at < end && (at[0] != ' ' || at[-1] == ' '))
		at++;
	return at - text;
}

static size_t
space_piece(const uint8_t *text, const uint8_t *end)
{
	const uint8_t *next = memchr(text + 1, ' ', end - text - 1);

	return (next ? next : end) - text;
}

static size_t
whole(const uint8_t *text, const uint8_t *end)
{
	return end - text;
}

#define LLAMA_REGEX(digits) \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct
{
	const char *name;
	const char *regex; /* NULL: none has the same effect */
	pretokenize scanner;
} rules[PRETOKENIZERS] = {
	[PRETOKENIZER_NONE] = {"none", "", whole},
	[PRETOKENIZER_GPT2] = {"gpt2",
						   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
						   gpt2_piece},
	[PRETOKENIZER_LLAMA3] = {"llama3", LLAMA_REGEX("\\p{N}{1,3}"), llama3_piece},
	[PRETOKENIZER_QWEN2] = {"qwen2", LLAMA_REGEX("\\p{N}"), qwen2_piece},
	[PRETOKENIZER_GPT2_DIGITS] = {"gpt2 digits", NULL, gpt2_digits_piece},
	[PRETOKENIZER_SPACES] = {"spaces", NULL, space_piece},
};

pretokenize
pretokenizer_scanner(pretokenizer p)
{
	return rules[p].scanner;
}

const char *
pretokenizer_name(pretokenizer p)
{
	return rules[p].name;
}

const char *
pretokenizer_regex(pretokenizer p)
{
	return rules[p].regex && *rules[p].regex ? rules[p].regex : NULL;
}

bool
pretokenizer_parse(const char *name, pretokenizer *p)
{
	for (int i = 0; i < PRETOKENIZERS; i++)
		if (strcmp(rules[i].name, name) == 0)
		{
			*p = (pretokenizer) i;
			return true;
		}
	return false;
}

bool
pretokenizer_from_regex(const char *regex, pretokenizer *p)
{
	for (int i = 0; i < PRETOKENIZERS; i++)
		if (rules[i].regex != NULL && strcmp(rules[i].regex, regex) == 0)
		{
			*p = (pretokenizer) i;
			return true;
		}
	return false;
}
