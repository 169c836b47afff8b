/*
 * image_rows.c
 *	  Rows of a picture as they are decoded, brought to the wanted size and colours.
 *
 * Each axis is resampled on its own.  A row is first brought to the wanted width, then
 * added with its weight to every row of the result it belongs to: memory is the result and
 * two rows.  Weights come from integers, so that equal sizes copy exactly and mirrored
 * pictures give mirrored results.
 */
#include "image_rows.h"

#include <stdlib.h>
#include <string.h>

bool
image_truncated(const char *format, size_t size, llm_error *err)
{
	llm_fail(err, LLM_CORRUPT, "%s picture is truncated", format);
	llm_detail(err, "Its %zu bytes end before the picture is complete.", size);
	return llm_hint(err, "Compare octet_length() with the size of the file.");
}

static bool
axis_allocate(image_axis *axis, int32_t in, int32_t out)
{
	/* Sides are at most IMAGE_MAX_SIDE: no overflow. */
	axis->first = malloc(out * sizeof(int32_t));
	axis->count = malloc(out * sizeof(int32_t));
	axis->at = malloc(out * sizeof(int32_t));
	axis->weights = malloc(((size_t) in + 2 * (size_t) out) * sizeof(float));
	return axis->first && axis->count && axis->at && axis->weights;
}

/* Area o of the result covers [o * in, (o + 1) * in) where pixel i covers [i * out, (i + 1) * out). */
static void
axis_average(image_axis *axis, int64_t in, int64_t out)
{
	int32_t used = 0;

	for (int64_t o = 0; o < out; o++)
	{
		int64_t begin = o * in;
		int64_t end = begin + in;
		int64_t first = begin / out;
		int64_t last = (end - 1) / out;

		axis->first[o] = (int32_t) first;
		axis->count[o] = (int32_t) (last - first + 1);
		axis->at[o] = used;
		for (int64_t i = first; i <= last; i++)
		{
			int64_t from = begin > i * out ? begin : i * out;
			int64_t to = end < (i + 1) * out ? end : (i + 1) * out;

			axis->weights[used++] = (float) ((double) (to - from) / in);
		}
	}
}

/* The centre of pixel o lies at ((2 o + 1) in - out) / 2 out between the centres of the picture's pixels. */
static void
axis_interpolate(image_axis *axis, int64_t in, int64_t out)
{
	for (int64_t o = 0; o < out; o++)
	{
		int64_t unit = 2 * out;
		int64_t place = (2 * o + 1) * in - out;
		int64_t rest;

		if (place < 0)
			place = 0;
		if (place > unit * (in - 1))
			place = unit * (in - 1);
		rest = place % unit;
		axis->first[o] = (int32_t) (place / unit);
		axis->count[o] = rest > 0 ? 2 : 1;
		axis->at[o] = (int32_t) (2 * o);
		axis->weights[2 * o] = (float) ((double) (unit - rest) / unit);
		axis->weights[2 * o + 1] = (float) ((double) rest / unit);
	}
}

static bool
axis_new(image_axis *axis, int32_t in, int32_t out)
{
	if (!axis_allocate(axis, in, out))
		return false;
	if (out <= in)
		axis_average(axis, in, out);
	else
		axis_interpolate(axis, in, out);
	return true;
}

static void
axis_free(image_axis *axis)
{
	free(axis->first);
	free(axis->count);
	free(axis->at);
	free(axis->weights);
}

static bool
rows_allocate(image_rows *rows)
{
	const image_shape *picture = &rows->picture;
	const image_shape *wanted = &rows->wanted;

	rows->planes = picture->channels < wanted->channels ? picture->channels : wanted->channels;
	rows->row = malloc((size_t) picture->width * picture->channels * sizeof(float));
	rows->line = malloc((size_t) wanted->width * rows->planes * sizeof(float));
	return rows->row && rows->line && axis_new(&rows->across, picture->width, wanted->width) &&
		   axis_new(&rows->down, picture->height, wanted->height);
}

bool
image_rows_begin(image_rows *rows, int64_t width, int64_t height, int32_t channels, llm_error *err)
{
	const image_shape *wanted = &rows->wanted;

	if (width < 1 || height < 1)
		return llm_fail(err, LLM_CORRUPT, "picture of %lld x %lld pixels is empty", (long long) width,
						(long long) height);
	if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE || width * height > IMAGE_MAX_PIXELS)
	{
		llm_fail(err, LLM_INVALID, "picture of %lld x %lld pixels is too large", (long long) width,
				 (long long) height);
		return llm_detail(err, "A picture has at most %d pixels on a side and %d pixels.", IMAGE_MAX_SIDE,
						  IMAGE_MAX_PIXELS);
	}
	rows->picture = (image_shape) {.width = (int32_t) width, .height = (int32_t) height, .channels = channels};
	if (rows->pixels == NULL)
		return true;
	if (!rows_allocate(rows))
		return llm_fail(err, LLM_MEMORY, "not enough memory to decode a picture of %d x %d pixels",
						rows->picture.width, rows->picture.height);
	memset(rows->pixels, 0, (size_t) wanted->channels * wanted->height * wanted->width * sizeof(float));
	return true;
}

/* The row in grey, in its own place. */
static void
row_to_grey(float *row, int32_t width)
{
	for (int32_t x = 0; x < width; x++)
		row[x] = 0.299f * row[3 * x] + 0.587f * row[3 * x + 1] + 0.114f * row[3 * x + 2];
}

/* (picture.width x planes) to (planes x wanted.width) */
static void
row_to_line(image_rows *rows)
{
	const image_axis *axis = &rows->across;
	int32_t planes = rows->planes;

	for (int32_t plane = 0; plane < planes; plane++)
		for (int32_t o = 0; o < rows->wanted.width; o++)
		{
			const float *from = rows->row + (size_t) axis->first[o] * planes + plane;
			const float *weights = axis->weights + axis->at[o];
			double sum = 0;

			for (int32_t i = 0; i < axis->count[o]; i++)
				sum += weights[i] * from[(size_t) i * planes];
			rows->line[(size_t) plane * rows->wanted.width + o] = (float) sum;
		}
}

/* Add the line with a weight to row o of every plane of the result. */
static void
add_line(image_rows *rows, int32_t o, float weight)
{
	int32_t width = rows->wanted.width;

	for (int32_t plane = 0; plane < rows->planes; plane++)
	{
		const float *from = rows->line + (size_t) plane * width;
		float *to = rows->pixels + ((size_t) plane * rows->wanted.height + o) * width;

		for (int32_t x = 0; x < width; x++)
			to[x] += weight * from[x];
	}
}

bool
image_rows_add(image_rows *rows, llm_error *err)
{
	const image_axis *axis = &rows->down;
	int32_t y = rows->done++;

	if (rows->poll != NULL && rows->poll(rows->poll_arg))
		return llm_fail(err, LLM_CANCELLED, "canceling the decoding of a picture");
	if (rows->picture.channels > rows->planes)
		row_to_grey(rows->row, rows->picture.width);
	row_to_line(rows);
	for (int32_t o = rows->lowest; o < rows->wanted.height && axis->first[o] <= y; o++)
		if (y < axis->first[o] + axis->count[o])
			add_line(rows, o, axis->weights[axis->at[o] + y - axis->first[o]]);
	while (rows->lowest < rows->wanted.height && axis->first[rows->lowest] + axis->count[rows->lowest] <= y + 1)
		rows->lowest++;
	return true;
}

void
image_rows_end(image_rows *rows)
{
	size_t plane = (size_t) rows->wanted.height * rows->wanted.width;

	/* Rounded weights may add up to a little more than 1. */
	for (size_t i = 0; i < plane * rows->planes; i++)
		rows->pixels[i] = rows->pixels[i] > 1 ? 1 : rows->pixels[i];
	for (int32_t c = rows->planes; c < rows->wanted.channels; c++)
		memcpy(rows->pixels + plane * c, rows->pixels, plane * sizeof(float));
}

void
image_rows_free(image_rows *rows)
{
	free(rows->row);
	free(rows->line);
	axis_free(&rows->across);
	axis_free(&rows->down);
}
