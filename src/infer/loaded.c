/*
 * loaded.c
 *	  Models of an inference server.
 */
#include "postgres.h"

#include <sys/mman.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../common.h"
#include "loaded.h"

#define TEXTS 64       /* of a model, of all calls */
#define GPU_TOKENS 512 /* of a pass */
#define CPU_TOKENS 128
#define EMBEDDED_TOKENS 8192 /* and texts as many */
#define CPU_TEXTS 8          /* of a pass: what the kernels for few rows take */

static struct cuda_device *device = NULL;
static Size budget = 0;
static LoadedModel *models = NULL;
static int64 uses = 0;
static scheduler_counts of_gone = {0};

void
InitLoadedModels(struct cuda_device *gpu, Size bytes)
{
	device = gpu;
	budget = bytes;
}

LoadedModel *
FirstLoaded(void)
{
	return models;
}

Size
LoadedBytes(void)
{
	Size bytes = 0;

	for (const LoadedModel *m = models; m != NULL; m = m->next)
		bytes += m->bytes;
	return bytes;
}

static void
AddCounts(scheduler_counts *sum, const LoadedModel *m)
{
	scheduler_counts c = {0};

	if (m->scheduler != NULL)
		c = scheduler_count(m->scheduler);

	sum->passes += c.passes;
	sum->tokens += c.tokens;
	sum->shared += c.shared;
	sum->preempted += c.preempted;
}

scheduler_counts
CountWork(void)
{
	scheduler_counts sum = of_gone;

	for (const LoadedModel *m = models; m != NULL; m = m->next)
		AddCounts(&sum, m);
	return sum;
}

/* ---- giving up ---- */

static void
FreeModel(LoadedModel *m)
{
	scheduler_free(m->scheduler);
	decoder_free(m->decoder);
	embedder_free(m->embedder);
	if (m->file.bytes > 0)
		(void) munmap(m->file.memory, m->file.bytes);
	manifest_free(m->manifest);
	free(m->ids);
	free(m->results);
	free(m->weights);
	free(m);
}

static void
Unload(LoadedModel *m)
{
	LoadedModel **at = &models;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	AddCounts(&of_gone, m);
	FreeModel(m);
}

void
UnloadAll(void)
{
	while (models != NULL)
		Unload(models);
}

/* The model without calls that was used longest ago; false when all have some. */
static bool
UnloadOne(void)
{
	LoadedModel *oldest = NULL;

	for (LoadedModel *m = models; m != NULL; m = m->next)
		if (m->calls == 0 && (oldest == NULL || m->used < oldest->used))
			oldest = m;
	if (oldest != NULL)
		Unload(oldest);
	return oldest != NULL;
}

/* ---- loading ---- */

static decoder_shape
ShapeFor(int32 pages)
{
	return device != NULL ? (decoder_shape) {pages, GPU_TOKENS, TEXTS}
						  : (decoder_shape) {pages, CPU_TOKENS, CPU_TEXTS};
}

/* Pages for every text as long as the context, or as many as fit into so much memory; 0: not even one text does. */
static int32
PagesWithin(const net *n, Size bytes, llm_error *err)
{
	int32 of_text = (net_get_config(n)->text.context + DECODER_PAGE - 1) / DECODER_PAGE;
	decoder_shape least = ShapeFor(of_text), more = ShapeFor(2 * of_text);
	size_t least_bytes, more_bytes;

	if (!decoder_memory(n, &least, device != NULL, &least_bytes, err) ||
		!decoder_memory(n, &more, device != NULL, &more_bytes, err) || least_bytes > bytes)
		return 0;
	return (int32) Min(of_text + (bytes - least_bytes) / ((more_bytes - least_bytes) / of_text),
					   (Size) TEXTS * of_text);
}

/* Pages of one model leave room for others: half of what is free, if that is enough. */
static bool
MakeDecoder(LoadedModel *m, const void *weights, llm_error *err)
{
	const net *n = m->manifest->net;
	Size room = budget - Min(LoadedBytes(), budget);
	int32 pages = PagesWithin(n, room / 2, err);
	decoder_shape shape;

	if (pages == 0)
		pages = PagesWithin(n, room, err);
	if (pages == 0)
		return llm_fail(err, LLM_MEMORY, "there is no room for the model");
	shape = ShapeFor(pages);
	m->decoder = decoder_new(n, weights, &shape, device, err);
	if (m->decoder == NULL)
		return false;
	decoder_set_poll(m->decoder, InterruptRequested, NULL);
	m->scheduler = scheduler_new(m->decoder, &shape, net_get_config(n)->text.context, TEXTS, shape.tokens, err);
	return m->scheduler != NULL && decoder_memory(n, &shape, device != NULL, &m->bytes, err);
}

/* On a GPU alone. */
static bool
MakeEmbedder(LoadedModel *m, const void *weights, llm_error *err)
{
	const net *n = m->manifest->net;
	const transformer_config *c = &net_get_config(n)->text;
	size_t bytes;

	m->texts = EMBEDDED_TEXTS;
	m->tokens = Max(EMBEDDED_TOKENS, Max(c->context, c->source_context));
	if (device == NULL || !embedder_device_memory(n, m->texts, m->tokens, &bytes, err))
		return false;
	if (bytes > budget - Min(LoadedBytes(), budget))
		return llm_fail(err, LLM_MEMORY, "there is no room for the model");
	m->ids = malloc(m->tokens * sizeof(int32));
	m->results = malloc((Size) m->texts * c->width * sizeof(float));
	if (m->ids == NULL || m->results == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	m->embedder = embedder_new(n, weights, net_get_config(n)->pool, m->texts, m->tokens, device, err);
	if (m->embedder == NULL)
		return false;
	embedder_set_poll(m->embedder, InterruptRequested, NULL);
	m->bytes = embedder_device_bytes(m->embedder);
	return true;
}

/* It is the network that the session has laid out its segment for. */
static bool
FitsSegment(const net *n, const Segment *s)
{
	const transformer_config *c = &net_get_config(n)->text;

	return s->context == Max(c->context, c->source_context) && s->outputs == (s->embeds ? c->width : c->vocab);
}

/* Weights of a segment are copied, as that goes with its call. */
static const void *
ModelWeights(LoadedModel *m, Segment *s)
{
	if (s->weights_bytes == 0)
		return MapExistingWeightFile(&m->file, s->database, s->relid, s->version, m->manifest) ? m->file.weights
																							   : NULL;
	if (s->weights_bytes != net_kept_bytes(m->manifest->net))
		return NULL;
	m->weights = aligned_alloc(64, s->weights_bytes);
	return m->weights != NULL ? memcpy(m->weights, InSegment(s, s->weights), s->weights_bytes) : NULL;
}

/* A GPU has its own copy. */
static void
ForgetHostWeights(LoadedModel *m)
{
	if (device == NULL)
		return;
	if (m->file.bytes > 0)
		(void) munmap(m->file.memory, m->file.bytes);
	free(m->weights);
	m->file = (WeightFile) {0};
	m->weights = NULL;
}

static LoadedModel *
Load(Segment *s, llm_error *err)
{
	LoadedModel *m = calloc(1, sizeof(LoadedModel));
	const void *weights;

	if (m == NULL)
		return NULL;
	m->database = s->database;
	m->relid = s->relid;
	m->version = s->version;
	m->manifest = manifest_parse(InSegment(s, s->manifest), s->manifest_bytes, err);
	weights = m->manifest != NULL ? ModelWeights(m, s) : NULL;
	if (weights == NULL || !FitsSegment(m->manifest->net, s) ||
		!(s->embeds ? MakeEmbedder : MakeDecoder)(m, weights, err))
	{
		FreeModel(m);
		return NULL;
	}
	ForgetHostWeights(m);
	m->next = models;
	models = m;
	return m;
}

static LoadedModel *
FindLoaded(const Segment *s)
{
	LoadedModel *m = models;

	while (m != NULL && (m->database != s->database || m->relid != s->relid || m->version != s->version ||
						 (m->embedder != NULL) != s->embeds))
		m = m->next;
	return m;
}

LoadedModel *
RequireLoaded(Segment *s)
{
	LoadedModel *m = FindLoaded(s);
	llm_error err = {0};

	while (m == NULL && (m = Load(s, &err)) == NULL && err.code == LLM_MEMORY && UnloadOne())
		err = (llm_error) {0};
	if (err.code == LLM_LOST)
		ThrowError(&err);
	if (m == NULL)
		ereport(DEBUG1, (errmsg("inference server: model %u is not loaded: %s", s->relid, err.message)));
	else
		m->used = ++uses;
	return m;
}
