/*
 * batching.h
 *	  Plain predictions in a SELECT list become batched ones, when that pays.
 */
#ifndef LLMAPP_BATCHING_H
#define LLMAPP_BATCHING_H

extern void InstallBatching(void); /* in the postmaster, when preloaded */

#endif /* LLMAPP_BATCHING_H */
