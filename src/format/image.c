/*
 * image.c
 *	  Which decoder reads a picture, and the size of what it gives.
 *
 * A format is a row of the table: how its files begin, and its decoder.  Rows without
 * decoder are there for a better message.
 */
#include "image.h"

#include <string.h>

#include "image_rows.h"
#include "tensor_shape.h"

typedef bool (*image_decoder)(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err);

static const struct
{
	const char *name;
	const char *magic;
	size_t length;
	image_decoder decoder;
} formats[] = {
	{"PNG", "\x89PNG\r\n\x1a\n", 8, image_png},
	{"JPEG", "\xff\xd8\xff", 3, image_jpeg},
	{"PGM", "P2", 2, image_netpbm},
	{"PPM", "P3", 2, image_netpbm},
	{"PGM", "P5", 2, image_netpbm},
	{"PPM", "P6", 2, image_netpbm},
	{"GIF", "GIF8", 4, NULL},
	{"WebP", "RIFF", 4, NULL},
	{"BMP", "BM", 2, NULL},
	{"TIFF", "II*\0", 4, NULL},
	{"TIFF", "MM\0*", 4, NULL},
	{"PBM", "P1", 2, NULL},
	{"PBM", "P4", 2, NULL},
	{"PAM", "P7", 2, NULL},
	{"PDF", "%PDF", 4, NULL},
};

#define FORMATS ((int) (sizeof(formats) / sizeof(formats[0])))

static bool
unknown_format(const uint8_t *bytes, size_t size, const char *name, llm_error *err)
{
	char begin[2 * 8 + 1] = "";

	llm_fail(err, LLM_INVALID, "data is not a PNG, JPEG, PGM or PPM picture");
	for (size_t i = 0; i < 8 && i < size; i++)
	{
		begin[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		begin[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	if (name != NULL)
		llm_detail(err, "It begins like a %s file.", name);
	else if (size == 0)
		llm_detail(err, "It is empty.");
	else
		llm_detail(err, "Its %zu bytes begin with %s.", size, begin);
	return llm_hint(err, "Convert the file to PNG before it is stored.");
}

/* The decoder for these bytes, NULL with the error recorded when there is none. */
static image_decoder
choose_decoder(const uint8_t *bytes, size_t size, llm_error *err)
{
	const char *name = NULL;

	for (int i = 0; i < FORMATS && name == NULL; i++)
		if (size >= formats[i].length && memcmp(bytes, formats[i].magic, formats[i].length) == 0)
		{
			if (formats[i].decoder != NULL)
				return formats[i].decoder;
			name = formats[i].name;
		}
	unknown_format(bytes, size, name, err);
	return NULL;
}

/* Run the decoder for these bytes. */
static bool
run_decoder(const uint8_t *bytes, size_t size, image_rows *rows, llm_error *err)
{
	image_decoder decoder = choose_decoder(bytes, size, err);

	return decoder != NULL && decoder(bytes, size, rows, err);
}

bool
image_probe(const uint8_t *bytes, size_t size, image_shape *picture, llm_error *err)
{
	image_rows rows = {.pixels = NULL};
	bool ok = run_decoder(bytes, size, &rows, err);

	*picture = rows.picture;
	return ok;
}

/* b * c / a rounded, at least 1: the side that goes with b as c goes with a. */
static int64_t
other_side(int64_t a, int64_t b, int64_t c)
{
	int64_t side = (2 * b * c + a) / (2 * a);

	return side > 0 ? side : 1;
}

bool
image_fit(const image_shape *picture, image_shape *wanted, llm_error *err)
{
	int64_t width = wanted->width;
	int64_t height = wanted->height;

	if (wanted->channels == 0)
		wanted->channels = picture->channels;
	if (width == 0)
		width = height == 0 ? picture->width : other_side(picture->height, height, picture->width);
	if (height == 0)
		height = other_side(picture->width, width, picture->height);
	if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE || width * height * wanted->channels > TENSOR_MAX_ELEMENTS)
	{
		llm_fail(err, LLM_INVALID, "a picture of %lld x %lld pixels with %d channels does not fit into a tensor",
				 (long long) width, (long long) height, wanted->channels);
		llm_detail(err, "A tensor has at most %d elements, a side of a picture at most %d pixels.",
				   TENSOR_MAX_ELEMENTS, IMAGE_MAX_SIDE);
		return llm_hint(err, "Ask for a smaller one, for example llm_image(data, width => 224).");
	}
	wanted->width = (int32_t) width;
	wanted->height = (int32_t) height;
	return true;
}

bool
image_decode(const uint8_t *bytes, size_t size, const image_shape *wanted, float *pixels, llm_poll poll,
			 void *poll_arg, llm_error *err)
{
	image_rows rows = {.wanted = *wanted, .pixels = pixels, .poll = poll, .poll_arg = poll_arg};
	bool ok = run_decoder(bytes, size, &rows, err);

	if (ok)
		image_rows_end(&rows);
	image_rows_free(&rows);
	return ok;
}
