/*
 * search.c
 *	  Ranges inside params, and the settings that a trial draws from them.
 *
 * All trials of a search read the same encoded records and are compared by the same
 * loss, which decides what can be searched.
 */
#include "search.h"

#include <math.h>
#include <string.h>

#include "../engine/philox.h"

#define SEARCH_KEY 0x5365617263684b79u /* keeps the engine's streams apart */
#define MAX_CHOICES 1000

static const char *const searchable[] = {
	"batch_size",   "learning_rate", "optimizer", "momentum",  "schedule",  "warmup",
	"weight_decay", "clip_norm",     "dropout",   "ema_decay", "embed_dim", "hidden",
	"activation",   "layer_norm",    "residual",  "shift",     "flip",      "crop",
};

bool
search_allowed(const char *name)
{
	for (size_t i = 0; i < sizeof(searchable) / sizeof(searchable[0]); i++)
		if (strcmp(searchable[i], name) == 0)
			return true;
	return false;
}

static bool
fail_range(const param_info *info, const char *problem, llm_error *err)
{
	llm_fail(err, LLM_INVALID, "the range of parameter \"%s\" %s", info->name, problem);
	return llm_hint(
		err, "%s",
		info->type == PARAM_INTEGER || info->type == PARAM_NUMBER
			? "For example {\"min\": 1, \"max\": 9}, with \"log\": true for magnitudes, or {\"choices\": [1, 3, 9]}."
			: "For example {\"choices\": [...]}.");
}

static bool
check_choices(const param_info *info, const json_t *range, llm_error *err)
{
	size_t count = json_array_size(json_object_get(range, "choices"));

	if (json_object_size(range) != 1)
		return fail_range(info, "has other keys beside \"choices\"", err);
	if (!json_is_array(json_object_get(range, "choices")) || count == 0)
		return fail_range(info, "has no array of choices", err);
	if (count > MAX_CHOICES)
		return fail_range(info, "has more than 1000 choices", err);
	return true;
}

/* Linear models encode columns otherwise, so the records of one are not those of the other. */
static bool
check_hidden(const param_info *info, const json_t *range, llm_error *err)
{
	const json_t *choices = json_object_get(range, "choices");
	size_t linear = 0;

	for (size_t i = 0; i < json_array_size(choices); i++)
		linear += json_array_size(json_array_get(choices, i)) == 0;
	return linear == 0 || linear == json_array_size(choices) || fail_range(info, "mixes [] with hidden layers", err);
}

static bool
check_ends(const param_info *info, const json_t *range, llm_error *err)
{
	const json_t *min = json_object_get(range, "min");
	const json_t *max = json_object_get(range, "max");
	const json_t *log = json_object_get(range, "log");

	if (info->type != PARAM_INTEGER && info->type != PARAM_NUMBER)
		return fail_range(info, "must have \"choices\"", err);
	if (!json_is_number(min) || !json_is_number(max))
		return fail_range(info, "needs numbers \"min\" and \"max\", or \"choices\"", err);
	if (json_object_size(range) != 2 + (log != NULL))
		return fail_range(info, "has keys other than \"min\", \"max\" and \"log\"", err);
	if (log != NULL && !json_is_boolean(log))
		return fail_range(info, "has a \"log\" that is not true or false", err);
	if (json_number_value(min) >= json_number_value(max))
		return fail_range(info, "has a \"min\" that is not below its \"max\"", err);
	if (json_is_true(log) && json_number_value(min) <= 0)
		return fail_range(info, "has \"log\" and a \"min\" that is not above 0", err);
	return true;
}

bool
search_check(const param_info *info, const json_t *range, llm_error *err)
{
	if (!search_allowed(info->name))
	{
		llm_fail(err, LLM_INVALID, "parameter \"%s\" cannot be a range", info->name);
		return llm_hint(
			err, "What decides how rows are read, split and judged is the same in all trials; give one value.");
	}
	if (json_object_get(range, "choices") == NULL)
		return check_ends(info, range, err);
	return check_choices(info, range, err) && (strcmp(info->name, "hidden") != 0 || check_hidden(info, range, err));
}

bool
search_holds(const json_t *range, const json_t *value)
{
	const json_t *choices = json_object_get(range, "choices");

	for (size_t i = 0; i < json_array_size(choices); i++)
	{
		const json_t *choice = json_array_get(choices, i);

		if (json_equal(choice, value) || (json_is_number(choice) && json_is_number(value) &&
										  json_number_value(choice) == json_number_value(value)))
			return true;
	}
	return choices == NULL && json_is_number(value) &&
		   json_number_value(value) >= json_number_value(json_object_get(range, "min")) &&
		   json_number_value(value) <= json_number_value(json_object_get(range, "max"));
}

/* Each integer is as probable as its share of the range, with log as its share of the magnitudes. */
static json_t *
draw_number(const param_info *info, const json_t *range, double uniform)
{
	double min = json_number_value(json_object_get(range, "min"));
	double max = json_number_value(json_object_get(range, "max"));
	double low = min;
	double high = info->type == PARAM_INTEGER ? max + 1 : max;
	double value;

	if (json_is_true(json_object_get(range, "log")))
		value = exp(log(low) + uniform * (log(high) - log(low)));
	else
		value = low + uniform * (high - low);
	if (info->type == PARAM_INTEGER)
		value = floor(value);
	value = fmin(fmax(value, min), max);
	return info->type == PARAM_INTEGER ? json_integer((json_int_t) value) : json_real(value);
}

json_t *
search_draw(const param_info *info, const json_t *range, uint64_t seed, int32_t trial, int32_t position)
{
	const json_t *choices = json_object_get(range, "choices");
	uint32_t random[4];

	philox(seed ^ SEARCH_KEY, (uint64_t) trial, (uint32_t) position, 0, random);
	if (choices == NULL)
		return draw_number(info, range, random[0] * 0x1p-32);
	return json_deep_copy(json_array_get(choices, ((uint64_t) random[0] * json_array_size(choices)) >> 32));
}
