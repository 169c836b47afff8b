/*
 * export.c
 *	  The configuration of a network in the words of a family, and its recipes turned around.
 */
#include "export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/transformer.h"
#include "build.h"

/* ---- config.json ---- */

/*
 * Types of tokens: where the network has none of its own, that of a single text is part of its positions; a second
 * one is for those who give it, which a classifier would take for that of pairs.
 */
static int32_t
type_rows(const export_request *r)
{
	const net_config *config = net_get_config(r->net);

	return config->text.types > 0 ? config->text.types : net_predicts_rows(config) ? 1 : 2;
}

/* A member of the configuration of the network; NULL: none that the file could have. */
static json_t *
value_of(const config_key *key, const export_request *r)
{
	const transformer_config *text = &net_get_config(r->net)->text;
	const void *at = (const char *) text + key->offset;
	const char *name;

	switch (key->kind)
	{
		case KEY_INTEGER:
			if (key->offset == offsetof(transformer_config, types))
				return json_integer(type_rows(r));
			if (key->offset == offsetof(transformer_config, query_dim) && text->query_dim == 0)
				return json_integer(text->head_dim);
			return json_integer(*(const int32_t *) at);
		case KEY_NUMBER: return value_json(*(const float *) at);
		case KEY_CAP: return *(const float *) at > 0 ? value_json(*(const float *) at) : json_null();
		case KEY_FLAG: return json_boolean(*(const bool *) at);
		case KEY_ACTIVATION:
			name = value_activation_name(*(const net_activation *) at);
			return name ? json_string(name) : NULL;
		default: return NULL;
	}
}

static void
set(json_t *config, const char *name, json_t *value)
{
	if (value != NULL)
		json_object_set_new(config, name, value);
}

static void
set_id(json_t *config, const char *name, int32_t id)
{
	set(config, name, id >= 0 ? json_integer(id) : json_null());
}

/* Of YaRN, what follows from its factor. */
static bool
has_usual_attention(const transformer_config *text)
{
	double usual = yarn_attention(text->rope_factor, 1);

	return text->rope_attention == (usual == 1 ? 0 : (float) usual);
}

/* A number where there is one, as everybody reads it. */
static void
set_ends(json_t *config, const export_request *r)
{
	json_t *ends = json_array();

	for (int32_t i = 0; i < r->end_count; i++)
		json_array_append_new(ends, json_integer(r->ends[i]));
	if (r->end_count > 1)
		set(config, "eos_token_id", json_incref(ends));
	else
		set_id(config, "eos_token_id", r->end_count == 1 ? r->ends[0] : -1);
	json_decref(ends);
}

static json_t *
yarn_json(const transformer_config *text)
{
	json_t *rope = json_pack("{s:s, s:o, s:o, s:o, s:i}", "rope_type", "yarn", "factor",
							 value_json(text->rope_factor), "beta_fast", value_json(text->rope_high), "beta_slow",
							 value_json(text->rope_low), "original_max_position_embeddings", text->rope_context);

	if (!has_usual_attention(text))
		set(rope, "attention_factor", value_json(text->rope_attention > 0 ? text->rope_attention : 1));
	if (!text->rope_whole)
		set(rope, "truncate", json_false());
	return rope;
}

/* GPT-NeoX has names of its own. */
static void
set_rope(json_t *config, const family *f, const transformer_config *text)
{
	bool neox = strcmp(f->model_type, "gpt_neox") == 0;

	set(config, neox ? "rotary_emb_base" : "rope_theta", value_json(text->rope_theta));
	if (neox || text->rotary_dim > 0)
		set(config, neox ? "rotary_pct" : "partial_rotary_factor",
			json_real((double) (text->rotary_dim > 0 ? text->rotary_dim : text->head_dim) / text->head_dim));
	if (f->window_theta > 0)
		set(config, "rope_local_base_freq",
			value_json(text->window_theta > 0 ? text->window_theta : text->rope_theta));
	if (text->rope_yarn)
		set(config, "rope_scaling", yarn_json(text));
	else if (text->rope_factor > 0 && text->rope_low == 0)
		set(config, "rope_scaling",
			json_pack("{s:s, s:o}", "rope_type", "linear", "factor", value_json(text->rope_factor)));
	else if (text->rope_factor > 0)
		set(config, "rope_scaling",
			json_pack("{s:s, s:o, s:o, s:o, s:i}", "rope_type", "llama3", "factor", value_json(text->rope_factor),
					  "low_freq_factor", value_json(text->rope_low), "high_freq_factor", value_json(text->rope_high),
					  "original_max_position_embeddings", text->rope_context));
}

/* Layers of two types are listed, and by their period for older libraries. */
static void
set_window(json_t *config, const family *f, const transformer_config *text)
{
	json_t *types = json_array();

	if (strcmp(f->model_type, "mistral") == 0)
		set(config, "sliding_window", text->window > 0 ? json_integer(text->window) : json_null());
	for (int32_t i = 0; f->window_period > 0 && i < text->depth; i++)
		json_array_append_new(types,
							  json_string(transformer_has_window(text, i) ? "sliding_attention" : "full_attention"));
	if (f->window_period > 0)
	{
		set(config, "sliding_window", json_integer(text->window > 0 ? text->window : text->context));
		set(config, "sliding_window_pattern", json_integer(transformer_period(text)));
		set(config, "layer_types", json_incref(types));
	}
	json_decref(types);
}

/* GPT-2's gelu is what T5 calls gated-gelu. */
static void
set_t5(json_t *config, const transformer_config *text)
{
	const char *name =
		text->gated && text->activation == ACT_GELU_TANH ? "gelu" : value_activation_name(text->activation);
	char projection[64];

	snprintf(projection, sizeof(projection), "%s%s", text->gated ? "gated-" : "", name ? name : "none");
	set(config, "feed_forward_proj", json_string(projection));
	set(config, "is_encoder_decoder", json_boolean(text->encoder_depth > 0));
	if (text->head_scale != text->tied)
		set(config, "scale_decoder_outputs", json_boolean(text->head_scale));
}

static void
set_labels(json_t *config, const export_request *r)
{
	json_t *names = json_object(), *numbers = json_object();

	for (int32_t i = 0; i < r->label_count; i++)
	{
		char number[16];

		snprintf(number, sizeof(number), "%d", i);
		set(names, number, json_string(r->labels[i]));
		set(numbers, r->labels[i], json_integer(i));
	}
	set(config, "id2label", names);
	set(config, "label2id", numbers);
	if (strcmp(r->task, "classification") == 0)
		set(config, "problem_type", json_string("single_label_classification"));
}

static void
set_task(json_t *config, const family *f, const export_request *r)
{
	const char *end = strcmp(r->task, "generation") == 0 ? f->language : task_class(r->task);
	char name[64];

	snprintf(name, sizeof(name), "%s%s", *end == '^' ? "" : f->class_name, *end == '^' ? end + 1 : end);
	set(config, "architectures", json_pack("[s]", name));
	if (r->label_count > 0)
		set_labels(config, r);
	if (strcmp(r->task, "regression") != 0)
		return;
	set(config, "num_labels", json_integer(net_get_config(r->net)->shape.outputs));
	set(config, "problem_type", json_string("regression"));
	set(config, "sentence_transformers",
		json_pack("{s:s}", "activation_fn",
				  r->sigmoid ? "torch.nn.modules.activation.Sigmoid" : "torch.nn.modules.linear.Identity"));
}

static json_t *
config_of(const family *f, const export_request *r)
{
	const transformer_config *text = &net_get_config(r->net)->text;
	const char *name = value_activation_name(text->activation);
	json_t *config = json_object();

	set(config, "model_type", json_string(f->model_type));
	set_task(config, f, r);
	for (const config_key *key = f->keys; key->name; key++)
		set(config, key->name, value_of(key, r));
	if (f->rotary)
		set_rope(config, f, text);
	if (f->embed_scale && name)
	{
		set(config, "hidden_act", json_string(text->activation == ACT_GELU_TANH ? "gelu_pytorch_tanh" : name));
		set(config, "hidden_activation", json_incref(json_object_get(config, "hidden_act")));
	}
	set_window(config, f, text);
	if (text->buckets > 0)
		set_t5(config, text);
	set(config, "tie_word_embeddings", json_boolean(text->tied));
	set_id(config, "bos_token_id", r->begin);
	set_ends(config, r);
	if (r->start >= 0)
		set_id(config, "decoder_start_token_id", r->start);
	set_id(config, "pad_token_id", r->pad);
	set(config, "torch_dtype", json_string("float32"));
	return config;
}

/* ---- sentence-transformers ---- */

static const struct
{
	text_pool pool;
	const char *key;
	int32_t gguf;
} pools[] = {
	{POOL_MEAN, "pooling_mode_mean_tokens", 1},
	{POOL_FIRST, "pooling_mode_cls_token", 2},
	{POOL_LAST, "pooling_mode_lasttoken", 3},
};

#define POOLS ((int) (sizeof(pools) / sizeof(pools[0])))

static json_t *
module(int32_t i, const char *path, const char *class_name)
{
	char name[16], type[64];

	snprintf(name, sizeof(name), "%d", i);
	snprintf(type, sizeof(type), "sentence_transformers.models.%s", class_name);
	return json_pack("{s:i, s:s, s:s, s:s}", "idx", i, "name", name, "path", path, "type", type);
}

/* Behind Transformer and Pooling. */
static bool
describe_dense(checkpoint_export *e, llm_error *err)
{
	const net_config *config = net_get_config(e->r->net);

	for (int32_t i = 0; i < config->dense_count; i++)
	{
		snprintf(e->folders.name[i], CHECKPOINT_FOLDER_BYTES, "%d_Dense", i + 2);
		json_array_append_new(e->modules, module(i + 2, e->folders.name[i], "Dense"));
		e->dense[i] = dense_json(config, i);
		if (e->dense[i] == NULL)
			return llm_fail(err, LLM_INVALID, "a module Dense of a sentence transformer has no activation %s",
							net_activation_name(config->dense[i].activation));
		e->folders.count++;
	}
	return true;
}

/* An embedding is divided by its length, as llm_embed() does. */
static bool
describe_embedding(checkpoint_export *e, llm_error *err)
{
	const net_config *config = net_get_config(e->r->net);
	int32_t last = 2 + config->dense_count;
	char path[CHECKPOINT_FOLDER_BYTES];

	e->modules = json_pack("[o, o]", module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"));
	if (!describe_dense(e, err))
		return false;
	snprintf(path, sizeof(path), "%d_Normalize", last);
	json_array_append_new(e->modules, module(last, path, "Normalize"));
	e->pooling = json_pack("{s:i}", "word_embedding_dimension", config->text.width);
	for (int i = 0; i < POOLS; i++)
		set(e->pooling, pools[i].key, json_boolean(pools[i].pool == config->pool));
	return true;
}

/* ---- GGUF ---- */

/* What ends a text beside the tokenizer's own token, as far as there are keys: of a turn, and of a message. */
static void
describe_tokens(json_t *config, const family *f, const export_request *r)
{
	static const char *const keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
	size_t next = 0;
	char key[64];

	snprintf(key, sizeof(key), "%s.decoder_start_token_id", f->gguf);
	if (r->start >= 0)
		set_id(config, key, r->start);

	for (int32_t i = 0; i < r->end_count && next < sizeof(keys) / sizeof(keys[0]); i++)
		if (r->ends[i] != r->end)
			set_id(config, keys[next++], r->ends[i]);
}

/* ---- reading it back ---- */

static bool
metadata_number(void *arg, const char *key, double *out)
{
	const json_t *value = json_object_get(arg, key);

	*out = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
	return json_is_number(value) || json_is_boolean(value);
}

static const char *
metadata_string(void *arg, const char *key)
{
	return json_string_value(json_object_get(arg, key));
}

static bool
metadata_has(void *arg, const char *key)
{
	return json_object_get(arg, key) != NULL;
}

static char *
dump(const json_t *json, checkpoint_text *file)
{
	char *text = json ? json_text(json) : NULL;

	*file = (checkpoint_text) {text, text ? strlen(text) : 0};
	return text;
}

static checkpoint *
read_folder(const checkpoint_export *e, llm_error *err)
{
	checkpoint_files files = {.separator = e->r->separator};
	char *texts[3 + NET_MAX_DENSE] = {dump(e->config, &files.config), dump(e->modules, &files.modules),
									  dump(e->pooling, &files.pooling)};
	checkpoint *c = NULL;

	for (int32_t i = 0; i < e->folders.count; i++)
		texts[3 + i] = dump(e->dense[i], &files.dense[i]);

	if (texts[0] == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory for an export");
	else
		c = checkpoint_new(&files, &e->source, NULL, err);
	for (int i = 0; i < 3 + NET_MAX_DENSE; i++)
		free(texts[i]);
	return c;
}

static bool
find_owners(checkpoint_export *e, llm_error *err)
{
	const checkpoint *c = e->checkpoint;

	e->owner = malloc((e->source.count + 1) * sizeof(int32_t));
	if (e->owner == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for an export");
	memset(e->owner, 0xFF, e->source.count * sizeof(int32_t));
	for (int32_t i = 0; i < net_tensor_count(c->net); i++)
		for (int32_t k = 0; k < c->recipes[i].count; k++)
			if (!c->recipes[i].pieces[k].add || c->label_count > 0)
				e->owner[c->recipes[i].pieces[k].source] = c->recipes[i].pieces[k].step == 0 ? -1 : i;
	return true;
}

/* ---- construction ---- */

static bool
name_tensors(checkpoint_export *e, const family *f, llm_error *err)
{
	checkpoint c = {.config = *net_get_config(e->r->net), .task = e->r->task, .label_count = e->r->label_count};
	builder b = {
		.c = &c, .family = f, .gguf = e->r->gguf, .type_rows = type_rows(e->r), .folders = e->folders, .err = err};

	return recipe_names(&b, e->r->net, &e->source);
}

static bool
refuse_gguf(const char *what, llm_error *err)
{
	llm_fail(err, LLM_INVALID, "a GGUF file does not hold %s", what);
	return llm_hint(err, "Write a folder: format \"safetensors\".");
}

static bool
describe(checkpoint_export *e, const family *f, llm_error *err)
{
	const net_config *config = net_get_config(e->r->net);
	bool embeds = strcmp(e->r->task, "embedding") == 0;

	if (f->class_name == NULL || task_class(e->r->task) == NULL)
		return llm_fail(err, LLM_INVALID, "a checkpoint of family %s is not written", f->model_type);
	if (e->r->gguf && (f->gguf == NULL || config->text.buckets > 0))
		return llm_fail(err, LLM_INVALID, "a GGUF file does not hold a network of family %s", f->model_type);
	if (e->r->gguf && config->dense_count > 0)
		return refuse_gguf("the dense layers of an embedding", err);
	if (e->r->gguf && config->text.rope_yarn && (!config->text.rope_whole || !has_usual_attention(&config->text)))
		return refuse_gguf("this scaling of positions by YaRN", err);
	if (e->r->gguf && config->text.rope_low > 0 && !config->text.rope_yarn)
		return llm_fail(err, LLM_INVALID, "a GGUF file with the scaling of positions of Llama 3 is not written");
	e->config = e->r->gguf ? gguf_values(f, &config->text) : config_of(f, e->r);
	if (e->r->gguf)
		describe_tokens(e->config, f, e->r);
	if (embeds && !e->r->gguf && !describe_embedding(e, err))
		return false;
	for (int i = 0; embeds && e->r->gguf && i < POOLS; i++)
		if (pools[i].pool == config->pool)
		{
			char key[64];

			snprintf(key, sizeof(key), "%s.pooling_type", f->gguf);
			set(e->config, key, json_integer(pools[i].gguf));
		}
	return !json_memory_failed() || llm_fail(err, LLM_MEMORY, "out of memory for an export");
}

static bool
make(checkpoint_export *e, const family *f, llm_error *err)
{
	e->family = f->model_type;
	if (!describe(e, f, err) || !name_tensors(e, f, err))
		return false;
	if (e->r->gguf)
		e->checkpoint =
			checkpoint_new_gguf(&(checkpoint_metadata) {metadata_number, metadata_string, metadata_has, e->config},
								&e->source, e->r->separator, NULL, err);
	else
		e->checkpoint = read_folder(e, err);
	return e->checkpoint != NULL && find_owners(e, err);
}

checkpoint_export *
checkpoint_export_new(const export_request *r, int32_t n, llm_error *err)
{
	const family *f = family_next(r->architecture, NULL);
	checkpoint_export *e;

	while (f != NULL && n-- > 0)
		f = family_next(r->architecture, f);
	if (f == NULL)
		return NULL;
	e = calloc(1, sizeof(checkpoint_export));
	if (e == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory for an export");
	else
		e->r = r;
	if (e == NULL || make(e, f, err))
		return e;
	checkpoint_export_free(e);
	return NULL;
}

void
checkpoint_export_free(checkpoint_export *e)
{
	if (e == NULL)
		return;
	json_decref(e->config);
	json_decref(e->modules);
	json_decref(e->pooling);
	for (int32_t i = 0; i < NET_MAX_DENSE; i++)
		json_decref(e->dense[i]);
	checkpoint_free(e->checkpoint);
	tensor_source_clear(&e->source);
	free(e->owner);
	free(e);
}

/* ---- numbers ---- */

static const checkpoint_recipe *
recipe_of(const checkpoint_export *e, int32_t i)
{
	return &e->checkpoint->recipes[e->owner[i]];
}

bool
checkpoint_export_transposed(const checkpoint_export *e, int32_t i)
{
	return e->owner[i] >= 0 && recipe_of(e, i)->pieces[0].transpose;
}

/* Of two labels, whose difference is all that the network has, the second one is 0. */
int64_t
checkpoint_export_row(const checkpoint_export *e, int32_t i, int64_t row, const checkpoint_piece **piece)
{
	const checkpoint_recipe *recipe = e->owner[i] >= 0 ? recipe_of(e, i) : NULL;

	for (int32_t k = 0; recipe && k < recipe->count; k++)
	{
		const checkpoint_piece *p = &recipe->pieces[k];
		int64_t behind = row - p->from;

		if (p->source != i || p->add || behind < 0 || behind % p->step != 0 || behind / p->step >= p->rows)
			continue;
		*piece = p;
		return p->to + behind / p->step;
	}
	return -1;
}

static void
read_row(const checkpoint_export *e, int32_t i, int64_t row, export_reader read, void *arg, float *out)
{
	const source_tensor *t = &e->source.tensors[i];
	int64_t columns = t->ndim == 2 ? t->dims[1] : 1;
	const checkpoint_piece *p = NULL;
	int64_t ours = checkpoint_export_row(e, i, row, &p);

	if (ours < 0)
	{
		memset(out, 0, columns * sizeof(float));
		return;
	}
	read(arg, e->owner[i], (size_t) (ours * columns), (size_t) columns, out);
	for (int64_t j = 0; j < columns && (p->factor != 1 || p->shift != 0); j++)
		out[j] = (out[j] - p->shift) / p->factor;
}

/* Our rows are its columns; scratch is where one of ours is read. */
static void
read_transposed(const checkpoint_export *e, int32_t i, int64_t first, int64_t count, export_reader read, void *arg,
				float *out)
{
	int64_t rows = e->source.tensors[i].dims[1], columns = e->source.tensors[i].dims[0];
	float part[QUANT_BLOCK];

	for (int64_t row = 0; row < rows; row++)
		for (int64_t done = 0; done < count; done += QUANT_BLOCK)
		{
			int64_t now = count - done < QUANT_BLOCK ? count - done : QUANT_BLOCK;

			read(arg, e->owner[i], (size_t) (row * columns + first + done), (size_t) now, part);
			for (int64_t j = 0; j < now; j++)
				out[(done + j) * rows + row] = part[j];
		}
}

void
checkpoint_export_read(const checkpoint_export *e, int32_t i, int64_t first, int64_t count, export_reader read,
					   void *arg, float *out)
{
	const source_tensor *t = &e->source.tensors[i];
	int64_t columns = t->ndim == 2 ? t->dims[1] : 1;

	if (checkpoint_export_transposed(e, i) && t->ndim == 2)
		read_transposed(e, i, first, count, read, arg, out);
	else
		for (int64_t row = 0; row < count; row++)
			read_row(e, i, first + row, read, arg, out + row * columns);
}

bool
checkpoint_export_has(const checkpoint_export *e, int32_t tensor)
{
	return e->checkpoint->recipes[tensor].count > 0;
}
