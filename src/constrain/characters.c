/*
 * characters.c
 *	  Characters inside JSON strings, byte by byte.
 */
#include "characters.h"

#include <stdlib.h>
#include <string.h>

/* Where a text stands within a character. */
enum place
{
	BETWEEN, /* characters */
	LAST_1,  /* one continuation byte is missing, */
	LAST_2,
	LAST_3,
	AFTER_E0, /* and here with a narrower range for the next one */
	AFTER_ED,
	AFTER_F0,
	AFTER_F4,
	PLACES
};

/* What may follow; the first three rows are ASCII without quotation mark and backslash. */
static const struct
{
	uint8_t place;
	uint8_t low;
	uint8_t high;
	uint8_t next;
} steps[] = {
	{BETWEEN, 0x20, 0x21, BETWEEN},  {BETWEEN, 0x23, 0x5B, BETWEEN},  {BETWEEN, 0x5D, 0x7F, BETWEEN},
	{BETWEEN, 0xC2, 0xDF, LAST_1},   {BETWEEN, 0xE0, 0xE0, AFTER_E0}, {BETWEEN, 0xE1, 0xEC, LAST_2},
	{BETWEEN, 0xED, 0xED, AFTER_ED}, {BETWEEN, 0xEE, 0xEF, LAST_2},   {BETWEEN, 0xF0, 0xF0, AFTER_F0},
	{BETWEEN, 0xF1, 0xF3, LAST_3},   {BETWEEN, 0xF4, 0xF4, AFTER_F4}, {LAST_1, 0x80, 0xBF, BETWEEN},
	{LAST_2, 0x80, 0xBF, LAST_1},    {LAST_3, 0x80, 0xBF, LAST_2},    {AFTER_E0, 0xA0, 0xBF, LAST_1},
	{AFTER_ED, 0x80, 0x9F, LAST_1},  {AFTER_F0, 0x90, 0xBF, LAST_2},  {AFTER_F4, 0x80, 0x8F, LAST_2},
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))
#define ASCII_STEPS 3

/* Characters as they are, of the steps from `first` on. */
static void
add_plain(grammar *g, int32_t from, size_t first, int32_t to)
{
	int32_t places[PLACES];

	for (int p = 0; p < PLACES; p++)
		places[p] = p == BETWEEN ? from : grammar_state_new(g);
	for (size_t s = first; s < STEPS; s++)
		grammar_bytes(g, places[steps[s].place], steps[s].low, steps[s].high,
					  steps[s].next == BETWEEN ? to : places[steps[s].next]);
}

void
add_wide_character(grammar *g, int32_t from, int32_t to)
{
	add_plain(g, from, ASCII_STEPS, to);
}

/* ---- escapes ---- */

/* One of the hexadecimal digits from low to high. */
static void
add_digit(grammar *g, int32_t from, int low, int high, int32_t to)
{
	if (low <= 9)
		grammar_bytes(g, from, '0' + low, '0' + (high < 9 ? high : 9), to);
	if (high < 10)
		return;
	grammar_bytes(g, from, 'a' + (low > 10 ? low : 10) - 10, 'a' + high - 10, to);
	grammar_bytes(g, from, 'A' + (low > 10 ? low : 10) - 10, 'A' + high - 10, to);
}

/* Four digits behind \u: neither zero nor a surrogate. */
static void
add_code(grammar *g, int32_t from, int32_t to)
{
	int32_t any[4] = {to}, zero = from, next;

	for (int i = 1; i < 4; i++)
		any[i] = grammar_state_new(g);
	for (int i = 1; i < 4; i++)
		add_digit(g, any[i], 0, 15, any[i - 1]);
	next = grammar_state_new(g);
	add_digit(g, from, 13, 13, next);
	add_digit(g, next, 0, 7, any[2]);
	add_digit(g, from, 1, 12, any[3]);
	add_digit(g, from, 14, 15, any[3]);
	for (int left = 2; left >= 0; left--)
	{
		next = grammar_state_new(g);
		add_digit(g, zero, 0, 0, next);
		add_digit(g, next, 1, 15, any[left]);
		zero = next;
	}
}

void
add_character(grammar *g, int32_t from, int32_t to)
{
	int32_t escape = grammar_state_new(g), code = grammar_state_new(g);

	add_plain(g, from, 0, to);
	grammar_bytes(g, from, '\\', '\\', escape);
	for (const char *c = "\"\\/bfnrt"; *c != '\0'; c++)
		grammar_bytes(g, escape, *c, *c, to);
	grammar_bytes(g, escape, 'u', 'u', code);
	add_code(g, code, to);
}

void
add_ascii(grammar *g, int32_t from, int c, int32_t to)
{
	static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *at = c == 0 ? NULL : strchr(escaped, c);

	if (at != NULL)
		grammar_text(g, from, (char[2]) {'\\', letters[at - escaped]}, 2, to);
	else if (c >= 0x20 && c < 0x80)
		grammar_bytes(g, from, c, c, to);
}

/* ---- strings that are none of several ---- */

typedef struct others
{
	grammar *g;
	int32_t tails[PLACES]; /* the string differs from all names already */
	int32_t to;
} others;

static void
add_tails(others *o)
{
	for (int p = 0; p < PLACES; p++)
		o->tails[p] = grammar_state_new(o->g);
	for (size_t s = 0; s < STEPS; s++)
		grammar_bytes(o->g, o->tails[steps[s].place], steps[s].low, steps[s].high, o->tails[steps[s].next]);
	grammar_bytes(o->g, o->tails[BETWEEN], '"', '"', o->to);
}

/* Of the names that have begun like the string, those that go on with the byte; their number. */
static int32_t
names_with(char **names, int32_t count, size_t at, int byte, char ***found)
{
	int32_t first = 0, n = 0;

	while (first < count && (uint8_t) names[first][at] < byte)
		first++;
	while (first + n < count && (uint8_t) names[first + n][at] == byte)
		n++;
	*found = names + first;
	return n;
}

/* The string is so far the beginning of the names, `at` bytes long. */
static void
differ_from(others *o, int32_t from, int place, char **names, int32_t count, size_t at)
{
	char **found;

	if (place == BETWEEN && names_with(names, count, at, 0, &found) == 0)
		grammar_bytes(o->g, from, '"', '"', o->to);
	for (size_t s = 0; s < STEPS; s++)
		for (int byte = steps[s].low; steps[s].place == place && byte <= steps[s].high; byte++)
		{
			int32_t n = names_with(names, count, at, byte, &found);
			int32_t next = n > 0 ? grammar_state_new(o->g) : o->tails[steps[s].next];

			grammar_bytes(o->g, from, byte, byte, next);
			if (n > 0 && o->g->err.code == LLM_OK)
				differ_from(o, next, steps[s].next, found, n, at + 1);
		}
}

void
add_other_string(grammar *g, int32_t from, char **names, int32_t count, int32_t to)
{
	others o = {.g = g, .to = to};

	add_tails(&o);
	if (count == 0)
		grammar_empty(g, from, o.tails[BETWEEN]);
	else
		differ_from(&o, from, BETWEEN, names, count, 0);
}
