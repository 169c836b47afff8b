/*
 * image_png.c
 *	  PNG pictures, by libpng.
 *
 * libpng leaves a failed call by longjmp: guarded() is the only function it jumps to, and
 * nothing between owns memory that is not in the reader.  Palettes, 1, 2 and 4 bits become
 * 8 bits, 16 bits stay, transparency becomes alpha and is laid over white.  Chunks that do
 * not change samples are skipped unread.  Only an interlaced picture is held in memory.
 */
#include "image_rows.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

typedef struct png_reader
{
	const uint8_t *bytes;
	size_t size;
	size_t at;
	image_rows *rows;
	llm_error *err;
	png_structp png;
	png_infop info;
	uint8_t *buffer; /* one row, of an interlaced picture all */
	size_t row_bytes;
	int32_t samples; /* of a pixel, 1 .. 4: grey or colours, alpha when even */
	bool wide;       /* samples have two bytes, big-endian */
} png_reader;

static void
on_error(png_structp png, png_const_charp message)
{
	png_reader *r = png_get_error_ptr(png);

	llm_fail(r->err, LLM_CORRUPT, "PNG picture is damaged");
	if (r->err->detail[0] == '\0')
		llm_detail(r->err, "libpng: %s.", message);
	png_longjmp(png, 1);
}

/* Oddities that do not keep libpng from reading. */
static void
on_warning(png_structp png, png_const_charp message)
{
}

static void
read_bytes(png_structp png, png_bytep to, size_t count)
{
	png_reader *r = png_get_io_ptr(png);

	if (count > r->size - r->at)
	{
		image_truncated("PNG", r->size, r->err);
		png_error(png, "truncated");
	}
	memcpy(to, r->bytes + r->at, count);
	r->at += count;
}

/* Chunks of no use here, so that no text or profile is ever decompressed. */
static void
skip_chunks(png_structp png)
{
	static const png_byte names[] =
		"bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTXt";

	png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, names, sizeof(names) / 5);
}

/* Read the header and ask for samples of 8 or 16 bits. */
static bool
read_header(png_reader *r)
{
	int color, depth;

	png_set_read_fn(r->png, r, read_bytes);
	/* Our own limits have better words. */
	png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
	skip_chunks(r->png);
	png_read_info(r->png, r->info);
	color = png_get_color_type(r->png, r->info);
	depth = png_get_bit_depth(r->png, r->info);
	r->wide = depth == 16;
	if (!image_rows_begin(r->rows, png_get_image_width(r->png, r->info), png_get_image_height(r->png, r->info),
						  color & PNG_COLOR_MASK_COLOR ? 3 : 1, r->err))
		return false;
	png_set_expand(r->png);
	return true;
}

/* Memory for what libpng hands out at once. */
static bool
allocate_rows(png_reader *r, int passes)
{
	size_t height = passes > 1 ? (size_t) r->rows->picture.height : 1;

	png_read_update_info(r->png, r->info);
	r->row_bytes = png_get_rowbytes(r->png, r->info);
	r->samples = png_get_channels(r->png, r->info);
	if (r->row_bytes > IMAGE_MAX_MEMORY / height || (r->buffer = calloc(height, r->row_bytes)) == NULL)
	{
		llm_fail(r->err, LLM_MEMORY, "not enough memory to decode a PNG picture");
		return llm_detail(r->err, "Decoding takes at most %d bytes besides the result.", IMAGE_MAX_MEMORY);
	}
	return true;
}

static float
sample_at(const png_reader *r, const uint8_t *samples, size_t i)
{
	return r->wide ? (float) (samples[2 * i] << 8 | samples[2 * i + 1]) / 65535.0f : (float) samples[i] / 255.0f;
}

/* A row of samples, laid over white where it has alpha. */
static void
convert_row(const png_reader *r, const uint8_t *samples)
{
	int32_t channels = r->rows->picture.channels;

	for (int32_t x = 0; x < r->rows->picture.width; x++)
	{
		size_t pixel = (size_t) x * r->samples;
		float alpha = r->samples > channels ? sample_at(r, samples, pixel + channels) : 1.0f;

		for (int32_t c = 0; c < channels; c++)
			r->rows->row[(size_t) x * channels + c] = sample_at(r, samples, pixel + c) * alpha + (1.0f - alpha);
	}
}

static bool
read_pass(png_reader *r, bool interlaced, bool last)
{
	image_rows *rows = r->rows;

	for (int32_t y = 0; y < rows->picture.height; y++)
	{
		uint8_t *samples = r->buffer + (interlaced ? r->row_bytes * y : 0);

		png_read_row(r->png, samples, NULL);
		if (last)
		{
			convert_row(r, samples);
			if (!image_rows_add(rows, r->err))
				return false;
		}
		else if (rows->poll != NULL && rows->poll(rows->poll_arg))
			return llm_fail(r->err, LLM_CANCELLED, "canceling the decoding of a picture");
	}
	return true;
}

static bool
read_picture(png_reader *r)
{
	int passes;

	if (!read_header(r))
		return false;
	if (r->rows->pixels == NULL)
		return true;
	passes = png_set_interlace_handling(r->png);
	if (!allocate_rows(r, passes))
		return false;
	for (int pass = 1; pass <= passes; pass++)
		if (!read_pass(r, passes > 1, pass == passes))
			return false;
	png_read_end(r->png, NULL);
	return true;
}

/* False, with the error recorded, when libpng gave up. */
static bool
guarded(png_reader *r)
{
	if (setjmp(png_jmpbuf(r->png)))
		return false;
	return read_picture(r);
}

bool
image_png(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err)
{
	png_reader r = {.bytes = bytes, .size = size, .rows = rows, .err = err};
	bool ok;

	r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
	r.info = r.png ? png_create_info_struct(r.png) : NULL;
	if (r.info)
		ok = guarded(&r);
	else
		ok = llm_fail(err, LLM_MEMORY, "libpng cannot be used");
	png_destroy_read_struct(&r.png, &r.info, NULL);
	free(r.buffer);
	return ok;
}
