/*
 * encoder.h
 *	  What an encoder is inside: one encoding per input column and where its numbers go.
 *
 * A row is encoded in two steps.  The first turns values into a compact row: one float per
 * number (standardised, NaN where missing), one index per embedded column, (index, value) pairs
 * of the bag.  Training records hold compact rows.  The second widens the floats to what the
 * network reads (squashed value, piecewise-linear bins, indicator of a missing value).
 * Prediction and training run both through the same code, so their numbers are equal to the bit.
 */
#ifndef LLMAPP_ENCODER_H
#define LLMAPP_ENCODER_H

#include "../engine/simd.h"
#include "feature.h"
#include "strings.h"

/* Caps on what a model file may ask for. */
#define COLUMNS_MAX 1664 /* as many as a PostgreSQL row may have */
#define DENSE_MAX (1 << 20)
#define BAG_ROWS_MAX (1 << 26)
#define EMBED_ROWS_MAX (1 << 26)
#define BAG_PAIRS_MAX (1 << 20)
#define BINS_MAX 1024
#define VECTOR_MAX 65536
#define IMAGE_MAX (DENSE_MAX / 2) /* numbers of one */
#define CATEGORIES_MAX 65536
#define CATEGORY_BYTES_MAX (4 << 20) /* all categories of a column together */
#define BUCKETS_MAX (1 << 20)
#define NAME_BYTES_MAX 255

/* Of n-grams: 1 + ln(texts / texts with it) (Sparck Jones, 1972), in sixteenths. */
#define TEXT_RARITY_ONE 16
#define TEXT_LENGTH_MAX 1000

/* Values beyond are as good as infinite; their squares still are finite. */
#define NUMBER_MAX 1e100
/* The same for standardised floats, whose squares must be finite floats. */
#define STANDARD_MAX 1e15f
/* Smaller deviations are rounding errors; their inverse is still finite. */
#define SCALE_MIN 1e-300

typedef enum encoding_kind
{
	ENCODING_DROPPED,
	ENCODING_NUMBER,
	ENCODING_TIME,    /* a number, and sine and cosine of the parts of the date that vary */
	ENCODING_ONE_HOT, /* one pair of value 1 in the bag */
	ENCODING_EMBED,   /* one row of the embedding table */
	ENCODING_TEXT,    /* hashed n-grams in the bag; of a column of tokens there may be none */
	ENCODING_VECTOR,
	ENCODING_IMAGE /* standardised by channel; a missing one is the mean everywhere */
} encoding_kind;

/* Parts of a date, in this order behind the time's own number. */
typedef enum time_part
{
	PART_HOUR,
	PART_WEEKDAY,
	PART_DAY,
	PART_MONTH,
	TIME_PARTS
} time_part;

typedef struct encoding
{
	column column;
	encoding_kind kind;
	bool indicator; /* NUMBER, TIME, VECTOR: values were missing in training */

	/* NUMBER, TIME: z = (x - center) / scale; VECTOR: arrays below instead */
	double center;
	double scale;        /* > 0 */
	double inverse;      /* 1 / scale */
	double low, high;    /* range in training, stands for infinities */
	bool squash;         /* z / sqrt(1 + (z / 3)^2): within (-3, 3) */
	int32_t bins;        /* 0 or >= 2; piecewise-linear encoding */
	double *edges;       /* (bins + 1) rising, as x */
	float *edge;         /* (bins) lower edges, as z */
	float *edge_inverse; /* (bins) 1 / width, as z */

	bool parts[TIME_PARTS];

	/* ONE_HOT, EMBED: category i is slot i, then those below if >= 0 */
	strings *categories;
	int32_t null_slot;  /* values were missing in training */
	int32_t other_slot; /* rare in training; unseen ones share it.  EMBED: always there */

	/* TEXT */
	int32_t vocab, context; /* of a column of tokens */
	int32_t buckets;
	int32_t kept;       /* buckets that are used */
	int32_t *row_of;    /* (buckets): 0 .. kept - 1, or -1 */
	uint8_t *rarity;    /* (kept): inverse document frequency times TEXT_RARITY_ONE */
	double text_length; /* Euclidean, of the numbers of a text */

	/* VECTOR, IMAGE */
	int32_t length;
	int32_t image[3]; /* channels, height, width; their product is the length */
	double *means;    /* (length), of an image (channels); the same for those below */
	double *scales;   /* > 0, or 0 for a constant element */
	float *inverses;  /* 1 / scale or 0 */

	/* Where it goes, computed by encoder_layout(). */
	int32_t narrow; /* first float of the compact row, and how many */
	int32_t narrow_count;
	int32_t dense_count;
	int32_t embed_column; /* position among the embedded columns */
	int32_t first_row;    /* of the table of the bag or of the embeddings, and how many */
	int32_t rows;
	int32_t pairs_max; /* pairs of one row in the bag; TEXT: given, else 1 */
} encoding;

struct encoder
{
	int32_t count;
	encoding *encodings; /* (count) */
	const simd_kernels *simd;
	batch_shape shape; /* without outputs */
	int32_t narrow;    /* floats of a compact row, <= shape.dense */
	int32_t image;     /* encoding that is an image, or -1 */
	int32_t tokens;    /* encoding of a column of tokens, or -1 */
	tokenizer *tokenizer;
	token_list *text; /* tokens of the text at hand; NULL without a column of tokens */
	int32_t text_columns;
};

/* Where encode_compact() writes. */
typedef struct compact_row
{
	float *narrow;      /* (narrow) */
	int32_t *embed;     /* (embed_columns) */
	int32_t *bag_index; /* (bag_max) */
	float *bag_value;   /* (bag_max) */
	int32_t pairs;      /* written to both */
	int32_t *token;     /* (context) */
	int32_t tokens;
} compact_row;

/* Zeroed encodings for count columns whose names and types are copied.  NULL: out of memory. */
extern encoder *encoder_new(const column *columns, int32_t count);

/* Places of the slots behind the categories, or behind the kept buckets of text. */
extern void encoding_slots(encoding *c, bool has_null, bool has_other);

/* Derive everything that is not stored: inverses, edges, places, shape.  Sizes beyond a cap fail with code. */
extern bool encoder_layout(encoder *e, llm_code code, llm_error *err);

/* How many means, scales and inverses it has: one for each element, or for each channel. */
extern int32_t encoding_scales(const encoding *c);

/*
 * The image that a shape means: (height, width) or (channels, height, width).  LLM_INVALID with a
 * hint for another shape, or for one that is too large.
 */
extern bool image_of_shape(const char *column, int32_t ndim, const int32_t *dims, int32_t image[3], llm_error *err);

/* First step. */
extern bool encode_compact(const encoder *e, const value *row, compact_row *out, llm_error *err);
/* Second step, in place: dense (shape.dense) holds the narrow floats at its end. */
extern void encode_widen(const encoder *e, float *dense);

/* Room for one more row, of this encoder's shape? */
extern bool batch_accepts(const encoder *e, const batch *b, llm_error *err);

/* Slot of a category, -1 when it has none. */
extern int32_t category_slot(const encoding *c, const value *v);

/* Standardise, within +-STANDARD_MAX. */
static inline float
standard_clamp(double z)
{
	return z > STANDARD_MAX ? STANDARD_MAX : z < -STANDARD_MAX ? -STANDARD_MAX : (float) z;
}

/* Days since 1970-01-01 and what the calendar says of a time in seconds; values in [0, period). */
extern void time_parts(double seconds, double part[TIME_PARTS]);
extern const double time_period[TIME_PARTS]; /* 24, 7, 31, 12 */

#endif /* LLMAPP_ENCODER_H */
