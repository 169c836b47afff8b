/*
 * scheduler.c
 *	  Texts through one decoder.
 */
#include "scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "pages.h"

#define ROW_NONE (-1)

typedef struct text
{
	bool open;
	bool waits;     /* for logits; without, it may well have lost its pages */
	int32_t length; /* tokens given, of which the first */
	int32_t fed;    /* have keys and values */
	int32_t pages;
	int64_t turn;    /* when it was given tokens */
	int32_t row;     /* in the last pass, ROW_NONE: not done by it */
	int32_t *ids;    /* (context) */
	int32_t *page;   /* (most pages of a text) */
	uint64_t *chain; /* of full pages */
} text;

struct scheduler
{
	decoder *decoder;
	decoder_shape shape;
	int32_t context, text_count, piece;
	int64_t turns;
	pages *pages;
	text *texts;       /* (text_count) */
	int32_t *order;    /* (text_count): those that wait, the first given first */
	decoder_text *run; /* (shape.texts): of a pass, */
	int32_t *of_run;   /* and whose they are */
	int32_t running;
	scheduler_counts counts;
};

static int32_t
pages_for(int32_t tokens)
{
	return (tokens + DECODER_PAGE - 1) / DECODER_PAGE;
}

static bool
allocate(scheduler *s)
{
	s->texts = calloc(s->text_count, sizeof(text));
	s->order = calloc(s->text_count, sizeof(int32_t));
	s->run = calloc(s->shape.texts, sizeof(decoder_text));
	s->of_run = calloc(s->shape.texts, sizeof(int32_t));
	if (!s->texts || !s->order || !s->run || !s->of_run)
		return false;
	for (int32_t i = 0; i < s->text_count; i++)
	{
		text *t = &s->texts[i];

		t->row = ROW_NONE;
		t->ids = malloc(s->context * sizeof(int32_t));
		t->page = malloc(pages_for(s->context) * sizeof(int32_t));
		t->chain = malloc(pages_for(s->context) * sizeof(uint64_t));
		if (!t->ids || !t->page || !t->chain)
			return false;
	}
	return true;
}

scheduler *
scheduler_new(decoder *d, const decoder_shape *shape, int32_t context, int32_t texts, int32_t piece, llm_error *err)
{
	scheduler *s;

	if (pages_for(context) > shape->pages || texts < 1 || piece < 1)
	{
		llm_fail(err, LLM_INVALID, "%d pages are too few for a context of %d", shape->pages, context);
		return NULL;
	}
	s = calloc(1, sizeof(scheduler));
	if (s)
	{
		*s = (scheduler) {.decoder = d, .shape = *shape, .context = context, .text_count = texts, .piece = piece};
		s->pages = pages_new(shape->pages, err);
	}
	if (s && s->pages && allocate(s))
		return s;
	scheduler_free(s);
	llm_fail(err, LLM_MEMORY, "out of memory");
	return NULL;
}

void
scheduler_free(scheduler *s)
{
	if (!s)
		return;
	for (int32_t i = 0; s->texts && i < s->text_count; i++)
	{
		free(s->texts[i].ids);
		free(s->texts[i].page);
		free(s->texts[i].chain);
	}
	free(s->texts);
	free(s->order);
	free(s->run);
	free(s->of_run);
	pages_free(s->pages);
	free(s);
}

/* ---- one text ---- */

/* Leave a text its first pages. */
static void
drop_pages(scheduler *s, text *t, int32_t left)
{
	while (t->pages > left)
		pages_release(s->pages, t->page[--t->pages]);
	if (t->fed > left * DECODER_PAGE)
		t->fed = left * DECODER_PAGE;
}

int32_t
scheduler_open(scheduler *s)
{
	for (int32_t i = 0; i < s->text_count; i++)
	{
		text *t = &s->texts[i];

		if (t->open)
			continue;
		t->open = true;
		t->waits = false;
		t->length = t->fed = 0;
		t->row = ROW_NONE;
		return i;
	}
	return -1;
}

void
scheduler_close(scheduler *s, int32_t i)
{
	drop_pages(s, &s->texts[i], 0);
	s->texts[i].open = s->texts[i].waits = false;
}

/* A page that others read is not written from its middle on: its tokens are computed again into one of the text's own. */
static void
truncate(scheduler *s, text *t, int32_t keep)
{
	t->length = keep;
	if (keep >= t->fed)
		return;
	drop_pages(s, t, pages_for(keep));
	if (t->fed > keep)
		t->fed = keep;
	if (keep % DECODER_PAGE != 0 && t->pages == pages_for(keep) && pages_shared(s->pages, t->page[t->pages - 1]))
		drop_pages(s, t, t->pages - 1);
}

bool
scheduler_give(scheduler *s, int32_t i, int32_t keep, const int32_t *ids, int32_t count, llm_error *err)
{
	text *t = &s->texts[i];

	if (keep < 0 || keep > t->length || count < 1 || count > s->context - keep)
		return llm_fail(err, LLM_INVALID, "%d tokens behind %d of %d do not fit into a context of %d", count, keep,
						t->length, s->context);
	truncate(s, t, keep);
	memcpy(t->ids + keep, ids, count * sizeof(int32_t));
	t->length = keep + count;
	t->turn = ++s->turns;
	t->row = ROW_NONE;
	t->waits = true;
	return true;
}

/* Pages of others that a text begins with; its last token is left, as something must be computed. */
static void
find_pages(scheduler *s, text *t)
{
	uint64_t before = CHAIN_BEGIN;

	while (t->fed == t->pages * DECODER_PAGE && t->fed + DECODER_PAGE < t->length)
	{
		int32_t page;

		if (t->pages > 0)
			before = t->chain[t->pages - 1];
		page = pages_find(s->pages, before, t->ids + t->fed, &t->chain[t->pages]);
		if (page == PAGE_NONE)
			return;
		t->page[t->pages++] = page;
		t->fed += DECODER_PAGE;
		s->counts.shared += DECODER_PAGE;
	}
}

/* How many of so many tokens there are pages for. */
static int32_t
take_pages(scheduler *s, text *t, int32_t count)
{
	int32_t room;

	while (t->pages < pages_for(t->fed + count))
	{
		int32_t page = pages_take(s->pages);

		if (page == PAGE_NONE)
			break;
		t->page[t->pages++] = page;
	}
	room = t->pages * DECODER_PAGE - t->fed;
	return count < room ? count : room;
}

/* What was computed of a text. */
static void
advance(scheduler *s, text *t, int32_t count)
{
	int32_t full = t->fed / DECODER_PAGE;

	t->fed += count;
	s->counts.tokens += count;
	for (; full < t->fed / DECODER_PAGE; full++)
		t->chain[full] = pages_know(s->pages, t->page[full], full == 0 ? CHAIN_BEGIN : t->chain[full - 1],
									t->ids + full * DECODER_PAGE);
}

/* ---- a pass ---- */

/* Those that wait, by their turns. */
static int32_t
line_up(scheduler *s)
{
	int32_t count = 0;

	for (int32_t i = 0; i < s->text_count; i++)
	{
		int32_t at = count;

		if (!s->texts[i].waits)
			continue;
		for (; at > 0 && s->texts[s->order[at - 1]].turn > s->texts[i].turn; at--)
			s->order[at] = s->order[at - 1];
		s->order[at] = i;
		count++;
	}
	return count;
}

/* Up to `most` tokens of a text take part; how many do. */
static int32_t
take_part(scheduler *s, int32_t i, int32_t most)
{
	text *t = &s->texts[i];
	int32_t count = t->length - t->fed;

	if (s->running == s->shape.texts)
		return 0;
	count = take_pages(s, t, count < most ? count : most);
	if (count == 0)
		return 0;
	s->of_run[s->running] = i;
	s->run[s->running++] = (decoder_text) {
		.pages = t->page,
		.ids = t->ids + t->fed,
		.first = t->fed,
		.count = count,
		.wanted = t->fed + count == t->length,
	};
	return count;
}

/* Texts that go on, then pieces of prompts; tokens of the pass. */
static int32_t
compose(scheduler *s, int32_t waiting)
{
	int32_t room = s->shape.tokens, piece = s->piece;

	s->running = 0;
	for (int32_t i = 0; i < waiting; i++)
		find_pages(s, &s->texts[s->order[i]]);
	for (int32_t i = 0; i < waiting && room > 0; i++)
		if (s->texts[s->order[i]].length - s->texts[s->order[i]].fed == 1)
			room -= take_part(s, s->order[i], 1);
	for (int32_t i = 0; i < waiting && room > 0 && piece > 0; i++)
		if (s->texts[s->order[i]].length - s->texts[s->order[i]].fed > 1)
		{
			int32_t count = take_part(s, s->order[i], room < piece ? room : piece);

			room -= count;
			piece -= count;
		}
	return s->shape.tokens - room;
}

/* Take the pages of a text: one that nobody waits for, by the time since it was given tokens, or else the youngest. */
static bool
preempt(scheduler *s, int32_t oldest)
{
	text *victim = NULL;

	for (int32_t i = 0; i < s->text_count; i++)
	{
		text *t = &s->texts[i];
		bool idle = !t->waits;

		if (t->pages == 0 || i == oldest)
			continue;
		if (!victim || (idle && victim->waits) || (idle == !victim->waits && (t->turn < victim->turn) == idle))
			victim = t;
	}
	if (!victim)
		return false;
	drop_pages(s, victim, 0);
	s->counts.preempted++;
	return true;
}

/* Nobody knows what is in the pages. */
static void
lose_pass(scheduler *s)
{
	for (int32_t i = 0; i < s->running; i++)
		drop_pages(s, &s->texts[s->of_run[i]], 0);
	s->running = 0;
}

bool
scheduler_waits(const scheduler *s)
{
	for (int32_t i = 0; i < s->text_count; i++)
		if (s->texts[i].waits)
			return true;
	return false;
}

bool
scheduler_pass(scheduler *s, llm_error *err)
{
	int32_t waiting = line_up(s);

	for (int32_t i = 0; i < s->text_count; i++)
		s->texts[i].row = ROW_NONE;
	while (waiting > 0 && compose(s, waiting) == 0)
		if (!preempt(s, s->order[0]))
			return llm_fail(err, LLM_MEMORY, "no page of keys and values is free");
	if (waiting == 0)
		return true;
	if (!decoder_run(s->decoder, s->run, s->running, err))
	{
		if (err->code != LLM_CANCELLED)
			lose_pass(s);
		return false;
	}
	s->counts.passes++;
	for (int32_t i = 0; i < s->running; i++)
	{
		text *t = &s->texts[s->of_run[i]];

		advance(s, t, s->run[i].count);
		if (s->run[i].wanted)
		{
			t->row = i;
			t->waits = false;
		}
	}
	return true;
}

bool
scheduler_done(const scheduler *s, int32_t i)
{
	return s->texts[i].row != ROW_NONE;
}

const float *
scheduler_logits(const scheduler *s, int32_t i)
{
	return decoder_logits(s->decoder, s->texts[i].row);
}

scheduler_counts
scheduler_count(const scheduler *s)
{
	return s->counts;
}
