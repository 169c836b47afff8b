/*
 * constraint.c
 *	  Masks of tokens, and how many tokens the end of a text takes.
 *
 * From each state there is one fixed shortest way to the end (automaton_nearest()), and the fewest
 * tokens that spell it are an upper bound of what is needed.  The first of these tokens leads to a
 * state whose way is the rest of the same bytes, so a text for which the bound is within what is
 * left always has a token after which that is so again.
 */
#include "constraint.h"

#include <stdlib.h>
#include <string.h>

#include "automaton.h"
#include "schema.h"

#define KEPT_BYTES ((size_t) 32 << 20) /* states and masks, then they are made anew */
#define NOT_KNOWN (-1)
#define POLL_NODES 4096

/* What is known of a state of the automaton. */
typedef struct note
{
	uint64_t *mask; /* tokens that are allowed when enough of them are left, NULL: not made */
	int64_t worst;  /* what these may leave to be written, in tokens at most */
	int64_t tokens; /* that spell the way to the end, or NOT_KNOWN */
} note;

/* A state on the way to the end, and the byte that is next on it. */
typedef struct way_step
{
	int32_t state;
	uint8_t byte;
} way_step;

struct constraint
{
	grammar *g;
	automaton *a;
	const vocabulary *v;
	int32_t words; /* of a mask */
	note *notes;   /* (note_count), of the automaton's states */
	int32_t note_count;
	size_t mask_bytes;
	uint64_t epoch;
	int64_t shortest;
	int32_t *walk; /* (longest + 1) states on the way to the node at hand */
	way_step *way; /* to the end of the text */
	size_t way_room;
	llm_poll poll; /* may be NULL */
	void *poll_arg;
};

static bool
no_memory(llm_error *err)
{
	return llm_fail(err, LLM_MEMORY, "out of memory while a text follows its schema");
}

static void
drop_notes(constraint *c)
{
	for (int32_t i = 0; i < c->note_count; i++)
		free(c->notes[i].mask);
	c->note_count = 0;
	c->mask_bytes = 0;
}

/* A note for each state that the automaton has by now. */
static bool
extend_notes(constraint *c, llm_error *err)
{
	int32_t count = automaton_states(c->a);
	note *grown;

	if (count <= c->note_count)
		return true;
	count += count / 2;
	grown = realloc(c->notes, count * sizeof(note));
	if (grown == NULL)
		return no_memory(err);
	c->notes = grown;
	while (c->note_count < count)
		c->notes[c->note_count++] = (note) {.tokens = NOT_KNOWN};
	return true;
}

/* ---- how many tokens the end takes ---- */

/* The child of a node, -1: the root, that has this byte; -1: none. */
static int32_t
child_of(const vocabulary *v, int32_t node, uint8_t byte)
{
	int32_t end = node < 0 ? v->node_count : v->nodes[node].skip;

	for (int32_t n = node + 1; n < end; n = v->nodes[n].skip)
		if (v->nodes[n].byte == byte)
			return n;
	return -1;
}

static bool
reserve_way(constraint *c, size_t count, llm_error *err)
{
	size_t room = c->way_room ? 2 * c->way_room : 256;
	way_step *grown;

	if (count < c->way_room)
		return true;
	grown = realloc(c->way, room * sizeof(way_step));
	if (grown == NULL)
		return no_memory(err);
	c->way = grown;
	c->way_room = room;
	return true;
}

/*
 * States of the way to the end, from one on, as far as what is not known depends on them.  Returns their number but
 * the last one, -1 after a failure.
 */
static int64_t
follow_way(constraint *c, int32_t state, llm_error *err)
{
	int32_t known = 0;
	int64_t count = 0;

	for (;; count++)
	{
		if (!reserve_way(c, (size_t) count, err) || !extend_notes(c, err))
			return -1;
		c->way[count].state = state;
		known = c->notes[state].tokens == NOT_KNOWN ? 0 : known + 1;
		if (automaton_distance(c->a, state) == 0 || known > c->v->longest)
			return count;
		c->way[count].byte = automaton_nearest(c->a, state);
		state = automaton_step(c->a, state, c->way[count].byte, err);
		if (state < 0)
			return -1;
	}
}

/* The fewest tokens from the state way[at] on, given those of the states behind it. */
static int64_t
fewest_tokens(const constraint *c, int64_t at, int64_t count)
{
	int64_t best = GRAMMAR_FAR;
	int32_t node = -1;

	for (int64_t i = at; i < count; i++)
	{
		int64_t behind = c->notes[c->way[i + 1].state].tokens;

		node = child_of(c->v, node, c->way[i].byte);
		if (node < 0)
			break;
		if (c->v->nodes[node].token >= 0 && behind + 1 < best)
			best = behind + 1;
	}
	return best;
}

/* Tokens to the end of a state that is not dead; GRAMMAR_FAR: they cannot spell it; -1 after a failure. */
static int64_t
tokens_to_end(constraint *c, int32_t state, llm_error *err)
{
	int64_t count;

	if (!extend_notes(c, err))
		return -1;
	if (c->notes[state].tokens != NOT_KNOWN)
		return c->notes[state].tokens;
	count = follow_way(c, state, err);
	if (count < 0)
		return -1;
	if (automaton_distance(c->a, c->way[count].state) == 0)
		c->notes[c->way[count].state].tokens = 0;
	for (int64_t i = count - 1; i >= 0; i--)
	{
		note *known = &c->notes[c->way[i].state];

		if (known->tokens == NOT_KNOWN)
			known->tokens = fewest_tokens(c, i, count);
	}
	return c->notes[state].tokens;
}

/* ---- masks ---- */

/*
 * Tokens that suffice from a state to the end.  Where each byte is a token, as many as bytes do; if they are no more
 * than `enough`, nobody needs to know better.
 */
static int64_t
needed(constraint *c, int32_t state, int64_t enough, llm_error *err)
{
	int64_t bytes = automaton_distance(c->a, state);

	return c->v->complete && bytes <= enough ? bytes : tokens_to_end(c, state, err);
}

static void
allow(const constraint *c, int32_t token, uint64_t *mask)
{
	for (; token >= 0; token = c->v->same[token])
		mask[token / 64] |= UINT64_C(1) << token % 64;
}

/* The tokens after which the rest takes at most `room` tokens. *worst: the most that it may take. */
static bool
make_mask(constraint *c, int32_t state, int64_t room, uint64_t *mask, int64_t *worst, llm_error *err)
{
	bool drops = c->v->drops_space && state == AUTOMATON_START;

	memset(mask, 0, c->words * sizeof(uint64_t));
	*worst = 0;
	c->walk[0] = state;
	for (int32_t n = 0, seen = 1; n < c->v->node_count; seen++)
	{
		const vocabulary_node *node = &c->v->nodes[n];
		bool dropped = drops && node->depth == 1 && node->byte == ' ';
		int32_t next = dropped ? state : automaton_step(c->a, c->walk[node->depth - 1], node->byte, err);

		if (next < 0)
			return false;
		if (seen % POLL_NODES == 0 && c->poll != NULL && c->poll(c->poll_arg))
			return llm_fail(err, LLM_CANCELLED, "generating a text was cancelled");
		if (next == AUTOMATON_DEAD)
		{
			n = node->skip;
			continue;
		}
		c->walk[node->depth] = next;
		n++;
		if (node->token >= 0 && !dropped)
		{
			int64_t rest = needed(c, next, room, err);

			if (rest < 0)
				return false;
			if (rest <= room)
				allow(c, node->token, mask);
			if (rest <= room && rest > *worst)
				*worst = rest;
		}
	}
	return true;
}

/* The mask of a state for any number of tokens that can be written. */
static bool
require_mask(constraint *c, int32_t state, llm_error *err)
{
	uint64_t *mask;
	int64_t worst;

	if (!extend_notes(c, err))
		return false;
	if (c->notes[state].mask != NULL)
		return true;
	mask = malloc(c->words * sizeof(uint64_t));
	if (mask == NULL)
		return no_memory(err);
	if (!make_mask(c, state, GRAMMAR_FAR - 1, mask, &worst, err))
	{
		free(mask);
		return false;
	}
	c->notes[state].mask = mask;
	c->notes[state].worst = worst;
	c->mask_bytes += c->words * sizeof(uint64_t);
	return true;
}

/* The place behind the text. */
static bool
read_text(constraint *c, constraint_place *at, const char *text, size_t size, llm_error *err)
{
	if (at->epoch != c->epoch || at->read > size)
		*at = (constraint_place) {.epoch = c->epoch, .state = AUTOMATON_START};
	for (; at->read < size; at->read++)
	{
		int32_t next = automaton_step(c->a, at->state, (uint8_t) text[at->read], err);

		if (next < 0)
			return false;
		if (next == AUTOMATON_DEAD)
			return llm_fail(err, LLM_INVALID, "the text does not satisfy its schema at byte %zu", at->read);
		at->state = next;
	}
	return true;
}

/* States are made anew when they have become too many; texts are then read again from their beginning. */
static bool
limit_memory(constraint *c, llm_error *err)
{
	if (automaton_bytes(c->a) + c->mask_bytes + c->note_count * sizeof(note) <= KEPT_BYTES)
		return true;
	drop_notes(c);
	c->epoch++;
	return automaton_reset(c->a, err);
}

static bool
is_empty(const constraint *c, const uint64_t *mask)
{
	for (int32_t i = 0; i < c->words; i++)
		if (mask[i] != 0)
			return false;
	return true;
}

bool
constraint_next(constraint *c, constraint_place *at, const char *text, size_t size, int64_t left, int32_t end,
				uint64_t *allowed, bool *more, llm_error *err)
{
	const note *known;
	int64_t worst;

	if (!limit_memory(c, err) || !read_text(c, at, text, size, err) || !require_mask(c, at->state, err))
		return false;
	known = &c->notes[at->state];
	if (left > known->worst)
		memcpy(allowed, known->mask, c->words * sizeof(uint64_t));
	else if (!make_mask(c, at->state, left - 1, allowed, &worst, err))
		return false;
	*more = automaton_goes_on(c->a, at->state) && !is_empty(c, allowed);
	if (automaton_distance(c->a, at->state) == 0 && end >= 0)
		allowed[end / 64] |= UINT64_C(1) << end % 64;
	return true;
}

/* ---- making one ---- */

/* Why nothing can be written: with all bytes something could be, or the schema forbids everything. */
static bool
explain_nothing(grammar *g, llm_error *err)
{
	bool all[256];
	const grammar_state *start = &g->states[g->rules[0].start];

	memset(all, true, sizeof(all));
	if (!grammar_measure(g, all, err))
		return false;
	if (start->distance < GRAMMAR_FAR && start->height <= GRAMMAR_DEPTH_MAX)
		return llm_fail(err, LLM_INVALID, "the model's tokenizer lacks characters that texts of this schema need");
	llm_fail(err, LLM_INVALID, "no text satisfies the schema");
	return llm_detail(err, "A part of it requires itself, or has more than %d levels.", GRAMMAR_DEPTH_MAX);
}

static bool
prepare(constraint *c, const json_t *schema, int32_t vocab, llm_error *err)
{
	const grammar_state *start;

	c->epoch = 1;
	c->words = (vocab + 63) / 64;
	c->walk = malloc((c->v->longest + 1) * sizeof(int32_t));
	if (c->walk == NULL)
		return no_memory(err);
	c->g = schema_grammar(schema, err);
	if (c->g == NULL || !grammar_measure(c->g, c->v->usable, err))
		return false;
	start = &c->g->states[c->g->rules[0].start];
	if (start->distance == GRAMMAR_FAR || start->height > GRAMMAR_DEPTH_MAX)
		return explain_nothing(c->g, err);
	c->a = automaton_new(c->g, c->v->usable, err);
	c->shortest = c->a ? tokens_to_end(c, AUTOMATON_START, err) : -1;
	if (c->shortest == GRAMMAR_FAR)
		return llm_fail(err, LLM_INVALID, "the model's tokenizer lacks characters that texts of this schema need");
	return c->shortest >= 0;
}

constraint *
constraint_new(const json_t *schema, const vocabulary *v, int32_t vocab, llm_error *err)
{
	constraint *c = calloc(1, sizeof(constraint));

	if (c == NULL)
	{
		no_memory(err);
		return NULL;
	}
	c->v = v;
	if (prepare(c, schema, vocab, err))
		return c;
	constraint_free(c);
	return NULL;
}

void
constraint_free(constraint *c)
{
	if (c == NULL)
		return;
	drop_notes(c);
	automaton_free(c->a);
	grammar_free(c->g);
	free(c->notes);
	free(c->walk);
	free(c->way);
	free(c);
}

void
constraint_set_poll(constraint *c, llm_poll poll, void *arg)
{
	c->poll = poll;
	c->poll_arg = arg;
}

int64_t
constraint_shortest(const constraint *c)
{
	return c->shortest;
}
