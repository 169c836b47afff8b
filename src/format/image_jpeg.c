/*
 * image_jpeg.c
 *	  JPEG pictures, by libjpeg (libjpeg-turbo, or any with its interface).
 *
 * libjpeg leaves a failed call by longjmp: guarded() is the only function it jumps to, and
 * nothing between owns memory that is not in the reader.  Grey stays, YCbCr and RGB become
 * RGB, CMYK and YCCK too, without a colour profile.  Damaged data is refused; oddities that
 * lose no pixel are read.  The integer transform is taken: it gives the same bytes everywhere.
 */
#include "image_rows.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <jerror.h>

#define MAX_SCANS 100 /* each walks over the whole picture; real files have about 10 */

typedef struct jpeg_reader
{
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	struct jpeg_source_mgr source;
	struct jpeg_progress_mgr progress;
	jmp_buf failed;
	size_t size;
	image_rows *rows;
	llm_error *err;
	uint8_t *buffer; /* one row of samples */
} jpeg_reader;

/* The error is recorded: leave libjpeg. */
static void
give_up(j_common_ptr jpeg)
{
	jpeg_reader *r = jpeg->client_data;

	longjmp(r->failed, 1);
}

static void
on_error(j_common_ptr jpeg)
{
	jpeg_reader *r = jpeg->client_data;
	char message[JMSG_LENGTH_MAX];
	int code = jpeg->err->msg_code;

	jpeg->err->format_message(jpeg, message);
	if (code == JERR_OUT_OF_MEMORY || code == JERR_NO_BACKING_STORE)
	{
		llm_fail(r->err, LLM_MEMORY, "not enough memory to decode a JPEG picture");
		llm_detail(r->err, "Decoding takes at most %d bytes besides the result.", IMAGE_MAX_MEMORY);
	}
	else
	{
		llm_fail(r->err, LLM_CORRUPT, "JPEG picture is damaged or of an unknown kind");
		llm_detail(r->err, "libjpeg: %s.", message);
	}
	give_up(jpeg);
}

/* Warnings have level -1; these mean that pixels are lost. */
static void
on_message(j_common_ptr jpeg, int level)
{
	int code = jpeg->err->msg_code;

	if (level < 0 && (code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_MUST_RESYNC ||
					  code == JWRN_ARITH_BAD_CODE))
		on_error(jpeg);
}

static void
source_nothing(j_decompress_ptr jpeg)
{
}

/* All bytes were there from the start: there are no more. */
static boolean
source_fill(j_decompress_ptr jpeg)
{
	jpeg_reader *r = jpeg->client_data;

	image_truncated("JPEG", r->size, r->err);
	give_up((j_common_ptr) jpeg);
	return FALSE;
}

static void
source_skip(j_decompress_ptr jpeg, long count)
{
	if (count <= 0)
		return;
	if ((size_t) count > jpeg->src->bytes_in_buffer)
		source_fill(jpeg);
	jpeg->src->next_input_byte += count;
	jpeg->src->bytes_in_buffer -= (size_t) count;
}

/* Called once for every row of blocks of every scan. */
static void
on_progress(j_common_ptr jpeg)
{
	jpeg_reader *r = jpeg->client_data;

	if (r->jpeg.input_scan_number > MAX_SCANS)
	{
		llm_fail(r->err, LLM_CORRUPT, "JPEG picture has more than %d scans", MAX_SCANS);
		give_up(jpeg);
	}
	if (r->rows->poll != NULL && r->rows->poll(r->rows->poll_arg))
	{
		llm_fail(r->err, LLM_CANCELLED, "canceling the decoding of a picture");
		give_up(jpeg);
	}
}

static void
open_source(jpeg_reader *r, const uint8_t *bytes)
{
	r->source.next_input_byte = bytes;
	r->source.bytes_in_buffer = r->size;
	r->source.init_source = source_nothing;
	r->source.fill_input_buffer = source_fill;
	r->source.skip_input_data = source_skip;
	r->source.resync_to_restart = jpeg_resync_to_restart;
	r->source.term_source = source_nothing;
	r->progress.progress_monitor = on_progress;
	r->jpeg.src = &r->source;
	r->jpeg.progress = &r->progress;
	r->jpeg.mem->max_memory_to_use = IMAGE_MAX_MEMORY;
}

/* Choose the samples that libjpeg hands out. */
static bool
choose_colors(jpeg_reader *r)
{
	switch (r->jpeg.jpeg_color_space)
	{
		case JCS_GRAYSCALE: r->jpeg.out_color_space = JCS_GRAYSCALE; return true;
		case JCS_YCbCr:
		case JCS_RGB: r->jpeg.out_color_space = JCS_RGB; return true;
		case JCS_CMYK:
		case JCS_YCCK: r->jpeg.out_color_space = JCS_CMYK; return true;
		default:
			llm_fail(r->err, LLM_CORRUPT, "JPEG picture is damaged or of an unknown kind");
			return llm_detail(r->err, "It has %d color components.", r->jpeg.num_components);
	}
}

/* What ink leaves of the light; files of Adobe programs, almost all, store that instead of the ink. */
static void
convert_cmyk(jpeg_reader *r)
{
	for (int32_t x = 0; x < r->rows->picture.width; x++)
	{
		const uint8_t *ink = r->buffer + (size_t) x * 4;
		float light[4];

		for (int c = 0; c < 4; c++)
			light[c] = (float) (r->jpeg.saw_Adobe_marker ? ink[c] : 255 - ink[c]) / 255.0f;
		for (int c = 0; c < 3; c++)
			r->rows->row[(size_t) x * 3 + c] = light[c] * light[3];
	}
}

static void
convert_row(jpeg_reader *r)
{
	int32_t samples = r->rows->picture.width * r->rows->picture.channels;

	if (r->jpeg.out_color_space == JCS_CMYK)
		convert_cmyk(r);
	else
		for (int32_t i = 0; i < samples; i++)
			r->rows->row[i] = (float) r->buffer[i] / 255.0f;
}

static bool
read_rows(jpeg_reader *r)
{
	r->jpeg.dct_method = JDCT_ISLOW;
	jpeg_start_decompress(&r->jpeg);
	r->buffer = malloc((size_t) r->jpeg.output_width * (size_t) r->jpeg.output_components);
	if (r->buffer == NULL)
		return llm_fail(r->err, LLM_MEMORY, "not enough memory to decode a JPEG picture");
	while (r->jpeg.output_scanline < r->jpeg.output_height)
	{
		jpeg_read_scanlines(&r->jpeg, &r->buffer, 1);
		convert_row(r);
		if (!image_rows_add(r->rows, r->err))
			return false;
	}
	return true;
}

static bool
read_picture(jpeg_reader *r, const uint8_t *bytes)
{
	jpeg_create_decompress(&r->jpeg);
	open_source(r, bytes);
	jpeg_read_header(&r->jpeg, TRUE);
	if (!choose_colors(r) || !image_rows_begin(r->rows, r->jpeg.image_width, r->jpeg.image_height,
											   r->jpeg.out_color_space == JCS_GRAYSCALE ? 1 : 3, r->err))
		return false;
	return r->rows->pixels == NULL || read_rows(r);
}

/* False, with the error recorded, when libjpeg gave up. */
static bool
guarded(jpeg_reader *r, const uint8_t *bytes)
{
	if (setjmp(r->failed))
		return false;
	return read_picture(r, bytes);
}

bool
image_jpeg(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err)
{
	jpeg_reader r = {.size = size, .rows = rows, .err = err};
	bool ok;

	r.jpeg.client_data = &r;
	r.jpeg.err = jpeg_std_error(&r.errors);
	r.errors.error_exit = on_error;
	r.errors.emit_message = on_message;
	ok = guarded(&r, bytes);
	jpeg_destroy_decompress(&r.jpeg);
	free(r.buffer);
	return ok;
}
