/*
 * text_metrics.c
 *	  BLEU, ROUGE-L, exact match and token F1.
 *
 * Words and n-grams are compared by 64-bit hashes; that two different ones among a million in
 * a pair have the same has a probability of 3e-8.
 */
#include "text_metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../feature/hash.h"
#include "words.h"

/* Numbers by hash: open addressing, at most half full. */
typedef struct hash_table
{
	uint64_t *key; /* (mask + 1), 0 = free */
	int64_t *value;
	uint64_t mask;
} hash_table;

/* Everything that a pair needs for a while. */
typedef struct workspace
{
	word_list predicted, reference;
	hash_table table;
	watch watch;
	llm_error *err;
} workspace;

static void
table_free(hash_table *t)
{
	free(t->key);
	free(t->value);
	*t = (hash_table) {0};
}

/* An empty table for so many keys. */
static bool
table_start(hash_table *t, int64_t keys, llm_error *err)
{
	uint64_t slots = 16;

	table_free(t);
	while (slots < 2 * (uint64_t) keys)
		slots *= 2;
	t->mask = slots - 1;
	t->key = calloc(slots, sizeof(uint64_t));
	t->value = calloc(slots, sizeof(int64_t));
	return (t->key != NULL && t->value != NULL) || llm_fail(err, LLM_MEMORY, "out of memory for the words of a text");
}

/* The slot of the key, or the free one where it belongs. */
static uint64_t
table_find(const hash_table *t, uint64_t key)
{
	uint64_t at = key & t->mask;

	while (t->key[at] != 0 && t->key[at] != key)
		at = (at + 1) & t->mask;
	return at;
}

/* ---- n-grams ---- */

static uint64_t
gram_hash(const uint64_t *word, int n)
{
	uint64_t hash = hash_of(word, n * sizeof(uint64_t));

	return hash + (hash == 0);
}

static int64_t
gram_count(const word_list *words, int n)
{
	return words->count < n ? 0 : words->count - n + 1;
}

/* How many n-grams of the prediction are in the reference, each at most as often as it is there. */
static bool
count_matches(workspace *ws, int n, int64_t *matched)
{
	hash_table *t = &ws->table;

	*matched = 0;
	if (!table_start(t, gram_count(&ws->reference, n), ws->err))
		return false;
	for (int64_t i = 0; i < gram_count(&ws->reference, n); i++)
	{
		uint64_t key = gram_hash(ws->reference.hash + i, n), at = table_find(t, key);

		t->key[at] = key;
		t->value[at]++;
		if (!watch_work(&ws->watch, 8, ws->err))
			return false;
	}
	for (int64_t i = 0; i < gram_count(&ws->predicted, n); i++)
	{
		uint64_t at = table_find(t, gram_hash(ws->predicted.hash + i, n));

		if (t->value[at] > 0)
		{
			t->value[at]--;
			++*matched;
		}
		if (!watch_work(&ws->watch, 8, ws->err))
			return false;
	}
	return true;
}

/* 2 common / (a + b) is the harmonic mean of common / a and common / b. */
static double
f1(int64_t common, int64_t a, int64_t b)
{
	return common > 0 ? 2.0 * (double) common / ((double) a + (double) b) : 0;
}

/* ---- longest common subsequence ---- */

/* Where each word of a list occurs. */
typedef struct occurrences
{
	hash_table *last; /* the last place + 1 */
	int64_t *before;  /* (count) the place before each, + 1; 0 = none */
} occurrences;

static bool
find_occurrences(workspace *ws, const word_list *words, occurrences *o)
{
	if (!table_start(o->last, words->count, ws->err))
		return false;
	for (int64_t i = 0; i < words->count; i++)
	{
		uint64_t at = table_find(o->last, words->hash[i]);

		o->last->key[at] = words->hash[i];
		o->before[i] = o->last->value[at];
		o->last->value[at] = i + 1;
		if (!watch_work(&ws->watch, 8, ws->err))
			return false;
	}
	return true;
}

/*
 * The next row of the table of common subsequences, 64 columns a step (Hyyro 2004): a zero in
 * `row` is a column where the length grows by one.  match: the columns whose word is that of the row.
 */
static void
next_row(uint64_t *row, const uint64_t *match, int64_t steps)
{
	uint64_t carry = 0;

	for (int64_t i = 0; i < steps; i++)
	{
		uint64_t common = row[i] & match[i], sum = row[i] + common, total = sum + carry;

		carry = (sum < common) | (total < sum);
		row[i] = total | (row[i] & ~match[i]);
	}
}

/* o: occurrences in the shorter list; row and match: (steps) bits, all ones and all zeros. */
static bool
run_rows(workspace *ws, const word_list *longer, const occurrences *o, uint64_t *row, uint64_t *match, int64_t steps)
{
	for (int64_t j = 0; j < longer->count; j++)
	{
		int64_t last = o->last->value[table_find(o->last, longer->hash[j])], found = 0;

		for (int64_t i = last; i > 0; i = o->before[i - 1], found++)
			match[(i - 1) / 64] |= UINT64_C(1) << (i - 1) % 64;
		if (last > 0)
			next_row(row, match, steps);
		for (int64_t i = last; i > 0; i = o->before[i - 1])
			match[(i - 1) / 64] = 0;
		if (!watch_work(&ws->watch, 8 + (last > 0 ? steps : 0) + 2 * found, ws->err))
			return false;
	}
	return true;
}

static bool
common_subsequence(workspace *ws, int64_t *length)
{
	bool swap = ws->predicted.count > ws->reference.count;
	const word_list *shorter = swap ? &ws->reference : &ws->predicted;
	const word_list *longer = swap ? &ws->predicted : &ws->reference;
	int64_t steps = shorter->count / 64 + 1;
	uint64_t *row = malloc(steps * sizeof(uint64_t));
	uint64_t *match = calloc(steps, sizeof(uint64_t));
	occurrences o = {.last = &ws->table, .before = malloc((shorter->count + 1) * sizeof(int64_t))};
	bool ok = (row != NULL && match != NULL && o.before != NULL) ||
			  llm_fail(ws->err, LLM_MEMORY, "out of memory for the words of a text");

	*length = 0;
	if (ok)
	{
		memset(row, 0xFF, steps * sizeof(uint64_t));
		ok = find_occurrences(ws, shorter, &o) && run_rows(ws, longer, &o, row, match, steps);
	}
	for (int64_t i = 0; ok && i < steps; i++)
		*length += 64 - __builtin_popcountll(row[i]);
	free(row);
	free(match);
	free(o.before);
	return ok;
}

/* ---- a pair ---- */

typedef struct text_pair
{
	const char *prediction, *reference;
	size_t prediction_length, reference_length;
} text_pair;

static bool
add_bleu(workspace *ws, const text_pair *p, text_scores *s)
{
	bool zh = text_is_east_asian(p->prediction, p->prediction_length) ||
			  text_is_east_asian(p->reference, p->reference_length);

	if (!words_bleu(&ws->predicted, p->prediction, p->prediction_length, zh, &ws->watch, ws->err) ||
		!words_bleu(&ws->reference, p->reference, p->reference_length, zh, &ws->watch, ws->err))
		return false;
	s->predicted_words = ws->predicted.count;
	s->reference_words = ws->reference.count;
	for (int n = 1; n <= BLEU_ORDERS; n++)
	{
		s->grams[n - 1] = gram_count(&ws->predicted, n);
		if (!count_matches(ws, n, &s->matched[n - 1]))
			return false;
	}
	return true;
}

static bool
add_rouge(workspace *ws, const text_pair *p, text_scores *s)
{
	int64_t common;

	if (!words_rouge(&ws->predicted, p->prediction, p->prediction_length, &ws->watch, ws->err) ||
		!words_rouge(&ws->reference, p->reference, p->reference_length, &ws->watch, ws->err) ||
		!common_subsequence(ws, &common))
		return false;
	s->rouge_l = f1(common, ws->predicted.count, ws->reference.count);
	return true;
}

static bool
add_answer(workspace *ws, const text_pair *p, text_scores *s)
{
	const word_list *a = &ws->predicted, *b = &ws->reference;
	int64_t common;

	if (!words_answer(&ws->predicted, p->prediction, p->prediction_length, &ws->watch, ws->err) ||
		!words_answer(&ws->reference, p->reference, p->reference_length, &ws->watch, ws->err) ||
		!count_matches(ws, 1, &common))
		return false;
	s->token_f1 = f1(common, a->count, b->count);
	s->exact = a->count == b->count && (a->count == 0 || memcmp(a->hash, b->hash, a->count * sizeof(uint64_t)) == 0);
	return true;
}

bool
text_scores_add(text_scores *s, const char *prediction, size_t prediction_length, const char *reference,
				size_t reference_length, llm_poll poll, void *poll_arg, llm_error *err)
{
	workspace ws = {.watch = {.poll = poll, .poll_arg = poll_arg}, .err = err};
	text_pair pair = {prediction, reference, prediction_length, reference_length};
	text_scores added = {.pairs = 1};
	bool ok = add_bleu(&ws, &pair, &added) && add_rouge(&ws, &pair, &added) && add_answer(&ws, &pair, &added);

	words_free(&ws.predicted);
	words_free(&ws.reference);
	table_free(&ws.table);
	if (ok)
		text_scores_merge(s, &added);
	return ok;
}

void
text_scores_merge(text_scores *s, const text_scores *more)
{
	s->pairs += more->pairs;
	s->predicted_words += more->predicted_words;
	s->reference_words += more->reference_words;
	for (int n = 0; n < BLEU_ORDERS; n++)
	{
		s->grams[n] += more->grams[n];
		s->matched[n] += more->matched[n];
	}
	s->rouge_l += more->rouge_l;
	s->exact += more->exact;
	s->token_f1 += more->token_f1;
}

/* ---- results ---- */

/* The i-th length of n-grams that has no match counts as one of 2^i (Chen and Cherry 2014, method 3). */
static double
corpus_bleu(const text_scores *s)
{
	double log_sum = 0, share = 1;

	if (s->matched[0] == 0)
		return 0;
	for (int n = 0; n < BLEU_ORDERS; n++)
	{
		if (s->grams[n] == 0)
			return 0;
		if (s->matched[n] == 0)
			share /= 2;
		log_sum += log((s->matched[n] > 0 ? (double) s->matched[n] : share) / (double) s->grams[n]);
	}
	return exp(log_sum / BLEU_ORDERS + fmin(0, 1 - (double) s->reference_words / (double) s->predicted_words));
}

text_metrics
text_scores_result(const text_scores *s)
{
	double pairs = s->pairs > 0 ? (double) s->pairs : 1;

	return (text_metrics) {.n = s->pairs,
						   .bleu = corpus_bleu(s),
						   .rouge_l = s->rouge_l / pairs,
						   .exact_match = s->exact / pairs,
						   .token_f1 = s->token_f1 / pairs};
}
