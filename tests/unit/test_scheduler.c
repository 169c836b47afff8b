/*
 * test_scheduler.c
 *	  Sessions that come and go beside each other: each sees the numbers of a generator of its own, with plenty of
 *	  pages and with so few that texts lose theirs.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/engine/generator.h"
#include "../../src/engine/pages.h"
#include "../../src/engine/scheduler.h"
#include "net_check.h"

#define VOCAB 64
#define CONTEXT 300
#define SESSIONS 6
#define CONTEXT_PAGES ((CONTEXT + DECODER_PAGE - 1) / DECODER_PAGE)

typedef struct model
{
	net *n;
	float *weights;
} model;

static model
make_model(void)
{
	llm_error err = {0};
	net_config c = small_transformer("llama", VOCAB, CONTEXT);
	model m = {.n = net_new(&c, &err)};

	CHECK(m.n != NULL);
	m.weights = aligned_alloc(64, net_weight_bytes(m.n));
	random_weights(m.n, m.weights, 0.3f);
	return m;
}

static void
free_model(model *m)
{
	net_free(m->n);
	free(m->weights);
}

typedef struct server
{
	model m;
	decoder *d;
	scheduler *s;
	generator *g; /* the oracle */
} server;

static server
make_server(int32_t pages, int32_t tokens, int32_t piece)
{
	llm_error err = {0};
	decoder_shape shape = {pages, tokens, 4};
	server v = {.m = make_model()};

	v.d = decoder_new(v.m.n, v.m.weights, &shape, NULL, &err);
	v.s = v.d ? scheduler_new(v.d, &shape, CONTEXT, SESSIONS, piece, &err) : NULL;
	v.g = generator_new(v.m.n, v.m.weights, 1, CONTEXT, 0, &err);
	CHECK(v.d && v.s && v.g);
	return v;
}

static void
free_server(server *v)
{
	scheduler_free(v->s);
	decoder_free(v->d);
	generator_free(v->g);
	free_model(&v->m);
}

/* Rounding of float32, as sums are cut differently. */
static bool
right(const server *v, int32_t text, const int32_t *ids, int32_t length)
{
	llm_error err = {0};

	generator_truncate(v->g, 0, 0);
	return generator_append(v->g, 0, ids, length, &err) &&
		   logits_nmse(scheduler_logits(v->s, text), generator_logits(v->g, 0), VOCAB) < 1e-10;
}

typedef struct session
{
	int32_t text; /* -1: not open */
	int32_t ids[CONTEXT];
	int32_t length;
	bool waits;
} session;

/* Prompts have one of two beginnings in common. */
static void
begin(const server *v, session *x, int32_t beginnings[2][CONTEXT])
{
	llm_error err = {0};

	x->text = scheduler_open(v->s);
	x->length = 1 + next_below(CONTEXT - 20);
	memcpy(x->ids, beginnings[next_below(2)], sizeof(x->ids));
	if (x->length > 3)
		x->ids[x->length - 1] = next_below(VOCAB);
	CHECK(scheduler_give(v->s, x->text, 0, x->ids, x->length, &err));
	x->waits = true;
}

/* One token more, or some in the place of the last ones. */
static void
go_on(const server *v, session *x)
{
	llm_error err = {0};
	int32_t keep = next_below(10) > 0 ? x->length : next_below(x->length + 1);
	int32_t count = keep == x->length ? 1 : 1 + next_below(4);

	for (int32_t i = 0; i < count; i++)
		x->ids[keep + i] = next_below(VOCAB);
	CHECK(scheduler_give(v->s, x->text, keep, x->ids + keep, count, &err));
	x->length = keep + count;
	x->waits = true;
}

static void
check_pass(const server *v, session *sessions)
{
	for (session *x = sessions; x < sessions + SESSIONS; x++)
	{
		if (x->text < 0 || !scheduler_done(v->s, x->text))
			continue;
		CHECK(x->waits && right(v, x->text, x->ids, x->length));
		x->waits = false;
	}
}

static void
test_sessions(int32_t pages, bool scarce)
{
	llm_error err = {0};
	server v = make_server(pages, 64, 48);
	session sessions[SESSIONS];
	int32_t beginnings[2][CONTEXT], rounds = 0;

	for (int i = 0; i < SESSIONS; i++)
		sessions[i].text = -1;
	for (int i = 0; i < CONTEXT; i++)
		for (int k = 0; k < 2; k++)
			beginnings[k][i] = next_below(VOCAB);
	for (int round = 0; round < 250; round++)
	{
		session *x = &sessions[next_below(SESSIONS)];

		if (x->text < 0)
			begin(&v, x, beginnings);
		else if (next_below(12) == 0 || (!x->waits && x->length > CONTEXT - 5))
		{
			scheduler_close(v.s, x->text); /* perhaps before it was answered */
			x->text = -1;
		}
		else if (!x->waits)
			go_on(&v, x);
		CHECK(scheduler_pass(v.s, &err));
		check_pass(&v, sessions);
	}
	for (; scheduler_waits(v.s) && rounds < 1000; rounds++)
	{
		CHECK(scheduler_pass(v.s, &err));
		check_pass(&v, sessions);
	}
	for (int i = 0; i < SESSIONS; i++)
		CHECK(sessions[i].text < 0 || !sessions[i].waits);
	CHECK(scheduler_count(v.s).shared > 0);
	CHECK((scheduler_count(v.s).preempted > 0) == scarce);
	free_server(&v);
}

/* A long prompt takes part piece by piece, and texts that go on do not wait for its end. */
static void
test_pieces(void)
{
	llm_error err = {0};
	server v = make_server(4 * CONTEXT_PAGES, 64, 32);
	int32_t ids[CONTEXT], writer = scheduler_open(v.s), reader = scheduler_open(v.s), passes = 0;

	for (int i = 0; i < CONTEXT; i++)
		ids[i] = next_below(VOCAB);
	CHECK(scheduler_give(v.s, writer, 0, ids, 3, &err) && scheduler_pass(v.s, &err));
	CHECK(scheduler_give(v.s, reader, 0, ids + 1, 200, &err));
	for (; !scheduler_done(v.s, reader) && passes < 20; passes++)
	{
		CHECK(scheduler_give(v.s, writer, 3 + passes, ids + 3 + passes, 1, &err));
		CHECK(scheduler_pass(v.s, &err));
		CHECK(scheduler_done(v.s, writer) && right(&v, writer, ids, 4 + passes));
	}
	CHECK_INT(passes, (200 + 31) / 32);
	CHECK(right(&v, reader, ids + 1, 200));
	free_server(&v);
}

static bool
stop_now(void *arg)
{
	return *(bool *) arg;
}

static void
test_failures(void)
{
	llm_error err = {0};
	server v = make_server(CONTEXT_PAGES, 64, 64);
	int32_t ids[CONTEXT] = {0}, wrong = VOCAB, text = scheduler_open(v.s);
	bool stop = true;

	CHECK(!scheduler_give(v.s, text, 1, ids, 1, &err) && err.code == LLM_INVALID);
	err = (llm_error) {0};
	CHECK(!scheduler_give(v.s, text, 0, ids, CONTEXT + 1, &err) && err.code == LLM_INVALID);
	err = (llm_error) {0};
	CHECK(scheduler_give(v.s, text, 0, ids, 70, &err));
	decoder_set_poll(v.d, stop_now, &stop);
	CHECK(!scheduler_pass(v.s, &err) && err.code == LLM_CANCELLED);
	stop = false;
	err = (llm_error) {0};
	CHECK(scheduler_pass(v.s, &err) && scheduler_pass(v.s, &err));
	CHECK(scheduler_done(v.s, text) && right(&v, text, ids, 70));
	CHECK(scheduler_give(v.s, text, 70, &wrong, 1, &err));
	CHECK(!scheduler_pass(v.s, &err) && err.code == LLM_INVALID);
	scheduler_close(v.s, text);
	for (int i = 0; i < SESSIONS; i++)
		CHECK(scheduler_open(v.s) >= 0);
	CHECK_INT(scheduler_open(v.s), -1);
	err = (llm_error) {0};
	CHECK(!scheduler_new(v.d, &(decoder_shape) {CONTEXT_PAGES - 1, 64, 4}, CONTEXT, 1, 1, &err));
	CHECK(err.code == LLM_INVALID);
	free_server(&v);
}

/* What is known is found until its memory is wanted; what lies behind a page that was overwritten is not. */
static void
test_pages(void)
{
	llm_error err = {0};
	pages *p = pages_new(3, &err);
	int32_t ids[2][DECODER_PAGE] = {{1}, {2}}, a, b, c;
	uint64_t first, second, chain;

	if (!CHECK(p != NULL))
		return;
	a = pages_take(p);
	first = pages_know(p, a, CHAIN_BEGIN, ids[0]);
	b = pages_take(p);
	second = pages_know(p, b, first, ids[1]);
	CHECK(pages_shared(p, a) && first != second && first != CHAIN_BEGIN);
	c = pages_take(p);
	CHECK_INT(pages_take(p), PAGE_NONE);
	CHECK(!pages_shared(p, c) && pages_know(p, c, CHAIN_BEGIN, ids[0]) == first);
	pages_release(p, c);
	CHECK_INT(pages_find(p, CHAIN_BEGIN, ids[0], &chain), a);
	CHECK(chain == first);
	pages_release(p, a);
	CHECK_INT(pages_idle(p), 1);
	pages_release(p, a);
	pages_release(p, b);
	CHECK_INT(pages_idle(p), 3);
	CHECK_INT(pages_take(p), c);
	CHECK_INT(pages_take(p), a);
	CHECK_INT(pages_find(p, CHAIN_BEGIN, ids[0], &chain), PAGE_NONE);
	CHECK(pages_know(p, a, CHAIN_BEGIN, ids[0]) != first);
	CHECK_INT(pages_find(p, first, ids[1], &chain), b);
	CHECK(chain == second);
	pages_free(p);
}

int
main(void)
{
	test_pages();
	test_sessions(4 * SESSIONS * CONTEXT_PAGES, false);
	test_sessions(CONTEXT_PAGES + 2, true);
	test_pieces();
	test_failures();
	return test_summary();
}
