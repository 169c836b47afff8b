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
#define EMBEDDED_TOKENS 8192          /* and texts as many */
#define CPU_TEXTS 8                   /* of a pass: what the kernels for few rows take */
#define INPUT_BYTES ((Size) 64 << 20) /* of a predictor, pinned and not; more than a session's rows have */

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
	predictor_free(m->predictor);
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
MakeDecoder(LoadedModel *m, const Segment *s, const void *weights, llm_error *err)
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
MakeEmbedder(LoadedModel *m, const Segment *s, const void *weights, llm_error *err)
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
	m->results = malloc((Size) m->texts * net_embedding_width(net_get_config(n)) * sizeof(float));
	if (m->ids == NULL || m->results == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	m->embedder = embedder_new(n, weights, net_get_config(n)->pool, m->texts, m->tokens, device, err);
	if (m->embedder == NULL)
		return false;
	embedder_set_poll(m->embedder, InterruptRequested, NULL);
	m->bytes = embedder_device_bytes(m->embedder);
	return true;
}

/*
 * On a GPU alone, for as many rows as leave room for other models and have small inputs, but not fewer than those of
 * the segment.
 */
static bool
MakePredictor(LoadedModel *m, const Segment *s, const void *weights, llm_error *err)
{
	const net *n = m->manifest->net;
	Size room = budget - Min(LoadedBytes(), budget);
	int64 rows = PREDICTED_ROWS;
	size_t bytes;

	if (device == NULL || !predictor_device_memory(n, rows, &bytes, err))
		return false;
	while ((bytes > room / 2 || batch_input_bytes(&net_get_config(n)->shape, rows) > INPUT_BYTES) &&
		   rows / 2 >= s->rows)
	{
		rows /= 2;
		if (!predictor_device_memory(n, rows, &bytes, err))
			return false;
	}
	if (bytes > room)
		return llm_fail(err, LLM_MEMORY, "there is no room for the model");
	m->predictor = predictor_new(n, weights, rows, device, err);
	if (m->predictor == NULL)
		return false;
	predictor_set_poll(m->predictor, InterruptRequested, NULL);
	m->bytes = predictor_device_bytes(m->predictor);
	return true;
}

static bool
Make(LoadedModel *m, const Segment *s, const void *weights, llm_error *err)
{
	static bool (*const make[])(LoadedModel *, const Segment *, const void *, llm_error *) = {
		[INFERENCE_WRITE] = MakeDecoder,
		[INFERENCE_EMBED] = MakeEmbedder,
		[INFERENCE_PREDICT] = MakePredictor,
	};

	return (unsigned) m->kind < lengthof(make) && make[m->kind](m, s, weights, err);
}

/* It is the network that the session has laid out its segment for. */
static bool
FitsSegment(const net *n, const Segment *s)
{
	const net_config *c = net_get_config(n);

	if (s->kind == INFERENCE_PREDICT)
		return s->texts == 1 && s->rows >= 1 && s->rows <= PREDICTED_ROWS &&
			   s->context == batch_input_bytes(&c->shape, s->rows) / sizeof(int32) &&
			   s->outputs == s->rows * c->shape.outputs;
	return s->texts >= 1 && s->texts <= INFERENCE_TEXTS &&
		   s->context == Max(c->text.context, c->text.source_context) &&
		   s->outputs == (s->kind == INFERENCE_EMBED ? net_embedding_width(c) : c->text.vocab);
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
	m->kind = s->kind;
	m->manifest = manifest_parse(InSegment(s, s->manifest), s->manifest_bytes, err);
	weights = m->manifest != NULL ? ModelWeights(m, s) : NULL;
	if (weights == NULL || !FitsSegment(m->manifest->net, s) || !Make(m, s, weights, err))
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

	while (m != NULL &&
		   (m->database != s->database || m->relid != s->relid || m->version != s->version || m->kind != s->kind))
		m = m->next;
	return m;
}

/* Another session may want more rows together than there was room for. */
static bool
TakesSegment(const LoadedModel *m, const Segment *s)
{
	return FitsSegment(m->manifest->net, s) &&
		   (m->predictor == NULL || s->rows <= predictor_batch(m->predictor)->capacity);
}

LoadedModel *
RequireLoaded(Segment *s)
{
	LoadedModel *m = FindLoaded(s);
	llm_error err = {0};

	if (m != NULL && !TakesSegment(m, s))
		return NULL;
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
