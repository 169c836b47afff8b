/*
 * automaton.c
 *	  Sets of places in a grammar, numbered as they are met.
 */
#include "automaton.h"

#include <stdlib.h>
#include <string.h>

#include "../feature/hash.h"

#define UNKNOWN (-1)
#define SET_MAX 20000 /* places of one state */
#define STATES_MAX 200000
#define FRAMES_MAX 2000000

/* Where a text stands within the rules: no padding, as they are compared and hashed. */
typedef struct place
{
	int32_t state; /* of the grammar */
	int32_t frame;
} place;

/* A rule that was called and has not ended. */
typedef struct frame
{
	int32_t state; /* where the caller goes on */
	int32_t below; /* frame of the caller */
	int32_t depth;
	int64_t distance; /* bytes to the end of the text behind the called rule */
} frame;

typedef struct set
{
	int32_t first; /* place */
	int32_t count;
	int64_t distance;
	bool ends;    /* the text may end here */
	int32_t *row; /* (256) next states, NULL: none was asked for */
} set;

/* Numbers of elements by their hash; -1: empty.  The capacity is a power of two. */
typedef struct number_table
{
	int32_t *slot;
	int32_t capacity;
	int32_t count;
} number_table;

struct automaton
{
	const grammar *g;
	bool usable[256];
	set *sets;
	int32_t set_count, set_room;
	place *places; /* of all sets */
	int32_t place_count, place_room;
	frame *frames; /* 0: below the text itself */
	int32_t frame_count, frame_room;
	number_table set_table, frame_table;
	/* The set that is being made. */
	place *todo; /* all that it was entered with */
	int32_t todo_count, todo_room;
	number_table todo_table;
	bool ends;
	size_t rows;
	llm_error err;
};

/* ---- memory ---- */

static bool
reserve(automaton *a, void **array, int32_t count, int32_t *room, size_t width)
{
	int32_t wanted = *room ? 2 * *room : 64;
	void *grown;

	if (count < *room)
		return true;
	grown = wanted < INT32_MAX / 4 ? realloc(*array, wanted * width) : NULL;
	if (grown == NULL)
		return llm_fail(&a->err, LLM_MEMORY, "out of memory while a text follows its schema");
	*array = grown;
	*room = wanted;
	return true;
}

static void
table_clear(number_table *t)
{
	t->count = 0;
	if (t->slot != NULL)
		memset(t->slot, 0xFF, t->capacity * sizeof(int32_t));
}

/* A table with room for one number more; where it grew all must be put in again, which *grew says. */
static bool
table_reserve(automaton *a, number_table *t, bool *grew)
{
	int32_t capacity = t->capacity ? 2 * t->capacity : 256;
	int32_t *slot;

	*grew = false;
	if (2 * t->count < t->capacity)
		return true;
	slot = malloc(capacity * sizeof(int32_t));
	if (slot == NULL)
		return llm_fail(&a->err, LLM_MEMORY, "out of memory while a text follows its schema");
	free(t->slot);
	t->slot = slot;
	t->capacity = capacity;
	table_clear(t);
	return *grew = true;
}

static void
table_put(number_table *t, uint64_t hash, int32_t number)
{
	uint64_t at = hash & (t->capacity - 1);

	while (t->slot[at] >= 0)
		at = (at + 1) & (t->capacity - 1);
	t->slot[at] = number;
	t->count++;
}

/* ---- frames ---- */

static uint64_t
pair_hash(int32_t x, int32_t y)
{
	uint64_t hash = ((uint64_t) (uint32_t) x << 32 | (uint32_t) y) * UINT64_C(0x9e3779b97f4a7c15);

	return hash ^ hash >> 29;
}

/* The frame of a rule called from `below`, going on at `state`; -1: out of memory. */
static int32_t
frame_of(automaton *a, int32_t state, int32_t below)
{
	number_table *t = &a->frame_table;
	bool grew;

	if (!table_reserve(a, t, &grew))
		return -1;
	for (int32_t i = 0; grew && i < a->frame_count; i++)
		table_put(t, pair_hash(a->frames[i].state, a->frames[i].below), i);
	for (uint64_t at = pair_hash(state, below);; at++)
	{
		int32_t i = t->slot[at & (t->capacity - 1)];

		if (i < 0)
			break;
		if (a->frames[i].state == state && a->frames[i].below == below)
			return i;
	}
	if (a->frame_count == FRAMES_MAX)
		llm_fail(&a->err, LLM_MEMORY, "the schema leaves too many possibilities open at once");
	if (a->err.code != LLM_OK || !reserve(a, (void **) &a->frames, a->frame_count, &a->frame_room, sizeof(frame)))
		return -1;
	a->frames[a->frame_count] = (frame) {.state = state,
										 .below = below,
										 .depth = a->frames[below].depth + 1,
										 .distance = a->frames[below].distance + a->g->states[state].distance};
	table_put(t, pair_hash(state, below), a->frame_count);
	return a->frame_count++;
}

/* ---- sets ---- */

/* Add a place to the set that is being made, unless it is there or could not be ended. */
static bool
enter(automaton *a, int32_t state, int32_t frame)
{
	const grammar_state *s = &a->g->states[state];
	number_table *t = &a->todo_table;
	bool grew;

	if (s->distance == GRAMMAR_FAR || a->frames[frame].depth + s->height > GRAMMAR_DEPTH_MAX)
		return true;
	if (!table_reserve(a, t, &grew))
		return false;
	for (int32_t i = 0; grew && i < a->todo_count; i++)
		table_put(t, pair_hash(a->todo[i].state, a->todo[i].frame), i);
	for (uint64_t at = pair_hash(state, frame);; at++)
	{
		int32_t i = t->slot[at & (t->capacity - 1)];

		if (i < 0)
			break;
		if (a->todo[i].state == state && a->todo[i].frame == frame)
			return true;
	}
	if (a->todo_count == SET_MAX)
		return llm_fail(&a->err, LLM_MEMORY, "the schema leaves too many possibilities open at once");
	if (!reserve(a, (void **) &a->todo, a->todo_count, &a->todo_room, sizeof(place)))
		return false;
	table_put(t, pair_hash(state, frame), a->todo_count);
	a->todo[a->todo_count++] = (place) {state, frame};
	return true;
}

/* Where a place leads without a byte. */
static bool
expand(automaton *a, place p)
{
	const frame *around = &a->frames[p.frame];

	if (a->g->states[p.state].end && p.frame == 0)
		a->ends = true;
	else if (a->g->states[p.state].end)
		return enter(a, around->state, around->below);
	for (int32_t e = a->g->states[p.state].edge; e >= 0; e = a->g->edges[e].next)
	{
		const grammar_edge *edge = &a->g->edges[e];
		int32_t inside;

		if (edge->kind == EDGE_EMPTY && !enter(a, edge->to, p.frame))
			return false;
		if (edge->kind != EDGE_RULE || a->g->states[edge->to].distance == GRAMMAR_FAR ||
			a->frames[p.frame].depth + a->g->states[edge->to].height > GRAMMAR_DEPTH_MAX)
			continue;
		inside = frame_of(a, edge->to, p.frame);
		if (inside < 0 || !enter(a, a->g->rules[edge->rule].start, inside))
			return false;
	}
	return true;
}

static bool
takes_bytes(const automaton *a, int32_t state)
{
	for (int32_t e = a->g->states[state].edge; e >= 0; e = a->g->edges[e].next)
		if (a->g->edges[e].kind == EDGE_BYTES)
			return true;
	return false;
}

static int
by_place(const void *x, const void *y)
{
	const place *p = x, *q = y;

	return p->state != q->state ? (p->state < q->state ? -1 : 1) : p->frame < q->frame ? -1 : p->frame > q->frame;
}

/* Follow all that leads on without a byte; keep what takes one, sorted. */
static bool
close_set(automaton *a)
{
	int32_t kept = 0;

	a->ends = false;
	for (int32_t i = 0; i < a->todo_count; i++)
		if (!expand(a, a->todo[i]))
			return false;
	for (int32_t i = 0; i < a->todo_count; i++)
		if (takes_bytes(a, a->todo[i].state))
			a->todo[kept++] = a->todo[i];
	a->todo_count = kept;
	qsort(a->todo, kept, sizeof(place), by_place);
	return true;
}

static uint64_t
set_hash(const place *places, int32_t count, bool ends)
{
	return hash_end(hash_bytes(HASH_START ^ ends, (const uint8_t *) places, count * sizeof(place)));
}

static int64_t
place_distance(const automaton *a, place p)
{
	return a->g->states[p.state].distance + a->frames[p.frame].distance;
}

static int32_t
add_set(automaton *a)
{
	set *made;
	int64_t distance = a->ends ? 0 : GRAMMAR_FAR;

	if (a->set_count == STATES_MAX)
		llm_fail(&a->err, LLM_MEMORY, "the schema leaves too many possibilities open at once");
	if (a->err.code != LLM_OK || !reserve(a, (void **) &a->sets, a->set_count, &a->set_room, sizeof(set)))
		return -1;
	made = &a->sets[a->set_count];
	*made = (set) {.first = a->place_count, .count = a->todo_count, .ends = a->ends};
	for (int32_t i = 0; i < a->todo_count; i++)
	{
		int64_t own = place_distance(a, a->todo[i]);

		if (!reserve(a, (void **) &a->places, a->place_count, &a->place_room, sizeof(place)))
			return -1;
		a->places[a->place_count++] = a->todo[i];
		distance = own < distance ? own : distance;
	}
	made->distance = distance;
	return a->set_count++;
}

/* The number of the set that was made, new or known. */
static int32_t
number_set(automaton *a)
{
	number_table *t = &a->set_table;
	uint64_t hash = set_hash(a->todo, a->todo_count, a->ends);
	int32_t number;
	bool grew;

	if (a->todo_count == 0 && !a->ends)
		return AUTOMATON_DEAD;
	if (!table_reserve(a, t, &grew))
		return -1;
	for (int32_t i = AUTOMATON_START; grew && i < a->set_count; i++)
		table_put(t, set_hash(a->places + a->sets[i].first, a->sets[i].count, a->sets[i].ends), i);
	for (uint64_t at = hash;; at++)
	{
		int32_t i = t->slot[at & (t->capacity - 1)];

		if (i < 0)
			break;
		if (a->sets[i].count == a->todo_count && a->sets[i].ends == a->ends &&
			(a->todo_count == 0 || memcmp(a->places + a->sets[i].first, a->todo, a->todo_count * sizeof(place)) == 0))
			return i;
	}
	number = add_set(a);
	if (number >= 0)
		table_put(t, hash, number);
	return number;
}

static void
begin_set(automaton *a)
{
	a->todo_count = 0;
	table_clear(&a->todo_table);
}

/* ---- the automaton ---- */

/* The dead state, and the first one. */
static bool
make_start(automaton *a)
{
	if (!reserve(a, (void **) &a->sets, 0, &a->set_room, sizeof(set)) ||
		!reserve(a, (void **) &a->frames, 0, &a->frame_room, sizeof(frame)))
		return false;
	a->sets[AUTOMATON_DEAD] = (set) {.distance = GRAMMAR_FAR};
	a->set_count = 1;
	a->frames[0] = (frame) {.state = -1, .below = -1};
	a->frame_count = 1;
	table_put(&a->frame_table, pair_hash(-1, -1), 0);
	begin_set(a);
	return enter(a, a->g->rules[0].start, 0) && close_set(a) && number_set(a) >= 0;
}

static void
clear(automaton *a)
{
	for (int32_t i = 0; i < a->set_count; i++)
		free(a->sets[i].row);
	a->set_count = a->place_count = a->frame_count = 0;
	a->rows = 0;
	table_clear(&a->set_table);
	table_clear(&a->frame_table);
}

automaton *
automaton_new(const grammar *g, const bool usable[256], llm_error *err)
{
	automaton *a = calloc(1, sizeof(automaton));
	bool grew;

	if (a != NULL)
	{
		a->g = g;
		memcpy(a->usable, usable, sizeof(a->usable));
		if (table_reserve(a, &a->frame_table, &grew) && table_reserve(a, &a->todo_table, &grew) && make_start(a))
			return a;
		*err = a->err;
	}
	else
		llm_fail(err, LLM_MEMORY, "out of memory while a text follows its schema");
	automaton_free(a);
	return NULL;
}

void
automaton_free(automaton *a)
{
	if (a == NULL)
		return;
	clear(a);
	free(a->sets);
	free(a->places);
	free(a->frames);
	free(a->todo);
	free(a->set_table.slot);
	free(a->frame_table.slot);
	free(a->todo_table.slot);
	free(a);
}

bool
automaton_reset(automaton *a, llm_error *err)
{
	clear(a);
	a->err.code = LLM_OK;
	if (make_start(a))
		return true;
	*err = a->err;
	return false;
}

/* The state after the byte, which was not asked for before. */
static int32_t
make_step(automaton *a, int32_t state, uint8_t byte)
{
	begin_set(a);
	for (int32_t i = 0; i < a->sets[state].count; i++)
	{
		place p = a->places[a->sets[state].first + i];

		for (int32_t e = a->g->states[p.state].edge; e >= 0; e = a->g->edges[e].next)
		{
			const grammar_edge *edge = &a->g->edges[e];

			if (edge->kind == EDGE_BYTES && edge->low <= byte && byte <= edge->high && !enter(a, edge->to, p.frame))
				return -1;
		}
	}
	return close_set(a) ? number_set(a) : -1;
}

int32_t
automaton_step(automaton *a, int32_t state, uint8_t byte, llm_error *err)
{
	int32_t next;

	if (state == AUTOMATON_DEAD)
		return AUTOMATON_DEAD;
	if (a->sets[state].row == NULL)
	{
		int32_t *row = malloc(256 * sizeof(int32_t));

		if (row == NULL)
		{
			llm_fail(err, LLM_MEMORY, "out of memory while a text follows its schema");
			return -1;
		}
		memset(row, 0xFF, 256 * sizeof(int32_t));
		a->sets[state].row = row;
		a->rows++;
	}
	next = a->sets[state].row[byte];
	if (next != UNKNOWN)
		return next;
	next = make_step(a, state, byte);
	if (next < 0)
	{
		*err = a->err;
		a->err.code = LLM_OK;
		return -1;
	}
	return a->sets[state].row[byte] = next;
}

int64_t
automaton_distance(const automaton *a, int32_t state)
{
	return a->sets[state].distance;
}

bool
automaton_goes_on(const automaton *a, int32_t state)
{
	return a->sets[state].count > 0;
}

uint8_t
automaton_nearest(const automaton *a, int32_t state)
{
	const set *s = &a->sets[state];
	int best = 256;

	for (int32_t i = 0; i < s->count; i++)
	{
		place p = a->places[s->first + i];

		for (int32_t e = a->g->states[p.state].edge; e >= 0; e = a->g->edges[e].next)
		{
			const grammar_edge *edge = &a->g->edges[e];

			if (edge->kind != EDGE_BYTES || a->g->states[edge->to].distance == GRAMMAR_FAR ||
				a->g->states[edge->to].distance + a->frames[p.frame].distance != s->distance - 1 ||
				a->frames[p.frame].depth + a->g->states[edge->to].height > GRAMMAR_DEPTH_MAX)
				continue;
			for (int byte = edge->low; byte <= edge->high && byte < best; byte++)
				if (a->usable[byte])
					best = byte;
		}
	}
	return (uint8_t) best;
}

int32_t
automaton_states(const automaton *a)
{
	return a->set_count;
}

size_t
automaton_bytes(const automaton *a)
{
	return a->rows * 256 * sizeof(int32_t) + a->place_count * sizeof(place) + a->frame_count * sizeof(frame) +
		   a->set_count * sizeof(set);
}
