/*
 * template_scan.c
 *	  The text and the tokens of a template.
 *
 * White space around tags is treated as Jinja does with trim_blocks and lstrip_blocks: a statement
 * or comment takes the newline behind it and, alone on its line, the spaces in front of it; a minus
 * sign in any tag takes all white space on its side, a plus sign keeps it.
 */
#include "template_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unicode.h"

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_name(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static char
peek(const scanner *s, size_t ahead)
{
	return ahead < s->length - s->at ? s->source[s->at + ahead] : '\0';
}

static void
advance(scanner *s, size_t bytes)
{
	for (size_t i = 0; i < bytes && s->at < s->length; i++)
		s->line += s->source[s->at++] == '\n';
	s->a->line = s->line;
}

void
scan_start(scanner *s, arena *a, const char *source, size_t length)
{
	length -= length > 0 && source[length - 1] == '\n';
	*s = (scanner) {.a = a, .source = source, .length = length, .line = 1, .at_newline = true};
	a->line = 1;
}

/* ---- text ---- */

static bool
tag_at(const scanner *s, size_t at)
{
	return at + 1 < s->length && s->source[at] == '{' &&
		   (s->source[at + 1] == '{' || s->source[at + 1] == '%' || s->source[at + 1] == '#');
}

/* Where the text [from, to) in front of a tag that begins at `to` really ends. */
static size_t
text_end(const scanner *s, size_t from, size_t to, bool starts_line)
{
	bool statement = s->source[to + 1] != '{';
	char sign = to + 2 < s->length ? s->source[to + 2] : '\0';
	size_t end = to;

	if (sign == '-')
		while (end > from && is_space(s->source[end - 1]))
			end--;
	else if (statement && sign != '+')
	{
		while (end > from && is_space(s->source[end - 1]) && s->source[end - 1] != '\n')
			end--;
		if (end == from ? !starts_line : s->source[end - 1] != '\n')
			end = to;
	}
	return end;
}

/* Behind a tag that closes with a sign or not. */
static void
after_tag(scanner *s, char sign, bool statement)
{
	s->strip = sign == '-';
	s->at_newline = false;
	if (statement && sign == '\0' && peek(s, 0) == '\n')
	{
		advance(s, 1);
		s->at_newline = true;
	}
}

static void
skip_comment(scanner *s)
{
	while (s->at < s->length && !(peek(s, 0) == '#' && peek(s, 1) == '}'))
		advance(s, 1);
	if (s->at >= s->length)
	{
		template_fail(s->a, "a comment does not end");
		return;
	}
	advance(s, 2);
	after_tag(s, s->at >= 3 && strchr("-+", s->source[s->at - 3]) ? s->source[s->at - 3] : '\0', true);
}

/* The part of the text up to the next tag, of any kind. */
static piece
text_part(scanner *s)
{
	size_t from = s->at, to;
	bool starts_line = s->at_newline;

	while (s->strip && from < s->length && is_space(s->source[from]))
		from++;
	for (to = from; to < s->length && !tag_at(s, to);)
		to++;
	advance(s, to - s->at);
	return (piece) {.bytes = s->source + from,
					.size = (to < s->length ? text_end(s, from, to, starts_line && !s->strip) : to) - from};
}

piece
scan_text(scanner *s)
{
	piece_builder all = {.a = s->a};
	piece part = text_part(s);

	while (s->at < s->length && peek(s, 1) == '#' && !template_failed(s->a))
	{
		build_add(&all, part);
		advance(s, 2);
		skip_comment(s);
		part = text_part(s);
	}
	build_add(&all, part);
	s->tag = s->at >= s->length ? TAG_NONE : peek(s, 1) == '{' ? TAG_PRINT : TAG_STATEMENT;
	if (s->tag != TAG_NONE)
	{
		advance(s, 2);
		if (peek(s, 0) == '-' || (peek(s, 0) == '+' && s->tag == TAG_STATEMENT))
			advance(s, 1);
		s->brackets = 0;
		scan_next(s);
	}
	return build_finish(&all);
}

/* ---- tokens ---- */

static void
scan_escape(scanner *s, piece_builder *out)
{
	static const char letters[] = "nrtbfav0", values[] = "\n\r\t\b\f\a\v";
	char c = peek(s, 0), digits[9] = {0};
	const char *known = c == '\0' ? NULL : strchr(letters, c);
	int count = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	uint8_t utf8[UTF8_BYTES_MAX];
	long code;

	advance(s, 1);
	if (known != NULL && c != '0')
		build_byte(out, values[known - letters], false);
	else if (count > 0)
	{
		for (int i = 0; i < count; i++)
			digits[i] = peek(s, (size_t) i);
		advance(s, (size_t) count);
		code = strspn(digits, "0123456789abcdefABCDEF") == (size_t) count ? strtol(digits, NULL, 16) : -1;
		if (code < 1 || code >= INVALID_BYTE || (code >= 0xD800 && code < 0xE000))
			template_fail(s->a, "\\%c%s is no character", c, digits);
		else
			build_add(out, (piece) {.bytes = (const char *) utf8, .size = (size_t) utf8_write((int32_t) code, utf8)});
	}
	else if (c != '\n')
	{
		if (strchr("\\'\"", c) == NULL)
			build_byte(out, '\\', false);
		build_byte(out, c, false);
	}
}

static void
scan_string(scanner *s)
{
	piece_builder text = {.a = s->a};
	char quote = peek(s, 0);

	advance(s, 1);
	while (s->at < s->length && peek(s, 0) != quote && !template_failed(s->a))
	{
		bool escape = peek(s, 0) == '\\';

		if (!escape)
			build_byte(&text, peek(s, 0), false);
		advance(s, 1);
		if (escape)
			scan_escape(s, &text);
	}
	if (s->at >= s->length)
		template_fail(s->a, "a string does not end");
	advance(s, 1);
	s->token = (scanned) {.kind = SCAN_TEXT, .text = build_finish(&text)};
}

static void
scan_number(scanner *s)
{
	char digits[64] = {0}, *end;
	size_t n = 0;
	bool real = false;

	while (n + 1 < sizeof(digits) &&
		   ((peek(s, n) >= '0' && peek(s, n) <= '9') ||
			(peek(s, n) == '.' && peek(s, n + 1) >= '0' && peek(s, n + 1) <= '9') ||
			((peek(s, n) == 'e' || peek(s, n) == 'E') && n > 0) ||
			((peek(s, n) == '-' || peek(s, n) == '+') && (digits[n - (n > 0)] | 32) == 'e')))
	{
		digits[n] = peek(s, n);
		real |= strchr(".eE", digits[n]) != NULL;
		n++;
	}
	errno = 0;
	s->token = (scanned) {.kind = real ? SCAN_FLOAT : SCAN_INTEGER};
	if (real)
		s->token.number = strtod(digits, &end);
	else
		s->token.integer = strtoll(digits, &end, 10);
	if (*end != '\0' || errno != 0 || is_name(peek(s, n), false))
		template_fail(s->a, "\"%s\" is no number", digits);
	advance(s, n);
}

/* Bytes of the end of the tag, with its sign, if it is here; 0: it is not. */
static size_t
tag_end(const scanner *s)
{
	const char *mark = s->tag == TAG_PRINT ? "}}" : "%}";
	size_t sign = peek(s, 0) == '-' || (peek(s, 0) == '+' && s->tag == TAG_STATEMENT);

	return s->brackets == 0 && peek(s, sign) == mark[0] && peek(s, sign + 1) == mark[1] ? sign + 2 : 0;
}

void
scan_next(scanner *s)
{
	static const char *const pairs[] = {"==", "!=", "<=", ">=", "//", "**"};
	size_t start, size = 1;

	while (s->at < s->length && is_space(peek(s, 0)))
		advance(s, 1);
	start = s->at;
	s->a->line = s->line;
	if (template_failed(s->a) || tag_end(s) > 0)
		s->token = (scanned) {.kind = SCAN_END};
	else if (s->at >= s->length)
	{
		s->token = (scanned) {.kind = SCAN_END};
		template_fail(s->a, "a tag does not end");
	}
	else if (peek(s, 0) == '\'' || peek(s, 0) == '"')
		scan_string(s);
	else if (peek(s, 0) >= '0' && peek(s, 0) <= '9')
		scan_number(s);
	else
	{
		bool name = is_name(peek(s, 0), true);

		while (name && is_name(peek(s, size), false))
			size++;
		for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
			if (peek(s, 0) == pairs[i][0] && peek(s, 1) == pairs[i][1])
				size = 2;
		if (!name && strchr("+-*/%~<>=!.,:|()[]{}", peek(s, 0)) == NULL)
			template_fail(s->a, "unexpected character \"%c\"", peek(s, 0));
		s->brackets += strchr("([{", peek(s, 0)) ? 1 : strchr(")]}", peek(s, 0)) ? -1 : 0;
		advance(s, size);
		s->token = (scanned) {.kind = name ? SCAN_NAME : SCAN_OPERATOR,
							  .text = (piece) {.bytes = s->source + start, .size = size}};
	}
}

void
scan_end(scanner *s)
{
	size_t size = tag_end(s);
	char sign = size == 3 ? peek(s, 0) : '\0';

	if (s->token.kind != SCAN_END)
		template_fail(s->a, "unexpected \"%.*s\" in a tag", (int) (s->token.text.size < 40 ? s->token.text.size : 40),
					  s->token.text.bytes ? s->token.text.bytes : "");
	if (template_failed(s->a))
		return;
	advance(s, size);
	after_tag(s, sign, s->tag == TAG_STATEMENT);
}
