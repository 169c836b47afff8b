/*
 * params.c
 *	  Validate the settings of a training and fill in what the user left open.
 *
 * The table in params.def drives the check; params_fill() then reads a JSON object that
 * is known to be complete and legal.  Values taken from the data are written back into
 * that object, so that it always says what the training used.
 */
#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "layers.h"
#include "nearest.h"
#include "search.h"

#define PARAM(name, type, fallback, minimum, maximum, choices, architectures, description) \
	{name, type, fallback, minimum, maximum, choices, architectures, description},
static const param_info param_rows[] = {
#include "params.def"
};
#undef PARAM

#define PARAM_COUNT ((int32_t) (sizeof(param_rows) / sizeof(param_rows[0])))
#define MAX_NAMES 1600 /* a table has no more columns */

const param_info *
params_table(int32_t *count)
{
	*count = PARAM_COUNT;
	return param_rows;
}

int32_t
params_index(const char *name, uint32_t architectures)
{
	for (int32_t i = 0; i < PARAM_COUNT; i++)
		if ((param_rows[i].architectures & architectures) != 0 && strcmp(param_rows[i].name, name) == 0)
			return i;
	return -1;
}

param_source *
params_source(const train_params *p, const char *key)
{
	return &p->sources[params_index(key, p->architecture->bit)];
}

/* Has row i a meaning for the network that p is for? */
static bool
applies(const train_params *p, int32_t i)
{
	return (param_rows[i].architectures & p->architecture->bit) != 0;
}

/* A setting that there is not, or that the architecture has no use for. */
static bool
fail_key(const train_params *p, const char *key, llm_error *err)
{
	const char *architecture = p->architecture->name;
	int32_t nearest = -1;

	if (params_index(key, ARCH_ALL) >= 0)
	{
		llm_fail(err, LLM_INVALID, "parameter \"%s\" has no meaning for architecture \"%s\"", key, architecture);
		return llm_hint(err, "See SELECT * FROM llm_params('%s');", architecture);
	}
	for (int32_t i = 0; i < PARAM_COUNT; i++)
		if (applies(p, i) &&
			(nearest < 0 || name_distance(key, param_rows[i].name) < name_distance(key, param_rows[nearest].name)))
			nearest = i;
	llm_fail(err, LLM_INVALID, "unknown parameter \"%.100s\"", key);
	if (name_distance(key, param_rows[nearest].name) <= NAME_DISTANCE_NEAR)
		return llm_hint(err, "Did you mean \"%s\"? All of them: SELECT * FROM llm_params('%s');",
						param_rows[nearest].name, architecture);
	return llm_hint(err, "See SELECT * FROM llm_params('%s');", architecture);
}

static bool
fail_type(const param_info *info, const char *wanted, llm_error *err)
{
	llm_fail(err, LLM_INVALID, "parameter \"%s\" must be %s", info->name, wanted);
	return llm_detail(err, "%s", info->description);
}

static bool
check_range(const param_info *info, double value, llm_error *err)
{
	if (isfinite(value) && value >= info->minimum && value <= info->maximum)
		return true;
	llm_fail(err, LLM_INVALID, "parameter \"%s\" is %g, outside %.16g to %.16g", info->name, value, info->minimum,
			 info->maximum);
	return llm_detail(err, "%s", info->description);
}

static bool
check_choice(const param_info *info, const char *value, llm_error *err)
{
	size_t length = strlen(value);

	for (const char *choice = info->choices; choice != NULL; choice = strchr(choice, '|'))
	{
		choice += *choice == '|';
		if (strncmp(choice, value, length) == 0 && (choice[length] == '|' || choice[length] == '\0'))
			return true;
	}
	if (info->choices == NULL)
		return true;
	llm_fail(err, LLM_INVALID, "parameter \"%s\" cannot be \"%.100s\"", info->name, value);
	return llm_hint(err, "Legal values: %s.", info->choices);
}

static bool
check_string(const param_info *info, const json_t *value, llm_error *err)
{
	if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
		return fail_type(info, "a string", err);
	return check_choice(info, json_string_value(value), err);
}

static bool
check_list(const param_info *info, const json_t *list, llm_error *err)
{
	bool names = info->type == PARAM_NAMES;
	size_t most = names ? MAX_NAMES : NET_MAX_HIDDEN;

	if (!json_is_array(list))
		return fail_type(info, names ? "an array of strings" : "an array of integers", err);
	if (json_array_size(list) > most)
		return llm_fail(err, LLM_INVALID, "parameter \"%s\" has %zu elements, at most %zu are possible", info->name,
						json_array_size(list), most);
	for (size_t i = 0; i < json_array_size(list); i++)
	{
		const json_t *element = json_array_get(list, i);

		if (names                       ? !check_string(info, element, err)
			: !json_is_integer(element) ? fail_type(info, "an array of integers", err)
										: !check_range(info, (double) json_integer_value(element), err))
			return false;
	}
	return err->code == LLM_OK;
}

/* Every layer by itself; whether they fit the data is known when there are data. */
static bool
check_layers(const json_t *layers, llm_error *err)
{
	net_config *config = calloc(1, sizeof(net_config));
	bool ok;

	if (config == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	ok = layers_from_json(layers, config, err);
	free(config);
	return ok;
}

/* validation: fraction or column name. class_weight: word or object of numbers. */
static bool
check_any(const param_info *info, const json_t *value, llm_error *err)
{
	if (strcmp(info->name, "layers") == 0)
		return check_layers(value, err);
	if (strcmp(info->name, "validation") == 0)
		return json_is_string(value)   ? true
			   : json_is_number(value) ? check_range(info, json_number_value(value), err)
									   : fail_type(info, "a fraction or the name of a boolean column", err);

	if (json_is_object(value))
	{
		const char *label;
		json_t *weight;

		json_object_foreach((json_t *) value, label, weight)
		{
			if (!json_is_number(weight))
				return fail_type(info, "an object from label to number", err);
			if (!check_range(info, json_number_value(weight), err))
				return false;
		}
		return true;
	}
	if (!json_is_string(value) ||
		(strcmp(json_string_value(value), "none") != 0 && strcmp(json_string_value(value), "balanced") != 0))
		return fail_type(info, "none, balanced or an object from label to weight", err);
	return true;
}

static bool
check_value(const param_info *info, const json_t *value, llm_error *err)
{
	if (json_is_null(value)) /* the default, spelled out */
		return true;
	switch (info->type)
	{
		case PARAM_INTEGER:
			if (!json_is_integer(value))
				return fail_type(info, "an integer", err);
			return check_range(info, (double) json_integer_value(value), err);
		case PARAM_NUMBER:
			if (!json_is_number(value))
				return fail_type(info, "a number", err);
			return check_range(info, json_number_value(value), err);
		case PARAM_BOOLEAN: return json_is_boolean(value) ? true : fail_type(info, "true or false", err);
		case PARAM_STRING: return check_string(info, value, err);
		case PARAM_INTEGERS:
		case PARAM_NAMES: return check_list(info, value, err);
		case PARAM_ANY: return check_any(info, value, err);
	}
	return false;
}

/* A range instead of a value: its form, and all values in it. */
static bool
check_range_of(const param_info *info, const json_t *range, llm_error *err)
{
	const json_t *choices = json_object_get(range, "choices");

	if (!search_check(info, range, err))
		return false;
	for (size_t i = 0; i < json_array_size(choices); i++)
	{
		if (json_is_null(json_array_get(choices, i)))
			return fail_type(info, "a value in each of its choices", err);
		if (!check_value(info, json_array_get(choices, i), err))
			return false;
	}
	return choices != NULL || (check_value(info, json_object_get(range, "min"), err) &&
							   check_value(info, json_object_get(range, "max"), err));
}

/* Keep the range; what is resolved stays the default. */
static bool
params_add_range(train_params *p, const param_info *info, json_t *range, llm_error *err)
{
	if (params_index("trials", p->architecture->bit) < 0)
	{
		llm_fail(err, LLM_INVALID, "parameter \"%s\" must be a value, not a range", info->name);
		return llm_detail(err, "Settings of architecture \"%s\" are not searched.", p->architecture->name);
	}
	if (!check_range_of(info, range, err))
		return false;
	if (p->ranges == NULL)
		p->ranges = json_object();
	if (json_object_set(p->ranges, info->name, range) != 0)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	return true;
}

/* The user's object over the defaults: p->resolved and p->sources. */
static bool
params_merge(train_params *p, const json_t *user, llm_error *err)
{
	const char *key;
	json_t *value;

	for (int32_t i = 0; i < PARAM_COUNT; i++)
	{
		const char *fallback = param_rows[i].fallback;
		json_t *json;

		if (!applies(p, i) && json_object_get(p->resolved, param_rows[i].name) != NULL)
			continue; /* the row of another architecture */
		json = json_parse(fallback, strlen(fallback), err);
		if (json == NULL || json_object_set_new(p->resolved, param_rows[i].name, json) != 0)
			return llm_fail(err, LLM_MEMORY, "out of memory");
	}
	json_object_foreach((json_t *) user, key, value)
	{
		int32_t i = params_index(key, p->architecture->bit);

		if (i < 0)
			return fail_key(p, key, err);
		if (json_is_object(value) && param_rows[i].type != PARAM_ANY)
		{
			if (!params_add_range(p, &param_rows[i], value, err))
				return false;
			continue;
		}
		if (!check_value(&param_rows[i], value, err))
			return false;
		if (json_is_null(value))
			continue;
		if (json_object_set(p->resolved, key, value) != 0)
			return llm_fail(err, LLM_MEMORY, "out of memory");
		p->sources[i] = SOURCE_USER;
	}
	return true;
}

/* ---- from the resolved object to the struct; every key is there and legal ---- */

static const json_t *
get(const train_params *p, const char *key)
{
	return json_object_get(p->resolved, key);
}

static double
get_number(const train_params *p, const char *key)
{
	return json_number_value(get(p, key));
}

static int64_t
get_int(const train_params *p, const char *key)
{
	return json_integer_value(get(p, key));
}

/* A copy, or NULL for JSON null. */
static bool
get_string(const train_params *p, const char *key, char **out, llm_error *err)
{
	const char *value = json_string_value(get(p, key));

	*out = value == NULL ? NULL : strdup(value);
	if (value != NULL && *out == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	return true;
}

static bool
get_names(const train_params *p, const char *key, char ***names, int32_t *count, llm_error *err)
{
	const json_t *list = get(p, key);
	size_t n = json_array_size(list);

	*count = 0;
	*names = calloc(n + 1, sizeof(char *));
	if (*names == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	for (size_t i = 0; i < n; i++)
	{
		char *name = strdup(json_string_value(json_array_get(list, i)));

		if (name == NULL)
			return llm_fail(err, LLM_MEMORY, "out of memory");
		(*names)[(*count)++] = name;
	}
	return true;
}

static void
fill_run(train_params *p)
{
	const char *schedule = json_string_value(get(p, "schedule"));

	p->epochs = get_int(p, "epochs");
	p->steps = get_int(p, "steps");
	p->batch_size = get_int(p, "batch_size");
	p->micro_batch = get_int(p, "micro_batch");
	p->recompute_given = json_is_boolean(get(p, "recompute"));
	p->recompute = json_is_true(get(p, "recompute"));
	p->learning_rate = get_number(p, "learning_rate");
	p->optimizer = strcmp(json_string_value(get(p, "optimizer")), "sgd") == 0 ? OPT_SGD : OPT_ADAMW;
	p->momentum = get_number(p, "momentum");
	p->schedule = strcmp(schedule, "constant") == 0 ? SCHEDULE_CONSTANT
				  : strcmp(schedule, "linear") == 0 ? SCHEDULE_LINEAR
													: SCHEDULE_COSINE;
	p->warmup = get_number(p, "warmup");
	p->weight_decay = get_number(p, "weight_decay");
	p->clip_norm = get_number(p, "clip_norm");
	p->dropout = get_number(p, "dropout");
	p->label_smoothing = get_number(p, "label_smoothing");
	p->ema_decay = get_number(p, "ema_decay");
	p->precision = strcmp(json_string_value(get(p, "precision")), "bf16") == 0 ? PRECISION_BF16 : PRECISION_F32;
	p->seed = (uint64_t) get_int(p, "seed");
	p->max_seconds = get_number(p, "max_seconds");
	p->checkpoint_every = json_is_null(get(p, "checkpoint_every")) ? -1 : get_number(p, "checkpoint_every");
}

static bool
fill_data(train_params *p, llm_error *err)
{
	const json_t *class_weight = get(p, "class_weight");

	if (json_is_string(get(p, "validation")))
	{
		if (!get_string(p, "validation", &p->validation_column, err))
			return false;
	}
	else
		p->validation = get_number(p, "validation");
	p->folds = (int32_t) get_int(p, "folds");
	p->trials = (int32_t) get_int(p, "trials");
	p->deduplicate = json_is_true(get(p, "deduplicate"));
	p->early_stopping = (int32_t) get_int(p, "early_stopping");
	if (json_is_object(class_weight))
		p->class_weight = json_incref((json_t *) class_weight);
	else
		p->class_weight_balanced = strcmp(json_string_value(class_weight), "balanced") == 0;
	p->one_hot_max = (int32_t) get_int(p, "one_hot_max");
	p->embed_dim = (int32_t) get_int(p, "embed_dim");
	p->text_buckets = (int32_t) get_int(p, "text_buckets");
	return get_string(p, "time_column", &p->time_column, err) &&
		   get_string(p, "weight_column", &p->weight_column, err) &&
		   get_string(p, "group_column", &p->group_column, err) &&
		   get_names(p, "exclude", &p->exclude, &p->exclude_count, err);
}

static uint32_t
lora_bits(const json_t *names)
{
	static const struct
	{
		const char *name;
		uint32_t bit;
	} bits[] = {{"qkv", LORA_QKV}, {"out", LORA_OUT}, {"up", LORA_UP}, {"down", LORA_DOWN}};
	uint32_t found = 0;

	for (size_t i = 0; i < json_array_size(names); i++)
		for (size_t k = 0; k < sizeof(bits) / sizeof(bits[0]); k++)
			if (strcmp(json_string_value(json_array_get(names, i)), bits[k].name) == 0)
				found |= bits[k].bit;
	return found;
}

static bool
fill_network(train_params *p, llm_error *err)
{
	const json_t *hidden = get(p, "hidden");
	const json_t *loss = get(p, "loss");

	p->hidden_count = (int32_t) json_array_size(hidden);
	for (int32_t i = 0; i < p->hidden_count; i++)
		p->hidden[i] = (int32_t) json_integer_value(json_array_get(hidden, i));
	if (!net_activation_parse(json_string_value(get(p, "activation")), &p->activation))
		return llm_fail(err, LLM_INVALID, "unknown activation");
	p->layer_norm = json_is_true(get(p, "layer_norm"));
	p->residual = json_is_true(get(p, "residual"));
	p->loss_given = !json_is_null(loss);
	p->loss = p->loss_given && strcmp(json_string_value(loss), "huber") == 0 ? LOSS_HUBER : LOSS_MSE;
	p->huber_delta = get_number(p, "huber_delta");
	if (json_is_array(get(p, "layers")))
		p->layers = json_incref((json_t *) get(p, "layers"));
	p->depth = (int32_t) get_int(p, "layers");
	p->heads = (int32_t) get_int(p, "heads");
	p->kv_heads = (int32_t) get_int(p, "kv_heads");
	p->ffn_dim = (int32_t) get_int(p, "ffn_dim");
	p->context = (int32_t) get_int(p, "context");
	p->vocab_size = (int32_t) get_int(p, "vocab_size");
	p->source_context = (int32_t) get_int(p, "source_context");
	p->train_layers = (int32_t) get_int(p, "train_layers");
	p->lora_rank = (int32_t) get_int(p, "lora_rank");
	p->lora_alpha = get_number(p, "lora_alpha");
	p->lora_targets = lora_bits(get(p, "lora_targets"));
	p->lora_merge = !json_is_false(get(p, "lora_merge"));
	(void) weight_type_parse(json_string_value(get(p, "weights")), &p->weights); /* one of the choices */
	p->ngrams = json_is_true(get(p, "ngrams"));
	p->pool = strcmp(json_string_value(get(p, "pool")), "first") == 0  ? POOL_FIRST
			  : strcmp(json_string_value(get(p, "pool")), "last") == 0 ? POOL_LAST
																	   : POOL_MEAN;
	p->augment.shift = json_is_null(get(p, "shift")) ? -1 : (int32_t) get_int(p, "shift");
	p->augment.flip = json_is_true(get(p, "flip"));
	p->augment.crop = (float) get_number(p, "crop");
	return get_string(p, "image", &p->image_column, err) && get_string(p, "tokenizer", &p->tokenizer, err) &&
		   get_string(p, "text", &p->text_column, err) && get_string(p, "prompt", &p->prompt_column, err) &&
		   get_string(p, "deploy", &p->deploy, err);
}

static bool
fill(train_params *p, llm_error *err)
{
	fill_run(p);
	return fill_data(p, err) && fill_network(p, err);
}

static bool
fail_together(const char *one, const char *other, const char *why, llm_error *err)
{
	llm_fail(err, LLM_INVALID, "parameters \"%s\" and \"%s\" cannot be used together", one, other);
	return llm_hint(err, "%s", why);
}

/* Settings that exclude each other. */
static bool
check_together(const train_params *p, llm_error *err)
{
	const char *both = "Both decide which rows are held out; leave one of them out.";

	if (p->folds == 1)
	{
		llm_fail(err, LLM_INVALID, "parameter \"folds\" is 1");
		return llm_hint(err, "Folds are held out in turn: use two or more, or 0 for one held-out part.");
	}
	if (p->folds > 0 && *params_source(p, "validation") == SOURCE_USER)
		return fail_together("folds", "validation", both, err);
	if (p->folds > 0 && p->time_column != NULL)
		return fail_together("folds", "time_column",
							 "Folds are drawn at random, which lets later rows predict earlier ones.", err);
	if (p->folds > 0 && p->ranges != NULL)
		return fail_together("folds", json_object_iter_key(json_object_iter(p->ranges)),
							 "Search with a held-out part first, then judge the setting that was found with folds.",
							 err);
	if (p->ranges == NULL && params_index("trials", p->architecture->bit) >= 0 &&
		*params_source(p, "trials") == SOURCE_USER)
	{
		llm_fail(err, LLM_INVALID, "parameter \"trials\" needs a range to search");
		return llm_hint(err, "For example {\"learning_rate\": {\"min\": 1e-4, \"max\": 1e-1, \"log\": true}}.");
	}
	if (p->ranges != NULL && p->validation_column == NULL && p->validation == 0)
		return fail_together("validation", json_object_iter_key(json_object_iter(p->ranges)),
							 "Held-out rows decide which trial is best; let \"validation\" be more than 0.", err);
	if (p->train_layers > 0 && p->lora_rank > 0)
		return fail_together("train_layers", "lora_rank", "Train the last layers, or matrices beside all of them.",
							 err);
	if (p->lora_rank > 0 && p->lora_targets == 0)
		return fail_together("lora_rank", "lora_targets",
							 "Name at least one kind of layer, or leave \"lora_targets\" out.", err);
	if (!p->lora_merge && p->lora_rank == 0)
	{
		llm_fail(err, LLM_INVALID, "parameter \"lora_merge\" is false without \"lora_rank\"");
		return llm_hint(err, "For example {\"lora_rank\": 8, \"lora_merge\": false}.");
	}
	if (!p->lora_merge && p->weights != WEIGHT_F32)
		return fail_together("lora_merge", "weights",
							 "What is added to a base is float32; leave one of them out, or use llm_quantise().",
							 err);
	if (p->group_column != NULL && p->validation_column != NULL)
		return fail_together("group_column", "validation", both, err);
	if (p->group_column != NULL && p->time_column != NULL)
		return fail_together("group_column", "time_column", both, err);
	return true;
}

/* After a failed allocation keys may be missing. */
static bool
is_complete(llm_error *err)
{
	return !json_memory_failed() || llm_fail(err, LLM_MEMORY, "out of memory");
}

train_params *
params_resolve(const char *architecture, const char *json, size_t length, llm_error *err)
{
	const architecture_info *info = architecture_find(architecture);
	json_t *user;
	train_params *p;

	if (info == NULL)
	{
		llm_fail(err, LLM_INVALID, "unknown architecture \"%.100s\"", architecture);
		llm_hint(err, "See SELECT * FROM llm_architectures();");
		return NULL;
	}
	user = json_parse(length > 0 ? json : "{}", length > 0 ? length : 2, err);
	if (user == NULL)
		return NULL;
	p = calloc(1, sizeof(train_params));
	if (p != NULL)
	{
		p->architecture = info;
		p->resolved = json_object();
		p->sources = calloc(PARAM_COUNT, sizeof(param_source));
	}
	if (p == NULL || p->resolved == NULL || p->sources == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory");
	else if (!json_is_object(user))
	{
		llm_fail(err, LLM_INVALID, "params must be a JSON object");
		llm_hint(err, "For example: params => '{\"epochs\": 20}'");
	}
	else if (params_merge(p, user, err) && is_complete(err) && fill(p, err))
		check_together(p, err);
	json_decref(user);
	if (err->code == LLM_OK)
		return p;
	params_free(p);
	return NULL;
}

/* ---- trials ---- */

static json_t *
trial_value(const train_params *p, int32_t i, int32_t trial)
{
	const json_t *range = json_object_get(p->ranges, param_rows[i].name);
	json_t *here = json_object_get(p->resolved, param_rows[i].name);
	int32_t position = 0; /* among the settings of the architecture: others do not change what is drawn */

	for (int32_t k = 0; k < i; k++)
		position += applies(p, k);
	if (range == NULL || (trial == 0 && search_holds(range, here)))
		return json_incref(here);
	return search_draw(&param_rows[i], range, p->seed, trial, position);
}

train_params *
params_trial(const train_params *p, int32_t trial, llm_error *err)
{
	train_params *t = calloc(1, sizeof(train_params));

	if (t != NULL)
	{
		t->architecture = p->architecture;
		t->resolved = json_object();
		t->sources = calloc(PARAM_COUNT, sizeof(param_source));
	}
	if (t == NULL || t->resolved == NULL || t->sources == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory");
	for (int32_t i = 0; i < PARAM_COUNT && err->code == LLM_OK; i++)
	{
		if (!applies(p, i) && json_object_get(t->resolved, param_rows[i].name) != NULL)
			continue;
		t->sources[i] = json_object_get(p->ranges, param_rows[i].name) != NULL ? SOURCE_SEARCH : p->sources[i];
		if (json_object_set_new(t->resolved, param_rows[i].name, trial_value(p, i, trial)) != 0)
			llm_fail(err, LLM_MEMORY, "out of memory");
	}
	if (err->code == LLM_OK && is_complete(err) && fill(t, err))
		return t;
	params_free(t);
	return NULL;
}

json_t *
params_drawn(const train_params *p)
{
	json_t *json = json_object();

	for (int32_t i = 0; i < PARAM_COUNT; i++)
		if (p->sources[i] == SOURCE_SEARCH)
			json_object_set(json, param_rows[i].name, json_object_get(p->resolved, param_rows[i].name));
	return json;
}

/* ---- as a whole ---- */

void
params_free(train_params *p)
{
	if (p == NULL)
		return;
	for (int32_t i = 0; i < p->exclude_count; i++)
		free(p->exclude[i]);
	free(p->exclude);
	free(p->validation_column);
	free(p->time_column);
	free(p->weight_column);
	free(p->group_column);
	free(p->deploy);
	free(p->image_column);
	free(p->tokenizer);
	free(p->text_column);
	free(p->prompt_column);
	json_decref(p->layers);
	json_decref(p->class_weight);
	json_decref(p->ranges);
	json_decref(p->resolved);
	free(p->sources);
	free(p);
}

json_t *
params_json(const train_params *p)
{
	static const char *const source_names[] = {"default", "user", "auto", "search"};
	json_t *json = json_object();

	for (int32_t i = 0; i < PARAM_COUNT && json != NULL; i++)
	{
		json_t *value = json_object_get(p->resolved, param_rows[i].name);

		if (!applies(p, i))
			continue;
		json_object_set_new(json, param_rows[i].name,
							json_pack("{s:O, s:s}", "value", value, "source", source_names[p->sources[i]]));
	}
	return json;
}
