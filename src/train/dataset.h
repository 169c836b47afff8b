/*
 * dataset.h
 *	  The rows of a training: loaded once, split, fitted, encoded.
 *
 * The steps in their order: LoadDataset() in transactions of its own, FitDataset() and
 * EncodeDataset() outside of one.  Include after postgres.h.
 */
#ifndef LLMAPP_DATASET_H
#define LLMAPP_DATASET_H

#include "samples.h"
#include "training.h"

typedef struct RawRows RawRows;
typedef struct Corpus Corpus;

typedef struct Dataset
{
	SourceRoles *roles;
	const char *task; /* decided when the rows are known */
	uint64 seed;
	int64 rows_read;     /* of the query */
	bool partial;        /* a sample that ended before the query did */
	int64 rows;          /* with a target; without repeated ones when they are left out */
	int64 dropped_rows;  /* left out because they were there before */
	int64 repeated_rows; /* that were there before, left out or not; -1: not known */
	int64 training_rows;
	int64 held_out_rows;
	int64 unseen_rows;  /* held-out rows that are left out: no training row has their label */
	int64 text_bytes;   /* of the text that is read token by token */
	uint64 fingerprint; /* of columns and values in their order, and of the version of llmapp */
	RawRows *raw;
	encoder *encoder;
	const target *target; /* NULL until FitDataset() */
	finding *findings;
	int64 *missing;        /* (inputs) rows without a value in a column that is used */
	int64 *unknown;        /* (inputs) held-out rows with a category that the training rows do not give a place */
	double *class_weights; /* (class_count) of a classification */
	Size budget;           /* memory that records may still take */
	Corpus *corpus;        /* NULL without a text that is read token by token */
	Samples *training;
	Samples *held_out;
} Dataset;

/*
 * Read the query as the current user; everything lives in the current memory context.
 * Incomplete, and of no use, when JobPauseRequested() afterwards.
 */
extern Dataset *LoadDataset(const TrainingSpec *spec, const train_params *params, const manifest *base);
/* The same in the caller's transaction and no longer than it lasts, of about so many bytes of the first rows. */
extern Dataset *LoadSample(const TrainingSpec *spec, const train_params *params, const manifest *base, Size limit);
/* Once all rows are loaded: decide on folds where the user left that open; a base model has none. */
extern void ChooseFolds(Dataset *d, train_params *params, bool has_base);
/*
 * Learn columns and target from the training rows, or take over those of base.  With folds
 * this comes before HoldOutFold() and sees all rows: the networks of all folds read and
 * predict the same numbers.
 */
extern void FitDataset(Dataset *d, const train_params *params, const manifest *base);
/* Encode all rows into d->training and d->held_out. */
extern void EncodeDataset(Dataset *d, const train_params *params, Size budget);
/*
 * Once more over all rows: StartPass(), then the next text to read token by token, in UTF-8 and until
 * the next call, until it returns false; of pairs each prompt and then its completion.
 */
extern void StartPass(Dataset *d);
extern int64 CountTexts(const Dataset *d); /* of a pass */
extern bool NextText(Dataset *d, const char **text, Size *length, bool *held_out);
/* Give up the rows as loaded, when nothing will be fitted or encoded any more. */
extern void CloseRows(Dataset *d);

/* What EncodeDataset() holds out from now on: one fold, or nothing for -1; counts the rows of both parts. */
extern void HoldOutFold(Dataset *d, int32 fold);

/* What became of the rows, for the job's report: see docs/reference.md. */
extern json_t *DataReport(const Dataset *d);

#endif /* LLMAPP_DATASET_H */
