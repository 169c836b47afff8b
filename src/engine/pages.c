/*
 * pages.c
 *	  Pages of keys and values: users, contents, and the order in which idle ones are taken.
 *
 * Known pages are in a hash table by (before, tokens).  `before` is a number that no two contents share and that is
 * never used again, so a page behind one that was overwritten is not found by mistake.
 */
#include "pages.h"

#include <stdlib.h>
#include <string.h>

typedef struct page
{
	int32_t users;
	bool known;
	uint64_t before, chain;
	int32_t ids[DECODER_PAGE];
	int32_t same_hash;    /* the next known page of its bucket */
	int32_t older, newer; /* in the ring of those without users */
} page;

struct pages
{
	int32_t count, idle;
	uint64_t chains;  /* given out */
	int32_t *buckets; /* (count): first known page */
	page *page;       /* (count), and one that is the begin and the end of the ring */
};

/* ---- pages without users ---- */

/* Behind a page of the ring, or its begin, page[count]. */
static void
link_idle(pages *p, int32_t i, int32_t older)
{
	page *x = &p->page[i];

	x->older = older;
	x->newer = p->page[older].newer;
	p->page[x->older].newer = p->page[x->newer].older = i;
	p->idle++;
}

static void
unlink_idle(pages *p, int32_t i)
{
	const page *x = &p->page[i];

	p->page[x->older].newer = x->newer;
	p->page[x->newer].older = x->older;
	p->idle--;
}

/* ---- known pages ---- */

static int32_t *
bucket_of(const pages *p, uint64_t before, const int32_t *ids)
{
	uint64_t hash = before * 0x9E3779B97F4A7C15;

	for (int i = 0; i < DECODER_PAGE; i++)
		hash = (hash ^ (uint32_t) ids[i]) * 0x100000001B3;
	return &p->buckets[(hash ^ hash >> 32) % (uint64_t) p->count];
}

static int32_t
known_page(const pages *p, uint64_t before, const int32_t *ids)
{
	int32_t i = *bucket_of(p, before, ids);

	while (i != PAGE_NONE &&
		   (p->page[i].before != before || memcmp(p->page[i].ids, ids, sizeof(p->page[i].ids)) != 0))
		i = p->page[i].same_hash;
	return i;
}

static void
forget(pages *p, int32_t i)
{
	page *x = &p->page[i];
	int32_t *at;

	if (!x->known)
		return;
	at = bucket_of(p, x->before, x->ids);
	while (*at != i)
		at = &p->page[*at].same_hash;
	*at = x->same_hash;
	x->known = false;
}

/* ---- interface ---- */

pages *
pages_new(int32_t count, llm_error *err)
{
	pages *p = calloc(1, sizeof(pages));

	if (p)
	{
		p->buckets = calloc(count, sizeof(int32_t));
		p->page = calloc((size_t) count + 1, sizeof(page));
	}
	if (!p || !p->buckets || !p->page)
	{
		pages_free(p);
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	p->count = count;
	p->page[count].older = p->page[count].newer = count;
	for (int32_t i = 0; i < count; i++)
	{
		p->buckets[i] = PAGE_NONE;
		link_idle(p, i, p->page[count].older);
	}
	return p;
}

void
pages_free(pages *p)
{
	if (!p)
		return;
	free(p->buckets);
	free(p->page);
	free(p);
}

int32_t
pages_take(pages *p)
{
	int32_t i = p->page[p->count].newer;

	if (p->idle == 0)
		return PAGE_NONE;
	unlink_idle(p, i);
	forget(p, i);
	p->page[i].users = 1;
	return i;
}

/* One that nobody can find is taken first. */
void
pages_release(pages *p, int32_t i)
{
	if (--p->page[i].users == 0)
		link_idle(p, i, p->page[i].known ? p->page[p->count].older : p->count);
}

int32_t
pages_idle(const pages *p)
{
	return p->idle;
}

uint64_t
pages_know(pages *p, int32_t i, uint64_t before, const int32_t *ids)
{
	int32_t known = known_page(p, before, ids);
	page *x = &p->page[i];
	int32_t *bucket;

	if (known != PAGE_NONE)
		return p->page[known].chain;
	bucket = bucket_of(p, before, ids);
	x->known = true;
	x->before = before;
	x->chain = ++p->chains;
	memcpy(x->ids, ids, sizeof(x->ids));
	x->same_hash = *bucket;
	*bucket = i;
	return x->chain;
}

int32_t
pages_find(pages *p, uint64_t before, const int32_t *ids, uint64_t *chain)
{
	int32_t i = known_page(p, before, ids);

	if (i == PAGE_NONE)
		return i;
	if (p->page[i].users++ == 0)
		unlink_idle(p, i);
	*chain = p->page[i].chain;
	return i;
}

bool
pages_shared(const pages *p, int32_t i)
{
	return p->page[i].known || p->page[i].users > 1;
}
