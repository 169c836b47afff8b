/*
 * steps.c
 *	  What happens to a text before it is cut into tokens, step by step.
 *
 * Each step reads one buffer and writes the other.  None makes a text more than a few times as
 * long, but a replacement can: what becomes longer than TOKENIZER_TEXT_MAX is refused.
 */
#include "steps.h"

#include <stdlib.h>
#include <string.h>

#include "normalise.h"
#include "unicode.h"

/* ---- reading the list ---- */

static bool
damaged(llm_error *err)
{
	return llm_fail(err, LLM_CORRUPT, "the tokenizer of the model is damaged: its steps");
}

/* Bytes of the step at `at`, of which `left` may be read, or 0. */
static size_t
read_step(const uint8_t *at, size_t left, step *s)
{
	size_t size = 5;

	if (left < size)
		return 0;
	s->kind = at[0];
	for (int i = 0; i < 2; i++)
	{
		s->length[i] = (uint16_t) (at[1 + 2 * i] | at[2 + 2 * i] << 8);
		s->text[i] = at + size;
		size += s->length[i];
	}
	if (size > left || s->kind >= STEP_KINDS || s->length[0] > STEP_TEXT_MAX || s->length[1] > STEP_TEXT_MAX ||
		(s->kind == STEP_REPLACE && s->length[0] == 0))
		return 0;
	return size;
}

bool
steps_open(tokenizer *t, llm_error *err)
{
	uint64_t bytes = section_count(t->header, SECTION_STEPS);
	const uint8_t *at;
	int32_t cuts = 0;
	bool marked = false;

	if (bytes == 0)
		return true;
	at = (const uint8_t *) t->header + t->header->part[SECTION_STEPS].offset;
	t->steps = calloc(STEPS_MAX, sizeof(step));
	if (t->steps == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while opening a tokenizer");
	while (bytes > 0)
	{
		step *s = &t->steps[t->step_count];
		size_t size = t->step_count < STEPS_MAX ? read_step(at, bytes, s) : 0;

		if (size == 0 || (s->kind == STEP_CUT && cuts++ > 0) || (s->kind == STEP_MAP && t->character_map == NULL))
			return damaged(err);
		marked = marked || s->kind == STEP_SPACE_MARKS || s->kind == STEP_SENTENCE;
		if (s->kind == STEP_CUT)
		{
			t->cut_step = t->step_count;
			t->marks_before_cut = marked;
		}
		at += size;
		bytes -= size;
		t->step_count++;
	}
	return true;
}

bool
steps_are_sentence(const tokenizer *t)
{
	return t->step_count > 0 && t->steps[0].kind == STEP_SENTENCE;
}

/* ---- steps that look at one character ---- */

static bool
is_space(int32_t c)
{
	return (char_class(c) & CHAR_SPACE) != 0;
}

static bool
add_character(text_buffer *out, int32_t c, llm_error *err)
{
	if (!text_buffer_reserve(out, UTF8_BYTES_MAX, err))
		return false;
	out->size += (size_t) utf8_write(c, (uint8_t *) out->bytes + out->size);
	return true;
}

static bool
lower(text_buffer *out, int32_t c, llm_error *err)
{
	if (c == 0x130) /* the one whose small form is two */
		return add_character(out, 'i', err) && add_character(out, 0x307, err);
	return add_character(out, char_lower(c), err);
}

static bool
drop_nonspacing(text_buffer *out, int32_t c, llm_error *err)
{
	return bert_nonspacing(c) || add_character(out, c, err);
}

static bool
drop_marks(text_buffer *out, int32_t c, llm_error *err)
{
	return (char_role(c) & ROLE_MARK) || add_character(out, c, err);
}

static bool
clean(text_buffer *out, int32_t c, llm_error *err)
{
	return bert_drops(c) || add_character(out, is_space(c) ? ' ' : c, err);
}

static bool
part_ideograph(text_buffer *out, int32_t c, llm_error *err)
{
	if (!bert_ideograph(c))
		return add_character(out, c, err);
	return add_character(out, ' ', err) && add_character(out, c, err) && add_character(out, ' ', err);
}

typedef bool (*change_character)(text_buffer *out, int32_t c, llm_error *err);

static const change_character changes[STEP_KINDS] = {
	[STEP_LOWER] = lower, [STEP_NONSPACING] = drop_nonspacing, [STEP_MARKS] = drop_marks,
	[STEP_CLEAN] = clean, [STEP_IDEOGRAPHS] = part_ideograph,
};

static bool
change_each(change_character change, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	const uint8_t *end = text + length;

	for (int32_t bytes; text < end; text += bytes)
		if (!change(out, utf8_read(text, end, &bytes), err))
			return false;
	return true;
}

/* ---- white space ---- */

static void
strip(uint8_t side, const uint8_t **text, size_t *length)
{
	const uint8_t *at = *text, *end = at + *length;
	const uint8_t *last = at; /* behind the last that is no white space */
	int32_t bytes;

	if (side == STEP_STRIP_LEFT)
	{
		while (at < end && is_space(utf8_read(at, end, &bytes)))
			at += bytes;
		*text = at;
		*length = (size_t) (end - at);
		return;
	}
	for (; at < end; at += bytes)
		if (!is_space(utf8_read(at, end, &bytes)))
			last = at + bytes;
	*length = (size_t) (last - *text);
}

static bool
mark_spaces(const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	uint8_t *to;

	if (!text_buffer_reserve(out, length, err))
		return false;
	to = (uint8_t *) out->bytes;
	for (size_t i = 0; i < length; i++)
	{
		bool mark = is_space_mark(text + i, length - i);

		*to++ = mark ? ' ' : text[i];
		i += mark ? SPACE_MARK_BYTES - 1 : 0;
	}
	out->size = (size_t) (to - (uint8_t *) out->bytes);
	return true;
}

static bool
mark_words(const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	const uint8_t *end = text + length;
	bool outside = true; /* of a word */

	if (!text_buffer_reserve(out, length + length + 1, err))
		return false;
	for (int32_t bytes; text < end; text += bytes)
	{
		int32_t c = utf8_read(text, end, &bytes);
		bool mark = is_space_mark(text, (size_t) (end - text));

		if (is_space(c))
		{
			outside = true;
			continue;
		}
		if (outside && !mark)
			out->bytes[out->size++] = ' ';
		outside = false;
		if (mark)
			out->bytes[out->size++] = ' ';
		else
			out->size += (size_t) utf8_write(c, (uint8_t *) out->bytes + out->size);
	}
	return true;
}

/* ---- texts in place of texts ---- */

static bool
replace(const step *s, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	for (size_t i = 0; i < length;)
	{
		bool here = length - i >= s->length[0] && memcmp(text + i, s->text[0], s->length[0]) == 0;

		if (!text_buffer_add(out, here ? s->text[1] : text + i, here ? s->length[1] : 1, err) ||
			!text_check_length(out, err))
			return false;
		i += here ? s->length[0] : 1;
	}
	return true;
}

static bool
replace_space_runs(const step *s, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	for (size_t i = 0, run; i<length; i += run> 0 ? run : 1)
	{
		for (run = 0; i + run < length && text[i + run] == ' ';)
			run++;
		if (!(run > 1 ? text_buffer_add(out, s->text[1], s->length[1], err)
					  : text_buffer_add(out, text + i, 1, err)) ||
			!text_check_length(out, err))
			return false;
	}
	return true;
}

/* ---- SentencePiece's map, as the library tokenizers reads it ---- */

/* Bytes of the grapheme cluster at text; see UAX #29, but for emoji, whose clusters are long anyway. */
static size_t
cluster(const uint8_t *text, const uint8_t *end)
{
	const uint8_t *at = text;
	int32_t bytes = 1, before = -1;

	while (at < end)
	{
		int32_t c = utf8_read(at, end, &bytes);

		if (before >= 0 && !cluster_goes_on(before, c))
			break;
		before = c;
		at += bytes;
	}
	return (size_t) (at - text);
}

#define CLUSTER_MAX 6 /* bytes: those of as many are read character by character */

/*
 * A short cluster is replaced as a whole by what its shortest beginning becomes, others character
 * by character.  That differs from SentencePiece, where the longest match counts, but it is what
 * models were used with.
 */
static bool
map_clusters(const tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	const uint8_t *end = text + length;

	while (text < end)
	{
		size_t size = cluster(text, end);
		const char *by;
		int32_t bytes;

		if (size < CLUSTER_MAX && character_map_find(t, text, size, false, &by) > 0)
		{
			if (!text_buffer_add(out, by, strlen(by), err))
				return false;
			text += size;
			continue;
		}
		for (const uint8_t *stop = text + size; text < stop; text += bytes)
		{
			utf8_read(text, end, &bytes);
			if (!(character_map_find(t, text, (size_t) bytes, false, &by) > 0
					  ? text_buffer_add(out, by, strlen(by), err)
					  : text_buffer_add(out, text, (size_t) bytes, err)))
				return false;
		}
		if (!text_check_length(out, err))
			return false;
	}
	return true;
}

/* ---- all of them ---- */

static bool
prefix(const step *s, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	return text_buffer_add(out, s->text[1], s->length[1], err) && text_buffer_add(out, text, length, err);
}

static bool
run_step(tokenizer *t, const step *s, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	static const step space = {.text = {NULL, (const uint8_t *) " "}, .length = {0, 1}};

	switch ((enum step_kind) s->kind)
	{
		case STEP_NFC:
		case STEP_NFD: return text_compose(t, s->kind == STEP_NFC, text, length, out, err);
		case STEP_REPLACE: return replace(s, text, length, out, err);
		case STEP_SPACE_RUNS: return replace_space_runs(s, text, length, out, err);
		case STEP_PREPEND: return prefix(s, text, length, out, err);
		case STEP_MAP: return map_clusters(t, text, length, out, err);
		case STEP_SENTENCE: return text_sentence(t, text, length, out, err);
		case STEP_SPACE_MARKS: return mark_spaces(text, length, out, err);
		case STEP_PREFIX:
		case STEP_PREFIX_FIRST: return prefix(&space, text, length, out, err);
		case STEP_WORDS: return mark_words(text, length, out, err);
		default: return change_each(changes[s->kind], text, length, out, err);
	}
}

/* Steps that often leave a text as it is; then it is not copied. */
static bool
is_idle(const step *s, bool starts, const uint8_t *text, size_t length)
{
	switch ((enum step_kind) s->kind)
	{
		case STEP_CUT: return true;
		case STEP_NFC: return !text_maybe_decomposed(text, length);
		case STEP_PREFIX: return text[0] == ' ';
		case STEP_PREFIX_FIRST: return !starts || text[0] == ' ';
		default: return false;
	}
}

bool
steps_run(tokenizer *t, int32_t from, int32_t to, bool starts, const uint8_t **text, size_t *length, llm_error *err)
{
	const uint8_t *mapped = (const uint8_t *) t->mapped.bytes;
	text_buffer *out =
		mapped != NULL && *text >= mapped && *text < mapped + t->mapped.capacity ? &t->normal : &t->mapped;

	for (int32_t i = from; i<to && * length> 0; i++)
	{
		const step *s = &t->steps[i];

		if (s->kind == STEP_STRIP_LEFT || s->kind == STEP_STRIP_RIGHT)
			strip(s->kind, text, length);
		else if (!is_idle(s, starts, *text, *length))
		{
			out->size = 0;
			if (!run_step(t, s, *text, *length, out, err) || !text_check_length(out, err))
				return false;
			*text = (const uint8_t *) out->bytes;
			*length = out->size;
			out = out == &t->mapped ? &t->normal : &t->mapped;
		}
	}
	return true;
}
