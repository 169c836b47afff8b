/*
 * client.c
 *	  A session's end of inference: a segment, tokens into it, results out of it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "../model/cache.h"
#include "board.h"
#include "infer.h"

#define POLL_MS 200

struct InferenceCall
{
	Place *place;
	dsm_segment *mapping;
	Segment *segment;
	InferenceCall *next;
	MemoryContextCallback release;
};

static InferenceCall *calls = NULL; /* of this session */

/* ---- the end ---- */

static void
CloseInference(void *arg)
{
	InferenceCall *call = arg, **at = &calls;

	while (*at != NULL && *at != call)
		at = &(*at)->next;
	if (*at == NULL)
		return;
	*at = call->next;
	LeavePlace(call->place);
	if (call->mapping != NULL)
		dsm_detach(call->mapping);
}

/* A session that ends leaves no place behind. */
static void
CloseAll(int code, Datum arg)
{
	while (calls != NULL)
		CloseInference(calls);
}

static void
CloseAtExit(void)
{
	static bool registered = false;

	if (registered)
		return;
	before_shmem_exit(CloseAll, 0);
	registered = true;
}

/* ---- the beginning ---- */

static Size
Reserve(Size *end, Size bytes)
{
	Size at = *end;

	*end = add_size(at, MAXALIGN(bytes));
	return at;
}

/* Of one text, or of rows: how many integers are given, and numbers are results. */
static void
SizeCells(const net_config *c, Segment *s)
{
	s->context = Max(c->text.context, c->text.source_context);
	s->outputs = s->kind == INFERENCE_EMBED ? net_embedding_width(c) : c->text.vocab;
	if (s->kind == INFERENCE_PREDICT)
	{
		s->context = (int32) (batch_input_bytes(&c->shape, s->rows) / sizeof(int32));
		s->outputs = s->rows * c->shape.outputs;
	}
}

/* Weights that have no file travel in the segment. */
static Segment
LayOutSegment(const Model *m, InferenceKind kind, Size manifest_bytes, int32 count, Size *bytes)
{
	Segment s = {.database = MyDatabaseId, .relid = m->relid, .version = m->version, .kind = kind};
	Size end = MAXALIGN(sizeof(Segment));

	s.texts = kind == INFERENCE_PREDICT ? 1 : count;
	s.rows = kind == INFERENCE_PREDICT ? count : 0;
	SizeCells(net_get_config(m->manifest->net), &s);
	s.manifest_bytes = manifest_bytes;
	s.manifest = Reserve(&end, manifest_bytes);
	if (m->manifest->weight_bytes < CACHE_BYTES_MIN)
	{
		s.weights_bytes = net_kept_bytes(m->manifest->net);
		end = TYPEALIGN(64, end);
		s.weights = Reserve(&end, s.weights_bytes);
	}
	s.cells = Reserve(&end, mul_size(s.texts, sizeof(Cell)));
	s.ids = Reserve(&end, mul_size(mul_size(s.texts, s.context), sizeof(int32)));
	s.results = Reserve(&end, mul_size(mul_size(s.texts, s.outputs), sizeof(float)));
	*bytes = end;
	return s;
}

/* NULL where shared memory is full: then the session works alone. */
static dsm_segment *
CreateMapping(Size bytes)
{
	MemoryContext cxt = CurrentMemoryContext;
	dsm_segment *volatile mapping = NULL;

	PG_TRY();
	{
		mapping = dsm_create(bytes, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	}
	PG_CATCH();
	{
		int code = geterrcode();

		if (code != ERRCODE_OUT_OF_MEMORY && code != ERRCODE_DISK_FULL)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
	}
	PG_END_TRY();
	return mapping;
}

/* False when there is no memory for it. */
static bool
MakeSegment(InferenceCall *call, const Model *m, InferenceKind kind, int32 count)
{
	char *manifest = json_text(m->manifest->json);
	Size bytes;
	Segment s = LayOutSegment(m, kind, strlen(manifest), count, &bytes);

	call->mapping = CreateMapping(bytes);
	if (call->mapping != NULL)
	{
		dsm_pin_mapping(call->mapping);
		call->segment = dsm_segment_address(call->mapping);
		*call->segment = s;
		memcpy(InSegment(call->segment, s.manifest), manifest, s.manifest_bytes);
		if (s.weights_bytes > 0)
			memcpy(InSegment(call->segment, s.weights), m->weights, s.weights_bytes);
		for (int32 i = 0; i < s.texts; i++)
		{
			pg_atomic_init_u32(&CellOf(call->segment, i)->asked, 0);
			pg_atomic_init_u32(&CellOf(call->segment, i)->answered, 0);
		}
		call->place->segment = dsm_segment_handle(call->mapping);
	}
	free(manifest);
	return call->mapping != NULL;
}

static void
Sleep(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* The server opens the place within the time that is set. */
static bool
AwaitOpen(const Place *place)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), llmapp_gpu_queue_timeout);

	while (ReadPlace(place) == PLACE_ASKED)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (left <= 0)
			return false;
		Sleep(Min(left, POLL_MS));
	}
	return ReadPlace(place) == PLACE_OPEN;
}

/* A server could do it. */
static bool
MayAsk(const Model *m, InferenceKind kind)
{
	const transformer_config *c = &net_get_config(m->manifest->net)->text;

	if (!HasBoard() || strcmp(llmapp_device, "cpu") == 0)
		return false;
	return kind != INFERENCE_WRITE || (c->encoder_depth == 0 && !c->bidirectional && !c->headless && c->labels == 0);
}

InferenceCall *
OpenInference(const Model *m, InferenceKind kind, int32 count, MemoryContext cxt)
{
	InferenceCall *call;
	Place *place = MayAsk(m, kind) ? TakePlace(kind != INFERENCE_WRITE) : NULL;

	if (place == NULL)
		return NULL;
	CloseAtExit();
	call = MemoryContextAllocZero(cxt, sizeof(InferenceCall));
	call->place = place;
	call->next = calls;
	calls = call;
	call->release.func = CloseInference;
	call->release.arg = call;
	MemoryContextRegisterResetCallback(cxt, &call->release);
	if (MakeSegment(call, m, kind, count) && MovePlace(place, PLACE_TAKEN, PLACE_ASKED))
	{
		WakeServer(place);
		if (AwaitOpen(place))
			return call;
	}
	CloseInference(call);
	return NULL;
}

/* ---- between ---- */

/* What is in a text's part of the segment. */
static void
Ask(InferenceCall *call, int32 text, int32 keep, int32 count)
{
	Cell *cell = CellOf(call->segment, text);

	cell->keep = keep;
	cell->count = count;
	pg_write_barrier();
	pg_atomic_fetch_add_u32(&cell->asked, 1);
}

void
GiveTokens(InferenceCall *call, int32 text, int32 keep, const int32 *ids, int32 count)
{
	memcpy(IdsOf(call->segment, text), ids, count * sizeof(int32));
	Ask(call, text, keep, count);
}

void
GiveRows(InferenceCall *call, const batch *b)
{
	batch rows;

	batch_map(&rows, &b->shape, call->segment->rows, IdsOf(call->segment, 0));
	if (!batch_append(&rows, b, b->rows))
		elog(ERROR, "the rows are not what an inference server was asked for");
	Ask(call, 0, 0, (int32) b->rows);
}

static bool
AllAnswered(const InferenceCall *call)
{
	for (int32 i = 0; i < call->segment->texts; i++)
	{
		Cell *cell = CellOf(call->segment, i);

		if (pg_atomic_read_u32(&cell->asked) != pg_atomic_read_u32(&cell->answered))
			return false;
	}
	pg_read_barrier();
	return true;
}

bool
AwaitResults(InferenceCall *call)
{
	WakeServer(call->place);
	while (!AllAnswered(call))
	{
		if (ReadPlace(call->place) != PLACE_OPEN)
			return false;
		Sleep(POLL_MS);
	}
	for (int32 i = 0; i < call->segment->texts; i++)
		if (CellOf(call->segment, i)->failed)
			return false;
	return true;
}

const float *
InferenceResult(const InferenceCall *call, int32 text)
{
	return ResultOf(call->segment, text);
}
