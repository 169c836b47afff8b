/*
 * decoder.c
 *	  Tokens of many texts through a language model: what is checked, and which device has it.
 */
#include "decoder_device.h"

#include <stdlib.h>
#include <string.h>

#include "transformer.h"

static bool
check_network(const net *n, bool gpu, llm_error *err)
{
	const transformer_config *c = &net_get_config(n)->text;

	if (c->vocab == 0 || c->bidirectional || c->headless || c->labels > 0)
		return llm_fail(err, LLM_INVALID, "the network does not write texts");
	if (gpu && transformer_beyond_gpu(c) != NULL)
		return llm_fail(err, LLM_UNAVAILABLE, "the GPU backend has no %s", transformer_beyond_gpu(c));
	return c->encoder_depth == 0 || llm_fail(err, LLM_INVALID, "the network has an encoder");
}

static bool
check_shape(const decoder_shape *s, llm_error *err)
{
	return (s->pages >= 1 && s->texts >= 1 && s->tokens >= s->texts) ||
		   llm_fail(err, LLM_INVALID, "%d pages for %d texts with %d tokens are not possible", s->pages, s->texts,
					s->tokens);
}

static const decoder_device *
device_of(bool gpu)
{
	return gpu ? &decoder_cuda : &decoder_cpu;
}

bool
decoder_memory(const net *n, const decoder_shape *s, bool gpu, size_t *bytes, llm_error *err)
{
	return check_network(n, gpu, err) && check_shape(s, err) && device_of(gpu)->memory(n, s, bytes, err);
}

static void
release(decoder *d)
{
	if (!d)
		return;
	free(d->row);
	free(d->ids);
	free(d);
}

decoder *
decoder_new(const net *n, const void *weights, const decoder_shape *s, struct cuda_device *gpu, llm_error *err)
{
	decoder *d;

	if (!check_network(n, gpu != NULL, err) || !check_shape(s, err))
		return NULL;
	d = calloc(1, sizeof(decoder));
	if (d)
	{
		d->row = calloc(s->texts, sizeof(int32_t));
		d->ids = calloc(s->tokens, sizeof(int32_t));
	}
	if (!d || !d->row || !d->ids)
	{
		release(d);
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	d->n = n;
	d->weights = weights;
	d->shape = *s;
	d->device = device_of(gpu != NULL);
	if (d->device->start(d, gpu, err))
		return d;
	decoder_free(d);
	return NULL;
}

void
decoder_free(decoder *d)
{
	if (!d)
		return;
	d->device->stop(d);
	release(d);
}

void
decoder_set_poll(decoder *d, llm_poll poll, void *arg)
{
	d->poll = poll;
	d->poll_arg = arg;
}

static bool
check_text(const decoder *d, const decoder_text *t, llm_error *err)
{
	const transformer_config *c = &net_get_config(d->n)->text;

	if (t->first < 0 || t->count < 1 || t->count > c->context - t->first)
		return llm_fail(err, LLM_INVALID, "%d tokens more than %d do not fit into a context of %d", t->count,
						t->first, c->context);
	for (int32_t i = 0; i < t->count; i++)
		if (t->ids[i] < 0 || t->ids[i] >= c->vocab)
			return llm_fail(err, LLM_INVALID, "token %d is not between 0 and %d", t->ids[i], c->vocab - 1);
	for (int32_t i = 0; i <= (t->first + t->count - 1) / DECODER_PAGE; i++)
		if (t->pages[i] < 0 || t->pages[i] >= d->shape.pages)
			return llm_fail(err, LLM_INVALID, "page %d is not between 0 and %d", t->pages[i], d->shape.pages - 1);
	return true;
}

bool
decoder_run(decoder *d, const decoder_text *texts, int32_t count, llm_error *err)
{
	int32_t tokens = 0, rows = 0;

	if (count < 1 || count > d->shape.texts)
		return llm_fail(err, LLM_INVALID, "%d texts are not between 1 and %d", count, d->shape.texts);
	for (int32_t i = 0; i < count; i++)
	{
		if (!check_text(d, &texts[i], err))
			return false;
		if (texts[i].count > d->shape.tokens - tokens)
			return llm_fail(err, LLM_INVALID, "a pass has more than %d tokens", d->shape.tokens);
		memcpy(d->ids + tokens, texts[i].ids, texts[i].count * sizeof(int32_t));
		tokens += texts[i].count;
		d->row[i] = texts[i].wanted ? rows++ : -1;
	}
	return d->device->run(d, texts, count, err);
}

const float *
decoder_logits(const decoder *d, int32_t i)
{
	return d->device->logits(d) + (int64_t) d->row[i] * net_get_config(d->n)->text.vocab;
}
