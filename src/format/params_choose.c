/*
 * params_choose.c
 *	  Settings that the user left open, from the data.
 */
#include "params.h"

#define SHIFT_SHARE 14 /* of the shorter side of an image */
/*
 * Numbers of rows for which folds are the default: with more, one held-out part says enough
 * and one network learns enough, with fewer, folds have hardly a row.  Only an mlp of so few
 * rows is trained several times in seconds.
 */
#define FOLDS_FROM_ROWS 20
#define FOLDS_BELOW_ROWS 2000

/* Open: the user gave no value, and it has a meaning here. */
static bool
is_open(const train_params *p, const char *key)
{
	return json_is_null(json_object_get(p->resolved, key)) && params_index(key, p->architecture->bit) >= 0;
}

/* Set an open value and remember that the data decided it. */
static void
set_chosen(train_params *p, const char *key, json_t *value)
{
	json_object_set_new(p->resolved, key, value);
	*params_source(p, key) = SOURCE_AUTO;
}

static void
choose(train_params *p, const char *key, int64_t *field, int64_t value)
{
	if (!is_open(p, key))
		return;
	*field = value;
	set_chosen(p, key, json_integer(value));
}

static void
choose_int32(train_params *p, const char *key, int32_t *field, int64_t value)
{
	int64_t wide = *field;

	choose(p, key, &wide, value);
	*field = (int32_t) wide;
}

void
params_choose_folds(train_params *p, int64_t rows, bool possible)
{
	bool open = *params_source(p, "validation") != SOURCE_USER && p->time_column == NULL && p->ranges == NULL;
	bool few = rows >= FOLDS_FROM_ROWS && rows < FOLDS_BELOW_ROWS && p->architecture->bit == ARCH_MLP;
	int64_t folds = p->folds;

	choose(p, "folds", &folds, open && few && possible ? PARAMS_AUTO_FOLDS : 0);
	p->folds = (int32_t) folds;
}

void
params_choose(train_params *p, int64_t training_rows)
{
	/*
	 * Enough steps per epoch to learn from few rows, batches large enough to be fast with
	 * many; at least 16 epochs and 1,500 steps in all.
	 */
	int64_t batch = 32;
	int64_t epochs = 16;
	int64_t steps;

	while (batch < 256 && batch * 2 * 40 <= training_rows)
		batch *= 2;
	choose(p, "batch_size", &p->batch_size, batch);
	steps = (training_rows + p->batch_size - 1) / p->batch_size;
	if (steps > 0 && steps * epochs < 1500)
		epochs = (1500 + steps - 1) / steps;
	choose(p, "epochs", &p->epochs, epochs);
}

/* Open, or chosen before: memory may turn out to be less. */
static bool
may_choose(train_params *p, const char *key)
{
	return is_open(p, key) || (params_index(key, p->architecture->bit) >= 0 && *params_source(p, key) == SOURCE_AUTO);
}

/* Fields stay: another network of the job may have room for other passes. */
void
params_choose_memory(train_params *p, int64_t rows, bool recompute)
{
	if (may_choose(p, "micro_batch"))
		set_chosen(p, "micro_batch", json_integer(rows));
	if (may_choose(p, "recompute"))
		set_chosen(p, "recompute", json_boolean(recompute));
}

void
params_choose_vocabulary(train_params *p, int64_t bytes)
{
	/* about 200 bytes of text to learn each token from */
	int64_t vocabulary = bytes / 200;

	choose_int32(p, "vocab_size", &p->vocab_size, vocabulary < 512 ? 512 : vocabulary > 32000 ? 32000 : vocabulary);
}

/* Networks by the tokens that there are to learn from: about as many weights as can be learned. */
static const struct
{
	int64_t tokens;
	int32_t width, depth, context;
} transformer_sizes[] = {{0, 96, 3, 64}, {200000, 128, 4, 128}, {5000000, 256, 6, 256}, {100000000, 512, 8, 512}};

#define STEP_TOKENS 2048
#define SEEN_TOKENS 8000000 /* in all epochs together, as far as 20 epochs go */
#define MOST_EPOCHS 20
#define TEXT_DROPOUT 0.1
#define MASKED_RATE 0.002 /* norms behind layers want smaller steps; hidden tokens are noise enough */
#define TEXT_RATE 0.003   /* wider networks want smaller steps */

/* Heads and feed-forward layers by the width. */
static void
choose_layers(train_params *p)
{
	bool gated = p->architecture->bit == ARCH_LLAMA;
	int64_t heads;

	heads = p->embed_dim / (p->embed_dim < 256 ? 32 : 64);
	while (heads > 1 && (p->embed_dim % heads != 0 || p->embed_dim / heads % 2 != 0))
		heads--;
	choose_int32(p, "heads", &p->heads, heads > 0 ? heads : 1);
	if (gated)
		choose_int32(p, "kv_heads", &p->kv_heads, p->heads);
	choose_int32(p, "ffn_dim", &p->ffn_dim,
				 gated ? (8 * (int64_t) p->embed_dim / 3 + 15) & ~15 : 4 * (int64_t) p->embed_dim);
}

static void
choose_number(train_params *p, const char *key, double *field, double value)
{
	if (!is_open(p, key))
		return;
	*field = value;
	set_chosen(p, key, json_real(value));
}

static void
choose_rate(train_params *p, double rate)
{
	choose_number(p, "learning_rate", &p->learning_rate, p->embed_dim > 256 ? rate * 256 / p->embed_dim : rate);
}

#define PAIR_CONTEXT 512

static int64_t
covering(int32_t longest)
{
	int32_t context = (longest + 8) & ~7; /* with a token that ends or begins it */

	return context < PAIR_CONTEXT ? context : PAIR_CONTEXT;
}

void
params_choose_context(train_params *p, int32_t longest, int32_t longest_source)
{
	choose_int32(p, "context", &p->context, covering(longest));
	choose_int32(p, "source_context", &p->source_context, covering(longest_source));
}

void
params_choose_transformer(train_params *p, int64_t tokens)
{
	int i = (int) (sizeof(transformer_sizes) / sizeof(transformer_sizes[0])) - 1;
	int64_t epochs = tokens > 0 ? (SEEN_TOKENS + tokens - 1) / tokens : 1;
	bool masked = p->architecture->bit == ARCH_BERT;

	while (transformer_sizes[i].tokens > tokens)
		i--;
	choose_int32(p, "embed_dim", &p->embed_dim, transformer_sizes[i].width);
	choose_int32(p, "layers", &p->depth, transformer_sizes[i].depth);
	choose_int32(p, "context", &p->context, transformer_sizes[i].context);
	choose_layers(p);
	choose_rate(p, masked ? MASKED_RATE : TEXT_RATE);
	choose_number(p, "dropout", &p->dropout, masked ? 0 : TEXT_DROPOUT);
	choose_number(p, "ema_decay", &p->ema_decay, 0);
	choose(p, "batch_size", &p->batch_size, p->context < STEP_TOKENS ? STEP_TOKENS / p->context : 1);
	choose(p, "epochs", &p->epochs, epochs > MOST_EPOCHS ? MOST_EPOCHS : epochs);
}

/* Labels say less than texts do: small networks, and texts up to a length that covers most of their sense. */
#define ROW_WIDTH 64
#define ROW_DEPTH 1
#define ROW_CONTEXT 256
#define ROW_RATE 0.002
#define ROW_RATE_NGRAMS 0.001 /* weights of rare n-grams would grow too fast */
#define ROW_DROPOUT 0.3
#define ROW_AVERAGE 0.99   /* the best epoch is an early one, when steps are large */
#define TUNING_RATE 0.0005 /* of weights that know something */
#define ROW_EPOCHS 8
#define ROW_STEPS 1500

void
params_choose_text(train_params *p, int64_t rows, int32_t longest, bool tuned)
{
	int32_t context = (longest + 8) & ~7; /* with the token that ends it */
	int64_t steps;
	int64_t epochs = ROW_EPOCHS;

	choose_int32(p, "embed_dim", &p->embed_dim, ROW_WIDTH);
	choose_int32(p, "layers", &p->depth, ROW_DEPTH);
	choose_int32(p, "context", &p->context, context < ROW_CONTEXT ? context : ROW_CONTEXT);
	choose_layers(p);
	choose_rate(p, tuned ? TUNING_RATE : p->ngrams ? ROW_RATE_NGRAMS : ROW_RATE);
	choose_number(p, "dropout", &p->dropout, tuned ? TEXT_DROPOUT : ROW_DROPOUT);
	choose_number(p, "ema_decay", &p->ema_decay, p->ngrams ? ROW_AVERAGE : 0);
	choose(p, "batch_size", &p->batch_size, 32);
	steps = (rows + p->batch_size - 1) / p->batch_size;
	if (steps > 0 && steps * epochs < ROW_STEPS)
		epochs = (ROW_STEPS + steps - 1) / steps;
	choose(p, "epochs", &p->epochs, epochs);
}

void
params_choose_image(train_params *p, const int32_t image[3])
{
	int64_t shift = p->augment.shift;
	int32_t side = image[1] < image[2] ? image[1] : image[2];

	if (image[0] == 0)
		return;
	choose(p, "shift", &shift, side / SHIFT_SHARE);
	p->augment.shift = (int32_t) shift;
}
