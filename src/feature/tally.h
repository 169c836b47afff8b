/*
 * tally.h
 *	  Counts of distinct values in bounded memory.
 *
 * Exact up to a number of distinct values.  Beyond, the number of distinct values is estimated
 * (HyperLogLog, Flajolet et al. 2007, error about 1.6 %); strings known by then go on being counted,
 * numbers do not.  For each value it also remembers the target of its first row and how many of its
 * rows agree with it.
 */
#ifndef LLMAPP_TALLY_H
#define LLMAPP_TALLY_H

#include "strings.h"

#define TALLY_REGISTERS 4096

typedef struct tally_entry
{
	int64_t rows;
	int64_t agree; /* rows whose target is that of the first row */
	double target;
} tally_entry;

typedef struct tally
{
	strings *values;
	tally_entry *entries; /* (values->count) */
	int32_t capacity;
	int64_t rows;     /* all, with those of values that are not counted exactly */
	int64_t overflow; /* the latter; 0 = everything is exact */
	uint8_t registers[TALLY_REGISTERS];
} tally;

extern tally *tally_new(int32_t max_count, size_t max_bytes); /* NULL: out of memory */
extern void tally_free(tally *t);
/* A tally holds either strings or numbers.  False: out of memory. */
extern bool tally_add_string(tally *t, const char *text, size_t length, double target);
extern bool tally_add_number(tally *t, double number, double target);
/* Number of distinct values, estimated when there was an overflow. */
extern double tally_distinct(const tally *t);
/* Rows of the most frequent value, and rows that agree with their value's first target. */
extern int64_t tally_most(const tally *t);
extern int64_t tally_agree(const tally *t);

#endif /* LLMAPP_TALLY_H */
