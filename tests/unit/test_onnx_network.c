/*
 * test_onnx_network.c
 *	  ONNX graphs as networks: predictions beside those of ONNX Runtime, and every kind of graph that is refused.
 *
 * The files are made by golden/make_onnx.py, which says what they hold.
 */
#include "../../src/feature/encoder.h"
#include "../../src/format/onnx.h"
#include "../../src/manifest/import_params.h"
#include "golden_file.h"

#define NMSE_MOST 1e-10

/* ---- files ---- */

typedef struct bytes
{
	uint8_t *data;
	size_t size;
} bytes;

static bytes
read_golden(const char *name, const char *end)
{
	bytes b = {NULL};
	char path[64];

	snprintf(path, sizeof(path), "onnx/%s.%s", name, end);
	b.data = golden_file(path, &b.size);
	if (b.data == NULL)
		exit(1);
	return b;
}

static bool
read_bytes(void *arg, int32_t file, uint64_t offset, void *out, size_t count, llm_error *err)
{
	const bytes *b = arg;

	CHECK(offset <= b->size && count <= b->size - offset);
	memcpy(out, b->data + offset, count);
	return true;
}

static json_t *
json_of(const char *text)
{
	llm_error err = {0};
	json_t *json = json_parse(text, strlen(text), &err);

	if (!CHECK_STR(err.message, ""))
		fprintf(stderr, "%s\n", text);
	return json;
}

/* ---- predictions ---- */

/* What the network makes of a row: numbers, or probabilities of the classes in the order of the file. */
static void
predict(const import_plan *plan, predictor *p, const float *row, int32_t numbers, double *out)
{
	const target *t = plan->target;
	bool columns = plan->encoder->count > 1;
	value values[16];
	llm_error err = {0};
	const float *made;

	for (int32_t i = 0; columns && i < numbers; i++)
		values[i] = (value) {.kind = VALUE_NUMBER, .number = row[i]};
	if (!columns)
		values[0] = (value) {.kind = VALUE_VECTOR, .vector = row, .length = numbers};
	predictor_batch(p)->rows = 0;
	made = encoder_row(plan->encoder, values, predictor_batch(p), &err) ? predictor_run(p, &err) : NULL;
	if (!CHECK(made != NULL))
		exit(1);
	for (int32_t i = 0; i < net_get_config(plan->net)->shape.outputs; i++)
		if (plan->rows == NULL)
			out[i] = made[i];
		else if (t->class_count == 2)
			out[0] = plan->rows[1] == 1 ? made[0] : 1 - made[0];
		else
			out[plan->rows[i]] = made[i];
}

/* As the graph has them, of probabilities their logarithms but for a constant. */
static double
difference(const double *made, const json_t *row, bool logits)
{
	double shift = 0, sum = 0;
	int32_t count = (int32_t) json_array_size(row);

	for (int32_t i = 0; logits && i < count; i++)
		shift += (json_number_value(json_array_get(row, i)) - log(made[i])) / count;
	for (int32_t i = 0; i < count; i++)
		sum += pow((logits ? log(made[i]) + shift : made[i]) - json_number_value(json_array_get(row, i)), 2);
	return sum;
}

static double
variance(const json_t *outputs)
{
	double sum = 0, squares = 0, count = 0;
	size_t i, k;
	json_t *row, *one;

	json_array_foreach(outputs, i, row)
		json_array_foreach(row, k, one)
		{
			sum += json_number_value(one);
			squares += json_number_value(one) * json_number_value(one);
			count++;
		}
	return squares - sum * sum / count;
}

static void
check_predictions(const char *name, const import_plan *plan, const float *weights, const json_t *golden, bool logits)
{
	void *aligned = aligned_alloc(64, net_weight_bytes(plan->net));
	llm_error err = {0};
	predictor *p;
	double error = 0;
	size_t i, k;
	json_t *row, *one;

	memcpy(aligned, weights, net_weight_bytes(plan->net));
	p = predictor_new(plan->net, aligned, 1, NULL, &err);
	json_array_foreach(json_object_get(golden, "inputs"), i, row)
	{
		float numbers[1024];
		double made[16];

		json_array_foreach(row, k, one)
			numbers[k] = (float) json_number_value(one);
		predict(plan, p, numbers, (int32_t) json_array_size(row), made);
		error += difference(made, json_array_get(json_object_get(golden, "outputs"), i), logits);
	}
	error /= variance(json_object_get(golden, "outputs"));
	if (!CHECK(error <= NMSE_MOST))
		fprintf(stderr, "%s: NMSE %g\n", name, error);
	predictor_free(p);
	free(aligned);
}

/* The plan of a file, with parameters of the JSON beside it. */
static import_plan *
plan_of(bytes *file, tensor_source *source, json_t *graph, const json_t *params, llm_error *err)
{
	*source = (tensor_source) {.read = read_bytes, .arg = file};
	return onnx_source(source, 0, file->size, graph, err) && tensor_source_sort(source, err)
			   ? import_plan_onnx(graph, source, params, err)
			   : NULL;
}

static void
test_golden(const char *name, const char *task, bool logits)
{
	bytes file = read_golden(name, "onnx"), beside = read_golden(name, "json");
	llm_error err = {0};
	json_t *golden = json_parse((char *) beside.data, beside.size, &err), *graph = json_object();
	tensor_source source;
	import_plan *plan = plan_of(&file, &source, graph, json_object_get(golden, "params"), &err);
	float *weights = plan ? import_plan_read_onnx(plan, &source, NULL, NULL, &err) : NULL;

	CHECK(onnx_begins(file.data));
	if (CHECK(weights != NULL))
	{
		CHECK_STR(plan->task, task);
		check_predictions(name, plan, weights, golden, logits);
	}
	else
		fprintf(stderr, "%s: %s %s\n", name, err.message, err.detail);
	free(weights);
	import_plan_free(plan);
	tensor_source_clear(&source);
	json_decref(graph);
	json_decref(golden);
	free(file.data);
	free(beside.data);
}

/* Cut off anywhere it is no network; with any byte turned over it is one, or an error. */
static void
test_damaged(const char *name)
{
	bytes file = read_golden(name, "onnx");
	size_t whole = file.size;
	json_t *params = json_object();

	for (size_t i = 0; i < 2 * whole; i++)
	{
		json_t *graph = json_object();
		llm_error err = {0};
		tensor_source source;
		import_plan *plan;
		float *weights;

		file.size = i < whole ? i : whole;
		if (i >= whole)
			file.data[i - whole] ^= 0x15;
		plan = plan_of(&file, &source, graph, params, &err);
		weights = plan ? import_plan_read_onnx(plan, &source, NULL, NULL, &err) : NULL;
		CHECK((weights != NULL) == (err.code == LLM_OK) && (weights == NULL || i >= whole - 24));
		if (i >= whole)
			file.data[i - whole] ^= 0x15;
		free(weights);
		import_plan_free(plan);
		tensor_source_clear(&source);
		json_decref(graph);
	}
	json_decref(params);
	free(file.data);
}

/* ---- graphs that are refused ---- */

/* Tensors that they may read; numbers are not looked at. */
static const source_tensor tensors[] = {
	{.name = "w", .type_name = "FLOAT", .ndim = 2, .dims = {4, 3}, .count = 12},
	{.name = "b", .type_name = "FLOAT", .ndim = 1, .dims = {3}, .count = 3},
	{.name = "k", .type_name = "FLOAT", .ndim = 4, .dims = {2, 1, 3, 3}, .count = 18},
	{.name = "c", .type_name = "FLOAT", .ndim = 1, .dims = {2}, .count = 2},
	{.name = "i", .type_name = "INT64", .ndim = 1, .dims = {2}, .count = 2, .type = SOURCE_OTHER},
};

#define X4 "[-1, 4]"
#define X5 "[-1, 1, 5, 5]"
#define X2 "[-1, 2, 5, 5]"
#define NODE(op, inputs, attributes) \
	"{\"name\": \"n\", \"op\": \"" op "\", \"inputs\": [" inputs \
	"], \"outputs\": [\"y\"], \"attributes\": {" attributes "}}"
#define MADE(op, inputs, output) \
	"{\"name\": \"m\", \"op\": \"" op "\", \"inputs\": [" inputs "], \"outputs\": [\"" output \
	"\"], \"attributes\": {}}"
#define NORM "\"x\", \"c\", \"c\", \"c\", \"c\""

static const struct
{
	const char *dims, *nodes, *message;
} wrongs[] = {
	{X4, NODE("Elu", "\"x\"", ""), "node \"n\" (Elu) is of an operation that no layer has"},
	{X4, NODE("Erf", "\"x\"", ""), "node \"n\" (Erf) is not a step of a gelu"},
	{X4, NODE("Div", "\"x\", \"b\"", ""), "takes more than one number for a gelu"},
	{X4, NODE("Div", "\"x\", \"x\"", ""), "reads \"x\" where an initializer has to be"},
	{X4, NODE("Clip", "\"x\"", ""), "node \"n\" (Clip) is of an operation that no layer has"},
	{X4, NODE("Relu", "\"x\"", "\"spam\": 1"), "has attribute \"spam\", which is not known"},
	{X4, NODE("Relu", "\"z\"", ""), "reads \"z\", which no initializer is and no node before it makes"},
	{X4, NODE("Relu", "\"w\"", ""), "reads \"w\", which is not computed from the input"},
	{X4, NODE("Relu", "", ""), "has no input number 1"},
	{X4, MADE("Relu", "\"x\"", "x"), "makes \"x\", which is there already"},
	{X4, MADE("Relu", "\"x\"", ""), "makes no output"},
	{X4, MADE("Relu", "\"x\"", "z"), "output \"y\" of the graph is not computed from its input"},
	{X4, NODE("Gemm", "\"x\", \"b\"", ""), "for which initializer b FLOAT (3) is not made"},
	{X4, NODE("Gemm", "\"x\", \"w\"", "\"transB\": 1"),
	 "reads rows of 4 numbers, for which initializer w FLOAT (4, 3)"},
	{X4, NODE("Gemm", "\"x\", \"w\"", "\"transA\": 1"), "turns its rows"},
	{X4, NODE("Gemm", "\"x\", \"w\", \"c\"", ""), "reads initializer c FLOAT (2), whose shape does not fit"},
	{X4, NODE("Gemm", "\"x\", \"x\"", ""), "reads \"x\" where an initializer has to be"},
	{X4, NODE("Gemm", "\"x\", \"i\"", ""), "reads tensor i INT64 (2), which is of a type that is not read"},
	{X4, NODE("Gemm", "\"x\", \"w\"", "\"alpha\": \"a\""), "has attribute \"alpha\", which is no number"},
	{X5, NODE("Gemm", "\"x\", \"w\"", ""), "reads rows of 3 dimensions, not flat ones"},
	{X4, NODE("Add", "\"x\", \"b\"", ""), "adds an initializer to what no layer before it takes as its bias"},
	{X4, MADE("MatMul", "\"x\", \"w\"", "h") "," MADE("Relu", "\"h\"", "r") "," NODE("Add", "\"h\", \"b\"", ""),
	 "adds an initializer to"},
	{X4, MADE("MatMul", "\"x\", \"w\"", "h") "," NODE("Add", "\"x\", \"h\"", ""), "adds values of different shapes"},
	{X4, NODE("Mul", "\"x\", \"x\"", ""), "multiplies two values"},
	{X4, NODE("Mul", "\"x\", \"b\"", ""), "multiplies with an initializer what no norm before it takes"},
	{X4, NODE("Softmax", "\"x\"", "\"axis\": 0"), "makes probabilities of other than the columns of a row"},
	{X4, MADE("Softmax", "\"x\"", "p") "," NODE("Relu", "\"p\"", ""),
	 "reads probabilities \"p\", with which the graph has to end"},
	{X4, NODE("Concat", "\"x\", \"x\"", "\"axis\": 0"), "joins along axis 0"},
	{X4, NODE("Flatten", "\"x\"", "\"axis\": 2"), "flattens from axis 2 on"},
	{X4, NODE("Reshape", "\"x\", \"i\"", ""), "has a shape whose first dimension is not the batch"},
	{X4, NODE("Cast", "\"x\"", "\"to\": 7"), "casts numbers to no type of floats"},
	{X4, NODE("Gather", "\"x\", \"i\"", ""), "reads \"x\" where a few integers have to be"},
	{X4, NODE("LayerNormalization", "\"x\", \"b\"", ""), "reads initializer b FLOAT (3), whose shape does not fit"},
	{X4, NODE("LayerNormalization", "\"x\", \"b\"", "\"epsilon\": 0.001"),
	 "adds epsilon 0.001 to the variance, not 1e-05"},
	{X5, NODE("LayerNormalization", "\"x\", \"b\"", ""), "normalises parts of a row (axis -1)"},
	{X4, NODE("Conv", "\"x\", \"k\"", ""), "reads no image of channels, height and width"},
	{X2, NODE("Conv", "\"x\", \"k\"", ""),
	 "reads an image of 2 channels, for which initializer k FLOAT (2, 1, 3, 3)"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"group\": 2"), "is of 2 groups, not 1"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"dilations\": [2, 2]"), "is dilated"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"pads\": [0, 0, 1, 1]"), "pads one side more than the other"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"pads\": [3, 0, 3, 0]"), "has padding 3, not less than the kernel"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"pads\": [0, 0]"), "has attribute \"pads\" with other than 4 integers"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"kernel_shape\": [2, 3]"),
	 "reads initializer k FLOAT (2, 1, 3, 3), whose shape does not fit"},
	{X5, NODE("Conv", "\"x\", \"k\", \"b\"", ""), "reads initializer b FLOAT (3), whose shape does not fit"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"strides\": [0, 1]"), "has kernel 3 and stride 0, not 1 to 1024"},
	{X5, NODE("Conv", "\"x\", \"k\"", "\"auto_pad\": \"SAME_UPPER\", \"strides\": [1, 1], \"kernel_shape\": [2, 2]"),
	 "pads one side more"},
	{X5, NODE("MaxPool", "\"x\"", ""), "has no \"kernel_shape\""},
	{X5, NODE("MaxPool", "\"x\"", "\"kernel_shape\": [9, 9]"), "has a kernel of 9 for 5 pixels"},
	{X5, NODE("MaxPool", "\"x\"", "\"kernel_shape\": [2, 2], \"strides\": [2, 2], \"ceil_mode\": 1"),
	 "lie beyond the image in part"},
	{X5, NODE("AveragePool", "\"x\"", "\"kernel_shape\": [3, 3], \"pads\": [1, 1, 1, 1], \"count_include_pad\": 1"),
	 "counts padding as pixels"},
	{X2, NODE("BatchNormalization", NORM, "\"training_mode\": 1"), "is one of training"},
	{X5, NODE("BatchNormalization", NORM, ""), "reads initializer c FLOAT (2), whose shape does not fit"},
	{X2, NODE("GroupNormalization", "\"x\", \"c\", \"c\"", "\"num_groups\": 3"),
	 "has 3 groups of other than the channels"},
	{X2, NODE("InstanceNormalization", "\"x\", \"b\", \"c\"", ""), "reads initializer b FLOAT (3), whose shape"},
	{X2, NODE("ReduceMean", "\"x\"", "\"axes\": [1, 2]"),
	 "takes the mean along other dimensions than height and width"},
	{X2, NODE("Squeeze", "\"x\"", "\"axes\": [1]"), "drops a dimension of 2"},
	{X2, NODE("Relu", "\"x\"", ""), "the graph does not end with a layer of at most 1024 numbers"},
	{X4, NODE("MatMul", "\"x\", \"w\"", ""), "no node takes tensor b FLOAT (3) of the file"},
	{"[-1, -1]", NODE("Relu", "\"x\"", ""), "input \"x\" of the graph is not one of floats in 2 to 4 dimensions"},
	{"[4]", NODE("Relu", "\"x\"", ""), "input \"x\" of the graph is not one of floats"},
	{"[4, 1, 1, 1, 1]", NODE("Relu", "\"x\"", ""), "input \"x\" of the graph is not one of floats"},
};

static json_t *
graph_of(const char *dims, const char *nodes)
{
	char text[4096];

	snprintf(text, sizeof(text),
			 "{\"opset\": 20, \"inputs\": [{\"name\": \"x\", \"type\": 1, \"dims\": %s}], \"outputs\": [\"y\"], "
			 "\"nodes\": [%s], \"integers\": {\"i\": [7, -1]}}",
			 dims, nodes);
	return json_of(text);
}

static void
check_refused(const json_t *graph, const char *task, const char *message)
{
	tensor_source source = {.count = 0};
	llm_error err = {0};
	onnx_network *n;

	for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++)
		CHECK(tensor_source_add(&source, &tensors[i], &err));
	CHECK(tensor_source_sort(&source, &err));
	n = onnx_network_new(graph, &source, task, false, &err);
	CHECK(n == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	if (!CHECK(strstr(err.message, message) != NULL))
		fprintf(stderr, "expected %s: %s\n", message, err.message);
	onnx_network_free(n);
	tensor_source_clear(&source);
}

static void
test_refused(void)
{
	json_t *graph;

	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
	{
		graph = graph_of(wrongs[i].dims, wrongs[i].nodes);
		check_refused(graph, NULL, wrongs[i].message);
		json_decref(graph);
	}
	graph = graph_of(X4, NODE("Softmax", "\"x\"", ""));
	check_refused(graph, "regression", "makes probabilities of classes, but \"task\" is \"regression\"");
	json_object_set_new(graph, "opset", json_integer(6));
	check_refused(graph, NULL, "the graph is of operations of version 6, known are 7 to 28");
	json_object_set_new(graph, "opset", json_integer(20));
	json_array_append_new(json_object_get(graph, "outputs"), json_string("z"));
	check_refused(graph, NULL, "the graph has 2 outputs, not one");
	json_object_set_new(graph, "outputs", json_pack("[s]", "y"));
	json_array_append_new(json_object_get(graph, "inputs"),
						  json_pack("{s:s, s:i, s:[i, i]}", "name", "z", "type", 1, "dims", 1, 2));
	check_refused(graph, NULL, "the graph has several inputs, \"x\" and \"z\" among them");
	json_object_set_new(graph, "inputs", json_array());
	check_refused(graph, NULL, "the graph has no input");
	json_decref(graph);
}

/* ---- parameters ---- */

static void
check_params(const char *text, const char *message)
{
	bytes file = read_golden("table", "onnx");
	json_t *graph = json_object(), *params = json_of(text);
	llm_error err = {0};
	tensor_source source;
	import_plan *plan = plan_of(&file, &source, graph, params, &err);

	CHECK(plan == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	if (!CHECK(strstr(err.message, message) != NULL))
		fprintf(stderr, "expected %s: %s\n", message, err.message);
	import_plan_free(plan);
	tensor_source_clear(&source);
	json_decref(params);
	json_decref(graph);
	free(file.data);
}

static void
test_params(void)
{
	check_params("{\"layers\": []}", "unknown parameter \"layers\"");
	check_params("{\"input\": {\"shape\": [4]}}", "unknown key of parameter \"input\" \"shape\"");
	check_params("{\"input\": 1}", "parameter \"input\" must be an object");
	check_params("{\"input\": {\"columns\": [\"a\", \"b\"]}}", "must be an array of names for 4 numbers");
	check_params("{\"input\": {\"columns\": [\"a\", \"b\", \"c\", 1]}}", "name 4 of \"columns\"");
	check_params("{\"input\": {\"columns\": [\"a\", \"b\", \"c\", \"a\"]}}", "");
	check_params("{\"input\": {\"columns\": [\"a\", \"b\", \"c\", \"d\"], \"name\": \"x\"}}",
				 "cannot have both \"name\" and \"columns\"");
	check_params("{\"input\": {\"mean\": [1, 2]}}", "or an array of 4 of them");
	check_params("{\"task\": \"ranking\"}", "parameter \"task\" cannot be \"ranking\"");
	check_params("{\"classes\": [\"a\"]}", "must be an array of 2 labels for 2 outputs");
	check_params("{\"classes\": [\"a\", \"b\"], \"task\": \"regression\"}", "has no meaning for task");
}

int
main(void)
{
	test_golden("mlp", "classification", false);
	test_golden("mlp_dynamo", "classification", false);
	test_golden("mlp_17", "classification", false);
	test_golden("cnn", "classification", true);
	test_golden("cnn_dynamo", "classification", true);
	test_golden("binary", "classification", false);
	test_golden("table", "regression", false);
	test_golden("forms", "regression", false);
	test_damaged("table");
	test_damaged("forms");
	test_refused();
	test_params();
	return test_summary();
}
