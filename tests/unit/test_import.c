/*
 * test_import.c
 *	  Files of tensors as networks: the orders of PyTorch and TensorFlow beside a forward pass
 *	  that is written down in PyTorch's order, and each mistake in parameters and files.
 */
#include "../../src/feature/encoder.h"
#include "../../src/manifest/import_params.h"
#include "tensor_sample.h"

static json_t *
json_of(const char *text)
{
	llm_error err = {0};
	json_t *json = json_parse(text, strlen(text), &err);

	CHECK_STR(err.message, "");
	return json;
}

static import_plan *
plan_of(const char *params, llm_error *err)
{
	json_t *json = json_of(params);
	import_plan *plan = import_plan_new(json, err);

	json_decref(json);
	return plan;
}

/* ---- a forward pass in PyTorch's order ---- */

static const float *
numbers(const char *name)
{
	for (int i = 0; i < SAMPLE_TENSORS; i++)
		if (strcmp(sample_tensors[i].name, name) == 0)
			return sample_tensors[i].numbers;
	return NULL;
}

/* (2, 5, 6) to (3, 5, 5); then scale, shift and relu by channel. */
static void
convolve(const double *in, double *out)
{
	const float *w = numbers("c1.weight");

	for (int o = 0; o < 3; o++)
		for (int y = 0; y < 5; y++)
			for (int x = 0; x < 5; x++)
			{
				double sum = numbers("c1.bias")[o];

				for (int c = 0; c < 2; c++)
					for (int ky = 0; ky < 3; ky++)
						for (int kx = 0; kx < 2; kx++)
							if (y + ky >= 1 && y + ky <= 5)
								sum += w[((o * 2 + c) * 3 + ky) * 2 + kx] * in[(c * 5 + y + ky - 1) * 6 + x + kx];
				sum = (sum - numbers("bn.running_mean")[o]) / sqrt(numbers("bn.running_var")[o] + 1e-5);
				out[(o * 5 + y) * 5 + x] = fmax(sum * numbers("bn.weight")[o] + numbers("bn.bias")[o], 0);
			}
}

/* (3, 5, 5) to (3, 2, 2), normalised over all 12. */
static void
pool_and_norm(const double *in, double *out)
{
	double mean = 0, variance = 0;

	for (int i = 0; i < 12; i++)
	{
		const double *first = in + i / 4 * 25 + i / 2 % 2 * 10 + i % 2 * 2;

		out[i] = fmax(fmax(first[0], first[1]), fmax(first[5], first[6]));
		mean += out[i] / 12;
	}
	for (int i = 0; i < 12; i++)
		variance += (out[i] - mean) * (out[i] - mean) / 12;
	for (int i = 0; i < 12; i++)
		out[i] = (out[i] - mean) / sqrt(variance + 1e-5) * numbers("ln.weight")[i] + numbers("ln.bias")[i];
}

/* 12 numbers, normalised one by one, and the means of 3 channels behind them. */
static void
join(const double *in, double *out)
{
	for (int i = 0; i < 12; i++)
		out[i] = (in[i] - numbers("flat.running_mean")[i]) / sqrt(numbers("flat.running_var")[i] + 1e-5) *
					 numbers("flat.weight")[i] +
				 numbers("flat.bias")[i];
	for (int c = 0; c < 3; c++)
		out[12 + c] = (in[4 * c] + in[4 * c + 1] + in[4 * c + 2] + in[4 * c + 3]) / 4;
}

static void
linear(const char *weight, const char *bias, const double *in, int inputs, double *out, int outputs)
{
	for (int o = 0; o < outputs; o++)
	{
		out[o] = numbers(bias)[o];
		for (int i = 0; i < inputs; i++)
			out[o] += numbers(weight)[o * inputs + i] * in[i];
	}
}

/* Probabilities of "b", "c", "a". */
static void
forward(const float *pixels, double *p)
{
	double in[60], image[75], flat[12], joined[15], hidden[4], sum = 0;

	for (int i = 0; i < 60; i++)
		in[i] = i < 30 ? (pixels[i] - 0.25) / 0.5 : (pixels[i] - 0.5) / 2;
	convolve(in, image);
	pool_and_norm(image, flat);
	join(flat, joined);
	linear("fc.weight", "fc.bias", joined, 15, hidden, 4);
	for (int i = 0; i < 4; i++)
		hidden[i] = tanh(hidden[i]);
	linear("out.weight", "out.bias", hidden, 4, p, 3);
	for (int i = 0; i < 3; i++)
		sum += p[i] = exp(p[i]);
	for (int i = 0; i < 3; i++)
		p[i] /= sum;
}

/* ---- predictions ---- */

/* What the network makes of one row of numbers; out has room for its outputs. */
static bool
predict(const import_plan *plan, const float *weights, const float *pixels, int32_t count, float *out)
{
	llm_error err = {0};
	void *aligned = aligned_alloc(64, net_weight_bytes(plan->net));
	value row = {.kind = VALUE_VECTOR, .vector = pixels, .length = count};
	predictor *p;
	const float *result = NULL;

	memcpy(aligned, weights, net_weight_bytes(plan->net));
	p = predictor_new(plan->net, aligned, 1, NULL, &err);
	if (p != NULL && encoder_row(plan->encoder, &row, predictor_batch(p), &err))
		result = predictor_run(p, &err);
	if (result != NULL)
		memcpy(out, result, net_get_config(plan->net)->shape.outputs * sizeof(float));
	predictor_free(p);
	free(aligned);
	return CHECK(result != NULL);
}

static float *
read_sample(const import_plan *plan, int32_t count, llm_error *err)
{
	size_t size;
	uint8_t *bytes = sample_tensor_file(count, NULL, &size);
	safetensors *file = safetensors_open(bytes, size, err);
	float *weights = file ? import_plan_read(plan, file, NULL, NULL, err) : NULL;

	safetensors_close(file);
	free(bytes);
	return weights;
}

static void
test_pytorch(void)
{
	llm_error err = {0};
	import_plan *plan = plan_of(sample_params, &err);
	float *weights = plan ? read_sample(plan, SAMPLE_TENSORS, &err) : NULL;
	static const int class_of[3] = {1, 2, 0}; /* "a", "b", "c" are sorted */

	CHECK_STR(err.message, "");
	for (int turn = 0; weights != NULL && turn < 5; turn++)
	{
		float pixels[60], out[3];
		double p[3];

		for (int i = 0; i < 60; i++)
			pixels[i] = next_uniform();
		forward(pixels, p);
		if (predict(plan, weights, pixels, 60, out))
			for (int i = 0; i < 3; i++)
				CHECK_NEAR(out[class_of[i]], p[i], 1e-5);
	}
	free(weights);
	import_plan_free(plan);
}

/* What is written again is the file, but for the order of classes. */
static void
test_write(void)
{
	llm_error err = {0};
	import_plan *plan = plan_of(sample_params, &err);
	float *weights = plan ? read_sample(plan, SAMPLE_TENSORS, &err) : NULL;
	exchange x;
	tensor_file f;
	safetensors *file = NULL;
	uint8_t *bytes = NULL;

	if (CHECK(weights != NULL && exchange_init(&x, plan->net, ORDER_PYTORCH, &err) &&
			  tensor_file_plan(&f, &x, NULL, &err)))
	{
		bytes = malloc(f.bytes);
		CHECK(tensor_file_write(&f, &x, weights, bytes, NULL, NULL, &err));
		file = safetensors_open(bytes, f.bytes, &err);
		tensor_file_free(&f);
	}
	CHECK_STR(err.message, "");
	for (int i = 0; file != NULL && i < 14; i++)
	{
		const safetensor *t = safetensors_find(file, sample_tensors[i].name);
		float again[512];

		if (!CHECK(t != NULL && t->ndim == sample_tensors[i].ndim))
			continue;
		CHECK(memcmp(t->dims, sample_tensors[i].dims, t->ndim * sizeof(int64_t)) == 0);
		CHECK(safetensor_floats(t, 0, t->count, again, &err));
		CHECK(memcmp(again, sample_tensors[i].numbers, t->count * sizeof(float)) == 0);
	}
	CHECK(file != NULL && safetensors_find(file, "output.weight") != NULL);
	safetensors_close(file);
	free(bytes);
	free(weights);
	import_plan_free(plan);
}

/* ---- small files, written here ---- */

/* Weights of one linear layer of 2 inputs: rows of the weight, then the bias. */
static float *
read_linear(const import_plan *plan, const char *weight, const char *bias, int64_t rows, int64_t columns,
			const float *w, const float *b, llm_error *err)
{
	int64_t outputs = net_get_config(plan->file_net)->shape.outputs;
	safetensors_entry entries[2] = {{weight, 2, {rows, columns}, 0, 0}, {bias, 1, {outputs}, 1, 0}};
	size_t header_bytes, size;
	uint8_t *header, *bytes;
	safetensors *file;
	float *weights;

	header = safetensors_header(entries, 2, NULL, &header_bytes, &size, err);
	bytes = malloc(size);
	memcpy(bytes, header, header_bytes);
	for (int i = 0; i < 2; i++)
		if (entries[i].id == 0)
			safetensors_put(SOURCE_F32, w, rows * columns, bytes + entries[i].offset);
		else
			safetensors_put(SOURCE_F32, b, outputs, bytes + entries[i].offset);
	file = safetensors_open(bytes, size, err);
	weights = file ? import_plan_read(plan, file, NULL, NULL, err) : NULL;
	safetensors_close(file);
	free(bytes);
	free(header);
	return weights;
}

/* The probability or number that a linear model of {x, y} gives at {1, 3}. */
static double
linear_output(const char *params, const char *weight, const char *bias, int64_t rows, int64_t columns, const float *w,
			  const float *b, int32_t output)
{
	llm_error err = {0};
	import_plan *plan = plan_of(params, &err);
	float *weights = plan ? read_linear(plan, weight, bias, rows, columns, w, b, &err) : NULL;
	float out[8] = {NAN};

	CHECK_STR(err.message, "");
	if (weights != NULL)
		predict(plan, weights, (float[2]) {1, 3}, 2, out);
	free(weights);
	import_plan_free(plan);
	return out[output];
}

#define LINEAR(width, rest) \
	"{\"layers\": [{\"type\": \"linear\", \"width\": " #width "}], \"input\": {\"shape\": [2]}" rest "}"

static double
sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

static void
test_outputs(void)
{
	static const float one[] = {0.5f, 0.25f}, two[] = {0.5f, 0.25f, -1, 0.125f}, three[] = {1, 0, 0, 1, 2, -1};
	static const float bias[] = {0.1f, 0.2f, 0.3f};
	double z0 = 0.5 + 0.75 + 0.1, z1 = -1 + 0.375 + 0.2;

	/* one output is about the second class, which may sort before the first */
	CHECK_NEAR(linear_output(LINEAR(1, ), "0.weight", "0.bias", 1, 2, one, bias, 0), sigmoid(z0), 1e-6);
	CHECK_NEAR(linear_output(LINEAR(1, ", \"classes\": [\"yes\", \"no\"]"), "0.weight", "0.bias", 1, 2, one, bias, 0),
			   sigmoid(-z0), 1e-6);
	/* two outputs of two classes become one */
	CHECK_NEAR(linear_output(LINEAR(2, ), "0.weight", "0.bias", 2, 2, two, bias, 0), sigmoid(z1 - z0), 1e-6);
	CHECK_NEAR(linear_output(LINEAR(2, ", \"classes\": [\"yes\", \"no\"]"), "0.weight", "0.bias", 2, 2, two, bias, 0),
			   sigmoid(z0 - z1), 1e-6);
	/* numbers */
	CHECK_NEAR(linear_output(LINEAR(1, ", \"task\": \"regression\""), "0.weight", "0.bias", 1, 2, one, bias, 0), z0,
			   1e-6);
	CHECK_NEAR(linear_output(LINEAR(3, ", \"task\": \"regression\""), "0.weight", "0.bias", 3, 2, three, bias, 2),
			   -0.7, 1e-6);
	/* (in, out) */
	CHECK_NEAR(linear_output(LINEAR(3, ", \"task\": \"regression\", \"layout\": \"tensorflow\","
									   "\"tensors\": {\"0\": \"dense\"}"),
							 "dense.weight", "dense.bias", 2, 3, three, bias, 1),
			   3 * 2 + 0.2, 1e-6);
	CHECK_NEAR(linear_output(LINEAR(1, ", \"tensors\": {\"0.weight\": \"dense/kernel\", \"0.bias\": \"dense/bias\"}"),
							 "dense/kernel", "dense/bias", 1, 2, one, bias, 0),
			   sigmoid(z0), 1e-6);
}

/* ---- mistakes ---- */

typedef struct wrong
{
	const char *params, *message, *hint;
} wrong;

#define INPUT ", \"input\": {\"shape\": [4]}"
#define LAYER "\"layers\": [{\"type\": \"linear\", \"width\": 3}]"

static const wrong wrongs[] = {
	{"{\"layer\": 1}", "unknown parameter \"layer\"", "Did you mean \"layers\"?"},
	{"{\"completely_different\": 1}", "unknown parameter", ""},
	{"{\"task\": \"classification\"}", "parameter \"layers\" is missing", "For example"},
	{"{\"layers\": {}" INPUT "}", "\"layers\" must be an array", ""},
	{"{\"layers\": []" INPUT "}", "\"layers\" must be an array", ""},
	{"{\"layers\": [1]" INPUT "}", "layer 1 is not an object", ""},
	{"{\"layers\": [{\"type\": \"flatten\"}]" INPUT "}", "the last layer is flatten, not linear", "softmax"},
	{"{\"layers\": [{\"type\": \"linear\"}]" INPUT "}", "layer 1 (linear): \"width\" is missing", ""},
	{"{\"layers\": [{\"type\": \"linear\", \"width\": 2, \"name\": \"a\"}, {\"type\": \"flatten\"},"
	 "{\"type\": \"linear\", \"width\": 2, \"input\": \"a\"}]" INPUT "}",
	 "the last layer does not read the layer before it", ""},
	{"{\"layers\": [{\"type\": \"conv2d\", \"channels\": 2, \"kernel\": 1}, {\"type\": \"linear\", \"width\": "
	 "2}]" INPUT "}",
	 "layer 1 (conv2d) reads 4 numbers, not an image", ""},
	{"{" LAYER "}", "parameter \"input\" must be an object", ""},
	{"{" LAYER ", \"input\": {}}", "must be [numbers] or [channels, height, width]", ""},
	{"{" LAYER ", \"input\": {\"shape\": [1, 2]}}", "must be [numbers] or [channels, height, width]", ""},
	{"{" LAYER ", \"input\": {\"shape\": [0]}}", "must hold numbers from 1 to", ""},
	{"{" LAYER ", \"input\": {\"shape\": [3, 60000, 60000]}}", "has 10800000000 numbers", ""},
	{"{" LAYER ", \"input\": {\"shape\": [4], \"naem\": \"x\"}}", "unknown key of parameter \"input\" \"naem\"",
	 "Did you mean \"name\"?"},
	{"{" LAYER ", \"input\": {\"shape\": [4], \"name\": \"\"}}", "\"name\" must be a string that is not empty", ""},
	{"{" LAYER ", \"input\": {\"shape\": [4], \"mean\": \"x\"}}", "\"mean\" of parameter \"input\" must be a number",
	 ""},
	{"{" LAYER ", \"input\": {\"shape\": [4], \"mean\": [1, 2, 3]}}", "or an array of 4 of them", ""},
	{"{" LAYER ", \"input\": {\"shape\": [4], \"std\": 0}}", "\"std\" of parameter \"input\" must be a number", ""},
	{"{" LAYER ", \"input\": {\"shape\": [4], \"std\": [1, 1, 1, -1]}}", "\"std\" of parameter \"input\"", ""},
	{"{" LAYER INPUT ", \"task\": \"ranking\"}", "parameter \"task\" cannot be \"ranking\"",
	 "Legal values: classification, regression."},
	{"{" LAYER INPUT ", \"layout\": \"onnx\"}", "parameter \"layout\" cannot be \"onnx\"",
	 "Legal values: pytorch, tensorflow."},
	{"{" LAYER INPUT ", \"target\": 1}", "parameter \"target\" must be a string", ""},
	{"{" LAYER INPUT ", \"classes\": [\"a\", \"b\"]}", "must be an array of 3 labels for 3 outputs", ""},
	{"{" LAYER INPUT ", \"classes\": [\"a\", \"b\", 1]}", "label 3 of parameter \"classes\"", ""},
	{"{" LAYER INPUT ", \"classes\": [\"a\", \"b\", \"a\"]}", "holds a label twice", ""},
	{"{" LAYER INPUT ", \"classes\": [\"a\", \"b\", \"c\"], \"task\": \"regression\"}", "has no meaning for task",
	 ""},
	{"{" LAYER INPUT ", \"tensors\": []}", "\"tensors\" must be an object", ""},
	{"{" LAYER INPUT ", \"tensors\": {\"1.weight\": \"x\"}}", "has \"1.weight\", but no layer has", "Name a layer"},
	{"{" LAYER INPUT ", \"tensors\": {\"0.weight\": 1}}", "must be a string of 1 to", ""},
	{"{\"layers\": [{\"type\": \"flatten\"}, {\"type\": \"group_norm\", \"groups\": 2}, {\"type\": \"linear\", "
	 "\"width\": 2}],"
	 "\"input\": {\"shape\": [2, 2, 2]}}",
	 "layer 2 (group_norm) groups the numbers of a flattened image", "Put the group_norm before"},
	{"{\"layers\": [{\"type\": \"flatten\"}, {\"type\": \"linear\", \"width\": 8}, {\"type\": \"add\", \"inputs\": "
	 "[1, 2]},"
	 "{\"type\": \"linear\", \"width\": 2}], \"input\": {\"shape\": [2, 2, 2]}}",
	 "layer 3 (add) adds other numbers", "Add before the flatten"},
};

static void
test_wrong(void)
{
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
	{
		llm_error err = {0};
		import_plan *plan = plan_of(wrongs[i].params, &err);

		CHECK(plan == NULL);
		CHECK_INT(err.code, LLM_INVALID);
		if (!CHECK(strstr(err.message, wrongs[i].message) != NULL && strstr(err.hint, wrongs[i].hint) != NULL) ||
			!CHECK((wrongs[i].hint[0] == '\0') == (err.hint[0] == '\0')))
			fprintf(stderr, "%s: %s, %s\n", wrongs[i].params, err.message, err.hint);
		import_plan_free(plan);
	}
}

/* An image of one channel needs no other order, so numbers may be added and grouped. */
static void
test_plain_order(void)
{
	llm_error err = {0};
	import_plan *plan = plan_of("{\"layers\": [{\"type\": \"flatten\"}, {\"type\": \"linear\", \"width\": 4},"
								"{\"type\": \"add\", \"inputs\": [1, 2]}, {\"type\": \"group_norm\", \"groups\": 2},"
								"{\"type\": \"linear\", \"width\": 2}], \"input\": {\"shape\": [1, 2, 2]}}",
								&err);

	CHECK_STR(err.message, "");
	import_plan_free(plan);
}

/* Change one thing about the file of the sample, read it, and change it back. */
static void
check_file(int32_t count, const char *message, const char *detail)
{
	llm_error err = {0};
	import_plan *plan = plan_of(sample_params, &err);
	float *weights = read_sample(plan, count, &err);

	CHECK(weights == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	if (!CHECK(strstr(err.message, message) != NULL && strstr(err.detail, detail) != NULL))
		fprintf(stderr, "%s: %s\n", err.message, err.detail);
	free(weights);
	import_plan_free(plan);
}

static void
test_wrong_file(void)
{
	check_file(0, "the file has no tensor \"c1.weight\" of shape (3, 2, 3, 2)", "The file has: no tensor.");
	check_file(15, "the file has no tensor \"out.bias\" of shape (3)", "bn.bias F32 (3), ");
	sample_tensors[15].name = "a_name_so_long_that_the_list_has_no_room_for_all_of_them";
	check_file(SAMPLE_TENSORS, "the file has no tensor \"out.bias\" of shape (3)", " more.");
	sample_tensors[15].name = "out.bias";
	sample_tensors[1].dims[0] = 4;
	check_file(SAMPLE_TENSORS, "tensor c1.bias F32 (4) does not have the shape (3) that the network needs",
			   "The file has");
	sample_tensors[1].dims[0] = 3;
	sample_tensors[17].name = "spare";
	check_file(SAMPLE_TENSORS, "no layer takes tensor spare F32 () of the file", "The file has");
	sample_tensors[17].name = "flat.num_batches_tracked";
	sample_tensors[3].numbers[1] = NAN;
	check_file(SAMPLE_TENSORS, "tensor bn.bias F32 (3) holds a number that is not finite", "");
	sample_tensors[3].numbers[1] = 0;
}

static bool
stop(void *arg)
{
	return true;
}

static void
test_cancel(void)
{
	llm_error err = {0};
	import_plan *plan = plan_of(sample_params, &err);
	size_t size;
	uint8_t *bytes = sample_tensor_file(SAMPLE_TENSORS, NULL, &size);
	safetensors *file = safetensors_open(bytes, size, &err);

	CHECK(import_plan_read(plan, file, stop, NULL, &err) == NULL);
	CHECK_INT(err.code, LLM_CANCELLED);
	safetensors_close(file);
	free(bytes);
	import_plan_free(plan);
}

/* The last layer without a bias is one with a bias of 0. */
static void
test_no_bias(void)
{
	llm_error err = {0};
	import_plan *plan =
		plan_of("{\"layers\": [{\"type\": \"linear\", \"name\": \"output\", \"width\": 3, \"bias\": false}],"
				"\"input\": {\"shape\": [2, 1, 1]}}",
				&err);

	CHECK_STR(err.message, "");
	if (plan != NULL)
	{
		CHECK_STR(plan->architecture, "mlp");
		CHECK_STR(plan->names[0], "output.weight");
		CHECK(plan->names[1] == NULL);
	}
	import_plan_free(plan);
}

int
main(void)
{
	sample_fill();
	test_pytorch();
	test_write();
	test_outputs();
	test_wrong();
	test_plain_order();
	test_wrong_file();
	test_cancel();
	test_no_bias();
	return test_summary();
}
