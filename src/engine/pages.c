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
	int32_t older, newer; /* among those without users */
} page;

struct pages
{
	int32_t count, idle;
	uint64_t chains; /* given out */
	int32_t oldest, newest;
	int32_t *buckets; /* (count): first known page */
	page *page;       /* (count) */
};

/* ---- pages without users ---- */

static void
link_newest(pages *p, int32_t i)
{
	p->page[i].older = p->newest;
	p->page[i].newer = PAGE_NONE;
	*(p->newest == PAGE_NONE ? &p->oldest : &p->page[p->newest].newer) = i;
	p->newest = i;
	p->idle++;
}

static void
link_oldest(pages *p, int32_t i)
{
	p->page[i].newer = p->oldest;
	p->page[i].older = PAGE_NONE;
	*(p->oldest == PAGE_NONE ? &p->newest : &p->page[p->oldest].older) = i;
	p->oldest = i;
	p->idle++;
}

static void
unlink_idle(pages *p, int32_t i)
{
	const page *x = &p->page[i];

	*(x->older == PAGE_NONE ? &p->oldest : &p->page[x->older].newer) = x->newer;
	*(x->newer == PAGE_NONE ? &p->newest : &p->page[x->newer].older) = x->older;
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
		p->page = calloc(count, sizeof(page));
	}
	if (!p || !p->buckets || !p->page)
	{
		pages_free(p);
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	p->count = count;
	p->oldest = p->newest = PAGE_NONE;
	for (int32_t i = 0; i < count; i++)
	{
		p->buckets[i] = PAGE_NONE;
		link_newest(p, i);
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
	int32_t i = p->oldest;

	if (i == PAGE_NONE)
		return i;
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
		(p->page[i].known ? link_newest : link_oldest)(p, i);
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
