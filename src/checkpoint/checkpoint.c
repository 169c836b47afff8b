/*
 * checkpoint.c
 *	  A checkpoint from its files, and the numbers of its network, rows at a time.
 */
#include "checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

#define CHUNK_FLOATS ((int64_t) 1 << 20) /* read at once, where rows are not read into their place */

/* ---- construction ---- */

static bool
make(builder *b)
{
	checkpoint *c = b->c;
	llm_error why = {.code = LLM_OK};

	if (!config_read(b) || !task_read(b))
		return false;
	c->net = net_new(&c->config, &why);
	if (c->net == NULL)
		return llm_fail(b->err, why.code, "the configuration makes no network: %.200s", why.message);
	return recipe_make(b);
}

static bool
parse(const char *name, const checkpoint_text *text, json_t **out, llm_error *err)
{
	llm_error why = {.code = LLM_OK};

	*out = text->text ? json_parse(text->text, text->length, &why) : NULL;
	return text->text == NULL || *out != NULL || llm_fail(err, why.code, "%s: %s", name, why.message);
}

static checkpoint *
new_checkpoint(const tensor_source *tensors, llm_error *err)
{
	checkpoint *c = calloc(1, sizeof(checkpoint));

	if (c == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory for an import");
	else
		c->source = tensors;
	return c;
}

checkpoint *
checkpoint_new(const checkpoint_files *files, const tensor_source *tensors, const json_t *params, llm_error *err)
{
	builder b = {.tensors = tensors, .params = params, .separator = files->separator, .err = err};
	json_t *config = NULL, *inner = NULL, *generation = NULL, *modules = NULL, *pooling = NULL, *sentence = NULL,
		   *settings = NULL;
	json_t *dense[NET_MAX_DENSE] = {NULL};
	bool ok;

	b.c = new_checkpoint(tensors, err);
	if (b.c == NULL)
		return NULL;
	ok = parse("config.json", &files->config, &config, err) &&
		 parse("generation_config.json", &files->generation_config, &generation, err) &&
		 parse("modules.json", &files->modules, &modules, err) &&
		 parse("1_Pooling/config.json", &files->pooling, &pooling, err) &&
		 parse("sentence_bert_config.json", &files->sentence_config, &sentence, err) &&
		 parse("config_sentence_transformers.json", &files->settings, &settings, err) &&
		 checkpoint_dense_folders(&files->modules, &b.folders, err);
	for (int32_t i = 0; ok && i < b.folders.count; i++)
		ok = parse("config.json of module Dense", &files->dense[i], &dense[i], err);
	inner = config_inner(config);
	b.config = inner ? inner : config;
	b.generation_config = generation;
	b.modules = modules;
	b.pooling = pooling;
	b.sentence_config = sentence;
	b.settings = settings;
	for (int32_t i = 0; i < NET_MAX_DENSE; i++)
		b.dense[i] = dense[i];
	ok = ok && make(&b);
	json_decref(config);
	json_decref(inner);
	json_decref(generation);
	json_decref(modules);
	json_decref(pooling);
	json_decref(sentence);
	json_decref(settings);
	for (int32_t i = 0; i < NET_MAX_DENSE; i++)
		json_decref(dense[i]);
	if (ok)
		return b.c;
	checkpoint_free(b.c);
	return NULL;
}

checkpoint *
checkpoint_new_gguf(const checkpoint_metadata *metadata, const tensor_source *tensors, int32_t separator,
					const json_t *params, llm_error *err)
{
	builder b = {.tensors = tensors, .params = params, .separator = separator, .gguf = true, .err = err};
	json_t *config;
	bool ok;

	b.c = new_checkpoint(tensors, err);
	if (b.c == NULL)
		return NULL;
	config = gguf_config(metadata, tensors, err);
	b.config = config;
	ok = config != NULL && make(&b);
	json_decref(config);
	if (ok)
		return b.c;
	checkpoint_free(b.c);
	return NULL;
}

void
checkpoint_free(checkpoint *c)
{
	if (c == NULL)
		return;
	for (int32_t i = 0; c->recipes && i < net_tensor_count(c->net); i++)
		free(c->recipes[i].pieces);
	free(c->recipes);
	for (int32_t i = 0; c->labels && i < c->label_count; i++)
		free(c->labels[i]);
	free(c->labels);
	net_free(c->net);
	free(c);
}

/* ---- numbers ---- */

/* Rows [first, first + count) of a tensor of the network, while they are made. */
typedef struct reading
{
	const checkpoint *c;
	int64_t first, count, columns;
	float *out;
	float *chunk; /* (CHUNK_FLOATS), or one row of the checkpoint's tensor if that is longer */
	llm_poll poll;
	void *arg;
	llm_error *err;
} reading;

static bool
go_on(const reading *r)
{
	return !r->poll || !r->poll(r->arg) || llm_fail(r->err, LLM_CANCELLED, "canceled");
}

static float *
row_of(const reading *r, int64_t row)
{
	return r->out + (row - r->first) * r->columns;
}

static void
put(const checkpoint_piece *p, float number, float *to)
{
	number = number * p->factor + p->shift;
	*to = p->add ? *to + number : number;
}

/* Rows low .. high - 1 of the network's, from rows of the checkpoint's in chunks. */
static bool
read_rows(const reading *r, const checkpoint_piece *p, int64_t low, int64_t high)
{
	const source_tensor *t = &r->c->source->tensors[p->source];
	int64_t n = r->columns, span = p->step * n > 0 ? p->step * n : n;
	int64_t most = p->step == 0 ? high - low : CHUNK_FLOATS / span > 1 ? CHUNK_FLOATS / span : 1;

	for (int64_t row = low, rows; row < high; row += rows)
	{
		int64_t from = p->from + (row - p->to) * p->step;

		rows = high - row < most ? high - row : most;
		if (!go_on(r) ||
			!tensor_source_read(r->c->source, t, from * n, ((rows - 1) * p->step + 1) * n, r->chunk, r->err))
			return false;
		for (int64_t i = 0; i < rows; i++)
			for (int64_t j = 0; j < n; j++)
				put(p, r->chunk[i * p->step * n + j], row_of(r, row + i) + j);
	}
	return true;
}

/* The same where the checkpoint's rows are our columns. */
static bool
read_transposed(const reading *r, const checkpoint_piece *p, int64_t low, int64_t high)
{
	const source_tensor *t = &r->c->source->tensors[p->source];
	int64_t width = t->dims[1], most = CHUNK_FLOATS / width > 1 ? CHUNK_FLOATS / width : 1;

	for (int64_t column = 0, columns; column < r->columns; column += columns)
	{
		columns = r->columns - column < most ? r->columns - column : most;
		if (!go_on(r) || !tensor_source_read(r->c->source, t, column * width, columns * width, r->chunk, r->err))
			return false;
		for (int64_t row = low; row < high; row++)
			for (int64_t j = 0; j < columns; j++)
				put(p, r->chunk[j * width + p->from + (row - p->to) * p->step], row_of(r, row) + column + j);
	}
	return true;
}

/* Numbers as they are, row behind row. */
static bool
is_plain(const checkpoint_piece *p)
{
	return !p->transpose && p->step == 1 && !p->add && p->factor == 1 && p->shift == 0;
}

static bool
read_piece(const reading *r, const checkpoint_piece *p)
{
	int64_t low = p->to > r->first ? p->to : r->first;
	int64_t high = p->to + p->rows < r->first + r->count ? p->to + p->rows : r->first + r->count;
	const source_tensor *t = &r->c->source->tensors[p->source];

	if (low >= high)
		return true;
	if (p->transpose)
		return read_transposed(r, p, low, high);
	if (!is_plain(p))
		return read_rows(r, p, low, high);
	return go_on(r) && tensor_source_read(r->c->source, t, (p->from + low - p->to) * r->columns,
										  (high - low) * r->columns, row_of(r, low), r->err);
}

/* Most numbers that are read into the chunk at once. */
static int64_t
chunk_floats(const checkpoint *c, const checkpoint_recipe *recipe, int64_t columns)
{
	int64_t most = CHUNK_FLOATS;

	for (int32_t i = 0; i < recipe->count; i++)
	{
		const checkpoint_piece *p = &recipe->pieces[i];
		int64_t row = p->transpose ? c->source->tensors[p->source].dims[1] : columns * (p->step > 1 ? p->step : 1);

		most = row > most ? row : most;
	}
	return most;
}

bool
checkpoint_read(const checkpoint *c, int32_t i, int64_t first, int64_t count, float *out, llm_poll poll, void *arg,
				llm_error *err)
{
	const net_tensor_info *info = net_tensor(c->net, i);
	const checkpoint_recipe *recipe = &c->recipes[i];
	reading r = {c, first, count, (int64_t) info->count / info->dims[0], out, NULL, poll, arg, err};
	bool ok = true, plain = true;

	if (first < 0 || count < 1 || first > info->dims[0] - count)
		return llm_fail(err, LLM_INVALID, "tensor %s has no rows %lld to %lld", info->name, (long long) first,
						(long long) (first + count - 1));
	for (int32_t k = 0; k < recipe->count; k++)
		plain &= is_plain(&recipe->pieces[k]);
	if (!plain)
		r.chunk = malloc(chunk_floats(c, recipe, r.columns) * sizeof(float));
	if (!plain && r.chunk == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for an import");
	memset(out, 0, count * r.columns * sizeof(float));
	for (int32_t k = 0; ok && k < recipe->count; k++)
		ok = read_piece(&r, &recipe->pieces[k]);
	free(r.chunk);
	return ok;
}

bool
checkpoint_read_all(const checkpoint *c, float *weights, llm_poll poll, void *arg, llm_error *err)
{
	for (int32_t i = 0; i < net_tensor_count(c->net); i++)
	{
		const net_tensor_info *info = net_tensor(c->net, i);

		if (!checkpoint_read(c, i, 0, info->dims[0], weights + info->offset, poll, arg, err))
			return false;
	}
	return true;
}

/* ---- the check of an import ---- */

/*
 * What guessing gives is the logarithm of the vocabulary's size; models of a language that are read right
 * are far below, and those with a tensor turned the wrong way are near it or above.
 */
#define SANE_SHARE 0.75

bool
checkpoint_judge(const checkpoint *c, double loss, llm_error *err)
{
	double guessing = log(c->config.text.vocab);

	if (loss >= 0 && loss < SANE_SHARE * guessing)
		return true;
	llm_fail(err, LLM_CORRUPT, "the imported network does not know its language: its loss on a plain text is %.2f",
			 loss);
	return llm_detail(err, "Guessing gives %.2f; a language model that was read right is below %.2f.", guessing,
					  SANE_SHARE * guessing);
}
