/*
 * image_netpbm.c
 *	  PGM and PPM pictures, binary (P5, P6) and text (P2, P3).
 *
 * See https://netpbm.sourceforge.net/doc/pgm.html and ppm.html: the letter and digit, then
 * width, height and largest sample as decimal numbers with white space and "#" comments
 * between them, one white space, the samples row by row.  Binary samples have one byte, or
 * two (big-endian) when the largest is above 255.  Of a file with several pictures the first is read.
 */
#include "image_rows.h"

#include <string.h>

typedef struct netpbm
{
	const uint8_t *at;
	const uint8_t *end;
	size_t size;      /* of the whole file */
	const char *name; /* PGM or PPM */
	bool text;
	int32_t largest; /* 1 .. 65535 */
	llm_error *err;
} netpbm;

static bool
is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* White space and comments. */
static void
skip_space(netpbm *n)
{
	while (n->at < n->end && (is_space(*n->at) || *n->at == '#'))
	{
		if (*n->at == '#')
			while (n->at < n->end && *n->at != '\n' && *n->at != '\r')
				n->at++;
		else
			n->at++;
	}
}

/* A decimal number; what is above the limit of any number here comes back as a larger one. */
static bool
read_number(netpbm *n, int32_t *number)
{
	const uint8_t *first;

	skip_space(n);
	if (n->at == n->end)
		return image_truncated(n->name, n->size, n->err);
	first = n->at;
	for (*number = 0; n->at < n->end && *n->at >= '0' && *n->at <= '9'; n->at++)
		*number = *number > 1000000 ? *number : *number * 10 + (*n->at - '0');
	if (n->at > first && (n->at == n->end || is_space(*n->at) || *n->at == '#'))
		return true;
	llm_fail(n->err, LLM_CORRUPT, "%s picture is damaged", n->name);
	return llm_detail(n->err, "A number is expected at byte %zu.", n->size - (size_t) (n->end - first) + 1);
}

static bool
sample_too_large(netpbm *n, int32_t sample)
{
	llm_fail(n->err, LLM_CORRUPT, "%s picture is damaged", n->name);
	return llm_detail(n->err, "A sample is %d, the largest one should be %d.", sample, n->largest);
}

static bool
read_text_row(netpbm *n, float *row, int32_t samples)
{
	for (int32_t i = 0; i < samples; i++)
	{
		int32_t sample;

		if (!read_number(n, &sample))
			return false;
		if (sample > n->largest)
			return sample_too_large(n, sample);
		row[i] = (float) sample / (float) n->largest;
	}
	return true;
}

static bool
read_binary_row(netpbm *n, float *row, int32_t samples)
{
	int32_t bytes = n->largest > 255 ? 2 : 1;

	if (n->end - n->at < (ptrdiff_t) samples * bytes)
		return image_truncated(n->name, n->size, n->err);
	for (int32_t i = 0; i < samples; i++, n->at += bytes)
	{
		int32_t sample = bytes == 2 ? n->at[0] << 8 | n->at[1] : n->at[0];

		if (sample > n->largest)
			return sample_too_large(n, sample);
		row[i] = (float) sample / (float) n->largest;
	}
	return true;
}

static bool
read_rows(netpbm *n, image_rows *rows)
{
	int32_t samples = rows->picture.width * rows->picture.channels;

	for (int32_t y = 0; y < rows->picture.height; y++)
		if (!(n->text ? read_text_row(n, rows->row, samples) : read_binary_row(n, rows->row, samples)) ||
			!image_rows_add(rows, n->err))
			return false;
	return true;
}

bool
image_netpbm(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err)
{
	/* The caller has seen "P2", "P3", "P5" or "P6". */
	int32_t channels = bytes[1] == '3' || bytes[1] == '6' ? 3 : 1;
	netpbm n = {.at = bytes + 2,
				.end = bytes + size,
				.size = size,
				.name = channels == 3 ? "PPM" : "PGM",
				.text = bytes[1] <= '3',
				.err = err};
	int32_t width, height;

	if (!read_number(&n, &width) || !read_number(&n, &height) || !read_number(&n, &n.largest))
		return false;
	if (n.largest < 1 || n.largest > 65535)
	{
		llm_fail(err, LLM_CORRUPT, "%s picture is damaged", n.name);
		return llm_detail(err, "Its largest sample is given as %d; it is between 1 and 65535.", n.largest);
	}
	if (!image_rows_begin(rows, width, height, channels, err))
		return false;
	if (rows->pixels == NULL)
		return true;
	/* The white space that ends the header: one, for any byte can be a sample. */
	if (n.at < n.end)
		n.at++;
	return read_rows(&n, rows);
}
