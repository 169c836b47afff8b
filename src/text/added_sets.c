/*
 * added_sets.c
 *	  The sets of tokens that added.c looks for, made when a tokenizer is opened.
 *
 * Most look for their text as it comes; some (ADDED_NORMALISED) for its normal form in the normal
 * form of the text, which is what the steps of the tokenizer make of it.
 */
#include <stdlib.h>
#include <string.h>

#include "steps.h"

/* A token of one byte may be followed by anything. */
static void
add_beginning(added_set *set, const uint8_t *text, uint32_t length)
{
	uint64_t *row = set->begins + text[0] * 4;

	if (length > 1)
		row[text[1] >> 6] |= UINT64_C(1) << (text[1] & 63);
	else
		memset(row, 0xFF, 4 * sizeof(uint64_t));
}

/* Of tokens with one text the first stays. */
static bool
add_text(added_set *set, int32_t id, const uint8_t *text, size_t length, bool special, llm_error *err)
{
	uint64_t hash = token_hash(text, length);
	uint32_t at = (uint32_t) hash, probes = 0;

	if (length == 0)
		return true;
	if (length > ADDED_LENGTH_MAX)
		return llm_fail(err, LLM_CORRUPT, "the tokenizer of the model is damaged: a special token is too long");
	if (added_find(set, hash, text, (uint32_t) length) >= 0)
		return true;
	if (!text_buffer_add(&set->text, text, length, err))
		return false;
	for (at &= set->mask; set->slot[at] != 0 && probes < PROBES; probes++)
		at = (at + 1) & set->mask;
	if (probes == PROBES)
		return llm_fail(err, LLM_CORRUPT,
						"the tokenizer of the model is damaged: special tokens are made to collide");
	set->token[set->count] = (added_token) {(uint32_t) (set->text.size - length), (uint32_t) length, id};
	set->slot[at] = (uint32_t) ++set->count;
	set->always = set->always || !special;
	set->length[length] = true;
	if (length > set->longest)
		set->longest = (uint32_t) length;
	add_beginning(set, text, (uint32_t) length);
	return true;
}

/* A word of SentencePiece is stored with spaces for U+2581, but looked for as its file writes it. */
static bool
source_text(const tokenizer *t, int32_t id, text_buffer *out, llm_error *err)
{
	const uint8_t *text = t->text + t->start[id];
	uint32_t length = token_length(t, id);
	bool marks = t->type[id] == TOKEN_ADDED_WORD && (t->header->flags & FLAG_SPACE_MARKS);
	bool ok = true;

	out->size = 0;
	for (uint32_t i = 0; ok && i < length; i++)
		ok = marks && text[i] == ' ' ? text_buffer_add(out, SPACE_MARK, SPACE_MARK_BYTES, err)
									 : text_buffer_add(out, text + i, 1, err);
	return ok;
}

static bool
is_added(const tokenizer *t, int32_t id, bool special)
{
	return special ? t->type[id] == TOKEN_SPECIAL : t->type[id] == TOKEN_ADDED || t->type[id] == TOKEN_ADDED_WORD;
}

static bool
add_token(tokenizer *t, int32_t id, bool special, text_buffer *source, llm_error *err)
{
	bool normalised = t->added != NULL && (t->added[id] & ADDED_NORMALISED);
	const uint8_t *text;
	size_t length;

	if (!is_added(t, id, special))
		return true;
	if (normalised && steps_are_sentence(t))
		return add_text(&t->normalised, id, t->text + t->start[id], token_length(t, id), special, err);
	if (!source_text(t, id, source, err))
		return false;
	text = (const uint8_t *) source->bytes;
	length = source->size;
	if (!normalised || t->step_count == 0)
		return add_text(normalised ? &t->normalised : &t->raw, id, text, length, special, err);
	return steps_run(t, 0, t->cut_step, true, &text, &length, err) &&
		   add_text(&t->normalised, id, text, length, special, err);
}

static bool
make_room(added_set *set, int32_t count, llm_error *err)
{
	uint32_t slots = 8;

	while (slots < (uint32_t) count * 4)
		slots *= 2;
	set->mask = slots - 1;
	set->slot = calloc(slots, sizeof(uint32_t));
	set->token = calloc(count + 1, sizeof(added_token));
	return (set->slot != NULL && set->token != NULL) ||
		   llm_fail(err, LLM_MEMORY, "out of memory while opening a tokenizer");
}

bool
added_sets_make(tokenizer *t, llm_error *err)
{
	text_buffer source = {0};
	int32_t raw = 0, normalised = 0;
	bool ok;

	for (int32_t id = 0; id < t->header->size; id++)
		if (is_added(t, id, false) || is_added(t, id, true))
		{
			bool normal = t->added != NULL && (t->added[id] & ADDED_NORMALISED);

			raw += !normal;
			normalised += normal;
		}
	ok = make_room(&t->raw, raw, err) && make_room(&t->normalised, normalised, err);
	for (int special = 1; ok && special >= 0; special--)
		for (int32_t id = 0; ok && id < t->header->size; id++)
			ok = add_token(t, id, special, &source, err);
	free(source.bytes);
	return ok;
}

static void
free_set(added_set *set)
{
	free(set->token);
	free(set->slot);
	free(set->text.bytes);
}

void
added_sets_free(tokenizer *t)
{
	free_set(&t->raw);
	free_set(&t->normalised);
}
