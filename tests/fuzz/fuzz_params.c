/*
 * fuzz_params.c
 *	  Any bytes as the settings of a training: an error, or settings that are complete.
 *
 * What was accepted and what was chosen from the rows must be accepted again and mean the same.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/format/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is used as a size or a divisor. */
static void
check_ranges(const train_params *p)
{
	if (p->epochs < 1 || p->batch_size < 1 || p->steps < 0 || p->early_stopping < 0)
		abort();
	if (p->hidden_count < 0 || p->hidden_count > NET_MAX_HIDDEN || p->embed_dim < 1 || p->text_buckets < 1)
		abort();
	for (int32_t i = 0; i < p->hidden_count; i++)
		if (p->hidden[i] < 1)
			abort();
	if (p->folds < 0 || p->folds == 1 || p->folds > PARAMS_MAX_FOLDS)
		abort();
	if (!(p->validation >= 0 && p->validation < 1) || !(p->dropout >= 0 && p->dropout < 1) || !(p->learning_rate > 0))
		abort();
}

/* What a user would have to give to get these settings: all but the defaults, and the ranges. */
static char *
given_text(const train_params *p)
{
	json_t *settings = params_json(p);
	json_t *given = json_object();
	const char *key;
	json_t *setting;
	char *text;

	json_object_foreach(settings, key, setting)
		if (strcmp(json_string_value(json_object_get(setting, "source")), "default") != 0)
			json_object_set(given, key, json_object_get(setting, "value"));
	if (p->ranges != NULL)
		json_object_update(given, p->ranges);
	text = json_text(given);
	json_decref(given);
	json_decref(settings);
	return text;
}

static const int32_t image[3] = {1, 28, 30};

/* As a training does. */
static void
choose_all(train_params *p, int64_t rows)
{
	if (p->architecture->bit & ARCH_TEXT)
	{
		params_choose_vocabulary(p, rows);
		params_choose_transformer(p, rows);
		if (p->depth < 1 || p->heads < 1 || p->kv_heads < 0 || p->ffn_dim < 1 || p->context < 1 || p->vocab_size < 1)
			abort();
		return;
	}
	params_choose_folds(p, rows, true);
	params_choose(p, rows);
	params_choose_image(p, image);
}

static void
try_again(const train_params *p, int64_t rows)
{
	llm_error err = {.code = LLM_OK};
	char *text = given_text(p);
	train_params *again = text ? params_resolve(p->architecture->name, text, strlen(text), &err) : NULL;
	char *second;

	if (again == NULL)
		abort();
	choose_all(again, rows);
	check_ranges(again);
	second = given_text(again);
	if (second == NULL || strcmp(text, second) != 0)
		abort();
	free(text);
	free(second);
	params_free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	int32_t count;
	int64_t rows = size > 0 ? (int64_t) 1 << data[size - 1] % 40 : 1;
	const architecture_info *architectures = architecture_table(&count);
	train_params *p = params_resolve(architectures[size % count].name, (const char *) data, size, &err);
	json_t *json;

	if ((p == NULL) == (err.code == LLM_OK))
		abort();
	if (p == NULL)
		return 0;
	choose_all(p, rows);
	check_ranges(p);
	json = params_json(p);
	if (json == NULL)
		abort();
	json_decref(json);
	try_again(p, rows);
	params_free(p);
	return 0;
}
