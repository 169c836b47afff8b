/*
 * corpus.c
 *	  The texts that a transformer reads: a tokenizer made of them, and of a language model their
 *	  tokens.
 *
 * The tokenizer learns from the training texts alone.  Tokens of all texts lie end to end,
 * with the token SPECIAL_END behind each, so that the model learns where texts begin and
 * end.  Of few texts each gives its last part to the held-out ones; of many, whole texts are
 * held out, as rows are in other trainings.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../text/tokenizer_train.h"
#include "corpus.h"
#include "pairs.h"
#include "text_tokens.h"

#define FEW_TEXTS 20
#define END_TEXT "<|endoftext|>"
#define MASK_TEXT "<|mask|>"
#define MIN_PAIR_COUNT 2
#define PIECE_BYTES ((Size) 1 << 20) /* of a long text, between two polls */

/* The last one is for encoders only. */
static const special_text specials[] = {{END_TEXT, SPECIAL_END}, {MASK_TEXT, SPECIAL_MASK}};

static int32
SpecialCount(const train_params *p)
{
	return (int32) lengthof(specials) - (p->architecture->bit != ARCH_BERT);
}

/* Texts are too few to hold out whole ones, and nobody said which. */
static bool
HoldsOutEnds(const Dataset *d, const train_params *p)
{
	return d->rows < FEW_TEXTS && d->roles->prompt < 0 && p->validation_column == NULL && p->time_column == NULL &&
		   p->group_column == NULL;
}

/* ---- the tokenizer ---- */

/* Whichever kind is made. */
typedef struct TokenizerMaker
{
	bpe_trainer *bpe;
	character_trainer *characters;
} TokenizerMaker;

static void
StartMaking(TokenizerMaker *maker, const train_params *p)
{
	bpe_trainer_options options = {.vocabulary = p->vocab_size,
								   .pretokenizer = PRETOKENIZER_GPT2,
								   .specials = specials,
								   .special_count = SpecialCount(p),
								   .min_count = MIN_PAIR_COUNT,
								   .poll = JobPoll};
	llm_error err = {0};

	if (strcmp(p->tokenizer, "bpe") == 0)
	{
		maker->bpe = bpe_trainer_new(&options, &err);
		if (maker->bpe != NULL)
			OWN(maker->bpe, bpe_trainer_free);
	}
	else if (strcmp(p->tokenizer, "characters") == 0)
	{
		maker->characters = character_trainer_new(p->vocab_size, specials, SpecialCount(p), &err);
		if (maker->characters != NULL)
			OWN(maker->characters, character_trainer_free);
	}
	if (err.code != LLM_OK)
		ThrowError(&err);
}

/* False when the job is to pause; the text may be long. */
static bool
CountCharacters(character_trainer *t, const char *text, Size length)
{
	Size some;

	for (; length > 0; text += some, length -= some)
	{
		some = length > PIECE_BYTES ? text_complete(text, PIECE_BYTES) : length;
		character_trainer_add(t, text, some);
		if (JobPoll(NULL))
		{
			CHECK_FOR_INTERRUPTS();
			return false;
		}
	}
	return true;
}

static bool
CountWords(bpe_trainer *t, const char *text, Size length)
{
	llm_error err = {0};

	if (bpe_trainer_add(t, text, length, &err))
		return true;
	if (err.code != LLM_CANCELLED)
		ThrowError(&err);
	CHECK_FOR_INTERRUPTS();
	return false;
}

/* The training texts, as far as the maker needs them; false when the job is to pause. */
static bool
ShowTexts(Dataset *d, TokenizerMaker *maker, bool ends)
{
	const char *text;
	Size length;
	bool held_out;
	int64 done = 0;

	JobPhase("vocabulary", CountTexts(d));
	StartPass(d);
	while (NextText(d, &text, &length, &held_out))
	{
		JobProgress(++done, 0, 0, 0);
		if (held_out && !ends)
			continue;
		if (maker->bpe != NULL && !CountWords(maker->bpe, text, length))
			return false;
		if (maker->characters != NULL && !CountCharacters(maker->characters, text, length))
			return false;
		if (JobPauseRequested())
			return false;
	}
	return true;
}

/* The block of the tokenizer; NULL when the job is to pause. */
static void *
FinishMaking(TokenizerMaker *maker, const train_params *p, Size *size)
{
	for (;;)
	{
		llm_error err = {0};
		size_t bytes = 0;
		void *block = maker->bpe != NULL          ? bpe_trainer_finish(maker->bpe, &bytes, &err)
					  : maker->characters != NULL ? character_trainer_finish(maker->characters, &bytes, &err)
												  : byte_tokenizer(specials, SpecialCount(p), &bytes, &err);

		*size = bytes;
		if (block != NULL)
			return block;
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CHECK_FOR_INTERRUPTS();
		if (JobPauseRequested())
			return NULL;
	}
}

static bool
MakeTokenizer(Dataset *d, const train_params *p, bool ends)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(cxt, "llmapp tokenizer", ALLOCSET_DEFAULT_SIZES);
	TokenizerMaker maker = {0};
	void *block;

	MemoryContextSwitchTo(scratch);
	StartMaking(&maker, p);
	if ((maker.bpe != NULL || maker.characters != NULL) && !ShowTexts(d, &maker, ends))
		return false;
	block = FinishMaking(&maker, p, &d->corpus->tokenizer_size);
	MemoryContextSwitchTo(cxt);
	MemoryContextDelete(scratch);
	if (block != NULL)
		OWN(block, free);
	d->corpus->tokenizer_block = block;
	return block != NULL;
}

/* ---- tokens ---- */

static void
AppendText(Corpus *c, const int32 *ids, int64 count, int64 training)
{
	AppendTokens(c->training, ids, training);
	AppendTokens(c->held_out, ids + training, count - training);
	c->held_out_bytes += TokenBytes(c, ids + training, count - training);
}

/* Every text into the files; false when the job is to pause. */
static bool
WriteTokens(Dataset *d, const train_params *p, bool ends)
{
	Corpus *c = d->corpus;
	int32 end = tokenizer_special(c->tokenizer, SPECIAL_END);
	TextTokens *texts = StartTextTokens(d);
	const int32 *ids;
	int64 count;
	bool held_out;

	while (NextTextTokens(texts, &ids, &count, &held_out))
	{
		if (ends)
			AppendText(c, ids, count, count - (int64) (p->validation * count));
		else
			AppendText(c, ids, count, held_out ? 0 : count);
		if (end >= 0)
			AppendTokens(ends || !held_out ? c->training : c->held_out, &end, 1);
		d->training_rows += ends || !held_out;
		d->held_out_rows += !ends && held_out;
	}
	return EndTextTokens(texts);
}

static void
CheckTokens(const Corpus *c)
{
	if (CountTokens(c->training) >= 2)
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the texts have too few tokens to learn from"),
					errdetail("They have " INT64_FORMAT ", at least 2 are needed.", CountTokens(c->training)),
					errhint("Check that the target column holds text, and that \"validation\" leaves some of it.")));
}

/* What rows consist of: a prompt or no input, and the text to learn. */
static void
DescribeRows(Dataset *d)
{
	llm_error err = {0};
	encoder *e = d->roles->prompt < 0 ? encoder_none(&err) : encoder_of_text(&d->roles->columns[0], &err);
	target *t = target_of_text(d->roles->target_columns, &err);

	if (e != NULL)
		OWN(e, encoder_free);
	if (e == NULL || t == NULL)
		ThrowError(&err);
	OWN(t, target_free);
	d->encoder = e;
	d->target = t;
	d->missing = palloc0((d->roles->inputs + 1) * sizeof(int64)); /* there is a text for every prompt */
	d->unknown = palloc0((d->roles->inputs + 1) * sizeof(int64));
}

/* False when the job is to pause. */
static bool
GetTokenizer(Dataset *d, train_params *params, const Model *base, const Model *giver, bool ends)
{
	Corpus *c = palloc0(sizeof(Corpus));

	d->corpus = c;
	params_choose_vocabulary(params, d->text_bytes);
	if (base != NULL)
	{
		params->context = net_get_config(base->manifest->net)->text.context;
		params->source_context = net_get_config(base->manifest->net)->text.source_context;
		giver = base;
	}
	if (giver != NULL)
		c->tokenizer_block = (void *) ModelTokenizer(giver, &c->tokenizer_size);
	else if (!MakeTokenizer(d, params, ends))
		return false;
	c->tokenizer = OpenTokenizer(c->tokenizer_block, c->tokenizer_size, JobPoll);
	return true;
}

static Samples *
SamplesOfFile(const Dataset *d, TokenFile *file, const train_params *params)
{
	const tokenizer *t = d->corpus->tokenizer;
	int32 mask = tokenizer_special(t, SPECIAL_MASK);

	if (strcmp(d->task, "masked_lm") != 0)
		return SamplesOfTokens(file, params->context);
	if (mask < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the tokenizer of the base model has no mask token"),
						errhint("Train without base, or with a base model that task => 'masked_lm' made.")));
	return SamplesOfMaskedTokens(file, params->context, mask, tokenizer_size(t));
}

bool
FitCorpus(Dataset *d, train_params *params, const Model *base, const Model *giver)
{
	bool ends = HoldsOutEnds(d, params);
	Corpus *c;

	DescribeRows(d);
	if (!GetTokenizer(d, params, base, giver, ends))
		return false;
	if (d->roles->prompt >= 0)
		return FitPairs(d, params);
	c = d->corpus;
	c->training = CreateTokenFile(tokenizer_size(c->tokenizer));
	c->held_out = CreateTokenFile(tokenizer_size(c->tokenizer));
	if (!WriteTokens(d, params, ends))
		return false;
	CheckTokens(c);
	params_choose_transformer(params, CountTokens(c->training));
	d->training = SamplesOfFile(d, c->training, params);
	d->held_out = SamplesOfFile(d, c->held_out, params);
	return true;
}

/* ---- rows with a text ---- */

#define LONGEST_SHARE 0.99 /* of the texts are read whole, as far as the context may grow */
#define LONGEST_COUNTED 1024

/* For the context: most tokens of LONGEST_SHARE of the training texts, up to LONGEST_COUNTED; false when the job is to pause. */
static bool
MeasureTexts(Dataset *d, int32 *longest)
{
	TextTokens *texts = StartTextTokens(d);
	int64 lengths[LONGEST_COUNTED + 1] = {0};
	int64 seen = 0;
	const int32 *ids;
	int64 count;
	bool held_out;

	while (NextTextTokens(texts, &ids, &count, &held_out))
		if (!held_out)
			lengths[Min(count, LONGEST_COUNTED)]++;
	if (!EndTextTokens(texts))
		return false;
	for (*longest = 0; *longest < LONGEST_COUNTED; (*longest)++)
		if ((seen += lengths[*longest]) >= LONGEST_SHARE * d->training_rows)
			break;
	return true;
}

bool
FitTextRows(Dataset *d, train_params *params, const Model *base, const Model *giver)
{
	const Model *same = base != NULL && base->manifest->target->kind != TARGET_TEXT ? base : NULL;
	llm_error err = {0};
	int32 longest = 0;

	FitDataset(d, params, same ? same->manifest : NULL);
	if (!GetTokenizer(d, params, base, giver, false) || (params->context == 0 && !MeasureTexts(d, &longest)))
		return false;
	params_choose_text(params, d->training_rows, longest, base != NULL);
	/* the encoder of a base has its tokenizer, and may be in use after this training */
	if (same == NULL && !encoder_set_tokenizer(d->encoder, d->corpus->tokenizer, tokenizer_size(d->corpus->tokenizer),
											   params->context, &err))
		ThrowError(&err);
	return true;
}
