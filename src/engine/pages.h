/*
 * pages.h
 *	  Whose the pages of keys and values are, and which texts begin alike.
 *
 * A page that is full may be made known by its tokens and the page before it; whoever has the same tokens behind the
 * same page finds it and need not compute it.  A known page that nobody uses any more stays until its memory is
 * wanted, the one that was used longest ago first.
 */
#ifndef LLMAPP_PAGES_H
#define LLMAPP_PAGES_H

#include "decoder.h"

#define PAGE_NONE (-1)
#define CHAIN_BEGIN 0 /* what a text's first page lies behind */

typedef struct pages pages;

/* count >= 1; NULL with LLM_MEMORY. */
extern pages *pages_new(int32_t count, llm_error *err);
extern void pages_free(pages *p); /* p may be NULL */

/* One with unknown contents and one user, or PAGE_NONE when all are in use. */
extern int32_t pages_take(pages *p);
/* A user less. */
extern void pages_release(pages *p, int32_t page);
extern int32_t pages_idle(const pages *p); /* that pages_take() would find */

/*
 * A page, in use and full, has these DECODER_PAGE tokens behind those that `before` stands for.  Returns what stands for
 * a text up to here: the same for every page with the same tokens, of which the first stays the known one.
 */
extern uint64_t pages_know(pages *p, int32_t page, uint64_t before, const int32_t *ids);
/* The known page with these tokens behind `before`, with a user more, and *chain as pages_know(); or PAGE_NONE. */
extern int32_t pages_find(pages *p, uint64_t before, const int32_t *ids, uint64_t *chain);
/* Whether writing into a page would change what others read or may find. */
extern bool pages_shared(const pages *p, int32_t page);

#endif /* LLMAPP_PAGES_H */
