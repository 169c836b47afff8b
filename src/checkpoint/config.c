/*
 * config.c
 *	  What config.json says about the network.
 *
 * Every value is read, known to be harmless, or refused: one that is new to this code may change what the
 * network computes.  Values have the defaults of the transformers library.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../engine/transformer.h"
#include "build.h"

#define CONTEXT_MAX (1 << 17) /* of the engine */
#define HEADS_MAX 1024        /* each may have pieces of its own */
#define USUAL_WINDOW 4096     /* where the configuration does not say */
#define IGNORE_HINT "If it does not change what the network computes, import with {\"ignore\": [\"%s\"]}."

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* ---- sizes ---- */

static bool
has_only(builder *b, const config_key *key)
{
	const json_t *value = value_get(b->config, key->name);
	json_t *only = json_loads(key->only, JSON_DECODE_ANY, NULL);
	bool same = value == NULL || json_equal(value, only);

	json_decref(only);
	return same || ignored_by_user(b, key->name) || value_refuse(b, key->name, value);
}

static bool
read_key(builder *b, const config_key *key)
{
	transformer_config *text = &b->c->config.text;
	void *at = (char *) text + key->offset;
	bool required = isnan(key->fallback), missing = value_get(b->config, key->name) == NULL;
	int32_t fallback = required ? 0 : (int32_t) key->fallback;
	double number;

	if (missing && required)
	{
		llm_fail(b->err, LLM_INVALID, "the configuration has no \"%s\"", key->name);
		return llm_detail(b->err, "A network of family %s cannot be made without it.", b->family->model_type);
	}
	switch (key->kind)
	{
		case KEY_INTEGER: return value_integer(b, b->config, key->name, 0, INT32_MAX, fallback, at);
		case KEY_NUMBER:
		case KEY_CAP:
			number = key->kind == KEY_CAP && json_object_get(b->config, key->name) ? 0 : key->fallback;
			if (!value_number(b, b->config, key->name, number, &number))
				return false;
			*(float *) at = (float) number;
			return true;
		case KEY_FLAG: return value_flag(b, b->config, key->name, fallback != 0, at);
		case KEY_ACTIVATION:
			*(net_activation *) at = (net_activation) fallback;
			return value_activation(b, key->name, at);
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

static const char *const yarn_keys[] = {
	"beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate",
};

static const char *
rope_type(const json_t *rope)
{
	const json_t *type = value_get(rope, "rope_type") ? value_get(rope, "rope_type") : value_get(rope, "type");

	return type ? json_string_value(type) : "default";
}

static bool
check_rope_keys(builder *b, const char *name, const json_t *rope)
{
	const char *key, *type = rope_type(rope);
	bool yarn = type && strcmp(type, "yarn") == 0;
	json_t *value;

	json_object_foreach((json_t *) rope, key, value)
	{
		bool known = false;

		for (int i = 0; i < COUNT(rope_keys); i++)
			known |= strcmp(key, rope_keys[i]) == 0;
		known &= !yarn || strstr(key, "_freq_factor") == NULL; /* those of Llama 3 */
		for (int i = 0; yarn && i < COUNT(yarn_keys); i++)
			known |= strcmp(key, yarn_keys[i]) == 0;
		if (!known && !json_is_null(value))
			return llm_fail(b->err, LLM_INVALID, "\"%s\" in \"%s\" of the configuration is not known", SHOWN(key),
							name);
	}
	return true;
}

double
yarn_attention(double factor, double scale)
{
	return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1;
}

static bool
incomplete_rope(builder *b)
{
	return llm_fail(b->err, LLM_INVALID, "the scaling of rotary positions of the configuration is incomplete");
}

/* What multiplies cosines and sines: as it is said, or of the factor, and of two other numbers where both are there. */
static bool
read_yarn_attention(builder *b, const json_t *rope, double factor)
{
	bool given = value_get(rope, "attention_factor") != NULL;
	double attention, scale, all;

	if (!value_number(b, rope, "attention_factor", 0, &attention) || !value_number(b, rope, "mscale", 0, &scale) ||
		!value_number(b, rope, "mscale_all_dim", 0, &all))
		return false;
	if (!given)
		attention = scale > 0 && all > 0 ? yarn_attention(factor, scale) / yarn_attention(factor, all)
										 : yarn_attention(factor, 1);
	if (!(attention > 0))
		return value_refuse(b, "attention_factor", value_get(rope, "attention_factor"));
	b->c->config.text.rope_attention = attention == 1 ? 0 : (float) attention;
	return true;
}

/* Numbers that are not there, or 0, are those of the library. */
static bool
read_yarn(builder *b, const json_t *rope)
{
	transformer_config *text = &b->c->config.text;
	const json_t *whole = json_object_get(rope, "truncate"); /* null is false */
	int32_t trained = text->context < CONTEXT_MAX ? text->context : CONTEXT_MAX;
	double factor, fast, slow;

	if (!value_integer(b, rope, "original_max_position_embeddings", 1, CONTEXT_MAX, trained, &text->rope_context))
		return false;
	if (!value_number(b, rope, "factor", (double) text->context / text->rope_context, &factor) ||
		!value_number(b, rope, "beta_fast", 0, &fast) || !value_number(b, rope, "beta_slow", 0, &slow))
		return false;
	text->rope_factor = (float) factor;
	if (!read_yarn_attention(b, rope, text->rope_factor))
		return false;
	if (whole != NULL && !json_is_boolean(whole) && !json_is_null(whole))
		return value_refuse(b, "truncate", whole);
	text->rope_high = fast > 0 ? (float) fast : 32;
	text->rope_low = slow > 0 ? (float) slow : 1;
	text->rope_yarn = true;
	text->rope_whole = whole == NULL || json_is_true(whole);
	return (factor >= 1 && text->rope_high > text->rope_low) || incomplete_rope(b);
}

static bool
read_rope_scaling(builder *b, const json_t *rope)
{
	transformer_config *text = &b->c->config.text;
	const char *name = rope_type(rope);
	double factor, low, high;
	bool llama3 = name && strcmp(name, "llama3") == 0;

	if (name && strcmp(name, "default") == 0)
		return true;
	if (name && strcmp(name, "yarn") == 0)
		return read_yarn(b, rope);
	if (!name || (!llama3 && strcmp(name, "linear") != 0))
	{
		value_refuse(b, "rope_type", value_get(rope, value_get(rope, "rope_type") ? "rope_type" : "type"));
		return llm_hint(b->err, "Scalings of rotary positions that are known: default, linear, llama3, yarn.");
	}
	if (!value_number(b, rope, "factor", 0, &factor) || !value_number(b, rope, "low_freq_factor", 0, &low) ||
		!value_number(b, rope, "high_freq_factor", 0, &high) ||
		!value_integer(b, rope, "original_max_position_embeddings", 1, CONTEXT_MAX, 0, &text->rope_context))
		return false;
	if (!(factor >= 1) || (llama3 && (!(low > 0) || !(high > low) || text->rope_context == 0)))
		return incomplete_rope(b);
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

/* Of layers that have a window, in families where they have their own: a base, and no scaling. */
static bool
read_window_rope(builder *b, const json_t *rope)
{
	transformer_config *text = &b->c->config.text;
	const json_t *type = value_get(rope, "rope_type"), *share = value_get(rope, "partial_rotary_factor");
	double theta;

	if (rope != NULL && !json_is_object(rope))
		return value_refuse(b, "sliding_attention", rope);
	if (!check_rope_keys(b, "rope_parameters", rope) ||
		!value_number(b, b->config, "rope_local_base_freq", b->family->window_theta, &theta) ||
		!value_number(b, rope, "rope_theta", theta, &theta))
		return false;
	if (share != NULL || text->rotary_dim > 0)
		return value_refuse(b, "partial_rotary_factor", share ? share : value_get(b->config, "rope_parameters"));
	if (type != NULL && strcmp(json_is_string(type) ? json_string_value(type) : "", "default") != 0)
		return value_refuse(b, "rope_type", type);
	if (!(theta > 1))
		return llm_fail(b->err, LLM_INVALID, "\"rope_local_base_freq\" of the configuration is not above 1");
	text->window_theta = (float) theta == text->rope_theta && text->rope_factor == 0 ? 0 : (float) theta;
	return true;
}

/*
 * rope_theta and rope_scaling, or both in rope_parameters, as newer files have it, for each type of layers where these
 * differ; GPT-NeoX has names of its own.
 */
static bool
read_rope(builder *b)
{
	transformer_config *text = &b->c->config.text;
	const char *name = value_get(b->config, "rope_parameters") ? "rope_parameters" : "rope_scaling";
	const json_t *rope = value_get(b->config, name), *window = NULL;
	bool neox = strcmp(b->family->model_type, "gpt_neox") == 0;
	double usual = b->family->rope_theta > 0 ? b->family->rope_theta : 10000, theta, share;

	if (rope != NULL && !json_is_object(rope))
		return value_refuse(b, name, rope);
	if (b->family->window_theta > 0 && strcmp(name, "rope_parameters") == 0)
	{
		if (json_object_size(rope) != 2 || !json_is_object(json_object_get(rope, "full_attention")) ||
			!json_is_object(json_object_get(rope, "sliding_attention")))
			return value_refuse(b, name, rope);
		window = json_object_get(rope, "sliding_attention");
		rope = json_object_get(rope, "full_attention");
	}
	if (!check_rope_keys(b, name, rope) || !value_number(b, b->config, "rope_theta", usual, &theta) ||
		!value_number(b, b->config, neox ? "rotary_emb_base" : "rope_theta", theta, &theta) ||
		!value_number(b, rope, "rope_theta", theta, &theta) ||
		!value_number(b, b->config, "partial_rotary_factor", neox ? 0.25 : 1, &share) ||
		!value_number(b, b->config, neox ? "rotary_pct" : "partial_rotary_factor", share, &share) ||
		!value_number(b, rope, "partial_rotary_factor", share, &share))
		return false;
	if (!(theta > 1))
		return llm_fail(b->err, LLM_INVALID, "\"rope_theta\" of the configuration is not above 1");
	if (!(share > 0 && share <= 1))
		return llm_fail(b->err, LLM_INVALID, "\"partial_rotary_factor\" of the configuration is not between 0 and 1");
	text->rope_theta = (float) theta;
	text->rotary_dim = share < 1 ? (int32_t) (text->head_dim * share) : 0;
	return read_rope_scaling(b, rope) && (b->family->window_theta == 0 || read_window_rope(b, window));
}

static bool
has_sliding_layer(builder *b, bool *sliding)
{
	const json_t *types = value_get(b->config, "layer_types");

	for (size_t i = 0; i < json_array_size(types); i++)
	{
		const char *type = json_string_value(json_array_get(types, i));

		if (!type || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0))
			return value_refuse(b, "layer_types", json_array_get(types, i));
		*sliding |= type[0] == 's';
	}
	return true;
}

/* Of so many layers that follow each other the last one sees all. */
static bool
read_period(builder *b, int32_t *period)
{
	const json_t *types = value_get(b->config, "layer_types");
	const json_t *made = value_get(b->config, "_sliding_window_pattern");
	bool sliding = false;

	if (!value_integer(b, b->config, "sliding_window_pattern", 1, INT32_MAX, b->family->window_period, period) ||
		!has_sliding_layer(b, &sliding))
		return false;
	if (types == NULL)
		return made == NULL || (json_is_integer(made) && json_integer_value(made) == *period) ||
			   value_refuse(b, "_sliding_window_pattern", made);
	if (json_array_size(types) != (size_t) b->c->config.text.depth)
		return value_refuse(b, "layer_types", types);
	*period = 0;
	for (int32_t i = 0; i < b->c->config.text.depth; i++)
	{
		bool full = json_string_value(json_array_get(types, i))[0] == 'f';

		if (full && *period == 0)
			*period = i + 1;
		if (full != (*period > 0 && (i + 1) % *period == 0))
			return value_refuse(b, "layer_types", types);
	}
	return true;
}

/* Of a family whose layers are of two types. */
static bool
read_window(builder *b)
{
	transformer_config *text = &b->c->config.text;
	const json_t *given = json_object_get(b->config, "sliding_window");
	int32_t period, window;

	if (!read_period(b, &period) ||
		!value_integer(b, b->config, "sliding_window", 1, INT32_MAX, USUAL_WINDOW, &window))
		return false;
	if (period == 1)
	{
		text->window_theta = 0;
		return true;
	}
	if (json_is_null(given))
		return value_refuse(b, "sliding_window", given);
	text->window = window;
	text->window_period = period > text->depth ? 0 : period;
	return true;
}

/* Tokens that see a window of those before.  Where only some layers have one no text is longer: within it all see all. */
static bool
limit_to_window(builder *b)
{
	transformer_config *text = &b->c->config.text;
	bool sliding = strcmp(b->family->model_type, "mistral") == 0;
	bool usual = sliding && !b->gguf && json_object_get(b->config, "sliding_window") == NULL;
	int32_t window;

	if (b->family->window_period > 0)
		return read_window(b);
	if (!value_integer(b, b->config, "sliding_window", 1, INT32_MAX, usual ? USUAL_WINDOW : 0, &window) ||
		!value_flag(b, b->config, "use_sliding_window", sliding, &sliding) || !has_sliding_layer(b, &sliding))
		return false;
	if (!sliding || window == 0 || window >= text->context)
		return true;
	if (strcmp(b->family->model_type, "mistral") == 0)
		text->window = window;
	else
		text->context = window;
	return true;
}

/* What the user wants, or sentence-transformers' files say; only relative positions have no limit of their own. */
static bool
read_context(builder *b)
{
	transformer_config *text = &b->c->config.text;
	const json_t *wanted = json_object_get(b->params, "context");
	int32_t most = text->buckets > 0 || text->context > CONTEXT_MAX ? CONTEXT_MAX : text->context;

	if (text->context > most)
		text->context = most;
	if (wanted == NULL)
	{
		if (!value_integer(b, b->sentence_config, "max_seq_length", 1, INT32_MAX, text->context, &most))
			return false;
		text->context = most < text->context ? most : text->context;
		return true;
	}
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
	if (b->family->pad_positions && !b->gguf)
	{
		if (!value_integer(b, b->config, "pad_token_id", -1, INT32_MAX - 1, 1, &pad))
			return false;
		b->first_position = pad + 1;
	}
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
	const json_t *value = value_get(b->config, "feed_forward_proj");
	const char *name = value ? json_string_value(value) : "relu";
	bool tie;

	text->gated = name && strncmp(name, "gated-", 6) == 0;
	if (text->gated)
		name += 6;
	if (!value_find_activation(name, &text->activation))
		return value_refuse(b, "feed_forward_proj", value);
	if (text->gated && text->activation == ACT_GELU)
		text->activation = ACT_GELU_TANH;
	if (text->depth == 0)
		text->depth = text->encoder_depth;
	return value_flag(b, b->config, "tie_word_embeddings", true, &tie) &&
		   value_flag(b, b->config, "scale_decoder_outputs", tie, &text->head_scale);
}

static bool
read_gemma(builder *b)
{
	const json_t *value = value_get(b->config, "hidden_activation");
	transformer_config *text = &b->c->config.text;

	text->activation = ACT_GELU_TANH;
	if (!value_activation(b, "hidden_act", &text->activation))
		return false;
	text->activation = text->activation == ACT_GELU ? ACT_GELU_TANH : text->activation;
	return value == NULL || value_activation(b, "hidden_activation", &text->activation);
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

	if (!value_flag(b, b->config, "tie_word_embeddings", b->family->tied, &text->tied))
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
	if (text->heads > HEADS_MAX)
		return llm_fail(b->err, LLM_INVALID, "the configuration has %d heads, more than %d", text->heads, HEADS_MAX);
	if (text->kv_heads == 0)
		text->kv_heads = text->heads;
	if (text->head_dim == 0 && text->width % text->heads != 0)
		return llm_fail(b->err, LLM_INVALID, "%d heads of the configuration do not divide its width %d", text->heads,
						text->width);
	if (text->head_dim == 0)
		text->head_dim = text->width / text->heads;
	if (text->query_dim == text->head_dim)
		text->query_dim = 0;
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
	text->bidirectional |= f->encoder_alone;
	text->added_norm = f->added_norm;
	return read_sizes(b) && (!f->embed_scale || read_gemma(b)) && (text->buckets == 0 || read_t5(b)) &&
		   (!text->rotary || read_rope(b)) && limit_context(b) && read_tied(b);
}

/* ---- all ---- */

static bool
wants_embedding(const builder *b)
{
	const char *task = task_wanted(b);

	return task != NULL && strcmp(task, "embedding") == 0;
}

static bool
find_family(builder *b)
{
	const json_t *type = value_get(b->config, "model_type");
	const char *name = json_string_value(type);
	char list[256];

	b->family = name && !b->gguf && wants_embedding(b) ? family_find_encoder(name) : NULL;
	if (b->family == NULL)
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

/* What belongs to images alone is left out; the rest stands beside the values of the text's part, in whose place it is. */
json_t *
config_inner(const json_t *config)
{
	static const char *const images[] = {
		"vision_config",     "mm_tokens_per_image", "boi_token_index", "eoi_token_index",
		"image_token_index", "boi_token_id",        "eoi_token_id",    "image_token_id",
	};
	const char *type = json_string_value(json_object_get(config, "model_type"));
	const family *f = type ? family_find(type) : NULL;
	json_t *text = f && f->inner ? json_object_get(config, f->inner) : NULL, *out;

	if (!json_is_object(text))
		return NULL;
	out = json_copy(text);
	json_object_update(out, (json_t *) config);
	json_object_del(out, f->inner);
	for (int i = 0; i < COUNT(images); i++)
		json_object_del(out, images[i]);
	return out;
}

bool
config_read(builder *b)
{
	if (!json_is_object(b->config))
		return llm_fail(b->err, LLM_INVALID, "the configuration is no object");
	return find_family(b) && (b->gguf || check_known(b)) && read_network(b);
}
