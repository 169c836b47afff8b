/*
 * selftest.c
 *	  llm_selftest(): numeric oracles on the machine at hand.
 *
 * Each test computes something twice, by the code that models use and by a plain loop in double
 * precision or by definition, and reports the difference.  All run in the calling backend
 * without threads, on networks of a few hundred parameters, in milliseconds.  Until a test has
 * freed what it took from the engine it does nothing that could raise an error.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include <float.h>
#include <math.h>

#include "../engine/blas.h"
#include "../common.h"
#include "../type/tensor.h"
#include "../metrics/metrics.h"
#include "../metrics/roc.h"

PG_FUNCTION_INFO_V1(llm_selftest);

#define DETAIL_BYTES 256

/* A test fills detail (DETAIL_BYTES) and says whether all is well. */
typedef bool (*selftest)(char *detail);

static bool
Explain(char *detail, const llm_error *err)
{
	snprintf(detail, DETAIL_BYTES, "%s", err->message);
	return false;
}

/* Repeatable numbers in [-1, 1). */
static float
NextNumber(uint32 *state)
{
	*state = *state * 1664525 + 1013904223;
	return (float) ((int32) *state) / 2147483648.0f;
}

static void
FillNumbers(float *numbers, int64 count, uint32 seed)
{
	for (int64 i = 0; i < count; i++)
		numbers[i] = NextNumber(&seed);
}

/* Sum of squared differences relative to the sum of squares. */
static double
RelativeError(const float *actual, const double *expected, int64 count)
{
	double difference = 0;
	double norm = 0;

	for (int64 i = 0; i < count; i++)
	{
		difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
		norm += expected[i] * expected[i];
	}
	return norm > 0 ? difference / norm : difference;
}

static bool
ReportError(char *detail, const char *what, double error, double limit)
{
	snprintf(detail, DETAIL_BYTES, "%s, relative squared error %.1e of at most %.0e", what, error, limit);
	return error <= limit;
}

/* ---- products ---- */

/* op(a) op(b) of one combination of transpositions beside a plain loop. */
static double
ProductError(bool transpose_a, bool transpose_b)
{
	enum
	{
		M = 33,
		N = 17,
		K = 65
	};
	static float a[M * K];
	static float b[K * N];
	static float c[M * N];
	static double expected[M * N];

	FillNumbers(a, M * K, 1);
	FillNumbers(b, K * N, 2);
	for (int i = 0; i < M; i++)
		for (int j = 0; j < N; j++)
		{
			double sum = 0;

			for (int k = 0; k < K; k++)
				sum += (double) (transpose_a ? a[k * M + i] : a[i * K + k]) *
					   (transpose_b ? b[j * K + k] : b[k * N + j]);
			expected[i * N + j] = sum;
		}
	gemm(simd_best(), transpose_a, transpose_b, M, N, K, a, transpose_a ? M : K, b, transpose_b ? K : N, 0, c, N);
	return RelativeError(c, expected, M * N);
}

static bool
TestMatrixProduct(char *detail)
{
	double error = 0;

	blas_open();
	for (int i = 0; i < 4; i++)
		error = fmax(error, ProductError(i & 1, i & 2));
	return ReportError(detail, blas_name(), error, 1e-12);
}

/* ---- a network ---- */

#define DENSE 37
#define HIDDEN 65
#define CLASSES 5
#define ROWS 32

static net *
MakeNet(int32 dense, int32 hidden, net_activation activation, llm_error *err)
{
	net_config config = {.shape = {.dense = dense, .outputs = CLASSES, .class_target = true},
						 .hidden_count = 1,
						 .hidden = {hidden},
						 .activation = activation,
						 .loss = LOSS_CROSS_ENTROPY};

	return net_new(&config, err);
}

/* y (outputs) = w (outputs, inputs) x + b */
static void
PlainLinear(const float *w, const float *b, const double *x, double *y, int32 outputs, int32 inputs)
{
	for (int32 i = 0; i < outputs; i++)
	{
		y[i] = b[i];
		for (int32 j = 0; j < inputs; j++)
			y[i] += (double) w[i * inputs + j] * x[j];
	}
}

/* Class probabilities of one row by definition: softmax(W2 tanh(W1 x + b1) + b2). */
static void
PlainForward(const net *n, const float *weights, const float *row, double *out)
{
	double x[DENSE];
	double h[HIDDEN];
	double sum = 0;

	for (int i = 0; i < DENSE; i++)
		x[i] = row[i];
	PlainLinear(weights + net_tensor(n, 0)->offset, weights + net_tensor(n, 1)->offset, x, h, HIDDEN, DENSE);
	for (int i = 0; i < HIDDEN; i++)
		h[i] = tanh(h[i]);
	PlainLinear(weights + net_tensor(n, 2)->offset, weights + net_tensor(n, 3)->offset, h, out, CLASSES, HIDDEN);
	for (int i = 0; i < CLASSES; i++)
		sum += exp(out[i]);
	for (int i = 0; i < CLASSES; i++)
		out[i] = exp(out[i]) / sum;
}

/* Relative error of a predictor's probabilities for `rows` rows at a time; negative on failure. */
static double
ForwardError(const net *n, const float *weights, int64 rows, llm_error *err)
{
	predictor *p = predictor_new(n, weights, rows, NULL, err);
	double error = -1;
	const float *out;
	batch *b;

	if (p == NULL)
		return -1;
	b = predictor_batch(p);
	b->rows = rows;
	FillNumbers(b->dense, rows * DENSE, 3);
	out = predictor_run(p, err);
	for (int64 row = 0; out != NULL && row < rows; row++)
	{
		double expected[CLASSES];

		PlainForward(n, weights, b->dense + row * DENSE, expected);
		error = fmax(error, RelativeError(out + row * CLASSES, expected, CLASSES));
	}
	predictor_free(p);
	return error;
}

/* A forward pass beside a plain loop, for rows one by one or many at a time. */
static bool
TestForward(char *detail, int64 rows)
{
	llm_error err = {0};
	net *n = MakeNet(DENSE, HIDDEN, ACT_TANH, &err);
	float *weights = n == NULL ? NULL : aligned_alloc(64, net_weight_bytes(n));
	double error = -1;

	if (weights != NULL)
	{
		FillNumbers(weights, net_weight_bytes(n) / sizeof(float), 4);
		error = ForwardError(n, weights, rows, &err);
	}
	free(weights);
	net_free(n);
	if (error < 0)
		return Explain(detail, &err);
	return ReportError(detail, simd_best()->name, error, 1e-11);
}

static bool
TestOneRow(char *detail)
{
	return TestForward(detail, 1);
}

static bool
TestManyRows(char *detail)
{
	return TestForward(detail, ROWS);
}

/* ---- training ---- */

#define SMALL_DENSE 3
#define SMALL_HIDDEN 4

static const train_config plain_descent = {.optimizer = OPT_SGD,
										   .learning_rate = 1,
										   .schedule = SCHEDULE_CONSTANT,
										   .total_steps = 1000,
										   .seed = 5,
										   .threads = 1};

static const train_config adamw = {.optimizer = OPT_ADAMW,
								   .learning_rate = 0.01,
								   .weight_decay = 0.01,
								   .beta1 = 0.9,
								   .beta2 = 0.999,
								   .epsilon = 1e-8,
								   .clip_norm = 1,
								   .schedule = SCHEDULE_COSINE,
								   .warmup_steps = 5,
								   .total_steps = 50,
								   .seed = 5,
								   .threads = 1};

/* Rows whose class depends on their numbers. */
static void
FillBatch(batch *b, uint32 seed)
{
	b->rows = ROWS;
	FillNumbers(b->dense, ROWS * SMALL_DENSE, seed);
	for (int row = 0; row < ROWS; row++)
	{
		b->target_class[row] = (int32) fabsf(b->dense[row * SMALL_DENSE] * CLASSES);
		b->weight[row] = 1 + row % 3;
	}
}

/* Mean loss of the batch with other weights. */
static double
LossWith(trainer *t, const float *weights, const batch *b, llm_error *err)
{
	float out[ROWS * CLASSES];
	double loss = 0;
	double weight = 0;

	trainer_set_weights(t, weights);
	return trainer_predict(t, b, out, &loss, &weight, err) ? loss / weight : NAN;
}

/*
 * Gradients by one step of plain descent at rate 1, which is weights before minus after,
 * beside central differences of the loss.
 */
static double
GradientError(trainer *t, size_t count, const batch *b, float *before, float *after, double *expected, llm_error *err)
{
	const float h = 1.0f / 128;
	double loss;

	memcpy(before, trainer_weights(t), count * sizeof(float));
	if (!trainer_step(t, b, &loss, err))
		return -1;
	memcpy(after, trainer_weights(t), count * sizeof(float));
	for (size_t i = 0; i < count; i++)
	{
		float kept = before[i];

		before[i] = kept + h;
		expected[i] = LossWith(t, before, b, err);
		before[i] = kept - h;
		expected[i] = (expected[i] - LossWith(t, before, b, err)) / (2 * h);
		before[i] = kept;
		after[i] = kept - after[i];
	}
	return err->code == LLM_OK ? RelativeError(after, expected, count) : -1;
}

static bool
TestGradient(char *detail)
{
	llm_error err = {0};
	net *n = MakeNet(SMALL_DENSE, SMALL_HIDDEN, ACT_GELU, &err);
	trainer *t = n == NULL ? NULL : trainer_new(n, &plain_descent, ROWS, &err);
	batch *b = t == NULL ? NULL : batch_new(&net_get_config(n)->shape, ROWS, &err);
	size_t count = n == NULL ? 0 : net_weight_bytes(n) / sizeof(float);
	float *numbers = malloc(2 * count * sizeof(float) + 1);
	double *expected = malloc(count * sizeof(double) + 1);
	double error = -1;

	if (b != NULL && numbers != NULL && expected != NULL)
	{
		FillBatch(b, 6);
		error = GradientError(t, count, b, numbers, numbers + count, expected, &err);
	}
	free(expected);
	free(numbers);
	batch_free(b);
	trainer_free(t);
	net_free(n);
	if (!(error >= 0))
		return Explain(detail, &err);
	return ReportError(detail, "against central differences of the loss", error, 1e-5);
}

/* Train from step `from` to `to`; false on failure. */
static bool
TrainSteps(trainer *t, batch *b, int from, int to, double *loss, llm_error *err)
{
	for (int step = from; step < to; step++)
	{
		FillBatch(b, 100 + step % 4);
		if (!trainer_step(t, b, loss, err))
			return false;
	}
	return true;
}

/* Train 40 steps at once and in two halves with a saved state between. */
static bool
TrainTwice(const net *n, trainer *whole, trainer *halves, batch *b, void *state, char *detail, llm_error *err)
{
	size_t bytes = trainer_state_bytes(whole);
	double first;
	double last;
	bool same;

	if (!TrainSteps(whole, b, 0, 1, &first, err) || !TrainSteps(whole, b, 1, 40, &last, err) ||
		!TrainSteps(halves, b, 0, 20, &last, err))
		return Explain(detail, err);
	trainer_save(halves, state);
	if (!TrainSteps(halves, b, 20, 30, &last, err) || !trainer_restore(halves, state, bytes, err) ||
		!TrainSteps(halves, b, 20, 40, &last, err))
		return Explain(detail, err);
	same = memcmp(trainer_weights(whole), trainer_weights(halves), net_weight_bytes(n)) == 0;
	snprintf(detail, DETAIL_BYTES, "weights after a restored state are %s, loss from %.3f to %.3f",
			 same ? "the same bytes" : "different", first, last);
	return same && last < first;
}

static bool
TestTraining(char *detail)
{
	llm_error err = {0};
	net *n = MakeNet(SMALL_DENSE, SMALL_HIDDEN, ACT_RELU, &err);
	trainer *whole = n == NULL ? NULL : trainer_new(n, &adamw, ROWS, &err);
	trainer *halves = whole == NULL ? NULL : trainer_new(n, &adamw, ROWS, &err);
	batch *b = halves == NULL ? NULL : batch_new(&net_get_config(n)->shape, ROWS, &err);
	void *state = halves == NULL ? NULL : malloc(trainer_state_bytes(halves));
	bool passed;

	if (b == NULL || state == NULL)
		passed = Explain(detail, &err);
	else
		passed = TrainTwice(n, whole, halves, b, state, detail, &err);
	free(state);
	batch_free(b);
	trainer_free(halves);
	trainer_free(whole);
	net_free(n);
	return passed;
}

/* ---- metrics and formats ---- */

/* Scores with ties whose area is counted by hand: 9 of 12 pairs in order. */
static bool
TestArea(char *detail)
{
	static const float scores[] = {.9f, .8f, .4f, .4f, .7f, .4f, .2f};
	llm_error err = {0};
	score_table *s = scores_new(1, &err);
	roc_curve curve;
	bool ok = s != NULL;
	double area;

	for (int i = 0; ok && i < lengthof(scores); i++)
		ok = scores_add(s, &scores[i], i < 4 ? 0 : -1, &err);
	ok = ok && roc_compute(s, 0, false, &curve, &err);
	scores_free(s);
	if (!ok)
		return Explain(detail, &err);
	area = roc_area(&curve);
	roc_free(&curve);
	snprintf(detail, DETAIL_BYTES, "%g, expected 0.75", area);
	return area == 0.75;
}

static bool
TestJson(char *detail)
{
	static const char *const text =
		"{\"a\":[0.1,1e-300,-17,true,null],\"\\u00e4\\\"\":{\"b\":0.30000000000000004,\"c\":9007199254740993}}";
	llm_error err = {0};
	json_t *first = json_parse(text, strlen(text), &err);
	char *written = first == NULL ? NULL : json_text(first);
	json_t *second = written == NULL ? NULL : json_parse(written, strlen(written), &err);
	bool same = second != NULL && json_equal(first, second);

	json_decref(first);
	json_decref(second);
	free(written);
	snprintf(detail, DETAIL_BYTES, "written and read again: %s", same ? "equal" : "different");
	return same;
}

/* A tensor of extreme numbers through its text and its binary form. */
static bool
TestTensor(char *detail)
{
	Oid type = TensorTypeOid();
	Oid input;
	Oid output;
	Oid send;
	Oid receive;
	Oid param;
	bool varlena;
	Datum first;
	Datum by_text;
	Datum by_bytes;
	StringInfoData bytes;
	bytea *sent;

	getTypeInputInfo(type, &input, &param);
	getTypeOutputInfo(type, &output, &varlena);
	getTypeBinaryInputInfo(type, &receive, &param);
	getTypeBinaryOutputInfo(type, &send, &varlena);
	first = OidInputFunctionCall(input, pstrdup("[[0.1,-2.5,1e-45],[3.4028235e+38,1.17549435e-38,-0]]"), param, -1);
	by_text = OidInputFunctionCall(input, OidOutputFunctionCall(output, first), param, -1);
	sent = OidSendFunctionCall(send, first);
	initStringInfo(&bytes);
	appendBinaryStringInfo(&bytes, VARDATA(sent), VARSIZE(sent) - VARHDRSZ);
	by_bytes = OidReceiveFunctionCall(receive, &bytes, param, -1);
	snprintf(detail, DETAIL_BYTES, "written as text and as bytes, and read again");
	return datumIsEqual(first, by_text, false, -1) && datumIsEqual(first, by_bytes, false, -1);
}

/*
 * A library that is loaded must leave rounding and denormal numbers alone: half of the smallest
 * normal number is not zero, and a third rounds to nearest.
 */
static bool
TestFloatingPointMode(char *detail)
{
	volatile double smallest = DBL_MIN;
	volatile double three = 3.0;
	double half = smallest / 2;

	snprintf(detail, DETAIL_BYTES, "half of the smallest normal number is %g", half);
	return half > 0 && half * 2 == smallest && 1.0 / three == 0x1.5555555555555p-2;
}

static const struct
{
	const char *name;
	selftest run;
} selftests[] = {
	{"floating-point mode", TestFloatingPointMode},
	{"matrix product", TestMatrixProduct},
	{"prediction of one row", TestOneRow},
	{"prediction of many rows", TestManyRows},
	{"gradient", TestGradient},
	{"training repeats", TestTraining},
	{"area under a curve with ties", TestArea},
	{"JSON", TestJson},
	{"tensor", TestTensor},
};

Datum
llm_selftest(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < lengthof(selftests); i++)
	{
		char detail[DETAIL_BYTES] = "";
		bool passed = selftests[i].run(detail);
		Datum values[3] = {CStringGetTextDatum(selftests[i].name), BoolGetDatum(passed), CStringGetTextDatum(detail)};
		bool nulls[3] = {false, false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
