/*
 * board.h
 *	  Where sessions and inference servers meet: places in shared memory, and a segment for each call.
 *
 * A call takes a free place and puts a segment of dynamic shared memory there, which says of which model, and has a
 * cell for each text, or one for rows.  The server that the place names opens or refuses it.  Then the session writes
 * tokens or rows into cells and raises `asked`; the server answers with a result and sets `answered` to what was
 * asked.  Whoever changed something sets the latch of the other.  A place goes
 *
 *	free -> taken -> asked -> open -> closed -> free
 *
 * where all but the steps to open and refused, and from closed to free, are the session's.  A server that ends makes
 * what it has lost; the session then frees it.  Include after postgres.h.
 */
#ifndef LLMAPP_BOARD_H
#define LLMAPP_BOARD_H

#include "port/atomics.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "../engine/scheduler.h"
#include "infer.h"

#define INFERENCE_SERVERS 16

typedef enum PlaceState
{
	PLACE_FREE,
	PLACE_TAKEN, /* the session prepares it */
	PLACE_ASKED, /* the server is to open it */
	PLACE_OPEN,
	PLACE_REFUSED, /* the server does not take it */
	PLACE_CLOSED,  /* the session does not want it any more */
	PLACE_LOST     /* the server is gone */
} PlaceState;

typedef struct Place
{
	PlaceState state;
	int server;
	PGPROC *session;
	dsm_handle segment;
} Place;

/* What a server has done since it started, and has in memory; written by it alone. */
typedef struct ServerCounts
{
	scheduler_counts work;
	int32 models;
	int64 memory; /* bytes */
} ServerCounts;

typedef struct Server
{
	PGPROC *proc; /* NULL: none */
	int pid;
	char device[16]; /* "cpu", "cuda:N" */
	char name[64];   /* of the GPU */
	int32 calls;     /* places that name it */
	ServerCounts counts;
} Server;

/* A text in a segment, or rows. */
typedef struct Cell
{
	pg_atomic_uint32 asked;    /* by the session */
	pg_atomic_uint32 answered; /* by the server */
	int32 keep, count;         /* of tokens; count: of rows */
	bool failed;               /* the server could not */
} Cell;

/* The beginning of a segment; what follows lies at these offsets. */
typedef struct Segment
{
	Oid database, relid;
	int32 version;
	InferenceKind kind;
	int32 texts;   /* 1 of rows */
	int32 rows;    /* most that are given together */
	int32 context; /* most tokens of a text; of rows: integers of batch_input_bytes() */
	int32 outputs; /* numbers of a result: vocab, width, or those of all rows */
	Size manifest, manifest_bytes;
	Size weights, weights_bytes; /* 0: they are in the file of the version */
	Size cells;                  /* (texts) */
	Size ids;                    /* (texts, context) */
	Size results;                /* (texts, outputs) */
} Segment;

static inline void *
InSegment(Segment *s, Size offset)
{
	return (char *) s + offset;
}

static inline Cell *
CellOf(Segment *s, int32 text)
{
	return (Cell *) InSegment(s, s->cells) + text;
}

static inline int32 *
IdsOf(Segment *s, int32 text)
{
	return (int32 *) InSegment(s, s->ids) + (Size) text * s->context;
}

static inline float *
ResultOf(Segment *s, int32 text)
{
	return (float *) InSegment(s, s->results) + (Size) text * s->outputs;
}

extern void RequestBoardMemory(void); /* in the postmaster */
/* False when llmapp was not preloaded. */
extern bool HasBoard(void);

extern int BoardPlaces(void); /* in all */
extern int PlacesInUse(void); /* behind the last one that is not free */
extern Place *PlaceAt(int number);
/* The state may be changed by the other side. */
extern PlaceState ReadPlace(const Place *place);
/* False unless the state was `from`. */
extern bool MovePlace(Place *place, PlaceState from, PlaceState to);

/* A free place at the server with the fewest calls, or that of a GPU, taken by this session; NULL: there is none. */
extern Place *TakePlace(bool on_gpu);
/* The session's end of a place, whatever its state. */
extern void LeavePlace(Place *place);
extern void WakeServer(const Place *place);

/* This process as server of a device: its number, or -1 when there are too many, or one that has the device. */
extern int RegisterServer(const char *device, const char *name);
extern void UnregisterServer(int server); /* its places are lost */
extern void FreePlace(Place *place);      /* one that was closed */
extern void ReportCounts(int server, const ServerCounts *counts);
extern int CopyServers(Server copies[INFERENCE_SERVERS]); /* those that are there */

#endif /* LLMAPP_BOARD_H */
