/*
 * onnx_wire.c
 *	  Messages of Protocol Buffers in an ONNX file.
 */
#include "onnx_wire.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES 65536

bool
wire_open(wire *w, const tensor_source *source, int32_t file, uint64_t size, llm_error *err)
{
	*w = (wire) {.source = source, .file = file, .size = size, .err = err};
	w->window = malloc(size < WINDOW_BYTES ? (size_t) size + 1 : WINDOW_BYTES);
	return w->window != NULL || llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
}

void
wire_close(wire *w)
{
	free(w->window);
	w->window = NULL;
}

/* The byte at the place, which lies in the file. */
static bool
take_byte(wire *w, uint8_t *out)
{
	if (w->at < w->start || w->at - w->start >= w->have)
	{
		uint64_t left = w->size - w->at;
		size_t bytes = left < WINDOW_BYTES ? (size_t) left : WINDOW_BYTES;

		w->have = 0;
		if (!w->source->read(w->source->arg, w->file, w->at, w->window, bytes, w->err))
			return false;
		w->start = w->at;
		w->have = bytes;
	}
	*out = w->window[w->at++ - w->start];
	return true;
}

static bool
ends_early(wire *w)
{
	return WIRE_FAIL(w, "a field of the file does not end within its message, at byte %llu",
					 (unsigned long long) w->at);
}

/* Seven bits to a byte, the lowest first. */
bool
wire_integer(wire *w, uint64_t end, uint64_t *out)
{
	uint8_t byte = 0x80;

	*out = 0;
	for (int shift = 0; byte & 0x80; shift += 7)
	{
		if (w->at >= end)
			return ends_early(w);
		if (!take_byte(w, &byte))
			return false;
		if (shift == 63 && byte > 1)
			return WIRE_FAIL(w, "an integer of the file has more than 64 bits, at byte %llu",
							 (unsigned long long) w->at);
		*out |= (uint64_t) (byte & 0x7f) << shift;
	}
	return true;
}

bool
wire_field(wire *w, uint64_t end, field *f)
{
	uint64_t tag;

	if (!wire_integer(w, end, &tag))
		return false;
	*f = (field) {.number = tag >> 3, .type = (wire_type) (tag & 7)};
	if (f->number == 0)
		return WIRE_FAIL(w, "the file has a field of number 0, at byte %llu", (unsigned long long) w->at);
	switch (f->type)
	{
		case WIRE_INTEGER: return wire_integer(w, end, &f->value);
		case WIRE_FOUR: f->length = 4; break;
		case WIRE_EIGHT: f->length = 8; break;
		case WIRE_BYTES:
			if (!wire_integer(w, end, &f->length))
				return false;
			break;
		default:
			return WIRE_FAIL(w, "the file has a field of unknown form %d, at byte %llu", (int) f->type,
							 (unsigned long long) w->at);
	}
	f->at = w->at;
	if (f->length > end - w->at)
		return ends_early(w);
	w->at += f->length;
	return true;
}

bool
wire_bytes(wire *w, uint64_t at, void *out, size_t count)
{
	w->at = at;
	for (size_t i = 0; i < count; i++)
		if (!take_byte(w, (uint8_t *) out + i))
			return false;
	return true;
}

bool
wire_name(wire *w, const field *f, const char *what, size_t min, size_t max, char *name)
{
	if (f->type != WIRE_BYTES || f->length < min || f->length > max)
		return WIRE_FAIL(w, "the name of a %s is not one of %zu to %zu bytes", what, min, max);
	if (!wire_bytes(w, f->at, name, (size_t) f->length))
		return false;
	name[f->length] = '\0';
	for (uint64_t i = 0; i < f->length; i++)
		if (name[i] < ' ' || name[i] > '~')
			return WIRE_FAIL(w, "the name of a %s has other bytes than printable ASCII", what);
	return true;
}

bool
wire_each(wire *w, const field *message, wire_visitor visit, void *arg)
{
	uint64_t end = message->at + message->length;
	field f;

	if (message->type != WIRE_BYTES)
		return WIRE_FAIL(w, "a message of the file is none, at byte %llu", (unsigned long long) w->at);
	for (w->at = message->at; w->at < end;)
	{
		uint64_t behind;

		if (!wire_field(w, end, &f))
			return false;
		behind = w->at;
		if (!visit(w, &f, arg))
			return false;
		w->at = behind;
	}
	return true;
}
