/*
 * bpe_merge.c
 *	  Learn merges from counted words, in time that the occurrences of what is merged take.
 *
 * All words lie in one array of places, a gap before and behind each.  A symbol of n bytes covers
 * n places: `first` at its first place and `last` at its last hold its number, so that neighbours
 * are found by lengths alone; other places of `first` hold NONE.
 *
 * A pair knows the places where it begins.  They are written when its newer symbol is made, in
 * one run, in ascending order; later ones only become stale, which `first` tells.  A merge at one
 * place lowers and raises counts of pairs with the two neighbours.  What they change by is summed
 * by neighbour over all places of the step and then applied once.
 *
 * The heap holds counts as they were when pushed; one that has changed since is pushed again.
 */
#include "bpe_merge.h"

#include <stdlib.h>
#include <string.h>

#include "../feature/strings.h"

#define BYTES 256
#define NONE (-1)
#define PLACES_MAX UINT32_MAX
#define POLL_PLACES 1048576 /* some 20 ms */
#define AHEAD 16            /* places that are fetched before they are needed */

/* Places begin .. begin + count - 1 of a pair, in the list of all. */
typedef struct run
{
	uint64_t begin;
	uint32_t count;
	int32_t next; /* another run of the same pair, or NONE */
} run;

typedef struct pair
{
	int32_t left;
	int32_t right;
	int64_t times;
	int32_t run; /* NONE: none */
} pair;

typedef struct candidate
{
	int64_t times;
	uint64_t prefix; /* of the left text, for most ties */
	int32_t pair;
} candidate;

/* A merge that a neighbour saw; the pair with it begins at `place`. */
typedef struct event
{
	int32_t neighbour;
	uint32_t place;
} event;

/* What a step changes on one side, by neighbour. */
typedef struct side
{
	int64_t *times;   /* (symbols) */
	uint32_t *places; /* (symbols): how many */
	uint64_t *begin;  /* (symbols): where the next is written */
	int32_t *touched; /* neighbours of this step */
	int32_t touched_count;
	event *event;
	size_t events, capacity;
} side;

typedef struct learner
{
	const bpe_words *words;
	int64_t min_count;
	llm_poll poll; /* may be NULL */
	void *poll_arg;
	bool stopped;
	int32_t *first, *last; /* (places) */
	int32_t *word;         /* (places) */
	size_t places;
	int32_t most_symbols;
	strings *text; /* of each symbol; its count is theirs */
	pair *pair;
	int32_t pairs, pair_capacity;
	int32_t *slot; /* pair + 1, by its symbols */
	uint32_t slot_mask;
	run *run;
	int32_t runs, run_capacity;
	uint32_t *place;
	uint64_t place_count, place_capacity;
	candidate *heap;
	int32_t heap_count, heap_capacity;
	side side[2]; /* neighbours to the left, to the right */
} learner;

/* ---- memory ---- */

/* Room for one more element; false: out of memory. */
static bool
grow(void **array, int32_t count, int32_t *capacity, size_t width)
{
	int32_t more = *capacity ? *capacity * 2 : 1024;
	void *larger;

	if (count < *capacity)
		return true;
	if (*capacity > INT32_MAX / 2)
		return false;
	larger = realloc(*array, more * width);
	if (larger == NULL)
		return false;
	*array = larger;
	*capacity = more;
	return true;
}

static bool
reserve_places(learner *l, uint64_t more)
{
	uint64_t capacity = l->place_capacity;
	uint32_t *place;

	if (l->place_count + more <= capacity)
		return true;
	while (capacity < l->place_count + more)
		capacity += capacity / 2 + 1024;
	place = realloc(l->place, capacity * sizeof(uint32_t));
	if (place == NULL)
		return false;
	l->place = place;
	l->place_capacity = capacity;
	return true;
}

static void
learner_free(learner *l)
{
	strings_free(l->text);
	for (int s = 0; s < 2; s++)
	{
		free(l->side[s].times);
		free(l->side[s].places);
		free(l->side[s].begin);
		free(l->side[s].touched);
		free(l->side[s].event);
	}
	free(l->first);
	free(l->last);
	free(l->word);
	free(l->pair);
	free(l->slot);
	free(l->run);
	free(l->place);
	free(l->heap);
}

static bool
learner_init(learner *l, const bpe_words *words, int32_t tokens, llm_error *err)
{
	bool ok;

	l->words = words;
	l->places = 1;
	for (int32_t i = 0; i < words->count; i++)
		l->places += words->length[i] + 1;
	if (l->places > PLACES_MAX)
		return llm_fail(err, LLM_MEMORY, "the words of the tokenizer are too many");
	l->most_symbols = BYTES + tokens;
	l->slot_mask = (1 << 17) - 1; /* twice the pairs of bytes */
	l->first = malloc(l->places * sizeof(int32_t));
	l->last = malloc(l->places * sizeof(int32_t));
	l->word = malloc(l->places * sizeof(int32_t));
	l->text = strings_new(l->most_symbols, UINT32_MAX);
	l->slot = calloc((size_t) l->slot_mask + 1, sizeof(int32_t));
	ok = l->first && l->last && l->word && l->text && l->slot && reserve_places(l, l->places);
	for (int s = 0; s < 2; s++)
	{
		side *n = &l->side[s];

		n->times = calloc(l->most_symbols, sizeof(int64_t));
		n->places = calloc(l->most_symbols, sizeof(uint32_t));
		n->begin = calloc(l->most_symbols, sizeof(uint64_t));
		n->touched = malloc(l->most_symbols * sizeof(int32_t));
		ok = ok && n->times && n->places && n->begin && n->touched;
	}
	return ok;
}

/* ---- symbols and pairs ---- */

static inline size_t
symbol_length(const learner *l, int32_t symbol)
{
	return l->text->length[symbol];
}

/* The symbol whose text is that of left and right, new or not; NONE: out of memory. */
static int32_t
join_symbols(learner *l, int32_t left, int32_t right)
{
	size_t left_length = symbol_length(l, left), length = left_length + symbol_length(l, right);
	char *text = malloc(length);
	int32_t symbol = NONE;

	if (text == NULL)
		return NONE;
	memcpy(text, strings_at(l->text, left), left_length);
	memcpy(text + left_length, strings_at(l->text, right), length - left_length);
	symbol = strings_put(l->text, text, length);
	free(text);
	return symbol < 0 ? NONE : symbol;
}

static uint32_t
pair_slot(const learner *l, int32_t left, int32_t right)
{
	uint32_t at =
		(uint32_t) (((uint64_t) (uint32_t) left << 32 | (uint32_t) right) * UINT64_C(0x9e3779b97f4a7c15) >> 32);

	for (at &= l->slot_mask; l->slot[at] != 0; at = (at + 1) & l->slot_mask)
		if (l->pair[l->slot[at] - 1].left == left && l->pair[l->slot[at] - 1].right == right)
			break;
	return at;
}

static bool
grow_slots(learner *l)
{
	int32_t *slot = calloc(2 * ((size_t) l->slot_mask + 1), sizeof(int32_t));

	if (slot == NULL)
		return false;
	free(l->slot);
	l->slot = slot;
	l->slot_mask = 2 * l->slot_mask + 1;
	for (int32_t i = 0; i < l->pairs; i++)
		l->slot[pair_slot(l, l->pair[i].left, l->pair[i].right)] = i + 1;
	return true;
}

/* Number of the pair, which is added if need be; NONE: out of memory. */
static int32_t
put_pair(learner *l, int32_t left, int32_t right)
{
	uint32_t at = pair_slot(l, left, right);

	if (l->slot[at] != 0)
		return l->slot[at] - 1;
	if (!grow((void **) &l->pair, l->pairs, &l->pair_capacity, sizeof(pair)))
		return NONE;
	l->pair[l->pairs] = (pair) {left, right, 0, NONE};
	l->slot[at] = ++l->pairs;
	if ((uint32_t) l->pairs > l->slot_mask / 2 && !grow_slots(l))
		return NONE;
	return l->pairs - 1;
}

/* A run of `count` places that the caller is to write; false: out of memory. */
static bool
add_run(learner *l, int32_t pair, uint32_t count, uint64_t *begin)
{
	if (!grow((void **) &l->run, l->runs, &l->run_capacity, sizeof(run)) || !reserve_places(l, count))
		return false;
	*begin = l->place_count;
	l->run[l->runs] = (run) {*begin, count, l->pair[pair].run};
	l->pair[pair].run = l->runs++;
	l->place_count += count;
	return true;
}

/* ---- the heap: most times first, of equals the pair of the last texts ---- */

static uint64_t
text_prefix(const learner *l, int32_t symbol)
{
	uint64_t prefix = 0;

	for (uint32_t i = 0; i < sizeof(prefix); i++)
		prefix = prefix << 8 | (i < symbol_length(l, symbol) ? (uint8_t) strings_at(l->text, symbol)[i] : 0);
	return prefix;
}

static int
compare_texts(const learner *l, int32_t a, int32_t b)
{
	size_t x = symbol_length(l, a), y = symbol_length(l, b);
	int order = memcmp(strings_at(l->text, a), strings_at(l->text, b), x < y ? x : y);

	return order != 0 ? order : (x > y) - (x < y);
}

static bool
comes_first(const learner *l, const candidate *a, const candidate *b)
{
	const pair *x = &l->pair[a->pair], *y = &l->pair[b->pair];
	int order;

	if (a->times != b->times)
		return a->times > b->times;
	if (a->prefix != b->prefix)
		return a->prefix > b->prefix;
	order = x->left == y->left ? 0 : compare_texts(l, x->left, y->left);
	return order != 0 ? order > 0 : compare_texts(l, x->right, y->right) > 0;
}

static bool
push(learner *l, int32_t pair)
{
	candidate c = {l->pair[pair].times, text_prefix(l, l->pair[pair].left), pair};
	int32_t at = l->heap_count;

	if (c.times < l->min_count)
		return true;
	if (!grow((void **) &l->heap, l->heap_count, &l->heap_capacity, sizeof(candidate)))
		return false;
	for (l->heap_count++; at > 0 && comes_first(l, &c, &l->heap[(at - 1) / 2]); at = (at - 1) / 2)
		l->heap[at] = l->heap[(at - 1) / 2];
	l->heap[at] = c;
	return true;
}

static candidate
pop(learner *l)
{
	candidate top = l->heap[0], last = l->heap[--l->heap_count];
	int32_t at = 0;

	for (int32_t child = 1; child < l->heap_count; at = child, child = 2 * at + 1)
	{
		if (child + 1 < l->heap_count && comes_first(l, &l->heap[child + 1], &l->heap[child]))
			child++;
		if (!comes_first(l, &l->heap[child], &last))
			break;
		l->heap[at] = l->heap[child];
	}
	l->heap[at] = last;
	return top;
}

/* The pair to merge next, or NONE. */
static int32_t
pop_best(learner *l)
{
	while (l->heap_count > 0)
	{
		candidate c = pop(l);

		if (c.times == l->pair[c.pair].times)
			return c.pair;
		if (!push(l, c.pair))
			break; /* cannot happen: its place has just become free */
	}
	return NONE;
}

/* ---- the start: symbols are bytes ---- */

/* False when poll asks to stop, which it is asked once in many places. */
static bool
goes_on(learner *l, size_t place)
{
	if (place % POLL_PLACES == 0 && l->poll != NULL && l->poll(l->poll_arg))
		l->stopped = true;
	return !l->stopped;
}

static bool
place_words(learner *l)
{
	const bpe_words *w = l->words;
	size_t at = 0;

	l->first[at] = l->last[at] = NONE;
	l->word[at++] = 0;
	for (int32_t i = 0; i < w->count && !l->stopped; i++)
	{
		for (uint32_t k = 0; k < w->length[i] && goes_on(l, at); k++, at++)
		{
			l->first[at] = l->last[at] = (uint8_t) w->bytes[w->start[i] + k];
			l->word[at] = i;
		}
		l->first[at] = l->last[at] = NONE;
		l->word[at++] = i;
	}
	return !l->stopped;
}

static bool
count_pairs(learner *l)
{
	typedef struct tally
	{
		int64_t times;
		uint64_t places, begin;
	} tally;
	tally *t = calloc(BYTES * BYTES, sizeof(tally));
	bool ok = t != NULL;

	for (size_t i = 1; ok && i < l->places && goes_on(l, i); i++)
		if (l->first[i - 1] >= 0 && l->first[i] >= 0)
		{
			tally *one = &t[l->first[i - 1] * BYTES + l->first[i]];

			one->times += l->words->times[l->word[i]];
			one->places++;
		}
	for (int32_t i = 0; ok && i < BYTES * BYTES; i++)
		if (t[i].places > 0)
		{
			int32_t p = put_pair(l, i / BYTES, i % BYTES);

			ok = p >= 0 && add_run(l, p, (uint32_t) t[i].places, &t[i].begin);
			if (ok)
				l->pair[p].times = t[i].times;
		}
	for (size_t i = 1; ok && i < l->places && goes_on(l, i); i++)
		if (l->first[i - 1] >= 0 && l->first[i] >= 0)
			l->place[t[l->first[i - 1] * BYTES + l->first[i]].begin++] = (uint32_t) (i - 1);
	free(t);
	return ok && !l->stopped;
}

static bool
start(learner *l)
{
	for (int i = 0; i < BYTES; i++)
		if (strings_put(l->text, &(char) {(char) i}, 1) != i)
			return false;
	if (!place_words(l) || !count_pairs(l))
		return false;
	for (int32_t i = 0; i < l->pairs; i++)
		if (!push(l, i))
			return false;
	return true;
}

/* ---- one step ---- */

static bool
note(side *s, int32_t neighbour, size_t place, int64_t times)
{
	if (s->events == s->capacity)
	{
		size_t capacity = s->capacity ? s->capacity * 2 : 4096;
		event *more = realloc(s->event, capacity * sizeof(event));

		if (more == NULL)
			return false;
		s->event = more;
		s->capacity = capacity;
	}
	if (s->places[neighbour]++ == 0)
		s->touched[s->touched_count++] = neighbour;
	s->times[neighbour] += times;
	s->event[s->events++] = (event) {neighbour, (uint32_t) place};
	return true;
}

/* Join the symbols a and b, b at `second`, to c. */
static bool
merge_at(learner *l, size_t place, size_t second, int32_t b, int32_t c)
{
	size_t behind = second + symbol_length(l, b);
	int32_t left = l->last[place - 1], right = l->first[behind];
	int64_t times = l->words->times[l->word[place]];

	l->first[place] = c;
	l->first[second] = NONE;
	l->last[behind - 1] = c;
	return (left < 0 || note(&l->side[0], left, place - symbol_length(l, left), times)) &&
		   (right < 0 || note(&l->side[1], right, place, times));
}

static bool
merge_places(learner *l, const uint32_t *place, size_t count, int32_t a, int32_t b, int32_t c)
{
	for (size_t i = 0; i < count; i++)
	{
		size_t second = place[i] + symbol_length(l, a);

		if (i + AHEAD < count)
			__builtin_prefetch(&l->first[place[i + AHEAD]]);
		if (l->first[place[i]] == a && l->first[second] == b && !merge_at(l, place[i], second, b, c))
			return false;
	}
	return true;
}

static int
by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

	return x < y ? -1 : x > y;
}

/* All places of a pair that has several runs, in ascending order. */
static uint32_t *
sorted_places(const learner *l, int32_t run, size_t *count)
{
	uint32_t *all;

	*count = 0;
	for (int32_t r = run; r >= 0; r = l->run[r].next)
		*count += l->run[r].count;
	all = malloc(*count * sizeof(uint32_t));
	*count = 0;
	for (int32_t r = run; all != NULL && r >= 0; r = l->run[r].next)
	{
		memcpy(all + *count, l->place + l->run[r].begin, l->run[r].count * sizeof(uint32_t));
		*count += l->run[r].count;
	}
	if (all != NULL)
		qsort(all, *count, sizeof(uint32_t), by_number);
	return all;
}

static bool
merge_pair(learner *l, int32_t merged, int32_t c)
{
	pair p = l->pair[merged];
	uint32_t *sorted;
	size_t count;
	bool ok;

	if (p.run >= 0 && l->run[p.run].next < 0)
		return merge_places(l, l->place + l->run[p.run].begin, l->run[p.run].count, p.left, p.right, c);
	sorted = sorted_places(l, p.run, &count);
	ok = sorted != NULL && merge_places(l, sorted, count, p.left, p.right, c);
	free(sorted);
	return ok;
}

/* The pair of a symbol with its neighbour on one side; NONE: out of memory. */
static int32_t
side_pair(learner *l, int which, int32_t neighbour, int32_t symbol)
{
	return which == 0 ? put_pair(l, neighbour, symbol) : put_pair(l, symbol, neighbour);
}

/* Pairs of the new symbol with the neighbours on one side, and their places. */
static bool
raise_pairs(learner *l, int which, int32_t c)
{
	side *s = &l->side[which];

	for (int32_t i = 0; i < s->touched_count; i++)
	{
		int32_t n = s->touched[i], p = side_pair(l, which, n, c);

		if (p < 0 || !add_run(l, p, s->places[n], &s->begin[n]))
			return false;
		l->pair[p].times += s->times[n];
	}
	for (size_t i = 0; i < s->events; i++)
		l->place[s->begin[s->event[i].neighbour]++] = s->event[i].place;
	return true;
}

/* Pairs of what was merged with the neighbours on one side. */
static void
lower_pairs(learner *l, int which, int32_t symbol)
{
	const side *s = &l->side[which];

	for (int32_t i = 0; i < s->touched_count; i++)
	{
		int32_t n = s->touched[i];
		uint32_t at = which == 0 ? pair_slot(l, n, symbol) : pair_slot(l, symbol, n);

		if (l->slot[at] != 0)
			l->pair[l->slot[at] - 1].times -= s->times[n];
	}
}

/* Offer the new pairs and make the side ready for the next step. */
static bool
push_pairs(learner *l, int which, int32_t c)
{
	side *s = &l->side[which];
	bool ok = true;

	for (int32_t i = 0; i < s->touched_count; i++)
	{
		int32_t n = s->touched[i], p = side_pair(l, which, n, c);

		ok = ok && p >= 0 && push(l, p);
		s->times[n] = 0;
		s->places[n] = 0;
	}
	s->touched_count = 0;
	s->events = 0;
	return ok;
}

/* Raise before lowering: within a run such as "aaaa" a pair that is new is lowered, too. */
static bool
apply(learner *l, int32_t merged, int32_t c)
{
	bool ok = raise_pairs(l, 0, c) && raise_pairs(l, 1, c);

	lower_pairs(l, 0, l->pair[merged].left);
	lower_pairs(l, 1, l->pair[merged].right);
	l->pair[merged].times = 0;
	return ok && push_pairs(l, 0, c) && push_pairs(l, 1, c);
}

/* Merge the best pair; *done when there is none. */
static bool
step(learner *l, bpe_merge *merge, bool *done)
{
	int32_t best = pop_best(l), a, b, c;

	*done = best < 0;
	if (*done)
		return true;
	a = l->pair[best].left;
	b = l->pair[best].right;
	c = join_symbols(l, a, b);
	if (c < 0)
		return false;
	*merge = (bpe_merge) {a, b, c};
	return merge_pair(l, best, c) && apply(l, best, c);
}

bool
bpe_learn(const bpe_words *words, int32_t tokens, int64_t min_count, bpe_merge **merges, int32_t *merge_count,
		  llm_poll poll, void *poll_arg, llm_error *err)
{
	learner l = {.min_count = min_count > 0 ? min_count : 1, .poll = poll, .poll_arg = poll_arg};
	int32_t capacity = 0, count = 0;
	bool ok = learner_init(&l, words, tokens, err) && start(&l), done = false;

	*merges = NULL;
	while (ok && !done && l.text->count < l.most_symbols)
	{
		ok = goes_on(&l, 0) && grow((void **) merges, count, &capacity, sizeof(bpe_merge)) &&
			 step(&l, &(*merges)[count], &done);
		count += ok && !done;
	}
	learner_free(&l);
	*merge_count = count;
	if (l.stopped)
		return llm_fail(err, LLM_CANCELLED, "training of the tokenizer was cancelled");
	return ok || llm_fail(err, LLM_MEMORY, "out of memory while training a tokenizer");
}
