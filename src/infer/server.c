/*
 * server.c
 *	  The inference server: a loop of passes over the texts and rows of all sessions.
 *
 * The process has no database.  What it needs of a model a session gives it, which has opened it and may use it: the
 * manifest, and the number of its weight file.  A failure of the device ends the process; its sessions go on alone,
 * and the postmaster starts another one.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "../job/device.h"
#include "../job/worker.h"
#include "infer.h"
#include "loaded.h"

/* What bgw_main_arg says in place of the number of a GPU. */
#define DEVICE_CPU (-1)
#define DEVICE_GPUS (-2) /* all that there are */

#define COUNT_MS 500               /* between two reports of what was done */
#define CPU_BYTES ((Size) 1 << 30) /* of keys and values of all models */
#define GPU_SHARE 0.8              /* of what is free: jobs want some */

PGDLLEXPORT void llmapp_inference(Datum arg);
PG_FUNCTION_INFO_V1(llmapp_inference_servers);

/* What the server knows of a place. */
typedef struct Visitor
{
	dsm_segment *mapping; /* NULL: none */
	Segment *segment;
	LoadedModel *model;
	int32 rows;                  /* that it may give together */
	int32 text[INFERENCE_TEXTS]; /* of the model's scheduler, -1: none */
	bool busy[INFERENCE_TEXTS];  /* given to it and not answered */
	uint32 asked[INFERENCE_TEXTS];
} Visitor;

static int number = -1;
static Visitor *visitors = NULL; /* by place */
static char device_name[16];
static cuda_device *gpu = NULL;
static TimestampTz counted = 0;

/* ---- calls ---- */

static void
Leave(Visitor *v)
{
	if (v->mapping == NULL)
		return;
	if (v->model != NULL)
	{
		for (int32 i = 0; i < INFERENCE_TEXTS; i++)
			if (v->text[i] >= 0)
				scheduler_close(v->model->scheduler, v->text[i]);
		v->model->calls--;
	}
	dsm_detach(v->mapping);
	*v = (Visitor) {0};
}

/* False while other calls have the texts it wants. */
static bool
OpenTexts(Visitor *v)
{
	for (int32 i = 0; i < INFERENCE_TEXTS; i++)
		v->text[i] = -1;
	for (int32 i = 0; i < v->segment->texts && v->model->scheduler != NULL; i++)
	{
		v->text[i] = scheduler_open(v->model->scheduler);
		if (v->text[i] >= 0)
			continue;
		while (i-- > 0)
			scheduler_close(v->model->scheduler, v->text[i]);
		return false;
	}
	return true;
}

/* One that does not fit now stays and is looked at again when another leaves, until its session has enough of it. */
static void
Open(Place *place, Visitor *v)
{
	PlaceState to = PLACE_REFUSED;

	if (v->mapping == NULL)
	{
		v->mapping = dsm_attach(place->segment);
		if (v->mapping == NULL)
			return; /* the session has gone */
		dsm_pin_mapping(v->mapping);
		v->segment = dsm_segment_address(v->mapping);
	}
	v->model = RequireLoaded(v->segment);
	if (v->model != NULL)
	{
		if (!OpenTexts(v))
		{
			v->model = NULL;
			return;
		}
		v->model->calls++;
		v->rows = v->segment->rows;
		to = PLACE_OPEN;
	}
	if (to == PLACE_REFUSED)
		Leave(v);
	(void) MovePlace(place, PLACE_ASKED, to); /* one that was closed meanwhile is left at the next look */
	SetLatch(&place->session->procLatch);
}

/* With so many numbers; result NULL: the session has to do without. */
static void
Answer(Visitor *v, int32 i, const float *result, Size count)
{
	Cell *cell = CellOf(v->segment, i);

	cell->failed = result == NULL;
	if (result != NULL)
		memcpy(ResultOf(v->segment, i), result, count * sizeof(float));
	pg_write_barrier();
	pg_atomic_write_u32(&cell->answered, v->asked[i]);
	v->busy[i] = false;
}

/* Its texts that have new tokens. */
static void
TakeTokens(Visitor *v)
{
	for (int32 i = 0; i < v->segment->texts; i++)
	{
		Cell *cell = CellOf(v->segment, i);
		uint32 asked = pg_atomic_read_u32(&cell->asked);
		llm_error err = {0};

		if (v->busy[i] || asked == pg_atomic_read_u32(&cell->answered))
			continue;
		pg_read_barrier();
		v->asked[i] = asked;
		v->busy[i] = true;
		if (v->model->scheduler != NULL &&
			!scheduler_give(v->model->scheduler, v->text[i], cell->keep, IdsOf(v->segment, i), cell->count, &err))
			Answer(v, i, NULL, 0);
	}
}

/* Texts of the model that the last pass has done with, or all that wait when it failed. */
static void
AnswerAll(const LoadedModel *m, bool failed)
{
	for (int p = 0, used = PlacesInUse(); p < used; p++)
	{
		Visitor *v = &visitors[p];
		bool answered = false;

		if (v->model != m)
			continue;
		for (int32 i = 0; i < v->segment->texts; i++)
		{
			if (!v->busy[i] || !(failed || scheduler_done(m->scheduler, v->text[i])))
				continue;
			Answer(v, i, failed ? NULL : scheduler_logits(m->scheduler, v->text[i]), v->segment->outputs);
			answered = true;
		}
		if (answered)
			SetLatch(&PlaceAt(p)->session->procLatch);
	}
}

/* ---- the loop ---- */

/* What sessions have changed at their places. */
static void
LookAtPlaces(void)
{
	for (int p = 0, used = PlacesInUse(); p < used; p++)
	{
		Place *place = PlaceAt(p);
		PlaceState state = ReadPlace(place);

		if (place->server != number || state == PLACE_FREE)
			continue;
		if (state == PLACE_ASKED)
			Open(place, &visitors[p]);
		else if (state == PLACE_OPEN)
			TakeTokens(&visitors[p]);
		else if (state == PLACE_CLOSED)
		{
			Leave(&visitors[p]);
			FreePlace(place);
		}
	}
}

#define PASS_PARTS PREDICTED_ROWS

/* What waits, in one pass of a model that embeds or predicts. */
typedef struct Pass
{
	int32 parts;
	int32 taken; /* tokens or rows of all parts */
	Visitor *visitor[PASS_PARTS];
	int32 cell[PASS_PARTS], counts[PASS_PARTS]; /* tokens, or rows */
} Pass;

static void
AddPart(Pass *p, Visitor *v, int32 cell, int32 count)
{
	p->visitor[p->parts] = v;
	p->cell[p->parts] = cell;
	p->counts[p->parts++] = count;
	p->taken += count;
}

/* Texts of a call, as far as there is room; false when there is no more. */
static bool
JoinTexts(Pass *p, const LoadedModel *m, Visitor *v)
{
	for (int32 i = 0; i < v->segment->texts; i++)
	{
		int32 count = CellOf(v->segment, i)->count;

		if (!v->busy[i])
			continue;
		if (count < 1 || count > v->segment->context)
		{
			Answer(v, i, NULL, 0);
			continue;
		}
		if (p->parts == m->texts || count > m->tokens - p->taken)
			return false;
		memcpy(m->ids + p->taken, IdsOf(v->segment, i), count * sizeof(int32));
		AddPart(p, v, i, count);
	}
	return true;
}

/* Rows of a call, if there is room for all.  Those of another one do not suffer when they are not what they should be. */
static bool
JoinRows(Pass *p, const LoadedModel *m, Visitor *v)
{
	batch *b = predictor_batch(m->predictor), given;
	int64 before = b->rows;
	llm_error err = {0};
	int32 count;

	if (!v->busy[0])
		return true;
	count = CellOf(v->segment, 0)->count;
	if (count >= 1 && count <= v->rows && count > b->capacity - before)
		return false;
	batch_map(&given, &b->shape, v->rows, IdsOf(v->segment, 0));
	if (count >= 1 && batch_append(b, &given, count) && batch_check(b, &b->shape, b->capacity, false, &err))
		AddPart(p, v, 0, count);
	else
	{
		b->rows = before;
		Answer(v, 0, NULL, 0);
	}
	return true;
}

/* Calls have their turns: the next pass begins with the one that found no room. */
static void
FillPass(Pass *p, const LoadedModel *m)
{
	static int first = 0;
	int places = PlacesInUse();

	p->parts = p->taken = 0;
	for (int n = 0; n < places; n++)
	{
		int place = (first + n) % places;

		if (visitors[place].model == m && !(m->predictor != NULL ? JoinRows : JoinTexts)(p, m, &visitors[place]))
		{
			first = place;
			break;
		}
	}
}

/* Results lie end to end, so many numbers for each text or row; NULL: there are none. */
static void
AnswerPass(const Pass *p, const float *results, int32 width)
{
	for (int32 i = 0; i < p->parts; i++)
	{
		Size count = (p->visitor[i]->model->predictor != NULL ? p->counts[i] : 1) * (Size) width;

		Answer(p->visitor[i], p->cell[i], results, count);
		results += results != NULL ? count : 0;
		SetLatch(&PlaceAt(p->visitor[i] - visitors)->session->procLatch);
	}
}

static bool
EmbedPass(LoadedModel *m, llm_error *err)
{
	static Pass p;
	bool done;

	FillPass(&p, m);
	if (p.parts == 0)
		return false;
	done = embedder_run(m->embedder, p.counts, p.parts, m->ids, m->results, err);
	if (err->code != LLM_CANCELLED)
		AnswerPass(&p, done ? m->results : NULL, net_embedding_width(net_get_config(m->manifest->net)));
	return true;
}

static bool
PredictPass(LoadedModel *m, llm_error *err)
{
	static Pass p;
	const float *results;

	predictor_batch(m->predictor)->rows = 0;
	FillPass(&p, m);
	if (p.parts == 0)
		return false;
	results = predictor_run(m->predictor, err);
	if (err->code != LLM_CANCELLED)
		AnswerPass(&p, results, net_get_config(m->manifest->net)->shape.outputs);
	return true;
}

static bool
WritePass(LoadedModel *m, llm_error *err)
{
	bool done;

	if (!scheduler_waits(m->scheduler))
		return false;
	done = scheduler_pass(m->scheduler, err);
	if (err->code != LLM_CANCELLED)
		AnswerAll(m, !done);
	return true;
}

/* A pass of every model that is asked; false when none is. */
static bool
RunPasses(void)
{
	static bool (*const run[])(LoadedModel *, llm_error *) = {
		[INFERENCE_WRITE] = WritePass, [INFERENCE_EMBED] = EmbedPass, [INFERENCE_PREDICT] = PredictPass};
	bool any = false;

	for (LoadedModel *m = FirstLoaded(); m != NULL; m = m->next)
	{
		llm_error err = {0};

		any |= run[m->kind](m, &err);
		CHECK_FOR_INTERRUPTS();
		if (err.code == LLM_LOST)
			ThrowError(&err);
	}
	return any;
}

static void
ReportWork(bool always)
{
	TimestampTz now = GetCurrentTimestamp();
	ServerCounts counts = {0};

	if (!always && !TimestampDifferenceExceeds(counted, now, COUNT_MS))
		return;
	counted = now;
	counts.work = CountWork();
	counts.memory = LoadedBytes();
	for (const LoadedModel *m = FirstLoaded(); m != NULL; m = m->next)
		counts.models++;
	ReportCounts(number, &counts);
}

static void
Serve(void)
{
	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		LookAtPlaces();
		if (RunPasses())
		{
			ReportWork(false);
			continue;
		}
		ReportWork(true);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
	}
}

/* ---- the process ---- */

static void
EndServer(int code, Datum arg)
{
	UnregisterServer(number);
	UnloadAll();
	if (gpu != NULL)
		cuda_close(gpu);
}

static void
StartServer(int device, bool dynamic)
{
	BackgroundWorker worker;

	DescribeProcess(&worker, "llmapp inference", "llmapp_inference");
	worker.bgw_start_time = BgWorkerStart_ConsistentState; /* on a standby, too */
	worker.bgw_main_arg = Int32GetDatum(device);
	if (!dynamic)
		RegisterBackgroundWorker(&worker);
	else if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		ereport(WARNING, (errmsg("could not start an inference server for GPU cuda:%d", device),
						  errdetail("All of max_worker_processes are in use.")));
}

/* Of several GPUs the first is this process's, and each other one gets a server. */
static int
FindGpu(const GpuList *gpus)
{
	int first = -1;

	for (int i = 0; i < gpus->count; i++)
	{
		if (gpus->list[i].major < LEAST_CAPABILITY)
			continue;
		if (first < 0)
			first = i;
		else
			StartServer(i, true);
	}
	return first;
}

/* False where there is no GPU, which ends the process for good. */
static bool
OpenGpu(int wanted)
{
	GpuList gpus;
	llm_error err = {0};

	AskForGpus(&gpus);
	if (wanted == DEVICE_GPUS)
		wanted = FindGpu(&gpus);
	if (wanted < 0 || wanted >= gpus.count)
		return false;
	gpu = cuda_open(GpuLibrary(), wanted, &gpus.list[wanted], &err);
	if (gpu == NULL)
		ThrowError(&err);
	snprintf(device_name, sizeof(device_name), "cuda:%d", wanted);
	return true;
}

static Size
Budget(void)
{
	Size room = gpu != NULL ? (Size) (GPU_SHARE * gpu->info.memory_free) : CPU_BYTES;

	return llmapp_gpu_memory > 0 ? Min(room, (Size) llmapp_gpu_memory * 1024) : room;
}

void
llmapp_inference(Datum arg)
{
	int wanted = DatumGetInt32(arg);

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();
	strlcpy(device_name, "cpu", sizeof(device_name));
	if (wanted != DEVICE_CPU && !OpenGpu(wanted))
		proc_exit(0);
	InitLoadedModels(gpu, Budget());
	visitors = MemoryContextAllocZero(TopMemoryContext, BoardPlaces() * sizeof(Visitor));
	number = RegisterServer(device_name, gpu != NULL ? gpu->info.name : "");
	if (number < 0)
		proc_exit(0);
	before_shmem_exit(EndServer, 0);
	Serve();
}

/* ---- settings and views ---- */

void
InitInference(void)
{
	int device = GpuNumber(llmapp_inference_device);

	RequestBoardMemory();
	if (strcmp(llmapp_inference_device, "off") == 0)
		return;
	if (strcmp(llmapp_inference_device, "cpu") == 0)
		device = DEVICE_CPU;
	else if (device < 0)
		device = DEVICE_GPUS;
	StartServer(device, false);
}

/* llmapp.inference_servers(): one row each */
Datum
llmapp_inference_servers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Server servers[INFERENCE_SERVERS];
	int count = HasBoard() ? CopyServers(servers) : 0;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		const Server *s = &servers[i];
		Datum values[] = {CStringGetTextDatum(s->device),
						  CStringGetTextDatum(s->name),
						  Int32GetDatum(s->pid),
						  Int32GetDatum(s->counts.models),
						  Int64GetDatum(s->counts.memory),
						  Int32GetDatum(s->calls),
						  Int64GetDatum(s->counts.work.passes),
						  Int64GetDatum(s->counts.work.tokens),
						  Int64GetDatum(s->counts.work.shared),
						  Int64GetDatum(s->counts.work.preempted)};
		bool nulls[lengthof(values)] = {false};

		nulls[1] = s->name[0] == '\0';
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
