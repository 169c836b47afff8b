/*
 * explain.h
 *	  What EXPLAIN ANALYZE says of predictions.
 */
#ifndef LLMAPP_EXPLAIN_H
#define LLMAPP_EXPLAIN_H

extern void InstallExplain(void); /* in the postmaster, when preloaded */

#endif /* LLMAPP_EXPLAIN_H */
