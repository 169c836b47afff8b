/*
 * pattern.c
 *	  Regular expressions as fragments of a grammar.
 *
 * What is understood: characters, classes, \d \w \s and their opposites, groups, alternatives, and
 * repetitions.  What is made is always matched by the expression, but not everything that it matches
 * is made: it is taken as if it stood between ^ and $, and opposites leave out control characters.
 * A repeated part is read once for each of its copies.  The parser's depth is bounded.
 */
#include "characters.h"

#include <string.h>

#define PATTERN_DEPTH_MAX 40
#define REPEAT_MAX 1000

typedef struct pattern
{
	grammar *g;
	const char *start;
	const char *at;
	int skipping; /* > 0: read without making anything */
	int depth;
} pattern;

/* Characters of ASCII, and all others or none. */
typedef struct character_set
{
	bool ascii[128];
	bool wide;
} character_set;

static void add_alternatives(pattern *p, int32_t from, int32_t to);

static void
refuse(pattern *p, const char *what)
{
	llm_fail(&p->g->err, LLM_INVALID, "the schema's pattern has %s at character %d, which is not supported", what,
			 (int) (p->at - p->start) + 1);
	llm_detail(&p->g->err, "The pattern is %.200s", p->start);
	llm_hint(&p->g->err, "Patterns may have characters, classes, groups without references, | and repetitions.");
}

static bool
failed(const pattern *p)
{
	return p->g->err.code != LLM_OK;
}

static int32_t
new_state(pattern *p)
{
	return p->skipping ? 0 : grammar_state_new(p->g);
}

/* ---- characters ---- */

static void
add_set(pattern *p, int32_t from, const character_set *set, int32_t to)
{
	if (p->skipping)
		return;
	for (int c = 0; c < 128; c++)
		if (set->ascii[c])
			add_ascii(p->g, from, c, to);
	if (set->wide)
		add_wide_character(p->g, from, to);
}

static bool
is_word(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Add to a set what \d and its like mean; false: `letter` is none of them. */
static bool
add_named_class(character_set *set, int letter)
{
	for (int c = 0x20; c < 0x7F; c++)
		switch (letter)
		{
			case 'd': set->ascii[c] |= c >= '0' && c <= '9'; break;
			case 'D': set->ascii[c] |= c < '0' || c > '9'; break;
			case 'w': set->ascii[c] |= is_word(c); break;
			case 'W': set->ascii[c] |= !is_word(c); break;
			case 's': set->ascii[c] |= c == ' '; break;
			case 'S': set->ascii[c] |= c != ' '; break;
			default: return false;
		}
	return true;
}

/* The character that an escape stands for, -1 after a failure; p->at is behind the backslash. */
static int
escaped_character(pattern *p)
{
	static const char letters[] = "nrtf", values[] = "\n\r\t\f";
	int c = (uint8_t) *p->at;
	const char *known = c == '\0' ? NULL : strchr(letters, c);

	if (known == NULL && (c < 0x21 || c > 0x7E || is_word(c)))
	{
		refuse(p, "an escape");
		return -1;
	}
	p->at++;
	return known ? values[known - letters] : c;
}

/* One member of a class, or where a range begins or ends. */
static int
class_character(pattern *p)
{
	int c = (uint8_t) *p->at;

	if (c == '\\')
	{
		p->at++;
		return escaped_character(p);
	}
	if (c == '\0' || c >= 128)
	{
		refuse(p, c == '\0' ? "a class without its end" : "a class of other characters than ASCII");
		return -1;
	}
	p->at++;
	return c;
}

static void
class_member(pattern *p, character_set *set)
{
	int low, high;

	if (*p->at == '\\' && add_named_class(set, (uint8_t) p->at[1]))
	{
		p->at += 2;
		return;
	}
	low = high = class_character(p);
	if (low >= 0 && p->at[0] == '-' && p->at[1] != ']' && p->at[1] != '\0')
	{
		p->at++;
		high = class_character(p);
	}
	for (int c = low; c >= 0 && c <= high; c++)
		set->ascii[c] = true;
}

/* p->at is behind the bracket that opens it. */
static void
add_class(pattern *p, int32_t from, int32_t to)
{
	character_set set = {{0}};
	bool opposite = *p->at == '^';

	p->at += opposite;
	while (*p->at != ']' && !failed(p))
		class_member(p, &set);
	if (failed(p))
		return;
	p->at++;
	for (int c = 0; opposite && c < 128; c++)
		set.ascii[c] = !set.ascii[c] && c >= 0x20 && c < 0x7F;
	add_set(p, from, &set, to);
}

static void
add_any(pattern *p, int32_t from, int32_t to)
{
	character_set set = {.wide = true};

	memset(set.ascii + 0x20, true, 0x7F - 0x20);
	add_set(p, from, &set, to);
}

static void
add_escape(pattern *p, int32_t from, int32_t to)
{
	character_set set = {{0}};

	if (add_named_class(&set, (uint8_t) *p->at))
		p->at++;
	else
	{
		int c = escaped_character(p);

		if (c < 0)
			return;
		set.ascii[c] = true;
	}
	add_set(p, from, &set, to);
}

/* A character that stands for itself; other than ASCII, with all of its bytes. */
static void
add_itself(pattern *p, int32_t from, int32_t to)
{
	const char *end = p->at + 1;

	while (((uint8_t) *end & 0xC0) == 0x80)
		end++;
	if (!p->skipping && (uint8_t) *p->at < 0x80)
		add_ascii(p->g, from, *p->at, to);
	else if (!p->skipping)
		grammar_text(p->g, from, p->at, (size_t) (end - p->at), to);
	p->at = end;
}

/* ---- structure ---- */

static void
add_group(pattern *p, int32_t from, int32_t to)
{
	if (*p->at == '?' && p->at[1] != ':')
	{
		refuse(p, "a group of a special kind");
		return;
	}
	p->at += *p->at == '?' ? 2 : 0;
	if (++p->depth > PATTERN_DEPTH_MAX)
		refuse(p, "too many groups within each other");
	else
		add_alternatives(p, from, to);
	p->depth--;
	if (!failed(p) && *p->at != ')')
		refuse(p, "a group without its end");
	p->at += !failed(p);
}

static void
add_atom(pattern *p, int32_t from, int32_t to)
{
	switch (*p->at)
	{
		case '(':
			p->at++;
			add_group(p, from, to);
			return;
		case '[':
			p->at++;
			add_class(p, from, to);
			return;
		case '.':
			p->at++;
			add_any(p, from, to);
			return;
		case '\\':
			p->at++;
			add_escape(p, from, to);
			return;
		case '*':
		case '+':
		case '?':
		case '{':
		case '^':
		case '$': refuse(p, "a character of a special meaning"); return;
		default: add_itself(p, from, to);
	}
}

static int
read_count(pattern *p)
{
	int n = 0;

	while (*p->at >= '0' && *p->at <= '9' && n <= REPEAT_MAX)
		n = 10 * n + *p->at++ - '0';
	return n;
}

/* How often the part before it stands; most = -1: any number of times. */
static void
read_repetition(pattern *p, int *least, int *most)
{
	*least = *most = 1;
	switch (*p->at)
	{
		case '*': *least = 0, *most = -1; break;
		case '+': *most = -1; break;
		case '?': *least = 0; break;
		case '{':
			p->at++;
			*least = *most = read_count(p);
			if (*p->at == ',')
			{
				p->at++;
				*most = *p->at == '}' ? -1 : read_count(p);
			}
			if (*p->at != '}' || *least > REPEAT_MAX || *most > REPEAT_MAX || (*most >= 0 && *most < *least))
				refuse(p, "a number of repetitions");
			break;
		default: return;
	}
	p->at += !failed(p);
	p->at += *p->at == '?'; /* the shortest match: the same texts */
}

/* A part and how often it stands; returns the state behind it. */
static int32_t
add_repeated(pattern *p, int32_t from)
{
	const char *part = p->at, *behind;
	int32_t end;
	int least, most;

	p->skipping++;
	add_atom(p, 0, 0);
	p->skipping--;
	read_repetition(p, &least, &most);
	behind = p->at;
	if (p->skipping || failed(p))
		return from;
	end = grammar_state_new(p->g);
	for (int i = 0; !failed(p) && (i < least || i < most || (most < 0 && i == least)); i++)
	{
		bool loops = most < 0 && i == least;
		int32_t next = grammar_state_new(p->g);

		if (i >= least && !loops)
			grammar_empty(p->g, from, end);
		p->at = part;
		if (loops)
			grammar_empty(p->g, from, next);
		add_atom(p, loops ? next : from, next);
		from = next;
	}
	grammar_empty(p->g, from, end);
	p->at = behind;
	return end;
}

static void
add_sequence(pattern *p, int32_t from, int32_t to)
{
	bool outer = p->depth == 0;

	if (outer && *p->at == '^')
		p->at++;
	while (*p->at != '\0' && *p->at != '|' && *p->at != ')' && !failed(p))
	{
		if (outer && *p->at == '$' && (p->at[1] == '\0' || p->at[1] == '|'))
			p->at++;
		else
			from = add_repeated(p, from);
	}
	if (!p->skipping)
		grammar_empty(p->g, from, to);
}

static void
add_alternatives(pattern *p, int32_t from, int32_t to)
{
	for (;;)
	{
		int32_t start = new_state(p);

		if (!p->skipping)
			grammar_empty(p->g, from, start);
		add_sequence(p, start, to);
		if (failed(p) || *p->at != '|')
			return;
		p->at++;
	}
}

void
add_pattern(grammar *g, int32_t from, const char *text, int32_t to)
{
	pattern p = {.g = g, .start = text, .at = text};
	int32_t end = grammar_state_new(g);

	add_alternatives(&p, from, end);
	if (!failed(&p) && *p.at != '\0')
		refuse(&p, "a parenthesis without its beginning");
	grammar_bytes(g, end, '"', '"', to);
}
