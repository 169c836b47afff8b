/*
 * fuzz_onnx.c
 *	  Any bytes as an ONNX file, and its graph as layers.
 *
 * Of what is accepted, every tensor lies within the file and can be read, and a network has finite weights.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/format/onnx.h"
#include "../../src/manifest/import_params.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of a sound file: a graph that has no layers is an error. */
static void
import_graph(const json_t *graph, const tensor_source *s)
{
	llm_error err = {.code = LLM_OK};
	json_t *params = json_object();
	import_plan *plan = import_plan_onnx(graph, s, params, &err);
	float *weights = plan ? import_plan_read_onnx(plan, s, NULL, NULL, &err) : NULL;

	REQUIRE((weights != NULL) == (err.code == LLM_OK));
	for (int32_t i = 0; weights != NULL && i < net_tensor_count(plan->net); i++)
	{
		const net_tensor_info *t = net_tensor(plan->net, i);

		for (size_t k = 0; k < t->count; k++)
			REQUIRE(isfinite(weights[t->offset + k]));
	}
	free(weights);
	import_plan_free(plan);
	json_decref(params);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	input in = {data, size};
	tensor_source s = {.read = read_input, .arg = &in};
	llm_error err = {.code = LLM_OK};
	json_t *graph = json_object();
	bool ok = onnx_source(&s, 0, size, graph, &err) && tensor_source_sort(&s, &err);

	REQUIRE(ok == (err.code == LLM_OK));
	for (int32_t i = 0; ok && i < s.count; i++)
	{
		const source_tensor *t = &s.tensors[i];
		float number;

		REQUIRE(t->offset <= size && t->bytes <= size - t->offset && tensor_source_find(&s, t->name) == t);
		if (t->type != SOURCE_OTHER && t->count > 0)
			REQUIRE(tensor_source_read(&s, t, t->count - 1, 1, &number, &err));
	}
	if (ok)
		import_graph(graph, &s);
	json_decref(graph);
	tensor_source_clear(&s);
	return 0;
}
