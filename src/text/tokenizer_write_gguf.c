/*
 * tokenizer_write_gguf.c
 *	  A tokenizer as the keys of a GGUF file, the way of tokenizer_gguf.c back.
 *
 * Only what readers of such files do themselves can be said: a rule by which texts are cut by its name, and
 * what SentencePiece and BERT do to texts by that of their models.
 */
#include "tokenizer_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

#define KEY(name) "tokenizer.ggml." name

/* Numbers of tokenizer.ggml.token_type. */
static const int32_t types[TOKEN_TYPES] = {
	[TOKEN_NORMAL] = 1, [TOKEN_SPECIAL] = 3, [TOKEN_ADDED] = 4,
	[TOKEN_BYTE] = 6,   [TOKEN_UNUSED] = 5,  [TOKEN_ADDED_WORD] = 4,
};

#define TYPE_UNKNOWN 2
#define TYPE_UNUSED 5

static bool
cannot(llm_error *err, const char *what)
{
	llm_fail(err, LLM_INVALID, "a GGUF file cannot say that %s", what);
	return llm_hint(err, "Export with format safetensors.");
}

/* ---- models ---- */

typedef struct model
{
	const char *name, *rule; /* rule: of gpt2 */
	bool scores, merges, phantom;
} model;

static bool
choose_bytes(const tokenizer *t, model *m, llm_error *err)
{
	bool whole = (tokenizer_flags(t) & FLAG_IGNORE_MERGES) != 0;

	m->name = "gpt2";
	m->merges = true;
	switch (tokenizer_pretokenizer(t))
	{
		case PRETOKENIZER_GPT2: m->rule = "gpt-2"; break;
		case PRETOKENIZER_LLAMA3: m->rule = whole ? "llama-bpe" : "smaug-bpe"; break;
		case PRETOKENIZER_QWEN2: m->rule = "qwen2"; break;
		case PRETOKENIZER_GPT2_DIGITS: m->rule = "smollm"; break;
		default: return cannot(err, "texts are not cut before they are merged");
	}
	return whole == (strcmp(m->rule, "llama-bpe") == 0) || cannot(err, "a piece that is a token is that one");
}

static bool
choose_model(const tokenizer *t, model *m, llm_error *err)
{
	*m = (model) {NULL};
	switch (tokenizer_get_kind(t))
	{
		case TOKENIZER_BPE:
			if (!(tokenizer_flags(t) & FLAG_CHARACTERS))
				return choose_bytes(t, m, err);
			m->name = "llama";
			m->scores = true;
			break;
		case TOKENIZER_UNIGRAM:
			m->name = "t5";
			m->scores = true;
			break;
		case TOKENIZER_WORDPIECE:
			m->name = "bert";
			m->phantom = true;
			return true;
		default: return cannot(err, "tokens are single characters or bytes");
	}
	return (tokenizer_flags(t) & FLAG_SPACE_MARKS) || cannot(err, "words have no marks");
}

/* ---- what happens to a text ---- */

static bool
is_plain_step(const step *s, const model *m)
{
	if (s->kind == STEP_CUT || (s->kind == STEP_NFC && m->rule && strcmp(m->rule, "qwen2") == 0))
		return true;
	if (!m->scores)
		return false;
	return s->kind == STEP_SENTENCE || s->kind == STEP_SPACE_MARKS || s->kind == STEP_PREFIX ||
		   s->kind == STEP_PREFIX_FIRST || s->kind == STEP_WORDS || s->kind == STEP_MAP ||
		   s->kind == STEP_STRIP_LEFT || s->kind == STEP_STRIP_RIGHT || s->kind == STEP_SPACE_RUNS ||
		   (s->kind == STEP_PREPEND && s->length[1] == SPACE_MARK_BYTES);
}

static bool
has_step(const tokenizer *t, enum step_kind kind)
{
	for (int32_t i = 0; i < t->step_count; i++)
		if (t->steps[i].kind == kind)
			return true;
	return false;
}

static bool
check_steps(const tokenizer *t, const model *m, llm_error *err)
{
	for (int32_t i = 0; i < t->step_count; i++)
		if (!is_plain_step(&t->steps[i], m))
			return cannot(err, "texts are changed as this tokenizer does");
	return true;
}

static void
put_steps(const tokenizer *t, gguf_writer *w)
{
	bool sentence = t->step_count == 0 || steps_are_sentence(t);
	uint32_t flags = tokenizer_flags(t);

	gguf_writer_bool(w, KEY("add_space_prefix"),
					 sentence ? (flags & FLAG_PREFIX_SPACE) != 0
							  : has_step(t, STEP_PREFIX) || has_step(t, STEP_PREFIX_FIRST) ||
									has_step(t, STEP_PREPEND) || has_step(t, STEP_WORDS));
	gguf_writer_bool(w, KEY("remove_extra_whitespaces"),
					 sentence ? (flags & FLAG_SPACES_ONCE) != 0
							  : has_step(t, STEP_SPACE_RUNS) || has_step(t, STEP_WORDS));
	if (t->character_map != NULL)
		gguf_writer_bytes(w, KEY("precompiled_charsmap"),
						  (const uint8_t *) t->header + t->header->part[SECTION_CHARACTER_MAP].offset,
						  section_count(t->header, SECTION_CHARACTER_MAP));
}

/* ---- tokens ---- */

/* Words with a mark in front, what goes on with one without. */
static bool
put_phantom(const tokenizer *t, int32_t id, text_buffer *room, gguf_writer *w, llm_error *err)
{
	size_t mark = sizeof(CONTINUATION) - 1;
	text_buffer marked = {0};
	bool goes_on;

	if (tokenizer_type(t, id) != TOKEN_NORMAL)
	{
		gguf_writer_element(w, room->bytes, room->size);
		return true;
	}
	goes_on = room->size > mark && memcmp(room->bytes, CONTINUATION, mark) == 0;
	if (!goes_on && (!text_buffer_add(&marked, SPACE_MARK, SPACE_MARK_BYTES, err) ||
					 !text_buffer_add(&marked, room->bytes, room->size, err)))
		return false;
	if (goes_on)
		gguf_writer_element(w, room->bytes + mark, room->size - mark);
	else
		gguf_writer_element(w, marked.bytes, marked.size);
	free(marked.bytes);
	return true;
}

static bool
put_texts(const tokenizer *t, const model *m, int32_t vocab, gguf_writer *w, llm_error *err)
{
	text_buffer room = {0};
	bool ok = true;

	gguf_writer_strings(w, KEY("tokens"), vocab);
	for (int32_t id = 0; ok && id < vocab; id++)
	{
		char pad[24];

		snprintf(pad, sizeof(pad), "[PAD%d]", id);
		if (id >= tokenizer_size(t))
			gguf_writer_element(w, pad, strlen(pad));
		else if (!tokenizer_spelled(t, id, &room, err))
			ok = false;
		else if (m->phantom)
			ok = put_phantom(t, id, &room, w, err);
		else
			gguf_writer_element(w, room.bytes, room.size);
	}
	free(room.bytes);
	return ok;
}

static bool
put_types(const tokenizer *t, const model *m, int32_t vocab, gguf_writer *w, llm_error *err)
{
	int32_t *numbers = malloc(vocab * sizeof(int32_t));

	if (numbers == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while writing a tokenizer");
	for (int32_t id = 0; id < vocab; id++)
		numbers[id] = id < tokenizer_size(t) ? types[tokenizer_type(t, id)] : TYPE_UNUSED;
	if (m->scores && tokenizer_special(t, SPECIAL_UNKNOWN) >= 0)
		numbers[tokenizer_special(t, SPECIAL_UNKNOWN)] = TYPE_UNKNOWN;
	gguf_writer_i32s(w, KEY("token_type"), numbers, vocab);
	free(numbers);
	return true;
}

/* Of merges, what is merged first has the highest score. */
static bool
put_scores(const tokenizer *t, int32_t vocab, gguf_writer *w, llm_error *err)
{
	float *scores = calloc(vocab, sizeof(float));
	int32_t count;
	tokenizer_merge *merges = tokenizer_merges(t, &count, err);

	if (scores == NULL || merges == NULL)
	{
		free(scores);
		free(merges);
		return llm_fail(err, LLM_MEMORY, "out of memory while writing a tokenizer");
	}
	for (int32_t i = count - 1; i >= 0; i--)
		scores[merges[i].id] = (float) -merges[i].rank;
	for (int32_t id = 0; t->score && id < tokenizer_size(t); id++)
		scores[id] = (float) t->score[id];
	gguf_writer_f32s(w, KEY("scores"), scores, vocab);
	free(scores);
	free(merges);
	return true;
}

/* "left right" */
static bool
put_merges(const tokenizer *t, gguf_writer *w, llm_error *err)
{
	text_buffer whole = {0}, half = {0};
	int32_t count;
	tokenizer_merge *merges = tokenizer_merges(t, &count, err);
	bool ok = merges != NULL;

	gguf_writer_strings(w, KEY("merges"), ok ? count : 0);
	for (int32_t i = 0; ok && i < count; i++)
	{
		ok = tokenizer_spelled(t, merges[i].left, &whole, err) && text_buffer_add(&whole, " ", 1, err) &&
			 tokenizer_spelled(t, merges[i].right, &half, err) && text_buffer_add(&whole, half.bytes, half.size, err);
		if (ok)
			gguf_writer_element(w, whole.bytes, whole.size);
	}
	free(whole.bytes);
	free(half.bytes);
	free(merges);
	return ok;
}

/* ---- roles and frames ---- */

static const struct
{
	special_token name;
	const char *key;
} roles[] = {
	{SPECIAL_UNKNOWN, KEY("unknown_token_id")}, {SPECIAL_BEGIN, KEY("bos_token_id")},
	{SPECIAL_END, KEY("eos_token_id")},         {SPECIAL_PADDING, KEY("padding_token_id")},
	{SPECIAL_CLASS, KEY("cls_token_id")},       {SPECIAL_SEPARATOR, KEY("seperator_token_id")},
	{SPECIAL_MASK, KEY("mask_token_id")},
};

/* What stands before a text and behind it. */
static bool
put_frame(const tokenizer *t, bool whole, gguf_writer *w, llm_error *err)
{
	size_t count = t->frame ? section_count(t->header, SECTION_FRAME) : 0, ones = 0, text = 0;
	int32_t begin = -1, end = whole && !tokenizer_has_frame(t, false) ? tokenizer_special(t, SPECIAL_END) : -1;

	while (ones < count && t->frame[ones].id != FRAME_PAIR)
		ones++;
	while (text < ones && t->frame[text].id != FRAME_FIRST)
		text++;
	if (text > 1 || (ones > 0 && ones - text > 2))
		return cannot(err, "several tokens stand before a text or behind it");
	if (text == 1)
		begin = t->frame[0].id;
	if (ones > text + 1)
		end = t->frame[text + 1].id;
	if ((begin >= 0 && begin != tokenizer_special(t, SPECIAL_BEGIN)) ||
		(end >= 0 && end != tokenizer_special(t, SPECIAL_END)))
		return cannot(err, "another token than that of a beginning or an end stands around a text");
	gguf_writer_bool(w, KEY("add_bos_token"), begin >= 0);
	gguf_writer_bool(w, KEY("add_eos_token"), end >= 0);
	return true;
}

static void
put_roles(const tokenizer *t, gguf_writer *w)
{
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (tokenizer_special(t, roles[i].name) >= 0)
			gguf_writer_u32(w, roles[i].key, (uint32_t) tokenizer_special(t, roles[i].name));
}

bool
tokenizer_to_gguf(const tokenizer *t, bool whole, int32_t vocab, gguf_writer *w, llm_error *err)
{
	model m;

	if (!choose_model(t, &m, err) || !check_steps(t, &m, err))
		return false;
	gguf_writer_string(w, KEY("model"), m.name, strlen(m.name));
	if (m.rule != NULL)
		gguf_writer_string(w, KEY("pre"), m.rule, strlen(m.rule));
	put_roles(t, w);
	if (m.scores)
		put_steps(t, w);
	return (m.phantom || put_frame(t, whole, w, err)) && put_texts(t, &m, vocab, w, err) &&
		   put_types(t, &m, vocab, w, err) && (!m.scores || put_scores(t, vocab, w, err)) &&
		   (!m.merges || put_merges(t, w, err));
}
