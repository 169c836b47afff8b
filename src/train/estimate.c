/*
 * estimate.c
 *	  llm_estimate(): what a training would take, before it is begun.
 *
 * A sample of the source goes the way of a training until the network is planned, through the
 * same functions; the rows of the whole are those that the planner expects, and settings that
 * rows and tokens decide are decided for these.  Time is that of the arithmetic at the speed of
 * a product of matrices, which is measured, with a share of it and costs of each step and row
 * that are constants.
 */
#include "postgres.h"

#include <math.h>

#include "funcapi.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../engine/blas.h"
#include "../job/worker.h"
#include "../row/source.h"
#include "corpus.h"
#include "trials.h"

PG_FUNCTION_INFO_V1(llm_estimate);

#define FIRST_ROWS 1000   /* of the sample that are the first ones of the source */
#define SAMPLE_ROWS 10000 /* in all, at most */
#define SAMPLE_BYTES (8 * 1024 * 1024)
#define MEASURED_SIDE 384  /* of the matrices */
#define MEASURED_MS 50     /* milliseconds */
#define SPEED_SHARE 0.7    /* of the measured speed that a training reaches */
#define STEP_SECONDS 20e-6 /* of each step beside its arithmetic */
#define PARAMETER_SECONDS 1e-9
#define ROW_SECONDS 1e-6 /* of each row or token */

typedef struct Estimate
{
	double rows;              /* with a target */
	double tokens;            /* to learn from; a language model */
	double samples, held_out; /* of an epoch: rows, or windows of tokens */
	double networks;          /* of the job, in each of which all epochs are trained */
	double epochs, steps;     /* of a network */
	double parameters;
	Size weights, memory; /* bytes */
	double flops_per_epoch, flops, seconds;
} Estimate;

/* ---- the sample ---- */

/*
 * First rows of the source, and more from everywhere: the first may all have one label, and the planner may
 * expect many more than there are, of which a small share is nothing.  A sample of fewer than *enough rows is
 * the whole source.
 */
static char *
SampleQuery(const char *query, double rows, int64 *enough)
{
	if (rows <= SAMPLE_ROWS)
	{
		*enough = 2 * SAMPLE_ROWS;
		return psprintf("SELECT * FROM (%s\n) AS source LIMIT " INT64_FORMAT, query, *enough);
	}
	*enough = FIRST_ROWS;
	return psprintf("(SELECT * FROM (%s\n) AS source LIMIT %d) UNION ALL "
					"(SELECT * FROM (%s\n) AS source WHERE pg_catalog.random() < %.17g LIMIT %d)",
					query, FIRST_ROWS, query, SAMPLE_ROWS / rows, SAMPLE_ROWS);
}

/* Load the sample; returns how many times as many rows the source has. */
static double
LoadRows(TrainingRun *t, const TrainingSpec *whole)
{
	double rows = EstimateSource(whole->query);
	TrainingSpec *sample = palloc(sizeof(TrainingSpec));
	int64 enough;

	*sample = *whole;
	sample->query = SampleQuery(whole->query, rows, &enough);
	t->spec = sample;
	t->params = ResolveParams(whole->architecture, whole->params);
	t->data = LoadSample(sample, t->params, t->base ? t->base->manifest : NULL, SAMPLE_BYTES);
	if (!t->data->partial && t->data->rows_read < enough)
		return 1;
	return fmax(rows / t->data->rows_read, 1);
}

/* ---- plans ---- */

/* What a network learns and is judged by. */
static void
CountColumns(const TrainingRun *t, double scale, Estimate *e)
{
	int32 folds = t->params->folds;

	e->held_out = folds > 0 ? floor(e->rows / folds) : rint(scale * t->data->held_out_rows);
	e->samples = folds > 0 ? e->rows - e->held_out : rint(scale * t->data->training_rows);
	t->data->training_rows = (int64) e->samples;
}

/* Rows with a text: vocabulary and context are those that the sample has chosen, the rest is chosen for the whole. */
static void
FitTexts(TrainingRun *t, double scale, Estimate *e)
{
	train_params *params = ResolveParams(t->spec->architecture, t->spec->params);
	Dataset *d = t->data;

	d->text_bytes = (int64) (scale * d->text_bytes);
	(void) FitTextRows(d, t->params, t->base, t->tokenizer);
	CountColumns(t, scale, e);
	params_choose_vocabulary(params, d->text_bytes);
	params_choose_text(params, d->training_rows, 0, t->base != NULL);
	params->context = t->params->context;
	t->params = params;
}

static Learning *
PlanColumns(TrainingRun *t, double scale, Estimate *e)
{
	Dataset *d = t->data;
	int64 sampled = d->rows;

	d->rows = (int64) e->rows;
	ChooseFolds(d, t->params, t->base != NULL);
	d->rows = sampled;
	if (d->roles->text >= 0)
		FitTexts(t, scale, e);
	else
	{
		FitDataset(d, t->params, t->base ? t->base->manifest : NULL);
		CountColumns(t, scale, e);
		ChooseParams(t, d->training_rows);
	}
	return PlanLearning(0, t->params, t->base, d, NULL);
}

static void
CloseTokens(const Corpus *c)
{
	if (c != NULL && c->training != NULL)
		CloseTokenFile(c->training);
	if (c != NULL && c->held_out != NULL)
		CloseTokenFile(c->held_out);
}

/* Tokenizer and tokens of the sample; their files would stay for the session otherwise. */
static void
FitSample(TrainingRun *t)
{
	PG_TRY();
	{
		(void) FitCorpus(t->data, t->params, t->base, t->tokenizer);
	}
	PG_CATCH();
	{
		CloseTokens(t->data->corpus);
		PG_RE_THROW();
	}
	PG_END_TRY();
	CloseTokens(t->data->corpus);
}

/* Windows of the tokens of the whole. */
static void
CountWindowSamples(Dataset *d, const train_params *params, double scale, Estimate *e)
{
	e->samples = ceil(e->tokens / params->context);
	e->held_out = ceil(scale * CountTokens(d->corpus->held_out) / params->context);
	d->training = SamplesOfTokens(d->corpus->training, params->context);
}

/* The sample has chosen settings for itself; those of the whole are chosen once more. */
static Learning *
PlanTexts(TrainingRun *t, double scale, Estimate *e)
{
	train_params *params = ResolveParams(t->spec->architecture, t->spec->params);
	Dataset *d = t->data;
	bool pairs = d->roles->prompt >= 0;

	d->text_bytes = (int64) (scale * d->text_bytes);
	FitSample(t);
	e->tokens = rint(scale * (pairs ? d->corpus->pair_tokens : CountTokens(d->corpus->training)));
	params_choose_vocabulary(params, d->text_bytes);
	if (t->base != NULL)
		params->context = t->params->context;
	else if (pairs) /* what covers the longest of the sample */
		params_choose_context(params, t->params->context - 1, t->params->source_context - 1);
	params_choose_transformer(params, (int64) e->tokens);
	if (pairs)
		CountColumns(t, scale, e);
	else
		CountWindowSamples(d, params, scale, e);
	t->params = params;
	return PlanLearning(0, params, t->base, d, NULL);
}

/* ---- work ---- */

/* A pair of texts that are compared has two rows. */
static double
SampleRows(const net_config *c)
{
	return c->loss == LOSS_CONTRASTIVE ? 2 : 1;
}

/* Multiplications of a sample for the head of a language model. */
static double
HeadWork(const net_config *c)
{
	return c->shape.token_target ? (double) c->text.context * c->text.vocab * c->text.width : 0;
}

/* Multiplications of a sample forward. */
static double
SampleWork(const net *n)
{
	const net_config *c = net_get_config(n);
	double attention = (double) c->text.depth * c->text.heads * c->text.head_dim * c->text.context;

	return SampleRows(c) * (net_multiplications(n) + c->text.context * attention) + HeadWork(c);
}

/* Those that are computed again where layers are: not the last product of a layer, unless a norm reads it. */
static double
RepeatedWork(const net *n)
{
	const net_config *c = net_get_config(n);
	const transformer_config *t = &c->text;
	double down = t->post_norm ? 0 : (double) (t->depth + t->encoder_depth) * t->ffn * t->width * t->context;

	return SampleWork(n) - HeadWork(c) - SampleRows(c) * down;
}

static double
CountParameters(const net *n)
{
	double count = 0;

	for (int32 i = 0; i < net_tensor_count(n); i++)
		count += net_tensor(n, i)->count;
	return count;
}

/* Floating-point operations of one thread in a second, of a product of matrices. */
static double
MeasureSpeed(void)
{
	Size count = MEASURED_SIDE * MEASURED_SIDE;
	float *a = palloc0(3 * count * sizeof(float));
	instr_time start, now;
	llm_error err = {0};
	int64 products = -1; /* the first is not measured */

	blas_open();
	if (!blas_reserve(1, &err))
		ThrowError(&err);
	do
	{
		gemm(simd_best(), false, false, MEASURED_SIDE, MEASURED_SIDE, MEASURED_SIDE, a, MEASURED_SIDE, a + count,
			 MEASURED_SIDE, 0, a + 2 * count, MEASURED_SIDE);
		if (products++ < 0)
			INSTR_TIME_SET_CURRENT(start);
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
	} while (INSTR_TIME_GET_MILLISEC(now) < MEASURED_MS);
	pfree(a);
	return products * 2.0 * count * MEASURED_SIDE / INSTR_TIME_GET_DOUBLE(now);
}

/* A sample learned is one forward, maybe most of it once more, and two backward; one held out is one forward. */
static void
CountWork(const Learning *l, Estimate *e)
{
	const train_params *p = l->params;
	double batches = ceil(e->samples / l->batch_samples);
	double items = Max(net_get_config(l->net)->text.context, 1); /* of a sample, that cost time by themselves */

	e->steps = p->steps > 0 ? (double) p->steps : p->epochs * batches;
	e->epochs = ceil(e->steps / batches);
	e->networks = p->folds > 0 ? p->folds : p->ranges != NULL ? SearchWork(p->trials) : 1;
	e->flops_per_epoch = 2 * (SampleWork(l->net) * (3 * e->samples + e->held_out) +
							  (l->config.recompute ? RepeatedWork(l->net) : 0) * e->samples);
	e->flops = e->flops_per_epoch * e->steps / batches * e->networks;
	e->seconds = e->flops / (MeasureSpeed() * SPEED_SHARE * l->config.threads) +
				 e->networks * e->steps *
					 (STEP_SECONDS + PARAMETER_SECONDS * e->parameters + ROW_SECONDS * items * l->batch_samples);
	if (p->max_seconds > 0)
		e->seconds = fmin(e->seconds, p->max_seconds);
}

static void
MakeEstimate(const TrainingSpec *spec, Estimate *e)
{
	TrainingRun *t = palloc0(sizeof(TrainingRun));
	double scale;
	Learning *l;

	if (OidIsValid(spec->base))
		t->base = OpenModel(spec->base, 0, CurrentMemoryContext);
	if (OidIsValid(spec->tokenizer))
		t->tokenizer = OpenModel(spec->tokenizer, 0, CurrentMemoryContext);
	scale = LoadRows(t, spec);
	e->rows = rint(scale * t->data->rows);
	l = t->data->roles->learns_text ? PlanTexts(t, scale, e) : PlanColumns(t, scale, e);
	CloseRows(t->data);
	l->batch_samples = (int64) fmax(1, fmin(l->params->batch_size, e->samples));
	PlanPasses(l);
	e->parameters = CountParameters(l->net);
	e->weights = net_weight_bytes(l->net);
	e->memory = add_size(LearningMemory(l), mul_size(e->weights, l->params->folds));
	CountWork(l, e);
}

/* A count as bigint, which may be too small for it. */
static Datum
CountDatum(double count)
{
	return Int64GetDatum(count < (double) PG_INT64_MAX ? (int64) count : PG_INT64_MAX);
}

/* llm_estimate(source, target, task, architecture, params, base) */
Datum
llm_estimate(PG_FUNCTION_ARGS)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(old, "llmapp estimate", ALLOCSET_DEFAULT_SIZES);
	char *source = RequireText(fcinfo, 0, "llm_estimate()", "source");
	char *params = PG_ARGISNULL(4) ? NULL : JsonbToCString(NULL, &PG_GETARG_JSONB_P(4)->root, 0);
	Estimate e = {0};
	Datum values[11];
	bool nulls[11] = {false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "llm_estimate() must be declared to return a row");
	MemoryContextSwitchTo(cxt);
	MakeEstimate(PrepareTraining(NULL, source, TextArgument(fcinfo, 1), TextArgument(fcinfo, 2),
								 TextArgument(fcinfo, 3), params, PG_ARGISNULL(5) ? InvalidOid : PG_GETARG_OID(5),
								 NULL, get_func_namespace(fcinfo->flinfo->fn_oid)),
				 &e);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	values[0] = CountDatum(e.rows);
	values[1] = CountDatum(e.tokens);
	nulls[1] = e.tokens == 0;
	values[2] = Float8GetDatum(e.networks);
	values[3] = CountDatum(e.epochs);
	values[4] = CountDatum(e.steps);
	values[5] = CountDatum(e.parameters);
	values[6] = CountDatum((double) e.weights);
	values[7] = CountDatum((double) e.memory);
	values[8] = Float8GetDatum(e.flops_per_epoch);
	values[9] = Float8GetDatum(e.flops);
	values[10] = Float8GetDatum(e.seconds);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
