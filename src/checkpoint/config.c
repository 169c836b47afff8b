/*
 * config.c
 *	  What config.json and the files beside it say: the network, its task, and what surrounds it.
 *
 * Every value of config.json is read, known to be harmless, or refused: one that is new to this code
 * may change what the network computes.  Values have the defaults of the transformers library.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/transformer.h"
#include "build.h"

#define CONTEXT_MAX (1 << 17) /* of the engine */
#define LABELS_MAX 65536
#define MISTRAL_WINDOW 4096 /* where its configuration does not say */
#define IGNORE_HINT "If it does not change what the network computes, import with {\"ignore\": [\"%s\"]}."

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* ---- values ---- */

/* NULL where it is null, too. */
static const json_t *
get(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_null(value) ? NULL : value;
}

static bool
refuse(builder *b, const char *name, const json_t *value)
{
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

	llm_fail(b->err, LLM_INVALID, "\"%s\" of the configuration is %.100s, which is not supported", SHOWN(name),
			 text ? text : "missing");
	free(text);
	return false;
}

bool
ignored_by_user(const builder *b, const char *name)
{
	const json_t *ignore = json_object_get(b->params, "ignore");
	size_t count = json_array_size(ignore);

	for (size_t i = 0; i < count; i++)
	{
		const char *pattern = json_string_value(json_array_get(ignore, i));

		if (pattern && pattern_matches(pattern, name))
			return true;
	}
	return false;
}

/* A whole number in [low, high], or the fallback where there is none. */
static bool
read_integer(builder *b, const json_t *object, const char *name, int64_t low, int64_t high, int32_t fallback,
			 int32_t *out)
{
	const json_t *value = get(object, name);

	*out = fallback;
	if (value == NULL)
		return true;
	if (!json_is_integer(value) || json_integer_value(value) < low || json_integer_value(value) > high)
		return refuse(b, name, value);
	*out = (int32_t) json_integer_value(value);
	return true;
}

static bool
read_number(builder *b, const json_t *object, const char *name, double fallback, double *out)
{
	const json_t *value = get(object, name);

	*out = value ? json_number_value(value) : fallback;
	return value == NULL || (json_is_number(value) && isfinite(*out) && *out >= 0 && *out <= 1e9) ||
		   refuse(b, name, value);
}

static bool
read_flag(builder *b, const json_t *object, const char *name, bool fallback, bool *out)
{
	const json_t *value = get(object, name);

	*out = value ? json_is_true(value) : fallback;
	return value == NULL || json_is_boolean(value) || refuse(b, name, value);
}

static const struct
{
	const char *name;
	net_activation activation;
} activations[] = {
	{"gelu", ACT_GELU},
	{"gelu_python", ACT_GELU},
	{"gelu_new", ACT_GELU_TANH},
	{"gelu_fast", ACT_GELU_TANH},
	{"gelu_pytorch_tanh", ACT_GELU_TANH},
	{"gelu_python_tanh", ACT_GELU_TANH},
	{"silu", ACT_SILU},
	{"swish", ACT_SILU},
	{"relu", ACT_RELU},
	{"tanh", ACT_TANH},
	{"sigmoid", ACT_SIGMOID},
};

static bool
find_activation(const char *name, net_activation *out)
{
	for (int i = 0; name && i < COUNT(activations); i++)
		if (strcmp(activations[i].name, name) == 0)
		{
			*out = activations[i].activation;
			return true;
		}
	return false;
}

static bool
read_activation(builder *b, const char *name, net_activation *out)
{
	const json_t *value = get(b->config, name);

	if (value == NULL || find_activation(json_string_value(value), out))
		return true;
	refuse(b, name, value);
	return llm_hint(b->err,
					"Activations that are known: gelu, gelu_new, gelu_pytorch_tanh, silu, relu, tanh, sigmoid.");
}

static bool
has_only(builder *b, const config_key *key)
{
	const json_t *value = get(b->config, key->name);
	json_t *only = json_loads(key->only, JSON_DECODE_ANY, NULL);
	bool same = value == NULL || json_equal(value, only);

	json_decref(only);
	return same || ignored_by_user(b, key->name) || refuse(b, key->name, value);
}

static bool
read_key(builder *b, const config_key *key)
{
	transformer_config *text = &b->c->config.text;
	void *at = (char *) text + key->offset;
	bool missing = get(b->config, key->name) == NULL;
	double number;

	if (missing && isnan(key->fallback))
	{
		llm_fail(b->err, LLM_INVALID, "the configuration has no \"%s\"", key->name);
		return llm_detail(b->err, "A network of family %s cannot be made without it.", b->family->model_type);
	}
	switch (key->kind)
	{
		case KEY_INTEGER: return read_integer(b, b->config, key->name, 0, INT32_MAX, (int32_t) key->fallback, at);
		case KEY_NUMBER:
			if (!read_number(b, b->config, key->name, key->fallback, &number))
				return false;
			*(float *) at = (float) number;
			return true;
		case KEY_FLAG: return read_flag(b, b->config, key->name, key->fallback != 0, at);
		case KEY_ACTIVATION:
			*(net_activation *) at = (net_activation) key->fallback;
			return read_activation(b, key->name, at);
		case KEY_ONLY: return has_only(b, key);
		case KEY_SPECIAL: break;
	}
	return true;
}

/* ---- all values ---- */

static bool
is_known(const builder *b, const char *name)
{
	for (const config_key *key = b->family->keys; key->name; key++)
		if (strcmp(key->name, name) == 0)
			return true;
	for (const char *const *pattern = family_harmless; *pattern; pattern++)
		if (pattern_matches(*pattern, name))
			return true;
	return ignored_by_user(b, name);
}

/* null, {} and [] say nothing. */
static bool
is_empty(const json_t *value)
{
	return json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0) ||
		   (json_is_array(value) && json_array_size(value) == 0);
}

static bool
check_known(builder *b)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) b->config, name, value)
	{
		if (is_empty(value) || is_known(b, name))
			continue;
		llm_fail(b->err, LLM_INVALID, "\"%s\" of the configuration is not known for family %s", SHOWN(name),
				 b->family->model_type);
		return llm_hint(b->err, IGNORE_HINT, SHOWN(name));
	}
	return true;
}

/* ---- positions ---- */

static const char *const rope_keys[] = {
	"rope_theta",
	"rope_type",
	"type",
	"factor",
	"low_freq_factor",
	"high_freq_factor",
	"original_max_position_embeddings",
	"partial_rotary_factor",
};

static bool
check_rope_keys(builder *b, const char *name, const json_t *rope)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) rope, key, value)
	{
		bool known = false;

		for (int i = 0; i < COUNT(rope_keys); i++)
			known |= strcmp(key, rope_keys[i]) == 0;
		if (!known && !json_is_null(value))
			return llm_fail(b->err, LLM_INVALID, "\"%s\" in \"%s\" of the configuration is not known", SHOWN(key),
							name);
	}
	return true;
}

static bool
read_rope_scaling(builder *b, const json_t *rope)
{
	transformer_config *text = &b->c->config.text;
	const json_t *type = get(rope, "rope_type") ? get(rope, "rope_type") : get(rope, "type");
	const char *name = type ? json_string_value(type) : "default";
	double factor, low, high;
	bool llama3 = name && strcmp(name, "llama3") == 0;

	if (name && strcmp(name, "default") == 0)
		return true;
	if (!name || (!llama3 && strcmp(name, "linear") != 0))
	{
		refuse(b, "rope_type", type);
		return llm_hint(b->err, "Scalings of rotary positions that are known: default, linear, llama3.");
	}
	if (!read_number(b, rope, "factor", 0, &factor) || !read_number(b, rope, "low_freq_factor", 0, &low) ||
		!read_number(b, rope, "high_freq_factor", 0, &high) ||
		!read_integer(b, rope, "original_max_position_embeddings", 1, CONTEXT_MAX, 0, &text->rope_context))
		return false;
	if (!(factor >= 1) || (llama3 && (!(low > 0) || !(high > low) || text->rope_context == 0)))
		return llm_fail(b->err, LLM_INVALID, "the scaling of rotary positions of the configuration is incomplete");
	text->rope_factor = factor == 1 ? 0 : (float) factor;
	text->rope_low = llama3 ? (float) low : 0;
	text->rope_high = llama3 ? (float) high : 0;
	if (!llama3 || text->rope_factor == 0)
	{
		text->rope_context = 0;
		text->rope_low = text->rope_high = 0;
	}
	return true;
}

/* rope_theta and rope_scaling, or both in rope_parameters, as newer files have it; GPT-NeoX has names of its own. */
static bool
read_rope(builder *b)
{
	transformer_config *text = &b->c->config.text;
	const char *name = get(b->config, "rope_parameters") ? "rope_parameters" : "rope_scaling";
	const json_t *rope = get(b->config, name);
	bool neox = strcmp(b->family->model_type, "gpt_neox") == 0;
	double theta, share;

	if (rope != NULL && !json_is_object(rope))
		return refuse(b, name, rope);
	if (!check_rope_keys(b, name, rope) || !read_number(b, b->config, "rope_theta", 10000, &theta) ||
		!read_number(b, b->config, neox ? "rotary_emb_base" : "rope_theta", theta, &theta) ||
		!read_number(b, rope, "rope_theta", theta, &theta) ||
		!read_number(b, b->config, "partial_rotary_factor", neox ? 0.25 : 1, &share) ||
		!read_number(b, b->config, neox ? "rotary_pct" : "partial_rotary_factor", share, &share) ||
		!read_number(b, rope, "partial_rotary_factor", share, &share))
		return false;
	if (!(theta > 1))
		return llm_fail(b->err, LLM_INVALID, "\"rope_theta\" of the configuration is not above 1");
	if (!(share > 0 && share <= 1))
		return llm_fail(b->err, LLM_INVALID, "\"partial_rotary_factor\" of the configuration is not between 0 and 1");
	text->rope_theta = (float) theta;
	text->rotary_dim = share < 1 ? (int32_t) (text->head_dim * share) : 0;
	return read_rope_scaling(b, rope);
}

static bool
has_sliding_layer(builder *b, bool *sliding)
{
	const json_t *types = get(b->config, "layer_types");

	for (size_t i = 0; i < json_array_size(types); i++)
	{
		const char *type = json_string_value(json_array_get(types, i));

		if (!type || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0))
			return refuse(b, "layer_types", json_array_get(types, i));
		*sliding |= type[0] == 's';
	}
	return true;
}

/* Tokens that see a window of those before: within it they see all, so no text is longer. */
static bool
limit_to_window(builder *b)
{
	transformer_config *text = &b->c->config.text;
	bool sliding = strcmp(b->family->model_type, "mistral") == 0;
	bool usual = sliding && !b->gguf && json_object_get(b->config, "sliding_window") == NULL;
	int32_t window;

	if (!read_integer(b, b->config, "sliding_window", 1, INT32_MAX, usual ? MISTRAL_WINDOW : 0, &window) ||
		!read_flag(b, b->config, "use_sliding_window", sliding, &sliding) || !has_sliding_layer(b, &sliding))
		return false;
	if (sliding && window > 0 && window < text->context)
		text->context = window;
	return true;
}

/* What the user wants; only relative positions have no limit of their own. */
static bool
read_context(builder *b)
{
	transformer_config *text = &b->c->config.text;
	const json_t *wanted = json_object_get(b->params, "context");
	int32_t most = text->buckets > 0 || text->context > CONTEXT_MAX ? CONTEXT_MAX : text->context;

	if (text->context > most)
		text->context = most;
	if (wanted == NULL)
		return true;
	if (!json_is_integer(wanted) || json_integer_value(wanted) < 1 || json_integer_value(wanted) > most)
		return llm_fail(b->err, LLM_INVALID, "parameter \"context\" must be a number from 1 to %d", most);
	text->context = (int32_t) json_integer_value(wanted);
	return true;
}

static bool
limit_context(builder *b)
{
	transformer_config *text = &b->c->config.text;
	int32_t pad;

	b->positions = text->context;
	if (!read_integer(b, b->config, "pad_token_id", -1, INT32_MAX - 1, 1, &pad))
		return false;
	if (b->family->pad_positions && !b->gguf)
		b->first_position = pad + 1;
	text->context -= b->first_position;
	if (text->context < 1)
		return llm_fail(b->err, LLM_INVALID, "the configuration leaves no positions for tokens");
	if (!limit_to_window(b) || !read_context(b))
		return false;
	text->source_context = text->encoder_depth > 0 ? text->context : 0;
	return true;
}

/* ---- what families have of their own ---- */

/* "relu", or "gated-gelu", which is the gelu of GPT-2. */
static bool
read_t5(builder *b)
{
	transformer_config *text = &b->c->config.text;
	const json_t *value = get(b->config, "feed_forward_proj");
	const char *name = value ? json_string_value(value) : "relu";
	bool tie;

	text->gated = name && strncmp(name, "gated-", 6) == 0;
	if (text->gated)
		name += 6;
	if (!find_activation(name, &text->activation))
		return refuse(b, "feed_forward_proj", value);
	if (text->gated && text->activation == ACT_GELU)
		text->activation = ACT_GELU_TANH;
	if (text->depth == 0)
		text->depth = text->encoder_depth;
	return read_flag(b, b->config, "tie_word_embeddings", true, &tie) &&
		   read_flag(b, b->config, "scale_decoder_outputs", tie, &text->head_scale);
}

static bool
read_gemma(builder *b)
{
	const json_t *value = get(b->config, "hidden_activation");
	transformer_config *text = &b->c->config.text;

	text->activation = ACT_GELU_TANH;
	if (!read_activation(b, "hidden_act", &text->activation))
		return false;
	text->activation = text->activation == ACT_GELU ? ACT_GELU_TANH : text->activation;
	return value == NULL || read_activation(b, "hidden_activation", &text->activation);
}

/* Types of the texts of a pair where there may be pairs; otherwise the first one belongs to every position. */
static void
keep_types(builder *b, bool pairs)
{
	transformer_config *text = &b->c->config.text;

	b->type_rows = text->types;
	text->types = 0;
	if (pairs && b->type_rows >= 2 && !b->family->pad_positions && b->separator >= 0 && b->separator < text->vocab)
	{
		text->types = 2;
		text->separator = b->separator;
	}
}

static bool
has_tensor(const builder *b, const char *name)
{
	return tensor_source_find(b->tensors, name) != NULL;
}

/* T5's own files say what they do not do, and GGUF files do not say it. */
static bool
read_tied(builder *b)
{
	transformer_config *text = &b->c->config.text;

	if (!read_flag(b, b->config, "tie_word_embeddings", b->family->tied, &text->tied))
		return false;
	if (b->gguf)
		text->tied = !has_tensor(b, "output.weight");
	else if (text->buckets > 0)
		text->tied = !has_tensor(b, "lm_head.weight");
	return true;
}

static bool
read_sizes(builder *b)
{
	transformer_config *text = &b->c->config.text;

	for (const config_key *key = b->family->keys; key->name; key++)
		if (!read_key(b, key))
			return false;
	if (text->heads < 1 || text->width < 1)
		return llm_fail(b->err, LLM_INVALID, "the configuration has no heads or no width");
	if (text->kv_heads == 0)
		text->kv_heads = text->heads;
	if (text->head_dim == 0 && text->width % text->heads != 0)
		return llm_fail(b->err, LLM_INVALID, "%d heads of the configuration do not divide its width %d", text->heads,
						text->width);
	if (text->head_dim == 0)
		text->head_dim = text->width / text->heads;
	if (text->ffn == 0 && text->width <= INT32_MAX / 4)
		text->ffn = 4 * text->width;
	return true;
}

static bool
read_network(builder *b)
{
	transformer_config *text = &b->c->config.text;
	const family *f = b->family;

	transformer_family(f->architecture, text);
	text->qkv_bias |= f->qkv_bias;
	text->qk_norm = f->qk_norm;
	text->rotary = f->rotary;
	text->embed_scale = f->embed_scale;
	return read_sizes(b) && (!f->embed_scale || read_gemma(b)) && (text->buckets == 0 || read_t5(b)) &&
		   (!text->rotary || read_rope(b)) && limit_context(b) && read_tied(b);
}

/* ---- the task ---- */

static const struct
{
	const char *end; /* of the name of a class */
	const char *task;
} tasks[] = {
	{"ForCausalLM", "generation"},
	{"LMHeadModel", "generation"},
	{"ForConditionalGeneration", "generation"},
	{"ForMaskedLM", "masked_lm"},
	{"ForPreTraining", "masked_lm"},
	{"ForSequenceClassification", "classification"},
	{"ForTokenClassification", "token_classification"},
	{"Model", "embedding"},
};

static const char *
task_of_class(const char *name)
{
	for (int i = 0; name && i < COUNT(tasks); i++)
	{
		size_t length = strlen(name), end = strlen(tasks[i].end);

		if (length >= end && strcmp(name + length - end, tasks[i].end) == 0)
			return tasks[i].task;
	}
	return NULL;
}

static bool
fits_family(const builder *b, const char *task)
{
	const family *f = b->family;
	bool decoder = !b->c->config.text.bidirectional;

	return strcmp(task, "generation") == 0  ? decoder
		   : strcmp(task, "masked_lm") == 0 ? f->masked.names != NULL
		   : strcmp(task, "embedding") == 0 ? b->c->config.text.encoder_depth == 0
		   : strcmp(task, "classification") == 0 || strcmp(task, "regression") == 0
			   ? f->classes.names != NULL && !b->gguf
			   : f->labels.names != NULL && !b->gguf;
}

static bool
read_task(builder *b)
{
	const json_t *given = json_object_get(b->params, "task"), *classes = get(b->config, "architectures");
	const char *class_name = json_string_value(json_array_get(classes, 0));
	const char *task = given ? json_string_value(given) : b->modules ? "embedding" : task_of_class(class_name);

	if (task == NULL)
	{
		llm_fail(b->err, LLM_INVALID,
				 "the configuration does not say what the network is for: its architecture is %s",
				 class_name ? SHOWN(class_name) : "missing");
		return llm_hint(b->err, "Import with {\"task\": ...}: generation, masked_lm, embedding, classification, "
								"regression or token_classification.");
	}
	for (int i = 0; i < COUNT(tasks) && b->c->task == NULL; i++)
		if (strcmp(tasks[i].task, task) == 0)
			b->c->task = tasks[i].task;
	if (strcmp(task, "regression") == 0)
		b->c->task = "regression";
	if (b->c->task != NULL && fits_family(b, task))
		return true;
	return llm_fail(b->err, LLM_INVALID, "a network of family %s has no task \"%s\"", b->family->model_type,
					SHOWN(task));
}

/* ---- labels ---- */

static bool
add_labels(builder *b, int32_t count)
{
	const json_t *names = get(b->config, "id2label");

	b->c->labels = calloc(count, sizeof(char *));
	if (b->c->labels == NULL)
		return llm_fail(b->err, LLM_MEMORY, "out of memory for labels");
	b->c->label_count = count;
	for (int32_t i = 0; i < count; i++)
	{
		char key[16], usual[24];
		const json_t *name;

		snprintf(key, sizeof(key), "%d", i);
		snprintf(usual, sizeof(usual), "LABEL_%d", i);
		name = json_object_get(names, key);
		if (names != NULL &&
			(json_string_length(name) == 0 || strlen(json_string_value(name)) != json_string_length(name)))
			return refuse(b, "id2label", names);
		b->c->labels[i] = strdup(names ? json_string_value(name) : usual);
		if (b->c->labels[i] == NULL)
			return llm_fail(b->err, LLM_MEMORY, "out of memory for labels");
	}
	return true;
}

static bool
count_labels(builder *b, int32_t *count)
{
	const json_t *names = get(b->config, "id2label");

	if (names != NULL &&
		(!json_is_object(names) || json_object_size(names) < 1 || json_object_size(names) > LABELS_MAX))
		return refuse(b, "id2label", names);
	return read_integer(b, b->config, "num_labels", 1, LABELS_MAX, 2, count) &&
		   (names == NULL || (*count = (int32_t) json_object_size(names)) > 0);
}

/* A score of a pair is a sigmoid, as sentence-transformers has it, unless the file says otherwise. */
static bool
read_sigmoid(builder *b)
{
	const json_t *settings = get(b->config, "sentence_transformers");
	const json_t *function = get(settings, "activation_fn") ? get(settings, "activation_fn")
															: get(b->config, "sbert_ce_default_activation_function");
	const char *name = function ? json_string_value(function) : ".Sigmoid";
	const char *last = name ? strrchr(name, '.') : NULL;

	b->c->sigmoid = last && strcmp(last, ".Sigmoid") == 0;
	return b->c->sigmoid || (last && strcmp(last, ".Identity") == 0) || refuse(b, "activation_fn", function);
}

static bool
read_labels(builder *b)
{
	net_config *c = &b->c->config;
	const json_t *problem = get(b->config, "problem_type");
	const char *name = problem ? json_string_value(problem) : "";
	bool regression = strcmp(b->c->task, "regression") == 0;
	int32_t count;

	if (name == NULL || strcmp(name, "multi_label_classification") == 0)
		return refuse(b, "problem_type", problem);
	if (!count_labels(b, &count))
		return false;
	if (strcmp(b->c->task, "token_classification") == 0)
	{
		c->text.labels = count;
		return add_labels(b, count);
	}
	regression |= count == 1 || strcmp(name, "regression") == 0;
	if (regression)
	{
		b->c->task = "regression";
		c->shape.outputs = count;
		c->loss = LOSS_MSE;
		return count > 1 || strcmp(name, "regression") == 0 || read_sigmoid(b);
	}
	c->shape.outputs = count == 2 ? 1 : count;
	c->shape.class_target = true;
	c->loss = count == 2 ? LOSS_BINARY : LOSS_CROSS_ENTROPY;
	return add_labels(b, count);
}

/* ---- embeddings: the files of sentence-transformers ---- */

static const struct
{
	const char *key, *name; /* in files of old, and of new ones and parameters */
	text_pool pool;
} pools[] = {
	{"pooling_mode_mean_tokens", "mean", POOL_MEAN}, {"pooling_mode_cls_token", "cls", POOL_FIRST},
	{"pooling_mode_cls_token", "first", POOL_FIRST}, {"pooling_mode_lasttoken", "lasttoken", POOL_LAST},
	{"pooling_mode_lasttoken", "last", POOL_LAST},
};

static bool
find_pool(const char *name, text_pool *pool)
{
	for (int i = 0; name && i < COUNT(pools); i++)
		if (strcmp(pools[i].name, name) == 0)
		{
			*pool = pools[i].pool;
			return true;
		}
	return false;
}

/* One of the kinds, each a flag. */
static bool
read_pool_flags(builder *b)
{
	const char *name;
	json_t *value;
	int found = 0;

	json_object_foreach((json_t *) b->pooling, name, value)
	{
		bool known = false;

		if (strncmp(name, "pooling_mode_", 13) != 0 || !json_is_true(value))
			continue;
		for (int i = 0; i < COUNT(pools) && !known; i++)
			if (strcmp(pools[i].key, name) == 0)
			{
				b->c->config.pool = pools[i].pool;
				known = true;
			}
		if (!known || ++found > 1)
		{
			llm_fail(b->err, LLM_INVALID, "pooling by \"%s\" is not supported%s", SHOWN(name),
					 found > 1 ? " beside another one" : "");
			return llm_hint(b->err, "What stands for a text is the mean of its tokens, the first or the last one.");
		}
	}
	return found == 1 || llm_fail(b->err, LLM_INVALID, "the configuration of pooling names no kind of pooling");
}

static bool
read_pooling(builder *b)
{
	const json_t *mode = get(b->pooling, "pooling_mode");

	if (b->pooling == NULL)
		return llm_fail(b->err, LLM_INVALID, "the configuration of pooling, 1_Pooling/config.json, is missing");
	if (mode == NULL)
		return read_pool_flags(b);
	return find_pool(json_string_value(mode), &b->c->config.pool) || refuse(b, "pooling_mode", mode);
}

/* Transformer, Pooling, and maybe Normalize. */
static bool
read_modules(builder *b)
{
	for (size_t i = 0; i < json_array_size(b->modules); i++)
	{
		const char *type = json_string_value(json_object_get(json_array_get(b->modules, i), "type"));
		const char *name = type && strrchr(type, '.') ? strrchr(type, '.') + 1 : type;

		if (name && (strcmp(name, "Transformer") == 0 || strcmp(name, "Dropout") == 0))
			continue;
		if (name && strcmp(name, "Pooling") == 0)
		{
			if (!read_pooling(b))
				return false;
		}
		else if (name && strcmp(name, "Normalize") == 0)
			b->c->normalised = true;
		else
		{
			llm_fail(b->err, LLM_INVALID, "module %s of the sentence transformer is not supported",
					 name ? SHOWN(name) : "without a type");
			return llm_hint(b->err, "Modules that are: Transformer, Pooling, Normalize.");
		}
	}
	return true;
}

static bool
read_embedding(builder *b)
{
	const json_t *pool = json_object_get(b->params, "pool");
	int32_t kind;

	b->c->config.loss = LOSS_CONTRASTIVE;
	b->c->config.pool = b->c->config.text.bidirectional ? POOL_MEAN : POOL_LAST;
	if (!read_integer(b, b->config, "pooling_type", 0, 4, 0, &kind)) /* of GGUF */
		return false;
	if (kind >= 1 && kind <= 3)
		b->c->config.pool = kind == 1 ? POOL_MEAN : kind == 2 ? POOL_FIRST : POOL_LAST;
	b->c->normalised = b->gguf;
	if (!read_modules(b))
		return false;
	return pool == NULL || find_pool(json_string_value(pool), &b->c->config.pool) ||
		   llm_fail(b->err, LLM_INVALID, "parameter \"pool\" must be mean, first or last");
}

static bool
read_max_tokens(builder *b)
{
	int32_t context = b->c->config.text.context, most;

	if (!read_integer(b, b->sentence_config, "max_seq_length", 1, INT32_MAX, context, &most) ||
		!read_flag(b, b->sentence_config, "do_lower_case", false, &b->c->lower_case))
		return false;
	b->c->max_tokens = most < context ? most : context;
	return true;
}

/* ---- the network for its task ---- */

static bool
apply_task(builder *b)
{
	net_config *c = &b->c->config;
	const char *task = b->c->task;
	bool masked = strcmp(task, "masked_lm") == 0, tokens = strcmp(task, "token_classification") == 0;
	bool classes = strcmp(task, "classification") == 0 || strcmp(task, "regression") == 0;

	keep_types(b, classes);
	c->shape = (batch_shape) {
		.outputs = 1, .vocab = c->text.vocab, .context = c->text.context, .source_context = c->text.source_context};
	c->members = 1;
	c->huber_delta = 1;
	c->loss = LOSS_CROSS_ENTROPY;
	c->text.head_transform = masked;
	if ((classes || tokens) && !read_labels(b))
		return false;
	c->shape.token_target = masked || tokens || strcmp(task, "generation") == 0;
	c->shape.labels = c->text.labels;
	c->text.headless = !c->shape.token_target;
	if (tokens)
		c->text.tied = c->text.head_scale = false;
	if (classes)
	{
		c->pool = b->family->pool;
		c->hidden_count = b->family->classes.hidden;
		c->hidden[0] = c->hidden_count > 0 ? c->text.width : 0;
		c->activation = b->family->classes.activation;
	}
	return strcmp(task, "embedding") != 0 || read_embedding(b);
}

/* ---- tokens ---- */

static int32_t
token_id(const builder *b, const json_t *value)
{
	int32_t vocab = b->c->config.text.vocab;

	return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) < vocab
			   ? (int32_t) json_integer_value(value)
			   : -1;
}

/* That of generation_config.json, if there is one. */
static const json_t *
token_value(const builder *b, const char *name)
{
	const json_t *value = get(b->generation_config, name);

	return value ? value : get(b->config, name);
}

static void
add_end(builder *b, const json_t *value)
{
	int32_t id = token_id(b, value);

	if (id >= 0 && b->c->end_count < CHECKPOINT_MAX_ENDS)
		b->c->ends[b->c->end_count++] = id;
}

/* Ids beyond the vocabulary stand in many files, for tokens that there are not. */
static void
read_tokens(builder *b)
{
	const json_t *end = token_value(b, "eos_token_id");

	b->c->begin = token_id(b, token_value(b, "bos_token_id"));
	b->c->pad = token_id(b, token_value(b, "pad_token_id"));
	b->c->decoder_start = token_id(b, token_value(b, "decoder_start_token_id"));
	if (b->c->config.text.encoder_depth > 0 && b->c->decoder_start < 0)
		b->c->decoder_start = b->c->pad;
	if (!json_is_array(end))
		add_end(b, end);
	for (size_t i = 0; i < json_array_size(end); i++)
		add_end(b, json_array_get(end, i));
}

/* ---- all ---- */

static bool
find_family(builder *b)
{
	const json_t *type = get(b->config, "model_type");
	const char *name = json_string_value(type);
	char list[256];

	b->family = name ? family_find(name) : NULL;
	if (b->family != NULL)
	{
		b->c->family = b->family->model_type;
		b->c->architecture = b->family->architecture;
		return true;
	}
	llm_fail(b->err, LLM_INVALID, "\"model_type\" of the configuration is %s, a family that is not supported",
			 name ? SHOWN(name) : "missing");
	return llm_hint(b->err, "Families that are: %s.", family_list(list, sizeof(list)));
}

bool
config_read(builder *b)
{
	if (!json_is_object(b->config))
		return llm_fail(b->err, LLM_INVALID, "the configuration is no object");
	if (!find_family(b) || (!b->gguf && !check_known(b)) || !read_network(b) || !read_task(b) || !apply_task(b) ||
		!read_max_tokens(b))
		return false;
	read_tokens(b);
	return true;
}
