/*
 * fuzz_safetensors.c
 *	  Any bytes as a safetensors file, and its tensors as a model.
 *
 * Whatever is accepted must tile the data, and is the same when the header alone is read.  A manifest or parameters of an import in the file's
 * metadata are followed; a network that takes its weights from the file must write a file that it
 * reads again, to the same weights.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/manifest/import_params.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WEIGHTS_MAX (16 << 20) /* a larger network teaches nothing more */

/* What is said of the whole file is said of its header, and the numbers are the same. */
static void
check_header(const safetensors *file, const llm_error *why, const uint8_t *data, size_t size)
{
	input in = {data, size};
	llm_error err = {.code = LLM_OK};
	safetensors *header = safetensors_open_header(read_input, &in, 0, size, &err);
	tensor_source s = {.read = read_input, .arg = &in};

	REQUIRE((header == NULL) == (file == NULL) && strcmp(err.message, why->message) == 0);
	if (header == NULL)
		return;
	REQUIRE(safetensors_source(header, 0, &s, &err) && tensor_source_sort(&s, &err));
	safetensors_close(header);
	REQUIRE(s.count == safetensors_count(file));
	for (int32_t i = 0; i < s.count; i++)
	{
		const source_tensor *t = &s.tensors[i];
		const safetensor *same = safetensors_find(file, t->name);
		float first, again;

		REQUIRE(data + t->offset == same->data && t->bytes == same->bytes);
		if (t->count > 0 && t->type != SOURCE_OTHER)
			REQUIRE(tensor_source_read(&s, t, 0, 1, &first, &err) && safetensor_floats(same, 0, 1, &again, &err) &&
					memcmp(&first, &again, sizeof(first)) == 0);
	}
	tensor_source_clear(&s);
}

static void
check_tensors(const safetensors *file)
{
	for (int32_t i = 0; i < safetensors_count(file); i++)
	{
		const safetensor *t = safetensors_at(file, i);
		llm_error err = {.code = LLM_OK};
		float first, last;

		REQUIRE(i == 0 || t->data == safetensors_at(file, i - 1)->data + safetensors_at(file, i - 1)->bytes);
		REQUIRE(safetensors_find(file, t->name) == t);
		if (t->count > 0 && safetensor_floats(t, 0, 1, &first, &err))
			REQUIRE(safetensor_floats(t, t->count - 1, 1, &last, &err));
		REQUIRE(strlen(safetensor_text(t, (char[SAFETENSORS_TEXT_BYTES]) {0})) < SAFETENSORS_TEXT_BYTES);
	}
}

/* Weights in the usual names and orders. */
static float *
read_usual(const net *n, const safetensors *file, llm_error *err)
{
	int32_t count = net_tensor_count(n);
	char(*text)[EXCHANGE_NAME_BYTES] = calloc(count, sizeof(*text));
	const char **names = calloc(count, sizeof(char *));
	float *weights = NULL;
	exchange x;

	for (int32_t i = 0; i < count; i++)
		names[i] = exchange_name(n, i, text[i]);
	if (exchange_init(&x, n, ORDER_PYTORCH, err))
		weights = tensor_file_read(&x, file, names, NULL, NULL, err);
	free(names);
	free(text);
	return weights;
}

static void
write_again(const net *n, const float *weights)
{
	llm_error err = {.code = LLM_OK};
	exchange x;
	tensor_file f;
	uint8_t *bytes;
	safetensors *file;
	float *again;

	if (!exchange_init(&x, n, ORDER_PYTORCH, &err))
		return;
	REQUIRE(tensor_file_plan(&f, &x, NULL, &err));
	bytes = malloc(f.bytes);
	REQUIRE(tensor_file_write(&f, &x, weights, bytes, NULL, NULL, &err));
	file = safetensors_open(bytes, f.bytes, &err);
	REQUIRE(file != NULL);
	again = read_usual(n, file, &err);
	REQUIRE(again != NULL && memcmp(again, weights, net_weight_bytes(n)) == 0);
	free(again);
	safetensors_close(file);
	free(bytes);
	tensor_file_free(&f);
}

static void
follow_params(const safetensors *file, const char *text)
{
	llm_error err = {.code = LLM_OK};
	json_t *params = json_parse(text, strlen(text), &err);
	import_plan *plan = params && json_is_object(params) ? import_plan_new(params, &err) : NULL;
	float *weights = NULL;

	if (plan != NULL && net_weight_bytes(plan->net) < WEIGHTS_MAX)
		weights = import_plan_read(plan, file, NULL, NULL, &err);
	REQUIRE(params == NULL || plan != NULL || !json_is_object(params) || err.code != LLM_OK);
	if (weights != NULL)
		write_again(plan->net, weights);
	free(weights);
	import_plan_free(plan);
	json_decref(params);
}

static void
follow_manifest(const safetensors *file, const char *text)
{
	llm_error err = {.code = LLM_OK};
	manifest *m = manifest_parse(text, strlen(text), &err);
	float *weights = m && m->weight_bytes < WEIGHTS_MAX ? read_usual(m->net, file, &err) : NULL;

	if (weights != NULL)
		write_again(m->net, weights);
	free(weights);
	manifest_free(m);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	safetensors *file = safetensors_open(data, size, &err);

	REQUIRE((file == NULL) == (err.code != LLM_OK));
	check_header(file, &err, data, size);
	if (file == NULL)
		return 0;
	check_tensors(file);
	if (safetensors_metadata(file, "params"))
		follow_params(file, safetensors_metadata(file, "params"));
	if (safetensors_metadata(file, "llmapp"))
		follow_manifest(file, safetensors_metadata(file, "llmapp"));
	safetensors_close(file);
	return 0;
}
