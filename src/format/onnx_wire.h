/*
 * onnx_wire.h
 *	  Messages of Protocol Buffers in an ONNX file, for the files that read it.
 *
 * A file is a message: fields with a number, each of which is an integer, four or eight bytes, or a
 * length and bytes; messages in messages are such bytes.  A field must end within its message.
 * Source: "Encoding" in the documentation of Protocol Buffers.
 */
#ifndef LLMAPP_ONNX_WIRE_H
#define LLMAPP_ONNX_WIRE_H

#include "tensor_source.h"

#define WIRE_FAIL(w, ...) llm_fail((w)->err, LLM_CORRUPT, __VA_ARGS__)

/* A place in the file, and the bytes around it that are in memory. */
typedef struct wire
{
	const tensor_source *source;
	int32_t file;
	uint64_t size;
	uint64_t at;
	uint8_t *window;
	uint64_t start; /* of the window in the file */
	size_t have;    /* bytes in it */
	llm_error *err;
} wire;

typedef enum wire_type
{
	WIRE_INTEGER = 0,
	WIRE_EIGHT = 1,
	WIRE_BYTES = 2,
	WIRE_FOUR = 5
} wire_type;

typedef struct field
{
	uint64_t number;
	wire_type type;
	uint64_t value;  /* of an integer */
	uint64_t at;     /* of the others: where their bytes begin, */
	uint64_t length; /* and how many there are */
} field;

/* All return false with LLM_CORRUPT, LLM_MEMORY, or what the reader of the source fails with. */
extern bool wire_open(wire *w, const tensor_source *source, int32_t file, uint64_t size, llm_error *err);
extern void wire_close(wire *w);
/* An integer of at most 64 bits that ends before `end`. */
extern bool wire_integer(wire *w, uint64_t end, uint64_t *out);
/* The next field of a message that ends at `end`; the place is behind it then. */
extern bool wire_field(wire *w, uint64_t end, field *f);
/* Bytes of the file from a place on; its place is behind them then. */
extern bool wire_bytes(wire *w, uint64_t at, void *out, size_t count);
/* A field of min to max printable ASCII characters, and a zero byte behind them; what: of the message. */
extern bool wire_name(wire *w, const field *f, const char *what, size_t min, size_t max, char *name);

/* Called for a field of a message; the place may be left anywhere. */
typedef bool (*wire_visitor)(wire *w, const field *f, void *arg);
/* Each field of a message in turn; LLM_CORRUPT when it is none. */
extern bool wire_each(wire *w, const field *message, wire_visitor visit, void *arg);

#endif /* LLMAPP_ONNX_WIRE_H */
