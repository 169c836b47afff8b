/*
 * task.c
 *	  What a checkpoint is for: its task, labels, how it makes embeddings, and the tokens around a text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

#define LABELS_MAX 65536

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

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

const char *
task_class(const char *task)
{
	if (strcmp(task, "regression") == 0)
		task = "classification";
	for (int i = 0; i < COUNT(tasks); i++)
		if (strcmp(tasks[i].task, task) == 0)
			return tasks[i].end;
	return NULL;
}

static bool
fits_family(const builder *b, const char *task)
{
	const family *f = b->family;
	bool decoder = !b->c->config.text.bidirectional;

	return strcmp(task, "generation") == 0  ? decoder
		   : strcmp(task, "masked_lm") == 0 ? f->masked.names != NULL && !b->gguf
		   : strcmp(task, "embedding") == 0 ? b->c->config.text.encoder_depth == 0
		   : strcmp(task, "classification") == 0 || strcmp(task, "regression") == 0
			   ? f->classes.names != NULL && !b->gguf
			   : f->labels.names != NULL && !b->gguf;
}

static bool
has_module(const builder *b, const char *name)
{
	for (size_t i = 0; i < json_array_size(b->modules); i++)
		if (module_class(b->modules, i) && strcmp(module_class(b->modules, i), name) == 0)
			return true;
	return false;
}

static bool
refuse_module(builder *b, const char *name)
{
	bool place = name && strcmp(name, "Dense") == 0;

	llm_fail(b->err, LLM_INVALID, "module %s of the sentence transformer is not supported%s",
			 name ? SHOWN(name) : "without a type", place ? " at this place" : "");
	return llm_hint(b->err, "Modules that are: Transformer, Pooling, Dense, Normalize, in this order.");
}

/* A cross-encoder is a network of its class, with nothing behind. */
static bool
check_cross_encoder(builder *b)
{
	for (size_t i = 0; i < json_array_size(b->modules); i++)
		if (!module_class(b->modules, i) || strcmp(module_class(b->modules, i), "Transformer") != 0)
			return refuse_module(b, module_class(b->modules, i));
	return true;
}

static const char *
class_name_of(const builder *b)
{
	return json_string_value(json_array_get(value_get(b->config, "architectures"), 0));
}

const char *
task_wanted(const builder *b)
{
	const json_t *given = json_object_get(b->params, "task");

	if (given != NULL)
		return json_string_value(given);
	return has_module(b, "Pooling") ? "embedding" : task_of_class(class_name_of(b));
}

static bool
read_task(builder *b)
{
	const json_t *given = json_object_get(b->params, "task");
	const char *class_name = class_name_of(b), *task = task_wanted(b);

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
		return given || strcmp(task, "embedding") == 0 || check_cross_encoder(b);
	return llm_fail(b->err, LLM_INVALID, "a network of family %s has no task \"%s\"", b->family->model_type,
					SHOWN(task));
}

/* ---- labels ---- */

static bool
add_labels(builder *b, int32_t count)
{
	const json_t *names = value_get(b->config, "id2label");

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
			return value_refuse(b, "id2label", names);
		b->c->labels[i] = strdup(names ? json_string_value(name) : usual);
		if (b->c->labels[i] == NULL)
			return llm_fail(b->err, LLM_MEMORY, "out of memory for labels");
	}
	return true;
}

static bool
count_labels(builder *b, int32_t *count)
{
	const json_t *names = value_get(b->config, "id2label");

	if (names != NULL &&
		(!json_is_object(names) || json_object_size(names) < 1 || json_object_size(names) > LABELS_MAX))
		return value_refuse(b, "id2label", names);
	return value_integer(b, b->config, "num_labels", 1, LABELS_MAX, 2, count) &&
		   (names == NULL || (*count = (int32_t) json_object_size(names)) > 0);
}

/* What sentence-transformers does to a score, in files of today, of before and of old; NULL: they do not say. */
static const json_t *
score_function(const builder *b)
{
	const json_t *function = value_get(b->settings, "activation_fn");

	if (function == NULL)
		function = value_get(value_get(b->config, "sentence_transformers"), "activation_fn");
	return function ? function : value_get(b->config, "sbert_ce_default_activation_function");
}

/* Its sigmoid where they do not, unless it is a number that transformers was to learn. */
static bool
read_sigmoid(builder *b, bool learned)
{
	const json_t *function = score_function(b);
	const char *name = function ? json_string_value(function) : learned ? ".Identity" : ".Sigmoid";
	const char *last = name ? strrchr(name, '.') : NULL;

	b->c->sigmoid = last && strcmp(last, ".Sigmoid") == 0;
	return b->c->sigmoid || (last && strcmp(last, ".Identity") == 0) || value_refuse(b, "activation_fn", function);
}

static bool
read_labels(builder *b)
{
	net_config *c = &b->c->config;
	const json_t *problem = value_get(b->config, "problem_type");
	const char *name = problem ? json_string_value(problem) : "";
	bool regression = strcmp(b->c->task, "regression") == 0;
	int32_t count;

	if (name == NULL || strcmp(name, "multi_label_classification") == 0)
		return value_refuse(b, "problem_type", problem);
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
		return count > 1 || read_sigmoid(b, strcmp(name, "regression") == 0);
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
	const json_t *mode = value_get(b->pooling, "pooling_mode");

	if (b->pooling == NULL)
		return llm_fail(b->err, LLM_INVALID, "the configuration of pooling, 1_Pooling/config.json, is missing");
	if (mode == NULL)
		return read_pool_flags(b);
	return find_pool(json_string_value(mode), &b->c->config.pool) || value_refuse(b, "pooling_mode", mode);
}

/* Transformer, Pooling, and maybe Dense and Normalize; pooled: behind Pooling. */
static bool
read_module(builder *b, const char *name, bool *pooled)
{
	if (strcmp(name, "Transformer") == 0 || strcmp(name, "Dropout") == 0)
		return true;
	if (strcmp(name, "Pooling") == 0)
	{
		*pooled = true;
		return read_pooling(b);
	}
	if (strcmp(name, "Dense") == 0 && *pooled && !b->c->normalised)
		return dense_read(b);
	if (strcmp(name, "Normalize") != 0)
		return refuse_module(b, name);
	b->c->normalised = true;
	return true;
}

static bool
read_modules(builder *b)
{
	bool pooled = false;

	for (size_t i = 0; i < json_array_size(b->modules); i++)
	{
		const char *name = module_class(b->modules, i);

		if (name == NULL)
			return refuse_module(b, NULL);
		if (!read_module(b, name, &pooled))
			return false;
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
	if (!value_integer(b, b->config, "pooling_type", 0, 4, 0, &kind)) /* of GGUF */
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

	if (!value_integer(b, b->sentence_config, "max_seq_length", 1, INT32_MAX, context, &most))
		return false;
	b->c->max_tokens = most < context ? most : context;
	return true;
}

/* ---- the network for its task ---- */

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
	if (masked && b->family->pad_positions &&
		c->text.activation != ACT_GELU) /* that of their head, whatever layers have */
		return value_refuse(b, "hidden_act", value_get(b->config, "hidden_act"));
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
	const json_t *value = value_get(b->generation_config, name);

	return value ? value : value_get(b->config, name);
}

/* Ascending, each once, for their order means nothing and not every file keeps it. */
static void
add_end(builder *b, const json_t *value)
{
	int32_t id = token_id(b, value), at = b->c->end_count;

	for (int32_t i = 0; i < b->c->end_count; i++)
		if (b->c->ends[i] == id)
			return;
	if (id < 0 || at == CHECKPOINT_MAX_ENDS)
		return;
	for (b->c->end_count++; at > 0 && b->c->ends[at - 1] > id; at--)
		b->c->ends[at] = b->c->ends[at - 1];
	b->c->ends[at] = id;
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

bool
task_read(builder *b)
{
	if (!read_task(b) || !apply_task(b) || !read_max_tokens(b))
		return false;
	read_tokens(b);
	return true;
}
