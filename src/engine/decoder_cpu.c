/*
 * decoder_cpu.c
 *	  A decoder's passes on the CPU: those of a generator, whose pages the caller deals out.
 */
#include "decoder_device.h"

#include <string.h>

#include "generator_pass.h"

static generator_room
room_of(const net *n, const decoder_shape *s)
{
	return (generator_room) {
		.sequences = s->texts, .positions = n->config.text.context, .pages = s->pages, .rows = s->tokens};
}

static bool
cpu_memory(const net *n, const decoder_shape *s, size_t *bytes, llm_error *err)
{
	generator_room room = room_of(n, s);

	_Static_assert(DECODER_PAGE == ATTENTION_PAGE, "a page is what attention reads at once");
	return generator_room_bytes(n, &room, bytes, err);
}

static bool
cpu_start(decoder *d, struct cuda_device *gpu, llm_error *err)
{
	generator_room room = room_of(d->n, &d->shape);

	d->state = generator_make(d->n, d->weights, &room, err);
	return d->state != NULL;
}

static void
cpu_stop(decoder *d)
{
	generator_free(d->state);
}

static bool
cpu_run(decoder *d, const decoder_text *texts, int32_t count, llm_error *err)
{
	generator *g = d->state;
	int64_t width = config_of(g)->width;
	pass p = {.stack = &g->numbers.stack, .ids = d->ids, .span_count = count, .spans = g->spans};
	int32_t wanted = 0;

	generator_set_poll(g, d->poll, d->poll_arg);
	for (int32_t i = 0; i < count; i++)
	{
		const decoder_text *t = &texts[i];

		g->spans[i] =
			(span) {.sequence = i, .pages = t->pages, .position = t->first, .row = p.rows, .rows = t->count};
		p.rows += t->count;
	}
	if (!pass_run(g, &p, err))
		return false;
	for (int32_t i = 0; i < count; i++)
		if (texts[i].wanted)
			memcpy(g->last + wanted++ * width, normed_row(g, g->spans[i].row + g->spans[i].rows - 1),
				   width * sizeof(float));
	return wanted == 0 || pass_logits(g, g->last, wanted, err);
}

static const float *
cpu_logits(const decoder *d)
{
	const generator *g = d->state;

	return g->logits;
}

const decoder_device decoder_cpu = {cpu_memory, cpu_start, cpu_stop, cpu_run, cpu_logits};
