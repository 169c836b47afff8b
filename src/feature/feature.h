/*
 * feature.h
 *	  From the values of a row to the numbers a network reads: fitting on training
 *	  rows, replaying on any row.
 *
 * Intended use:
 *	 1. fitter_new() with the input columns, fitter_add_rows() for all training rows,
 *		fitter_finish() yields the encoder (and findings for the job's report).
 *	 2. target_fitter_*() does the same for the column(s) to predict.
 *	 3. encoder_json()/encoder_from_json() store both in a model's manifest and read them
 *		back; the JSON is hostile input.
 *	 4. encoder_record() packs a row for the training file; batch_add_record() unpacks it
 *		into a batch.  encoder_row() encodes one row straight into a batch (prediction).
 *	 5. row_block_unpack() and row_block_encode() do this with many rows and several threads.
 * Values bind to columns by position here; src/model/input.c binds by name.
 */
#ifndef LLMAPP_FEATURE_H
#define LLMAPP_FEATURE_H

#include <stddef.h>
#include <stdint.h>

#include "../engine/batch.h"
#include "../engine/error.h"
#include "../engine/pool.h"
#include "../format/json.h"
#include "../text/tokenizer.h"

/* What a column holds, decided by its SQL type. */
typedef enum column_kind
{
	COLUMN_NUMBER,   /* integers, floats, numeric, interval (seconds) */
	COLUMN_BOOLEAN,  /* 0 or 1 */
	COLUMN_TIME,     /* date, timestamp: seconds since 1970-01-01 UTC */
	COLUMN_CATEGORY, /* enum, uuid, inet, ...: by their text form */
	COLUMN_TEXT,     /* text, varchar, char: category or free text, as the data says */
	COLUMN_VECTOR,   /* arrays of numbers, tensor: one length for all rows */
	COLUMN_JSON      /* jsonb scalars: number or category, as the data says */
} column_kind;

typedef struct column
{
	char *name;
	char *sql_type; /* format_type() at training, for messages */
	column_kind kind;
	bool integer; /* int2, int4, int8: only these can look like identifiers */
	bool image;   /* COLUMN_VECTOR: the image of a convolutional network; one column at most */
	bool tokens;  /* COLUMN_TEXT: the text whose tokens a transformer reads; one column at most */
} column;

#define VALUE_MAX_DIMS 4

typedef enum value_kind
{
	VALUE_NULL,
	VALUE_NUMBER,
	VALUE_STRING,
	VALUE_VECTOR
} value_kind;

/* One value; string and vector point to the caller's memory. NaN counts as NULL. */
typedef struct value
{
	value_kind kind;
	int32_t length; /* bytes of string, elements of vector */
	union
	{
		double number;
		const char *string;  /* UTF-8 or the server's encoding, no terminator */
		const float *vector; /* (dims), row-major */
	};
	int32_t ndim; /* of a vector; 0 or 1: it has no shape but its length */
	int32_t dims[VALUE_MAX_DIMS];
} value;

/*
 * Values to and from bytes: the raw training file holds a row as its values in a row.
 * Unpacked strings and vectors point into buffer, which must be aligned to 4 bytes.
 */
extern size_t value_pack(const value *values, int32_t count, uint8_t *buffer, size_t capacity); /* bytes needed */
extern bool value_unpack(const uint8_t *buffer, size_t bytes, value *values, int32_t count, llm_error *err);

typedef struct fit_options
{
	bool linear;          /* no hidden layer: numbers stay one standardised number each */
	int32_t one_hot_max;  /* categories up to which a column is one-hot, then embedded */
	int32_t text_buckets; /* rows of the table of hashed n-grams */
	bool ngrams;          /* of a text whose tokens are read, too */
	bool wide;            /* the output reads n-grams without a hidden layer between */
	uint64_t seed;
} fit_options;

/* Something worth telling the user about a column. */
typedef struct finding
{
	char column[64];
	const char *kind; /* constant, identifier, copies_target, mostly_null, high_cardinality, ... */
	bool dropped;     /* the column is not used */
	char message[256];
	struct finding *next;
} finding;

typedef struct fitter fitter;
typedef struct encoder encoder;

extern fitter *fitter_new(const column *columns, int32_t count, const fit_options *options, llm_error *err);
/*
 * The next training rows, column by column in the threads of p, which may be NULL: what comes of it is
 * the same for any number of them.  targets: class indices or numbers, for the check of columns that copy it.
 */
extern bool fitter_add_rows(fitter *f, const value *const *rows, const double *targets, int32_t count, pool *p,
							llm_error *err);
/* Frees f.  *findings is a list to be freed with finding_free(). */
extern encoder *fitter_finish(fitter *f, finding **findings, llm_error *err);
extern void finding_free(finding *list);

extern encoder *encoder_none(llm_error *err);                     /* of rows without input columns */
extern encoder *encoder_of_text(const column *c, llm_error *err); /* of rows with one text, read token by token */
extern void encoder_free(encoder *e);
/* dense, embed_*, bag_*, vocab and context of the row's shape; the rest is the target's. */
extern void encoder_shape(const encoder *e, batch_shape *shape);
/* Channels, height and width of the image column; zeros when there is none.  Its numbers come first in dense. */
extern void encoder_image(const encoder *e, int32_t image[3]);
extern int32_t encoder_column_count(const encoder *e);
extern const column *encoder_column(const encoder *e, int32_t i);
extern bool encoder_column_used(const encoder *e, int32_t i); /* false: dropped, need not be present */

/*
 * The tokenizer of the column of tokens, which the caller keeps, before rows are encoded: a row has
 * its text as tokenizer_encode_input() gives it.  vocab: ids that the network knows, those of the tokenizer at
 * least.  LLM_CORRUPT when the encoder was read
 * back and knows fewer tokens or another context.
 */
extern bool encoder_has_tokens(const encoder *e);
extern int32_t encoder_context(const encoder *e); /* 0 until it is known */
extern bool encoder_set_tokenizer(encoder *e, tokenizer *t, int32_t vocab, int32_t context, llm_error *err);

extern json_t *encoder_json(const encoder *e);
extern encoder *encoder_from_json(const json_t *json, llm_error *err);

/*
 * Count, per column that is used, a row without a value in missing, and one whose category has no place of its own in
 * unknown, which may be NULL.
 */
extern void encoder_count_gaps(const encoder *e, const value *row, int64_t *missing, int64_t *unknown);

/* Encode row as row number b->rows of b and count it.  A vector of another length is LLM_INVALID. */
extern bool encoder_row(const encoder *e, const value *row, batch *b, llm_error *err);

/* ---- the column(s) to predict ---- */

typedef enum target_kind
{
	TARGET_CLASS,
	TARGET_NUMBER,
	TARGET_TEXT /* token after token, by a language model */
} target_kind;

typedef struct target
{
	target_kind kind;
	int32_t columns;     /* target columns */
	char **names;        /* (columns) */
	char **sql_types;    /* (columns) */
	int32_t outputs;     /* of the network: 1 for two classes, classes otherwise; numbers; 1 for text */
	int32_t class_count; /* TARGET_CLASS: >= 2 */
	char **classes;      /* sorted (numbers by value, else by bytes); class 1 is the positive one of two */
	int64_t *class_rows; /* training rows of each class */
	double *mean;        /* TARGET_NUMBER: (outputs) */
	double *scale;       /* (outputs), > 0; number = mean + scale * network output */
} target;

typedef struct target_fitter target_fitter;

extern target_fitter *target_fitter_new(target_kind kind, const column *columns, int32_t count, llm_error *err);
/* A NULL target is the caller's to skip. */
extern bool target_fitter_add(target_fitter *f, const value *values, llm_error *err);
/* Frees f.  LLM_INVALID with a hint for one class only or more than 65,536 classes. */
extern target *target_fitter_finish(target_fitter *f, llm_error *err);
/* One that has these labels, and no rows of any.  LLM_INVALID for a label that is there twice. */
extern target *target_of_labels(const char *name, const char *const *labels, int32_t count, llm_error *err);
/* One that is a text in this column; or numbers, which are as the network gives them. */
extern target *target_of_text(const column *c, llm_error *err);
extern target *target_of_numbers(const char *name, int32_t count, llm_error *err);
extern void target_free(target *t);
extern json_t *target_json(const target *t);
extern target *target_from_json(const json_t *json, llm_error *err);
extern void target_shape(const target *t, batch_shape *shape); /* outputs, class_target, token_target */
/* Class index of a value's label, -1 when it was never seen. */
extern int32_t target_class_of(const target *t, const value *v);

/* ---- records of the training file ---- */

/*
 * Bytes of the record (a multiple of 4), packed with target and weight, when capacity suffices for
 * any row; otherwise that capacity.  0 on error.  buffer must be aligned to 4 bytes.
 */
extern size_t encoder_record(const encoder *e, const target *t, const value *row, const value *target_values,
							 float weight, uint8_t *buffer, size_t capacity, llm_error *err);
extern bool batch_add_record(const encoder *e, const target *t, const uint8_t *record, size_t bytes, batch *b,
							 llm_error *err);

/* ---- many rows at once ---- */

/* Bytes of a packed row in a block of rows: its length in 4 bytes, and filled up to a multiple of 4. */
#define BLOCK_ROW_BYTES(bytes) (sizeof(uint32_t) + ((size_t) (bytes) + 3) / 4 * 4)

typedef struct row_block row_block;

/* columns: values of each row, inputs first and targets behind them */
extern row_block *row_block_new(int32_t columns, llm_error *err);
extern void row_block_free(row_block *b);
/* Replace the rows; their values point into bytes, aligned to 4 bytes.  p may be NULL. */
extern bool row_block_unpack(row_block *b, const uint8_t *bytes, size_t size, pool *p, llm_error *err);
extern int32_t row_block_count(const row_block *b);
extern const value *row_block_row(const row_block *b, int32_t i);
/* Make records of the rows that have a weight of zero or more, others have none.  The error is that of the first row. */
extern bool row_block_encode(row_block *b, const encoder *e, const target *t, const float *weights, pool *p,
							 llm_error *err);
/* Valid until the next call of row_block_encode(). */
extern const uint8_t *row_block_record(const row_block *b, int32_t i, uint32_t *bytes);

#endif /* LLMAPP_FEATURE_H */
