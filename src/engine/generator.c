/*
 * generator.c
 *	  Text by a transformer, with the keys and values of earlier tokens and of a source kept.
 *
 * A pass takes up to room.rows rows: tokens that follow each other of one sequence or, span by
 * span, of several; a source goes through the encoder in one pass.
 */
#include "generator_pass.h"

#include <math.h>
#include <string.h>

static const int32_t *
pages_of(const generator *g, int32_t sequence)
{
	return g->pages + (int64_t) sequence * (g->room.pages / g->room.sequences);
}

void
generator_set_poll(generator *g, llm_poll poll, void *arg)
{
	g->poll = poll;
	g->poll_arg = arg;
}

int32_t
generator_length(const generator *g, int32_t sequence)
{
	return g->length[sequence];
}

void
generator_truncate(generator *g, int32_t sequence, int32_t length)
{
	if (length < g->length[sequence])
		g->length[sequence] = length;
}

static const float *
logits_of_row(const generator *g, int32_t row)
{
	return g->logits + (int64_t) row * transformer_outputs(config_of(g));
}

const float *
generator_logits(const generator *g, int32_t sequence)
{
	return logits_of_row(g, g->row[sequence]);
}

/* ---- checks ---- */

static bool
check_ids(const generator *g, const int32_t *ids, int32_t count, llm_error *err)
{
	for (int32_t i = 0; i < count; i++)
		if (ids[i] < 0 || ids[i] >= config_of(g)->vocab)
			return llm_fail(err, LLM_INVALID, "token %d is not between 0 and %d", ids[i], config_of(g)->vocab - 1);
	return true;
}

static bool
check_writes(const generator *g, llm_error *err)
{
	return (!config_of(g)->bidirectional && !config_of(g)->headless && config_of(g)->labels == 0) ||
		   llm_fail(err, LLM_INVALID, "the network embeds texts or labels tokens, it does not write or score texts");
}

static bool
check_sequence(const generator *g, int32_t sequence, llm_error *err)
{
	return (sequence >= 0 && sequence < g->room.sequences) ||
		   llm_fail(err, LLM_INVALID, "sequence %d is not between 0 and %d", sequence, g->room.sequences - 1);
}

static bool
check_encoder(const generator *g, llm_error *err)
{
	return g->room.sources > 0 || llm_fail(err, LLM_INVALID, "the network has no encoder to read a source");
}

/* What is written must have something to attend to. */
static bool
check_has_source(const generator *g, int32_t sequence, llm_error *err)
{
	return g->room.sources == 0 || g->source_length[sequence] > 0 ||
		   llm_fail(err, LLM_INVALID, "sequence %d has no source", sequence);
}

static bool
check_source(const generator *g, const int32_t *ids, int32_t count, llm_error *err)
{
	if (count < 1 || count > g->room.sources)
		return llm_fail(err, LLM_INVALID, "a source of %d tokens does not fit into %d", count, g->room.sources);
	return check_ids(g, ids, count, err);
}

static bool
check_length(const generator *g, int32_t sequence, int32_t count, llm_error *err)
{
	if (count >= 1 && count <= g->room.positions - g->length[sequence])
		return true;
	return llm_fail(err, LLM_INVALID, "%d tokens more than %d do not fit into a context of %d", count,
					g->length[sequence], g->room.positions);
}

/* Tokens of different sequences, laid end to end, and which layers they go through. */
typedef struct texts
{
	const transformer_stack *stack;
	const int32_t *ids;
	int32_t count;            /* of sequences */
	const int32_t *sequences; /* (count), or NULL: the first ones */
	const int32_t *counts;    /* (count), of tokens, or NULL: one each */
} texts;

static int32_t
tokens_of(const texts *t, int32_t i)
{
	return t->counts ? t->counts[i] : 1;
}

static int32_t
sequence_of(const texts *t, int32_t i)
{
	return t->sequences ? t->sequences[i] : i;
}

/* Different ones; leaves their rows of logits behind. */
static bool
check_sequences(generator *g, const texts *t, llm_error *err)
{
	if (t->count < 1 || t->count > g->room.sequences)
		return llm_fail(err, LLM_INVALID, "%d sequences are not between 1 and %d", t->count, g->room.sequences);
	for (int32_t i = 0; i < g->room.sequences; i++)
		g->row[i] = -1;
	for (int32_t i = 0; i < t->count; i++)
	{
		if (!check_sequence(g, sequence_of(t, i), err))
			return false;
		if (g->row[sequence_of(t, i)] >= 0)
			return llm_fail(err, LLM_INVALID, "sequence %d is given twice", sequence_of(t, i));
		g->row[sequence_of(t, i)] = i;
	}
	return true;
}

/* There is room for the tokens. */
static bool
check_appended(generator *g, const texts *t, llm_error *err)
{
	const int32_t *ids = t->ids;

	if (!check_writes(g, err) || !check_sequences(g, t, err))
		return false;
	for (int32_t i = 0; i < t->count; ids += tokens_of(t, i++))
		if (!check_has_source(g, t->sequences[i], err) || !check_length(g, t->sequences[i], tokens_of(t, i), err) ||
			!check_ids(g, ids, tokens_of(t, i), err))
			return false;
	return true;
}

static bool
check_sources(generator *g, const texts *t, llm_error *err)
{
	const int32_t *ids = t->ids;

	if (!check_encoder(g, err) || !check_sequences(g, t, err))
		return false;
	for (int32_t i = 0; i < t->count; ids += tokens_of(t, i++))
		if (!check_source(g, ids, tokens_of(t, i), err))
			return false;
	return true;
}

/* The next pass from token *done of sequence number *at, texts that see themselves as a whole; false behind the last. */
static bool
next_pass(const generator *g, const texts *t, int32_t *at, int32_t *done, pass *p)
{
	bool source = encodes(g, t->stack), whole = source || config_of(g)->bidirectional;

	p->ids += p->rows;
	p->rows = p->span_count = 0;
	while (*at < t->count)
	{
		int32_t sequence = sequence_of(t, *at), left = tokens_of(t, *at) - *done, room = g->room.rows - p->rows;
		int32_t rows = left <= room ? left : whole ? 0 : room;

		if (rows == 0)
			break;
		g->spans[p->span_count++] = (span) {
			.sequence = sequence,
			.pages = pages_of(g, sequence),
			.position = source ? 0 : g->length[sequence] + *done,
			.row = p->rows,
			.rows = rows,
		};
		p->rows += rows;
		*done += rows;
		if (rows < left)
			break;
		(*at)++;
		*done = 0;
	}
	return p->rows > 0;
}

/* What is made of a span's rows, while g->normed holds them. */
typedef bool (*span_done)(generator *g, const span *s, void *arg, llm_error *err);

/* Tokens that were checked, pass by pass; lengths are left to the caller. */
static bool
run_tokens(generator *g, const texts *t, span_done each, void *arg, llm_error *err)
{
	pass p = {.stack = t->stack, .ids = t->ids, .spans = g->spans};
	int32_t at = 0, done = 0;

	while (next_pass(g, t, &at, &done, &p))
	{
		if (!pass_run(g, &p, err))
			return false;
		for (int32_t i = 0; i < p.span_count; i++)
			if (!each(g, &p.spans[i], arg, err))
				return false;
	}
	return true;
}

static bool
keep_last(generator *g, const span *s, void *arg, llm_error *err)
{
	int64_t width = config_of(g)->width;

	memcpy(g->last + g->row[s->sequence] * width, normed_row(g, s->row + s->rows - 1), width * sizeof(float));
	return true;
}

static bool
extend(generator *g, const texts *t, llm_error *err)
{
	if (!check_appended(g, t, err) || !run_tokens(g, t, keep_last, NULL, err) ||
		!pass_logits(g, g->last, t->count, err))
		return false;
	for (int32_t i = 0; i < t->count; i++)
		g->length[t->sequences[i]] += tokens_of(t, i);
	return true;
}

bool
generator_append(generator *g, int32_t sequence, const int32_t *ids, int32_t count, llm_error *err)
{
	return extend(g, &(texts) {&g->numbers.stack, ids, 1, &sequence, &count}, err);
}

bool
generator_append_many(generator *g, const int32_t *sequences, const int32_t *counts, int32_t count,
					  const int32_t *ids, llm_error *err)
{
	return extend(g, &(texts) {&g->numbers.stack, ids, count, sequences, counts}, err);
}

bool
generator_step(generator *g, const int32_t *sequences, const int32_t *ids, int32_t count, llm_error *err)
{
	return extend(g, &(texts) {&g->numbers.stack, ids, count, sequences, NULL}, err);
}

/* ---- sources ---- */

static bool
keep_source(generator *g, const span *s, void *arg, llm_error *err)
{
	return pass_keep_source(g, s, err);
}

bool
generator_source_many(generator *g, const int32_t *sequences, const int32_t *counts, int32_t count,
					  const int32_t *ids, llm_error *err)
{
	texts t = {&g->numbers.encoder, ids, count, sequences, counts};

	if (!check_sources(g, &t, err))
		return false;
	for (int32_t i = 0; i < count; i++)
		g->length[sequences[i]] = g->source_length[sequences[i]] = 0;
	if (!run_tokens(g, &t, keep_source, NULL, err))
		return false;
	for (int32_t i = 0; i < count; i++)
		g->source_length[sequences[i]] = counts[i];
	return true;
}

bool
generator_source(generator *g, int32_t sequence, const int32_t *ids, int32_t count, llm_error *err)
{
	return generator_source_many(g, &sequence, &count, 1, ids, err);
}

/* ---- whole texts ---- */

typedef struct scoring
{
	const int32_t *ids;
	int32_t count;
	float *logprob;
	bool *best; /* or NULL */
} scoring;

/* What the token behind a position is to the logits there. */
static void
score_token(const generator *g, const scoring *s, int32_t position, const float *logits)
{
	int64_t n = config_of(g)->vocab;
	int32_t token = s->ids[position + 1];
	float largest = g->simd->max(logits, n);

	s->logprob[position] = logits[token] - largest - logf(g->simd->exp_sum(logits, largest, NULL, n));
	if (s->best)
		s->best[position] = logits[token] == largest;
}

/* A few rows' logits at a time. */
static bool
score_span(generator *g, const span *s, void *arg, llm_error *err)
{
	const scoring *scores = arg;

	for (int32_t i = 0; i < s->rows; i += FEW_ROWS)
	{
		int32_t rows = s->rows - i < FEW_ROWS ? s->rows - i : FEW_ROWS, position = s->position + i;

		if (!pass_logits(g, normed_row(g, s->row + i), rows, err))
			return false;
		for (int32_t k = 0; k < rows && position + k + 1 < scores->count; k++)
			score_token(g, scores, position + k, logits_of_row(g, k));
	}
	return true;
}

/* Sequence 0 anew. */
static bool
run_text(generator *g, const int32_t *ids, int32_t count, span_done each, void *arg, llm_error *err)
{
	int32_t sequence = 0;

	if (count < 1 || count > g->room.positions)
		return llm_fail(err, LLM_INVALID, "%d tokens do not fit into a context of %d", count, g->room.positions);
	if (!check_ids(g, ids, count, err))
		return false;
	g->length[0] = 0;
	if (!run_tokens(g, &(texts) {&g->numbers.stack, ids, 1, &sequence, &count}, each, arg, err))
		return false;
	g->length[0] = count;
	return true;
}

bool
generator_score(generator *g, const int32_t *ids, int32_t count, float *logprob, bool *best, llm_error *err)
{
	scoring s = {ids, count, logprob, best};

	return check_writes(g, err) && check_has_source(g, 0, err) && run_text(g, ids, count, score_span, &s, err);
}

typedef struct labelling
{
	const int32_t *positions; /* ascending; NULL: all */
	int32_t left;
	float *out;
} labelling;

static bool
label_span(generator *g, const span *s, void *arg, llm_error *err)
{
	labelling *l = arg;
	int64_t outputs = transformer_outputs(config_of(g));

	for (int32_t i = 0; i < s->rows && l->left > 0; i++)
	{
		if (l->positions && *l->positions != s->position + i)
			continue;
		if (!pass_logits(g, normed_row(g, s->row + i), 1, err))
			return false;
		memcpy(l->out, g->logits, outputs * sizeof(float));
		l->out += outputs;
		l->positions += l->positions != NULL;
		l->left--;
	}
	return true;
}

static bool
check_labels(const generator *g, const int32_t *positions, int32_t position_count, int32_t count, llm_error *err)
{
	if (config_of(g)->headless || g->room.sources > 0)
		return llm_fail(err, LLM_INVALID, "the network has no head for each token of a text");
	if (position_count < 0 || position_count > count || (!positions && position_count != count))
		return llm_fail(err, LLM_INVALID, "%d tokens do not have %d positions", count, position_count);
	for (int32_t i = 0; positions && i < position_count; i++)
		if (positions[i] < (i > 0 ? positions[i - 1] + 1 : 0) || positions[i] >= count)
			return llm_fail(err, LLM_INVALID,
							"position %d of a text of %d tokens is not between 0 and %d, or not "
							"behind the one before",
							positions[i], count, count - 1);
	return true;
}

bool
generator_label(generator *g, const int32_t *ids, int32_t count, const int32_t *positions, int32_t position_count,
				float *out, llm_error *err)
{
	labelling l = {positions, position_count, out};

	return check_labels(g, positions, position_count, count, err) && run_text(g, ids, count, label_span, &l, err);
}

typedef struct pooling
{
	text_pool pool;
	const int32_t *counts; /* of tokens, by sequence */
	float *out;            /* (sequences, width) */
} pooling;

static bool
pool_span(generator *g, const span *s, void *arg, llm_error *err)
{
	const pooling *to = arg;
	int64_t width = config_of(g)->width;
	float *out = to->out + s->sequence * width;
	int32_t count = to->counts[s->sequence];

	for (int32_t i = 0; i < s->rows; i++)
	{
		const float *x = normed_row(g, s->row + i);

		if (to->pool == POOL_MEAN)
			g->simd->axpy(1.0f / count, x, out, width);
		else if (s->position + i == (to->pool == POOL_FIRST ? 0 : count - 1))
			memcpy(out, x, width * sizeof(float));
	}
	return true;
}

static bool
check_whole(generator *g, const texts *t, llm_error *err)
{
	int32_t room = g->room.sources > 0 ? g->room.sources : g->room.positions;
	const int32_t *ids = t->ids;

	if (!check_sequences(g, t, err))
		return false;
	for (int32_t i = 0; i < t->count; ids += tokens_of(t, i++))
	{
		if (tokens_of(t, i) < 1 || tokens_of(t, i) > room)
			return llm_fail(err, LLM_INVALID, "%d tokens do not fit into a context of %d", tokens_of(t, i), room);
		if (!check_ids(g, ids, tokens_of(t, i), err))
			return false;
	}
	return true;
}

bool
generator_embed_many(generator *g, const int32_t *counts, int32_t count, const int32_t *ids, text_pool pool,
					 float *out, llm_error *err)
{
	bool source = g->room.sources > 0;
	texts t = {source ? &g->numbers.encoder : &g->numbers.stack, ids, count, NULL, counts};
	bool dense = g->n->config.dense_count > 0;
	pooling to = {pool, counts, dense ? g->pooled[0] : out};

	if (!check_whole(g, &t, err))
		return false;
	memset(to.out, 0, (size_t) count * config_of(g)->width * sizeof(float));
	for (int32_t i = 0; i < count && !source; i++)
		g->length[i] = 0;
	if (!run_tokens(g, &t, pool_span, &to, err))
		return false;
	if (dense)
		pass_dense(g, count, out);
	for (int32_t i = 0; i < count && !source; i++)
		g->length[i] = counts[i];
	return true;
}

bool
generator_embed(generator *g, const int32_t *ids, int32_t count, text_pool pool, float *out, llm_error *err)
{
	return generator_embed_many(g, &count, 1, ids, pool, out, err);
}
