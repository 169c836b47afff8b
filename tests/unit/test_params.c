/*
 * test_params.c
 *	  Settings of a training: defaults, each kind of mistake, and values chosen from the data.
 */
#include <stdlib.h>

#include "../../src/format/params.h"
#include "test.h"

static train_params *
resolve(const char *json, llm_error *err)
{
	*err = (llm_error) {0};
	return params_resolve("mlp", json, strlen(json), err);
}

/* The JSON must be refused with this message and hint (or detail). */
static void
refuse(const char *json, const char *message, const char *hint)
{
	llm_error err;
	train_params *p = resolve(json, &err);

	CHECK(p == NULL);
	CHECK_STR(err.message, message);
	if (hint != NULL)
		CHECK(strstr(err.hint, hint) != NULL || strstr(err.detail, hint) != NULL);
	params_free(p);
}

/* Memory decides what is open, and only that. */
static void
test_choose_memory(void)
{
	const char *given = "{\"recompute\": false}";
	llm_error err = {0};
	train_params *open = params_resolve("t5", "{}", 2, &err),
				 *fixed = params_resolve("t5", given, strlen(given), &err);
	int32_t i = params_index("recompute", ARCH_T5);

	if (!CHECK(open && fixed))
		return;
	CHECK(!open->recompute_given && fixed->recompute_given && !fixed->recompute);
	params_choose_memory(open, 3, true);
	params_choose_memory(fixed, 3, true);
	CHECK(json_is_true(json_object_get(open->resolved, "recompute")) && open->sources[i] == SOURCE_AUTO);
	CHECK(json_is_false(json_object_get(fixed->resolved, "recompute")) && fixed->sources[i] == SOURCE_USER);
	params_free(open);
	params_free(fixed);
}

/* The same name has another default, and other limits, where it means something else. */
static void
test_text(void)
{
	const char *sizes = "{\"heads\": 4, \"layers\": 2, \"context\": 32}";
	const char *range = "{\"learning_rate\": {\"min\": 1e-4, \"max\": 1e-1}}";
	const char *table = "{\"residual\": true}";
	llm_error err = {0};
	train_params *p = params_resolve("llama", sizes, strlen(sizes), &err);

	if (!CHECK(p != NULL))
		return;
	CHECK_INT(p->depth, 2);
	params_choose_vocabulary(p, 400000);
	CHECK_INT(p->vocab_size, 2000);
	params_choose_transformer(p, 300000);
	CHECK_INT(p->embed_dim, 128);
	CHECK(p->learning_rate == 0.003);
	CHECK_INT(p->heads, 4);
	CHECK_INT(p->kv_heads, 4);
	CHECK_INT(p->ffn_dim, 352);
	CHECK_INT(p->context, 32);
	CHECK_INT(p->batch_size, 64);
	CHECK_INT(p->epochs, 20);
	CHECK(p->dropout == 0.1);
	params_free(p);
	p = params_resolve("gpt", "{}", 2, &err);
	params_choose_text(p, 3000, 50, false);
	CHECK_INT(p->context, 56); /* the longest text and its end, a multiple of 8 */
	CHECK_INT(p->epochs, 16);
	CHECK(p->dropout == 0.3);
	params_free(p);
	CHECK(params_resolve("gpt", range, strlen(range), &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	CHECK(strstr(err.message, "must be a value, not a range") != NULL);
	err = (llm_error) {0};
	CHECK(params_resolve("gpt", table, strlen(table), &err) == NULL);
	CHECK(strstr(err.message, "no meaning for architecture") != NULL);
}

static void
test_defaults(void)
{
	llm_error err;
	train_params *p = resolve("{}", &err);
	int32_t count;

	CHECK(p != NULL);
	CHECK(params_table(&count) != NULL && count > 30);
	CHECK(architecture_find("nonsense") == NULL);
	CHECK_INT(params_index("nonsense", ARCH_ALL), -1);
	CHECK_INT(p->optimizer, OPT_ADAMW);
	CHECK(p->validation > 0 && p->validation < 0.5);
	CHECK_INT(p->epochs, 0);
	params_choose(p, 30000);
	CHECK(p->epochs > 0 && p->batch_size > 0);
	params_free(p);
}

static int32_t
chosen_folds(const char *json, int64_t rows, bool possible)
{
	llm_error err;
	train_params *p = resolve(json, &err);
	json_t *all;
	int32_t folds;

	CHECK_INT(p->folds, json_integer_value(json_object_get(p->resolved, "folds")));
	params_choose_folds(p, rows, possible);
	folds = p->folds;
	all = params_json(p);
	CHECK_INT(json_integer_value(json_object_get(json_object_get(all, "folds"), "value")), folds);
	json_decref(all);
	params_free(p);
	return folds;
}

/* Few rows, but enough, are learned in folds when nothing else is said about holding out. */
static void
test_folds(void)
{
	CHECK_INT(chosen_folds("{}", 19, true), 0);
	CHECK_INT(chosen_folds("{}", 20, true), PARAMS_AUTO_FOLDS);
	CHECK_INT(chosen_folds("{}", 1999, true), PARAMS_AUTO_FOLDS);
	CHECK_INT(chosen_folds("{}", 2000, true), 0);
	CHECK_INT(chosen_folds("{}", 500, false), 0);
	CHECK_INT(chosen_folds("{\"folds\": null, \"validation\": null}", 500, true), PARAMS_AUTO_FOLDS);
	CHECK_INT(chosen_folds("{\"group_column\": \"g\"}", 500, true), PARAMS_AUTO_FOLDS);
	CHECK_INT(chosen_folds("{\"folds\": 0}", 500, true), 0);
	CHECK_INT(chosen_folds("{\"folds\": 7}", 500, false), 7);
	CHECK_INT(chosen_folds("{\"validation\": 0.15}", 500, true), 0);
	CHECK_INT(chosen_folds("{\"validation\": \"v\"}", 500, true), 0);
	CHECK_INT(chosen_folds("{\"time_column\": \"t\"}", 500, true), 0);
	CHECK_INT(chosen_folds("{\"dropout\": {\"min\": 0, \"max\": 0.5}}", 500, true), 0);
}

static void
test_user_values(void)
{
	llm_error err;
	json_t *json;
	train_params *p = resolve("{\"hidden\": [], \"epochs\": 7, \"validation\": \"is_test\", "
							  "\"exclude\": [\"id\", \"na\\u00efve\"], \"class_weight\": {\"yes\": 3}, "
							  "\"optimizer\": \"sgd\", \"learning_rate\": null}",
							  &err);

	CHECK(p != NULL);
	CHECK_INT(p->hidden_count, 0);
	CHECK_INT(p->epochs, 7);
	CHECK_STR(p->validation_column, "is_test");
	CHECK_INT(p->exclude_count, 2);
	CHECK_STR(p->exclude[1], "na\xc3\xafve");
	CHECK(p->class_weight != NULL && !p->class_weight_balanced);
	CHECK_INT(p->optimizer, OPT_SGD);
	CHECK(p->learning_rate > 0);
	params_choose(p, 100);
	CHECK_INT(p->epochs, 7);
	json = params_json(p);
	CHECK_STR(json_string_value(json_object_get(json_object_get(json, "epochs"), "source")), "user");
	CHECK_STR(json_string_value(json_object_get(json_object_get(json, "batch_size"), "source")), "auto");
	CHECK_STR(json_string_value(json_object_get(json_object_get(json, "momentum"), "source")), "default");
	CHECK_STR(json_string_value(json_object_get(json_object_get(json, "learning_rate"), "source")), "default");
	json_decref(json);
	params_free(p);
}

static void
test_mistakes(void)
{
	llm_error err = {0};

	refuse("{\"epoch\": 3}", "unknown parameter \"epoch\"", "Did you mean \"epochs\"?");
	refuse("{\"zzzzzzzzzzzz\": 3}", "unknown parameter \"zzzzzzzzzzzz\"", "llm_params");
	refuse("{\"epochs\": 0}", "parameter \"epochs\" is 0, outside 1 to 1000000", "passes");
	refuse("{\"epochs\": 1.5}", "parameter \"epochs\" must be an integer", NULL);
	refuse("{\"epochs\": \"3\"}", "parameter \"epochs\" must be an integer", NULL);
	refuse("{\"learning_rate\": 1e400}", "invalid JSON at byte 23: real number overflow near '1e400'", NULL);
	refuse("{\"dropout\": 1}", "parameter \"dropout\" is 1, outside 0 to 0.95", NULL);
	refuse("{\"optimizer\": \"adam\"}", "parameter \"optimizer\" cannot be \"adam\"", "adamw|sgd");
	refuse("{\"optimizer\": \"\"}", "parameter \"optimizer\" cannot be \"\"", "adamw|sgd");
	refuse("{\"hidden\": 5}", "parameter \"hidden\" must be an array of integers", NULL);
	refuse("{\"hidden\": [5, \"a\"]}", "parameter \"hidden\" must be an array of integers", NULL);
	refuse("{\"hidden\": [0]}", "parameter \"hidden\" is 0, outside 1 to 65536", NULL);
	refuse("{\"hidden\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}",
		   "parameter \"hidden\" has 17 elements, at most 16 are possible", NULL);
	refuse("{\"exclude\": [1]}", "parameter \"exclude\" must be a string", NULL);
	refuse("{\"class_weight\": {\"a\": -1}}", "parameter \"class_weight\" is -1, outside 0 to 1000000000", NULL);
	refuse("{\"class_weight\": \"heavy\"}",
		   "parameter \"class_weight\" must be none, balanced or an object from label to weight", NULL);
	refuse("{\"validation\": true}", "parameter \"validation\" must be a fraction or the name of a boolean column",
		   NULL);
	refuse("{\"validation\": 0.95}", "parameter \"validation\" is 0.95, outside 0 to 0.9", NULL);
	refuse("{\"group_column\": \"g\", \"time_column\": \"t\"}",
		   "parameters \"group_column\" and \"time_column\" cannot be used together", "held out");
	refuse("{\"group_column\": \"g\", \"validation\": \"v\"}",
		   "parameters \"group_column\" and \"validation\" cannot be used together", "held out");
	refuse("{\"folds\": 1}", "parameter \"folds\" is 1", "two or more");
	refuse("{\"folds\": 21}", "parameter \"folds\" is 21, outside 0 to 20", NULL);
	refuse("{\"folds\": 5, \"validation\": 0.1}", "parameters \"folds\" and \"validation\" cannot be used together",
		   "held out");
	refuse("{\"folds\": 5, \"time_column\": \"t\"}",
		   "parameters \"folds\" and \"time_column\" cannot be used together", "later rows");
	refuse("{\"deduplicate\": 1}", "parameter \"deduplicate\" must be true or false", NULL);
	refuse("[]", "params must be a JSON object", "epochs");
	refuse("{\"epochs\": 1, \"epochs\": 2}", "invalid JSON at byte 22: duplicate object key near '\"epochs\"'", NULL);
	CHECK(params_resolve("gpt9", "{}", 2, &err) == NULL && err.code == LLM_INVALID);
}

/* Each architecture has settings of its own. */
static void
test_architectures(void)
{
	static const struct
	{
		const char *architecture, *json, *message;
	} wrong[] = {
		{"mlp", "{\"layers\": []}", "parameter \"layers\" has no meaning for architecture \"mlp\""},
		{"mlp", "{\"shift\": 1}", "parameter \"shift\" has no meaning for architecture \"mlp\""},
		{"cnn", "{\"hidden\": [3]}", "parameter \"hidden\" has no meaning for architecture \"cnn\""},
		{"cnn", "{\"crop\": 1}", "parameter \"crop\" is 1, outside 0 to 0.9"},
		{"layers", "{\"dropout\": 0.1}", "parameter \"dropout\" has no meaning for architecture \"layers\""},
		{"layers", "{\"layers\": []}", "\"layers\" is not an array of 1 to 96 layers"},
		{"layers", "{\"layers\": [{\"type\": \"linear\"}]}", "layer 1 (linear): \"width\" is missing"},
		{"layers", "{\"layer\": []}", "unknown parameter \"layer\""},
	};
	const char *layers = "{\"layers\": [{\"type\": \"conv2d\", \"channels\": 4, \"kernel\": 3}], \"image\": \"p\"}";
	int32_t image[3] = {1, 28, 30};
	llm_error err = {.code = LLM_OK};
	train_params *p;
	json_t *json;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		err = (llm_error) {.code = LLM_OK};
		CHECK(params_resolve(wrong[i].architecture, wrong[i].json, strlen(wrong[i].json), &err) == NULL);
		CHECK_INT(err.code, LLM_INVALID);
		CHECK_STR(err.message, wrong[i].message);
	}
	err = (llm_error) {.code = LLM_OK};
	p = params_resolve("layers", layers, strlen(layers), &err);
	CHECK(p != NULL && p->layers != NULL && strcmp(p->image_column, "p") == 0);
	params_choose(p, 1000);
	params_choose_image(p, image);
	CHECK_INT(p->augment.shift, 2);
	json = params_json(p);
	CHECK_STR(json_string_value(json_object_get(json_object_get(json, "shift"), "source")), "auto");
	CHECK(json_object_get(json, "hidden") == NULL && json_object_get(json, "epochs") != NULL);
	json_decref(json);
	params_free(p);
}

static void
test_ranges(void)
{
	llm_error err;
	train_params *p =
		resolve("{\"learning_rate\": {\"min\": 1e-4, \"max\": 1e-1, \"log\": true}, \"seed\": 3, "
				"\"hidden\": {\"choices\": [[64], [256, 256]]}, \"batch_size\": {\"min\": 32, \"max\": 34}, "
				"\"layer_norm\": {\"choices\": [true]}, \"trials\": 40}",
				&err);
	bool sizes[3] = {false};
	int low = 0;

	CHECK(p != NULL && p->ranges != NULL);
	CHECK_INT(p->trials, 40);
	params_choose(p, 1000);
	for (int i = 0; i < 40; i++)
	{
		train_params *t = params_trial(p, i, &err);
		train_params *again = params_trial(p, i, &err);
		json_t *drawn = params_drawn(t);

		CHECK(t->learning_rate >= 1e-4 && t->learning_rate <= 1e-1 && t->learning_rate == again->learning_rate);
		CHECK((t->hidden_count == 1 && t->hidden[0] == 64) || (t->hidden_count == 2 && t->hidden[1] == 256));
		CHECK(t->batch_size >= 32 && t->batch_size <= 34 && t->layer_norm);
		CHECK(i > 0 || (t->learning_rate == p->learning_rate && t->hidden_count == 2 && t->batch_size == 32));
		CHECK_INT(json_object_size(drawn), 4);
		CHECK_INT(t->seed, 3);
		sizes[t->batch_size - 32] = true;
		low += t->learning_rate < 3.2e-3;
		json_decref(drawn);
		params_free(t);
		params_free(again);
	}
	CHECK(sizes[0] && sizes[1] && sizes[2]);
	CHECK(low > 10 && low < 30); /* half of the magnitudes */
	params_free(p);
}

static void
test_range_mistakes(void)
{
	refuse("{\"learning_rate\": {}}",
		   "the range of parameter \"learning_rate\" needs numbers \"min\" and \"max\", or \"choices\"", "log");
	refuse("{\"learning_rate\": {\"min\": 1}}",
		   "the range of parameter \"learning_rate\" needs numbers \"min\" and \"max\", or \"choices\"", NULL);
	refuse("{\"learning_rate\": {\"min\": 0.1, \"max\": 0.01}}",
		   "the range of parameter \"learning_rate\" has a \"min\" that is not below its \"max\"", NULL);
	refuse("{\"dropout\": {\"min\": 0, \"max\": 0.5, \"log\": true}}",
		   "the range of parameter \"dropout\" has \"log\" and a \"min\" that is not above 0", NULL);
	refuse("{\"dropout\": {\"min\": 0, \"max\": 0.5, \"log\": 1}}",
		   "the range of parameter \"dropout\" has a \"log\" that is not true or false", NULL);
	refuse("{\"dropout\": {\"min\": 0, \"max\": 0.5, \"step\": 1}}",
		   "the range of parameter \"dropout\" has keys other than \"min\", \"max\" and \"log\"", NULL);
	refuse("{\"dropout\": {\"min\": 0, \"max\": 2}}", "parameter \"dropout\" is 2, outside 0 to 0.95", NULL);
	refuse("{\"batch_size\": {\"min\": 1.5, \"max\": 4}}", "parameter \"batch_size\" must be an integer", NULL);
	refuse("{\"hidden\": {\"min\": 1, \"max\": 2}}", "the range of parameter \"hidden\" must have \"choices\"",
		   "choices");
	refuse("{\"hidden\": {\"choices\": []}}", "the range of parameter \"hidden\" has no array of choices", NULL);
	refuse("{\"hidden\": {\"choices\": [64]}}", "parameter \"hidden\" must be an array of integers", NULL);
	refuse("{\"hidden\": {\"choices\": [[], [64]]}}", "the range of parameter \"hidden\" mixes [] with hidden layers",
		   NULL);
	refuse("{\"hidden\": {\"choices\": [null]}}", "parameter \"hidden\" must be a value in each of its choices",
		   NULL);
	refuse("{\"hidden\": {\"choices\": [[1]], \"min\": 1}}",
		   "the range of parameter \"hidden\" has other keys beside \"choices\"", NULL);
	refuse("{\"activation\": {\"choices\": [\"relu\", \"rellu\"]}}", "parameter \"activation\" cannot be \"rellu\"",
		   "silu");
	refuse("{\"seed\": {\"min\": 1, \"max\": 9}}", "parameter \"seed\" cannot be a range", "same in all trials");
	refuse("{\"validation\": {\"min\": 0.1, \"max\": 0.2}}",
		   "parameter \"validation\" must be a fraction or the name of a boolean column", NULL);
	refuse("{\"trials\": 9}", "parameter \"trials\" needs a range to search", "learning_rate");
	refuse("{\"dropout\": {\"min\": 0, \"max\": 0.5}, \"folds\": 3}",
		   "parameters \"folds\" and \"dropout\" cannot be used together", "held-out part");
	refuse("{\"dropout\": {\"min\": 0, \"max\": 0.5}, \"validation\": 0}",
		   "parameters \"validation\" and \"dropout\" cannot be used together", "more than 0");
}

/* No prefix of a legal document crashes; all but the whole are refused or legal by themselves. */
static void
test_truncation(void)
{
	const char *json = "{\"hidden\": [64, 32], \"class_weight\": {\"a\": 2.5}, \"exclude\": [\"x\"], \"seed\": 9}";

	for (size_t length = 1; length <= strlen(json); length++)
	{
		llm_error err = {0};
		train_params *p = params_resolve("mlp", json, length, &err);

		CHECK((p != NULL) == (length == strlen(json)));
		params_free(p);
	}
}

int
main(void)
{
	test_defaults();
	test_text();
	test_choose_memory();
	test_folds();
	test_user_values();
	test_mistakes();
	test_architectures();
	test_ranges();
	test_range_mistakes();
	test_truncation();
	return test_summary();
}
