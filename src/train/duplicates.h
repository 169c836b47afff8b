/*
 * duplicates.h
 *	  Which rows have been there before.  Include after postgres.h.
 */
#ifndef LLMAPP_DUPLICATES_H
#define LLMAPP_DUPLICATES_H

typedef struct SeenRows SeenRows;

/* In the current memory context; never more than limit bytes. */
extern SeenRows *CreateSeenRows(Size limit);
extern void FreeSeenRows(SeenRows *seen);
/* Was a row of this hash added before?  Adds it.  Says no once the memory is used up. */
extern bool SeenBefore(SeenRows *seen, uint64 hash);
extern int64 CountRepeated(
	const SeenRows *seen); /* calls that were answered with yes; -1 when memory did not suffice */

#endif /* LLMAPP_DUPLICATES_H */
