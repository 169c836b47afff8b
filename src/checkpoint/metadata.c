/*
 * metadata.c
 *	  What the metadata of a GGUF file say about a network, in the words of config.json.
 *
 * Keys are those of the GGUF document; what they leave to the architecture, as activations, has the
 * defaults of the family.  Files of architecture "llama" keep queries and keys as positions turn
 * neighbours, which is a matter of the names of tensors (family.c).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../engine/transformer.h"
#include "build.h"

#define KEY_ROOM 128
#define ROPE_MOST 256 /* divisors */
#define AT(member) offsetof(transformer_config, member)
#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* Behind "architecture.", and the value of a family's configuration that it is. */
static const struct
{
	const char *name;
	size_t offset;
} values[] = {
	{"context_length", AT(context)},
	{"embedding_length", AT(width)},
	{"block_count", AT(depth)},
	{"block_count", AT(encoder_depth)},
	{"decoder_block_count", AT(depth)},
	{"attention.head_count", AT(heads)},
	{"attention.head_count_kv", AT(kv_heads)},
	{"attention.key_length", AT(head_dim)},
	{"feed_forward_length", AT(ffn)},
	{"attention.layer_norm_epsilon", AT(norm_epsilon)},
	{"attention.layer_norm_rms_epsilon", AT(norm_epsilon)},
	{"attention.relative_buckets_count", AT(buckets)},
	{"use_parallel_residual", AT(parallel)},
	{"attn_logit_softcapping", AT(score_cap)},
	{"final_logit_softcapping", AT(logit_cap)},
};

/* Others, by the name that config.c reads. */
static const struct
{
	const char *name, *ours;
} others[] = {
	{"rope.freq_base", "rope_theta"},
	{"pooling_type", "pooling_type"},
	{"decoder_start_token_id", "decoder_start_token_id"},
};

/* And of families whose layers are of two types. */
static const struct
{
	const char *name, *ours;
} windows[] = {
	{"rope.freq_base_swa", "rope_local_base_freq"},
	{"attention.sliding_window", "sliding_window"},
	{"attention.sliding_window_pattern", "sliding_window_pattern"},
};

static const struct
{
	const char *name, *ours;
} tokens[] = {
	{"tokenizer.ggml.bos_token_id", "bos_token_id"},
	{"tokenizer.ggml.padding_token_id", "pad_token_id"},
};

/* Each ends a text: of a text, of a turn, of a message. */
static const char *const ends[] = {
	"tokenizer.ggml.eos_token_id",
	"tokenizer.ggml.eot_token_id",
	"tokenizer.ggml.eom_token_id",
};

typedef struct reader
{
	const checkpoint_metadata *m;
	const tensor_source *tensors;
	const family *family;
	json_t *config;
	llm_error *err;
} reader;

static bool
number_of(const reader *r, const char *name, double *out)
{
	char key[KEY_ROOM];

	snprintf(key, sizeof(key), "%s.%s", r->family->gguf, name);
	return r->m->number(r->m->arg, key, out);
}

static bool
has_key(const reader *r, const char *name)
{
	char key[KEY_ROOM];

	snprintf(key, sizeof(key), "%s.%s", r->family->gguf, name);
	return r->m->has(r->m->arg, key);
}

static json_t *
number_json(double number)
{
	return number == floor(number) && fabs(number) < 1e15 ? json_integer((json_int_t) number) : json_real(number);
}

static void
set(const reader *r, const char *name, json_t *value)
{
	json_object_set_new(r->config, name, value);
}

static void
set_value(const reader *r, size_t offset, double number)
{
	for (const config_key *key = r->family->keys; key->name; key++)
		if (key->offset == offset && (key->kind == KEY_INTEGER || key->kind == KEY_NUMBER || key->kind == KEY_CAP))
			set(r, key->name, number_json(number));
		else if (key->offset == offset && key->kind == KEY_FLAG)
			set(r, key->name, json_boolean(number != 0));
}

/* Tables that say how large they are. */
static void
set_rows(const reader *r, const char *tensor, size_t offset)
{
	const source_tensor *t = tensor_source_find(r->tensors, tensor);

	set_value(r, offset, t && t->ndim == 2 ? (double) t->dims[0] : 0);
}

static bool
refuse(const reader *r, const char *name)
{
	return llm_fail(r->err, LLM_INVALID, "\"%s.%s\" of the GGUF file has a value that is not supported",
					r->family->gguf, name);
}

/* ---- rotary positions ---- */

/* The scaling of Llama 3 is kept as one divisor for each frequency; its other numbers are the same for all. */
#define LLAMA3_LOW 1.0
#define LLAMA3_HIGH 4.0
#define LLAMA3_CONTEXT 8192

static double
llama3_divisor(double theta, double factor, int64_t i, int64_t half)
{
	double f = pow(theta, -(double) i / half);
	double share = (LLAMA3_CONTEXT * f / (2 * M_PI) - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW);

	share = share < 0 ? 0 : share > 1 ? 1 : share;
	return 1 / ((1 - share) / factor + share);
}

static bool
read_divisors(const reader *r, const source_tensor *t)
{
	double theta = 10000, largest = 1;
	float divisor[ROPE_MOST];

	number_of(r, "rope.freq_base", &theta);
	if (t->ndim != 1 || t->count > ROPE_MOST)
		return refuse(r, "rope_freqs.weight");
	if (!tensor_source_read(r->tensors, t, 0, t->count, divisor, r->err))
		return false;
	for (size_t i = 0; i < t->count; i++)
		largest = divisor[i] > largest ? divisor[i] : largest;
	for (size_t i = 0; i < t->count; i++)
		if (!(fabs(divisor[i] / llama3_divisor(theta, largest, i, t->count) - 1) < 1e-3))
			return llm_fail(r->err, LLM_INVALID,
							"tensor rope_freqs.weight scales positions in a way that is not known");
	set(r, "rope_scaling",
		json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", largest, "low_freq_factor",
				  LLAMA3_LOW, "high_freq_factor", LLAMA3_HIGH, "original_max_position_embeddings", LLAMA3_CONTEXT));
	return true;
}

/* Keys that llama.cpp multiplies or mixes by, at what changes nothing. */
static bool
check_yarn(const reader *r)
{
	static const struct
	{
		const char *name;
		double plain;
	} keys[] = {
		{"rope.scaling.attn_factor", 1},
		{"rope.scaling.yarn_attn_factor", 1},
		{"rope.scaling.yarn_ext_factor", 1},
		{"rope.scaling.yarn_log_multiplier", 0},
	};
	double number;

	for (int i = 0; i < COUNT(keys); i++)
		if (number_of(r, keys[i].name, &number) && number != keys[i].plain)
			return refuse(r, keys[i].name);
	return true;
}

static bool
read_yarn(const reader *r)
{
	static const struct
	{
		const char *name, *ours;
	} keys[] = {
		{"rope.scaling.factor", "factor"},
		{"rope.scaling.original_context_length", "original_max_position_embeddings"},
		{"rope.scaling.yarn_beta_fast", "beta_fast"},
		{"rope.scaling.yarn_beta_slow", "beta_slow"},
	};
	json_t *rope = json_pack("{s:s}", "rope_type", "yarn");
	double number;

	set(r, "rope_scaling", rope);
	for (int i = 0; i < COUNT(keys); i++)
		if (number_of(r, keys[i].name, &number))
			json_object_set_new(rope, keys[i].ours, number_json(number));
	if (!number_of(r, "rope.scaling.factor", &number))
		return refuse(r, "rope.scaling.factor");
	return check_yarn(r);
}

static bool
read_scaling(const reader *r)
{
	const source_tensor *divisors = tensor_source_find(r->tensors, "rope_freqs.weight");
	char key[KEY_ROOM];
	const char *type;
	double factor = 1;

	snprintf(key, sizeof(key), "%s.rope.scaling.type", r->family->gguf);
	type = r->m->string(r->m->arg, key);
	if (divisors != NULL)
		return read_divisors(r, divisors);
	if (type == NULL || strcmp(type, "none") == 0)
		return true;
	if (strcmp(type, "yarn") == 0)
		return read_yarn(r);
	if (strcmp(type, "linear") != 0 || !number_of(r, "rope.scaling.factor", &factor))
		return refuse(r, "rope.scaling.type");
	set(r, "rope_scaling", json_pack("{s:s, s:f}", "rope_type", "linear", "factor", factor));
	return true;
}

static bool
read_rope(const reader *r)
{
	double turned, width, heads, head_dim;

	if (!r->family->rotary)
		return true;
	if (number_of(r, "rope.dimension_count", &turned) && number_of(r, "embedding_length", &width) &&
		number_of(r, "attention.head_count", &heads) && heads >= 1)
	{
		if (!number_of(r, "attention.key_length", &head_dim))
			head_dim = floor(width / heads);
		if (!(turned <= head_dim))
			return refuse(r, "rope.dimension_count");
		set(r, "partial_rotary_factor", json_real(turned / head_dim));
	}
	return read_scaling(r);
}

/* ---- all ---- */

static void
set_ends(const reader *r)
{
	json_t *list = json_array();
	double number;

	for (int i = 0; i < COUNT(ends); i++)
		if (r->m->number(r->m->arg, ends[i], &number))
			json_array_append_new(list, number_json(number));
	set(r, "eos_token_id", list);
}

static void
read_values(const reader *r)
{
	double number;

	for (int i = 0; i < COUNT(values); i++)
		if (number_of(r, values[i].name, &number))
			set_value(r, values[i].offset, number);
	for (int i = 0; i < COUNT(others); i++)
		if (number_of(r, others[i].name, &number))
			set(r, others[i].ours, number_json(number));
	for (int i = 0; i < COUNT(tokens); i++)
		if (r->m->number(r->m->arg, tokens[i].name, &number))
			set(r, tokens[i].ours, number_json(number));
	set_ends(r);
	set_rows(r, "token_embd.weight", AT(vocab));
	set_rows(r, "token_types.weight", AT(types));
}

/* Whether layers have windows, and by what scores are divided, of families that have both. */
static bool
set_layers(const reader *r)
{
	double depth = 0, number, theta = 10000, head_dim, width, heads;

	if (r->family->window_period == 0)
		return true;
	number_of(r, "rope.freq_base", &theta);
	if (r->family->window_theta == 0 && number_of(r, "rope.freq_base_swa", &number) && number != theta)
		return refuse(r, "rope.freq_base_swa");
	for (int i = 0; i < COUNT(windows); i++)
		if (number_of(r, windows[i].name, &number))
			set(r, windows[i].ours, number_json(number));
		else if (has_key(r, windows[i].name)) /* as one value for each layer */
			return refuse(r, windows[i].name);
	if (!number_of(r, "attention.sliding_window", &number) && r->family->window_theta > 0)
		set(r, "sliding_window_pattern", json_integer(1));
	number_of(r, "block_count", &depth);
	if (depth == r->family->wide_depth && number_of(r, "embedding_length", &width) &&
		number_of(r, "attention.head_count", &heads) && heads >= 1)
		set_value(r, AT(query_dim), floor(width / heads));
	else if (number_of(r, "attention.key_length", &head_dim))
		set_value(r, AT(query_dim), head_dim);
	return true;
}

/* Heads of keys and values are as wide, and texts are seen from the side that the family knows. */
static bool
check_values(const reader *r)
{
	bool encoder = strcmp(r->family->architecture, "bert") == 0;
	double key, other;

	if (number_of(r, "attention.key_length", &key) && number_of(r, "attention.value_length", &other) && key != other)
		return refuse(r, "attention.value_length");
	if (number_of(r, "attention.causal", &other) && (other != 0) == encoder)
		return refuse(r, "attention.causal");
	return !number_of(r, "expert_count", &other) || other == 0 || refuse(r, "expert_count");
}

static void
set_task(const reader *r)
{
	bool encoder = strcmp(r->family->architecture, "bert") == 0;
	double pooling;
	bool embeds = encoder || (number_of(r, "pooling_type", &pooling) && pooling >= 1);

	set(r, "model_type", json_string(r->family->model_type));
	set(r, "architectures", json_pack("[s]", embeds ? "Model" : "ForCausalLM"));
	if (tensor_source_find(r->tensors, "enc.blk.0.ffn_gate.weight") != NULL)
		set(r, "feed_forward_proj", json_string("gated-gelu"));
	if (r->family->architecture[0] == 't') /* t5 */
		set(r, "tie_word_embeddings", json_boolean(tensor_source_find(r->tensors, "output.weight") == NULL));
}

/* ---- the way back ---- */

static json_t *
value_of(const config_key *key, const transformer_config *text)
{
	const void *at = (const char *) text + key->offset;

	switch (key->kind)
	{
		case KEY_INTEGER: return json_integer(*(const int32_t *) at);
		case KEY_NUMBER: return value_json(*(const float *) at);
		case KEY_CAP: return *(const float *) at > 0 ? value_json(*(const float *) at) : NULL;
		case KEY_FLAG: return json_boolean(*(const bool *) at);
		default: return NULL;
	}
}

/* A family that normalises by root mean squares has an epsilon of another name than the others. */
static bool
is_written(const transformer_config *text, const char *name)
{
	if (strstr(name, "epsilon") == NULL)
		return true;
	return text->rms_norm == (strstr(name, "rms") != NULL);
}

static void
add_value(json_t *out, const family *f, const char *name, json_t *value)
{
	char key[KEY_ROOM];

	snprintf(key, sizeof(key), "%s.%s", f->gguf, name);
	if (value != NULL)
		json_object_set_new(out, key, value);
}

json_t *
gguf_values(const family *f, const transformer_config *text)
{
	json_t *out = json_object();

	json_object_set_new(out, "general.architecture", json_string(f->gguf));
	for (int i = 0; i < COUNT(values); i++)
		for (const config_key *key = f->keys; key->name; key++)
			if (key->offset == values[i].offset && is_written(text, values[i].name))
				add_value(out, f, values[i].name, value_of(key, text));
	if (f->rotary)
	{
		int32_t turned = text->rotary_dim > 0 ? text->rotary_dim : text->head_dim;

		add_value(out, f, "attention.key_length", json_integer(text->head_dim));
		add_value(out, f, "attention.value_length", json_integer(text->head_dim));
		add_value(out, f, "rope.freq_base", value_json(text->rope_theta));
		add_value(out, f, "rope.dimension_count", json_integer(turned));
	}
	if (f->window_period > 0)
		add_value(out, f, "attention.sliding_window_pattern", json_integer(transformer_period(text)));
	if (f->window_period > 0 && text->window > 0)
		add_value(out, f, "attention.sliding_window", json_integer(text->window));
	if (f->window_theta > 0)
		add_value(out, f, "rope.freq_base_swa",
				  value_json(text->window_theta > 0 ? text->window_theta : text->rope_theta));
	if (text->rope_factor > 0 && (text->rope_low == 0 || text->rope_yarn))
	{
		add_value(out, f, "rope.scaling.type", json_string(text->rope_yarn ? "yarn" : "linear"));
		add_value(out, f, "rope.scaling.factor", value_json(text->rope_factor));
	}
	if (text->rope_yarn)
	{
		add_value(out, f, "rope.scaling.original_context_length", json_integer(text->rope_context));
		add_value(out, f, "rope.scaling.yarn_beta_fast", value_json(text->rope_high));
		add_value(out, f, "rope.scaling.yarn_beta_slow", value_json(text->rope_low));
	}
	if (text->bidirectional)
	{
		add_value(out, f, "attention.causal", json_false());
		json_object_set_new(out, "tokenizer.ggml.token_type_count", json_integer(text->types > 0 ? text->types : 2));
	}
	return out;
}

/* ---- all ---- */

json_t *
gguf_config(const checkpoint_metadata *m, const tensor_source *tensors, llm_error *err)
{
	const char *architecture = m->string(m->arg, "general.architecture");
	reader r = {.m = m, .tensors = tensors, .err = err};

	r.family = architecture ? family_find_gguf(architecture) : NULL;
	if (r.family == NULL)
	{
		llm_fail(err, LLM_INVALID, "architecture %s of the GGUF file is not supported",
				 architecture ? SHOWN(architecture) : "(missing)");
		return NULL;
	}
	if (!check_values(&r))
		return NULL;
	r.config = json_object();
	read_values(&r);
	set_task(&r);
	if (set_layers(&r) && read_rope(&r) && !json_memory_failed())
		return r.config;
	json_decref(r.config);
	llm_fail(err, LLM_MEMORY, "out of memory for an import");
	return NULL;
}
