/*
 * record_file.h
 *	  Encoded rows of a training, in memory while they fit and in a temporary file
 *	  otherwise, read back in order or shuffled.
 *
 * Use: CreateRecords(), AddRecord() for each row, FinishRecords(); then StartReading()
 * and NextRecord() until it returns NULL, as often as wanted.  The order of a shuffled
 * reading depends on seed, epoch and the size of memory only, so any position in it can
 * be found again.  Include after postgres.h.
 */
#ifndef LLMAPP_RECORD_FILE_H
#define LLMAPP_RECORD_FILE_H

#include "../feature/feature.h"

typedef struct Records Records;

/* In the current memory context.  *budget is what all records together may still take of memory. */
extern Records *CreateRecords(Size *budget);
/* count: bytes, a multiple of 4 */
extern void AddRecord(Records *records, const void *bytes, uint32 count);
extern void FinishRecords(Records *records);
extern int64 CountRecords(const Records *records);

extern void StartReading(Records *records, bool shuffle, uint64 seed, uint64 epoch);
/* Leave out the next `count` records without reading them. */
extern void SkipRecords(Records *records, int64 count);
/* Valid until the next call; NULL at the end. */
extern const uint8 *NextRecord(Records *records, uint32 *bytes);

#endif /* LLMAPP_RECORD_FILE_H */
