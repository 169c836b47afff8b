/*
 * board.c
 *	  Shared memory of inference servers and their callers.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "../common.h"
#include "board.h"

#define PLACES_PER_SESSION 2

typedef struct Board
{
	LWLock lock; /* of all that follows */
	int used;    /* places behind the last one that is not free */
	Server servers[INFERENCE_SERVERS];
	Place place[FLEXIBLE_ARRAY_MEMBER];
} Board;

static Board *board = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

int
BoardPlaces(void)
{
	return PLACES_PER_SESSION * MaxBackends;
}

static Size
BoardBytes(void)
{
	return add_size(offsetof(Board, place), mul_size(BoardPlaces(), sizeof(Place)));
}

static void
MakeBoard(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	board = ShmemInitStruct("llmapp inference", BoardBytes(), &found);
	if (!found)
	{
		memset(board, 0, BoardBytes());
		LWLockInitialize(&board->lock, LWLockNewTrancheId());
	}
	LWLockRelease(AddinShmemInitLock);
}

void
RequestBoardMemory(void)
{
	RequestSharedMemory(BoardBytes);
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = MakeBoard;
}

bool
HasBoard(void)
{
	return board != NULL;
}

int
PlacesInUse(void)
{
	int used;

	LWLockAcquire(&board->lock, LW_SHARED);
	used = board->used;
	LWLockRelease(&board->lock);
	return used;
}

Place *
PlaceAt(int number)
{
	return &board->place[number];
}

PlaceState
ReadPlace(const Place *place)
{
	PlaceState state;

	LWLockAcquire(&board->lock, LW_SHARED);
	state = place->state;
	LWLockRelease(&board->lock);
	return state;
}

bool
MovePlace(Place *place, PlaceState from, PlaceState to)
{
	bool moved;

	LWLockAcquire(&board->lock, LW_EXCLUSIVE);
	moved = place->state == from;
	if (moved)
		place->state = to;
	LWLockRelease(&board->lock);
	return moved;
}

/* ---- sessions ---- */

/* Under the lock: the server with the fewest calls, or -1. */
static int
LeastBusyServer(bool on_gpu)
{
	int best = -1;

	for (int i = 0; i < INFERENCE_SERVERS; i++)
		if (board->servers[i].proc != NULL && !(on_gpu && strcmp(board->servers[i].device, "cpu") == 0) &&
			(best < 0 || board->servers[i].calls < board->servers[best].calls))
			best = i;
	return best;
}

Place *
TakePlace(bool on_gpu)
{
	Place *taken = NULL;
	int server;

	LWLockAcquire(&board->lock, LW_EXCLUSIVE);
	server = LeastBusyServer(on_gpu);
	for (int i = 0; i < BoardPlaces() && server >= 0 && taken == NULL; i++)
		if (board->place[i].state == PLACE_FREE)
			taken = &board->place[i];
	if (taken != NULL)
	{
		*taken = (Place) {PLACE_TAKEN, server, MyProc};
		board->servers[server].calls++;
		board->used = Max(board->used, (int) (taken - board->place) + 1);
	}
	LWLockRelease(&board->lock);
	return taken;
}

void
WakeServer(const Place *place)
{
	PGPROC *proc;

	LWLockAcquire(&board->lock, LW_SHARED);
	proc = board->servers[place->server].proc;
	LWLockRelease(&board->lock);
	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

/* Under the lock. */
static void
MakeFree(Place *place)
{
	board->servers[place->server].calls--;
	*place = (Place) {PLACE_FREE};
	while (board->used > 0 && board->place[board->used - 1].state == PLACE_FREE)
		board->used--;
}

/* Only what a server may know of is left to it. */
void
LeavePlace(Place *place)
{
	bool known;

	LWLockAcquire(&board->lock, LW_EXCLUSIVE);
	known = place->state == PLACE_ASKED || place->state == PLACE_OPEN;
	if (known)
		place->state = PLACE_CLOSED;
	else
		MakeFree(place);
	LWLockRelease(&board->lock);
	if (known)
		WakeServer(place);
}

/* ---- servers ---- */

int
RegisterServer(const char *device, const char *name)
{
	int free = -1;
	bool doubled = false;

	LWLockAcquire(&board->lock, LW_EXCLUSIVE);
	for (int i = 0; i < INFERENCE_SERVERS; i++)
	{
		if (board->servers[i].proc == NULL)
			free = free < 0 ? i : free;
		else if (strcmp(board->servers[i].device, device) == 0)
			doubled = true;
	}
	if (doubled)
		free = -1;
	if (free >= 0)
	{
		Server *s = &board->servers[free];

		s->counts = (ServerCounts) {0};
		s->pid = MyProcPid;
		strlcpy(s->device, device, sizeof(s->device));
		strlcpy(s->name, name, sizeof(s->name));
		s->proc = MyProc;
	}
	LWLockRelease(&board->lock);
	return free;
}

void
UnregisterServer(int server)
{
	LWLockAcquire(&board->lock, LW_EXCLUSIVE);
	board->servers[server].proc = NULL;
	for (int i = 0; i < BoardPlaces(); i++)
	{
		Place *place = &board->place[i];

		if (place->server != server)
			continue;
		if (place->state == PLACE_CLOSED)
			MakeFree(place);
		else if (place->state == PLACE_ASKED || place->state == PLACE_OPEN)
		{
			place->state = PLACE_LOST;
			SetLatch(&place->session->procLatch);
		}
	}
	LWLockRelease(&board->lock);
}

void
FreePlace(Place *place)
{
	LWLockAcquire(&board->lock, LW_EXCLUSIVE);
	MakeFree(place);
	LWLockRelease(&board->lock);
}

void
ReportCounts(int server, const ServerCounts *counts)
{
	LWLockAcquire(&board->lock, LW_EXCLUSIVE);
	board->servers[server].counts = *counts;
	LWLockRelease(&board->lock);
}

int
CopyServers(Server copies[INFERENCE_SERVERS])
{
	int count = 0;

	LWLockAcquire(&board->lock, LW_SHARED);
	for (int i = 0; i < INFERENCE_SERVERS; i++)
		if (board->servers[i].proc != NULL)
			copies[count++] = board->servers[i];
	LWLockRelease(&board->lock);
	return count;
}
