/*
 * grammar.c
 *	  Build grammars, and measure how far the end is.
 *
 * The first failure is kept and everything after it does nothing, with numbers that are valid, so
 * that builders need not look.
 */
#include "grammar.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 256

grammar *
grammar_new(llm_error *err)
{
	grammar *g = calloc(1, sizeof(grammar));

	if (g == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory for a grammar");
	return g;
}

void
grammar_free(grammar *g)
{
	if (g == NULL)
		return;
	free(g->states);
	free(g->edges);
	free(g->rules);
	free(g);
}

/* Room for one element more. */
static bool
reserve(grammar *g, void **array, int32_t count, int32_t *room, size_t width)
{
	int32_t wanted = *room ? 2 * *room : FIRST_ROOM;
	void *grown;

	if (g->err.code != LLM_OK)
		return false;
	if (count < *room)
		return true;
	if (count >= 8 * GRAMMAR_STATES_MAX)
		return llm_fail(&g->err, LLM_MEMORY, "the schema is too large");
	grown = realloc(*array, wanted * width);
	if (grown == NULL)
		return llm_fail(&g->err, LLM_MEMORY, "out of memory for a grammar");
	*array = grown;
	*room = wanted;
	return true;
}

int32_t
grammar_state_new(grammar *g)
{
	if (!reserve(g, (void **) &g->states, g->state_count, &g->state_room, sizeof(grammar_state)))
		return 0;
	if (g->state_count == GRAMMAR_STATES_MAX)
	{
		llm_fail(&g->err, LLM_MEMORY, "the schema is too large: its texts need more than %d states",
				 GRAMMAR_STATES_MAX);
		llm_hint(&g->err, "Use smaller numbers for maxLength, maxItems and in patterns, or leave them out.");
		return 0;
	}
	g->states[g->state_count] = (grammar_state) {.edge = -1, .distance = GRAMMAR_FAR};
	return g->state_count++;
}

int32_t
grammar_rule(grammar *g)
{
	int32_t start = grammar_state_new(g), end = grammar_state_new(g);

	if (!reserve(g, (void **) &g->rules, g->rule_count, &g->rule_room, sizeof(grammar_rule_ends)))
		return 0;
	g->rules[g->rule_count] = (grammar_rule_ends) {start, end};
	g->states[end].end = true;
	return g->rule_count++;
}

static void
add_edge(grammar *g, grammar_edge edge)
{
	if (!reserve(g, (void **) &g->edges, g->edge_count, &g->edge_room, sizeof(grammar_edge)))
		return;
	edge.next = g->states[edge.from].edge;
	g->states[edge.from].edge = g->edge_count;
	g->edges[g->edge_count++] = edge;
}

void
grammar_bytes(grammar *g, int32_t from, int low, int high, int32_t to)
{
	add_edge(
		g, (grammar_edge) {.kind = EDGE_BYTES, .from = from, .to = to, .low = (uint8_t) low, .high = (uint8_t) high});
}

void
grammar_empty(grammar *g, int32_t from, int32_t to)
{
	add_edge(g, (grammar_edge) {.kind = EDGE_EMPTY, .from = from, .to = to});
}

void
grammar_call(grammar *g, int32_t from, int32_t rule, int32_t to)
{
	add_edge(g, (grammar_edge) {.kind = EDGE_RULE, .from = from, .to = to, .rule = rule});
}

void
grammar_text(grammar *g, int32_t from, const char *bytes, size_t length, int32_t to)
{
	for (size_t i = 0; i < length; i++)
	{
		int32_t next = i + 1 == length ? to : grammar_state_new(g);

		grammar_bytes(g, from, (uint8_t) bytes[i], (uint8_t) bytes[i], next);
		from = next;
	}
	if (length == 0)
		grammar_empty(g, from, to);
}

static int
by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* States on the way of the last text are shared with the next one as far as they begin alike. */
void
grammar_texts(grammar *g, int32_t from, char **texts, int32_t count, int32_t to)
{
	size_t longest = 0;
	int32_t *way;

	for (int32_t i = 0; i < count; i++)
		longest = strlen(texts[i]) > longest ? strlen(texts[i]) : longest;
	way = malloc((longest + 1) * sizeof(int32_t));
	if (way == NULL)
	{
		llm_fail(&g->err, LLM_MEMORY, "out of memory for a grammar");
		return;
	}
	qsort(texts, count, sizeof(char *), by_bytes);
	way[0] = from;
	for (int32_t i = 0; i < count; i++)
	{
		size_t length = strlen(texts[i]), same = 0;

		while (i > 0 && same < length && texts[i][same] == texts[i - 1][same])
			same++;
		for (size_t at = same; at < length; at++)
		{
			way[at + 1] = grammar_state_new(g);
			grammar_bytes(g, way[at], (uint8_t) texts[i][at], (uint8_t) texts[i][at], way[at + 1]);
		}
		if (i == 0 || same < length) /* otherwise it is there already */
			grammar_empty(g, way[length], to);
	}
	free(way);
}

bool
grammar_finish(const grammar *g, llm_error *err)
{
	if (g->err.code == LLM_OK)
		return true;
	*err = g->err;
	return false;
}

/* ---- distances ---- */

/* A state that may be so far from its end, as a heap's item. */
typedef struct guess
{
	int32_t distance;
	int32_t height;
	int32_t state;
} guess;

typedef struct survey
{
	grammar *g;
	guess *heap;
	int32_t heap_count;
	bool *known;      /* (states) */
	int32_t *into;    /* (states) first edge that ends here, */
	int32_t *into_on; /* (edges) and the next one */
	int32_t *calls;   /* (states) first edge whose rule starts here, */
	int32_t *calls_on;
} survey;

static bool
nearer(const guess *a, const guess *b)
{
	return a->distance != b->distance ? a->distance < b->distance : a->height < b->height;
}

static void
push_guess(survey *s, guess item)
{
	int32_t at = s->heap_count++;

	for (; at > 0 && nearer(&item, &s->heap[(at - 1) / 2]); at = (at - 1) / 2)
		s->heap[at] = s->heap[(at - 1) / 2];
	s->heap[at] = item;
}

static guess
pop_guess(survey *s)
{
	guess top = s->heap[0], last = s->heap[--s->heap_count];
	int32_t at = 0;

	for (int32_t child = 1; child < s->heap_count; at = child, child = 2 * at + 1)
	{
		if (child + 1 < s->heap_count && nearer(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!nearer(&s->heap[child], &last))
			break;
		s->heap[at] = s->heap[child];
	}
	s->heap[at] = last;
	return top;
}

/* What an edge promises its first state, once all that it leads through is known. */
static void
relax(survey *s, const grammar_edge *e, const bool usable[256])
{
	const grammar_state *to = &s->g->states[e->to];
	guess item = {.distance = to->distance, .height = to->height, .state = e->from};
	bool any = e->kind != EDGE_BYTES;

	if (!s->known[e->to] || s->known[e->from])
		return;
	for (int byte = e->low; byte <= e->high && !any; byte++)
		any = usable[byte];
	if (!any)
		return;
	if (e->kind == EDGE_RULE)
	{
		int32_t start = s->g->rules[e->rule].start;
		const grammar_state *inside = &s->g->states[start];

		if (!s->known[start])
			return;
		item.distance = inside->distance < GRAMMAR_FAR - to->distance ? to->distance + inside->distance : GRAMMAR_FAR;
		item.height = inside->height + 1 > to->height ? inside->height + 1 : to->height;
	}
	else if (e->kind == EDGE_BYTES && item.distance < GRAMMAR_FAR)
		item.distance++;
	push_guess(s, item);
}

static void
visit(survey *s, const guess *item, const bool usable[256])
{
	grammar_state *state = &s->g->states[item->state];

	s->known[item->state] = true;
	state->distance = item->distance;
	state->height = item->height;
	for (int32_t e = s->into[item->state]; e >= 0; e = s->into_on[e])
		relax(s, &s->g->edges[e], usable);
	for (int32_t e = s->calls[item->state]; e >= 0; e = s->calls_on[e])
		relax(s, &s->g->edges[e], usable);
}

/* Edges by where they end, and calls by where their rule starts. */
static void
turn_edges(survey *s)
{
	const grammar *g = s->g;

	for (int32_t i = 0; i < g->state_count; i++)
		s->into[i] = s->calls[i] = -1;
	for (int32_t e = 0; e < g->edge_count; e++)
	{
		int32_t to = g->edges[e].to, start = g->edges[e].kind == EDGE_RULE ? g->rules[g->edges[e].rule].start : -1;

		s->into_on[e] = s->into[to];
		s->into[to] = e;
		if (start < 0)
			continue;
		s->calls_on[e] = s->calls[start];
		s->calls[start] = e;
	}
}

static void
run_survey(survey *s, const bool usable[256])
{
	grammar *g = s->g;

	turn_edges(s);
	for (int32_t i = 0; i < g->state_count; i++)
	{
		g->states[i].distance = GRAMMAR_FAR;
		g->states[i].height = 0;
		if (g->states[i].end)
			push_guess(s, (guess) {.state = i});
	}
	while (s->heap_count > 0)
	{
		guess item = pop_guess(s);

		if (!s->known[item.state])
			visit(s, &item, usable);
	}
}

bool
grammar_measure(grammar *g, const bool usable[256], llm_error *err)
{
	size_t states = (size_t) g->state_count + 1, edges = (size_t) g->edge_count + 1;
	survey s = {.g = g};
	bool ok;

	/* Each edge is pushed at most twice: when its end is known, and when its rule is. */
	s.heap = malloc((states + 2 * edges) * sizeof(guess));
	s.known = calloc(states, sizeof(bool));
	s.into = malloc(states * sizeof(int32_t));
	s.calls = malloc(states * sizeof(int32_t));
	s.into_on = malloc(edges * sizeof(int32_t));
	s.calls_on = malloc(edges * sizeof(int32_t));
	ok = s.heap && s.known && s.into && s.calls && s.into_on && s.calls_on;
	if (ok)
		run_survey(&s, usable);
	else
		llm_fail(err, LLM_MEMORY, "out of memory for a grammar");
	free(s.heap);
	free(s.known);
	free(s.into);
	free(s.calls);
	free(s.into_on);
	free(s.calls_on);
	return ok;
}
