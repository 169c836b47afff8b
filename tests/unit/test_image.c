/*
 * test_image.c
 *	  Pictures of every kind that is read, made here, against the pixels they were made of;
 *	  scaling against values worked out by hand; truncated, damaged and oversized files.
 */
#include "../../src/format/image.h"
#include "../../src/format/image_rows.h"
#include "image_sample.h"
#include "test.h"

#define NEAR 1e-6

static llm_error err;

/* Decode at the picture's own size or at wanted (0: as it is); NULL on failure, otherwise free() it. */
static float *
decode(const void *bytes, size_t size, int width, int height, int channels, image_shape *shape)
{
	image_shape picture;
	float *pixels;

	memset(&err, 0, sizeof(err));
	*shape = (image_shape) {.width = width, .height = height, .channels = channels};
	if (!image_probe(bytes, size, &picture, &err) || !image_fit(&picture, shape, &err))
		return NULL;
	pixels = malloc((size_t) shape->width * shape->height * shape->channels * sizeof(float));
	if (image_decode(bytes, size, shape, pixels, NULL, NULL, &err))
		return pixels;
	free(pixels);
	return NULL;
}

/* Decode and compare with pixels of one shape. */
static void
check_file(const char *name, const void *bytes, size_t size, image_shape shape, const float *expected,
		   double tolerance)
{
	image_shape found;
	float *pixels = decode(bytes, size, 0, 0, 0, &found);

	if (!CHECK(pixels != NULL))
	{
		fprintf(stderr, "%s: %s %s\n", name, err.message, err.detail);
		return;
	}
	CHECK_INT(found.width, shape.width);
	CHECK_INT(found.height, shape.height);
	CHECK_INT(found.channels, shape.channels);
	for (int i = 0; i < shape.width * shape.height * shape.channels; i++)
		if (!CHECK_NEAR(pixels[i], expected[i], tolerance))
			fprintf(stderr, "%s: element %d\n", name, i);
	free(pixels);
}

static void
check_text(const char *file, image_shape shape, const float *expected)
{
	check_file(file, file, strlen(file), shape, expected, NEAR);
}

static void
check_sample(const char *name, sample_file file, image_shape shape, const float *expected, double tolerance)
{
	check_file(name, file.bytes, file.size, shape, expected, tolerance);
	free(file.bytes);
}

/* A file that must be refused with this code and message. */
static void
check_refused(const void *bytes, size_t size, int width, int height, llm_code code, const char *message,
			  const char *detail)
{
	image_shape shape;
	float *pixels = decode(bytes, size, width, height, 0, &shape);

	CHECK(pixels == NULL);
	CHECK_INT(err.code, code);
	CHECK_STR(err.message, message);
	if (detail != NULL)
		CHECK_STR(err.detail, detail);
	free(pixels);
}

static void
refuse_text(const char *file, llm_code code, const char *message, const char *detail)
{
	check_refused(file, strlen(file), 0, 0, code, message, detail);
}

static void
test_netpbm(void)
{
	image_shape grey = {.width = 2, .height = 2, .channels = 1};
	image_shape color = {.width = 2, .height = 1, .channels = 3};

	check_text("P2 2 2 4 0 1 2 4", grey, (float[]) {0, .25f, .5f, 1});
	check_text("P2\n# made by hand\n2 2 # the size\n#\n4\n0 1 # a comment\n2\t4\n", grey,
			   (float[]) {0, .25f, .5f, 1});
	check_text("P3 2 1 10 10 5 0 1 2 3", color, (float[]) {1, .1f, .5f, .2f, 0, .3f});
	check_file("P5", "P5\n2 2\n255\n\x00\x33\x66\xff", 15, grey, (float[]) {0, .2f, .4f, 1}, NEAR);
	check_file("P5 that starts with white space", "P5\n2 2\n255\n\n \xff\x00", 15, grey,
			   (float[]) {10 / 255.f, 32 / 255.f, 1, 0}, NEAR);
	check_file("P5 of 16 bits", "P5 2 2 1000 \x00\x00\x00\xfa\x01\xf4\x03\xe8 next", 25, grey,
			   (float[]) {0, .25f, .5f, 1}, NEAR);
	check_file("P6", "P6 2 1 51 \x33\x00\x00\x11\x22\x33", 16, color, (float[]) {1, 1 / 3.f, 0, 2 / 3.f, 0, 1}, NEAR);
	check_file("P6 of 16 bits", "P6 2 1 65535 \xff\xff\x00\x00\x80\x00\x00\x01\x00\x02\x00\x03", 25, color,
			   (float[]) {1, 1 / 65535.f, 0, 2 / 65535.f, 32768 / 65535.f, 3 / 65535.f}, NEAR);

	refuse_text("P2", LLM_CORRUPT, "PGM picture is truncated", "Its 2 bytes end before the picture is complete.");
	refuse_text("P2 2 2 4 0 1 2", LLM_CORRUPT, "PGM picture is truncated", NULL);
	refuse_text("P5 2 2 255 abc", LLM_CORRUPT, "PGM picture is truncated", NULL);
	check_refused("P6 1 1 256 \0\0\0\0\0", 16, 0, 0, LLM_CORRUPT, "PPM picture is truncated", NULL);
	refuse_text("P2 x", LLM_CORRUPT, "PGM picture is damaged", "A number is expected at byte 4.");
	refuse_text("P2 2 2 4 0 1 2x 3", LLM_CORRUPT, "PGM picture is damaged", "A number is expected at byte 14.");
	refuse_text("P2 2 2 4 0 1 -2 3", LLM_CORRUPT, "PGM picture is damaged", "A number is expected at byte 14.");
	refuse_text("P2 2 2 4 0 1 2 5", LLM_CORRUPT, "PGM picture is damaged",
				"A sample is 5, the largest one should be 4.");
	refuse_text("P5 2 2 3 \1\2\3\4", LLM_CORRUPT, "PGM picture is damaged",
				"A sample is 4, the largest one should be 3.");
	refuse_text("P5 2 2 0 ....", LLM_CORRUPT, "PGM picture is damaged",
				"Its largest sample is given as 0; it is between 1 and 65535.");
	refuse_text("P5 2 2 65536 ....", LLM_CORRUPT, "PGM picture is damaged",
				"Its largest sample is given as 65536; it is between 1 and 65535.");
	refuse_text("P5 0 2 255 ", LLM_CORRUPT, "picture of 0 x 2 pixels is empty", NULL);
	refuse_text("P6 65536 1 255 ", LLM_INVALID, "picture of 65536 x 1 pixels is too large",
				"A picture has at most 65535 pixels on a side and 67108864 pixels.");
	refuse_text("P6 8193 8192 255 ", LLM_INVALID, "picture of 8193 x 8192 pixels is too large", NULL);
	CHECK(!image_probe((const uint8_t *) "P6 99999999999999999999 1 255 ", 30, &grey, &(llm_error) {.code = LLM_OK}));
}

static void
test_png_samples(void)
{
	image_shape grey = {.width = 4, .height = 2, .channels = 1};
	image_shape color = {.width = 2, .height = 2, .channels = 3};
	float thirds[] = {0, 1 / 3.f, 2 / 3.f, 1, 1, 2 / 3.f, 1 / 3.f, 0};
	uint8_t rgb[] = {255, 0, 51, 0, 255, 102, 153, 204, 255, 0, 0, 0};
	float planes[] = {1, 0, .6f, 0, 0, 1, .8f, 0, .2f, .4f, 1, 0};
	uint8_t wide[24];

	check_sample("1 bit", sample_png_file(&(sample_png) {4, 2, PNG_COLOR_TYPE_GRAY, 1}, (uint8_t[]) {0x50, 0xa0}),
				 grey, (float[]) {0, 1, 0, 1, 1, 0, 1, 0}, NEAR);
	check_sample("2 bits", sample_png_file(&(sample_png) {4, 2, PNG_COLOR_TYPE_GRAY, 2}, (uint8_t[]) {0x1b, 0xe4}),
				 grey, thirds, NEAR);
	check_sample("4 bits",
				 sample_png_file(&(sample_png) {4, 2, PNG_COLOR_TYPE_GRAY, 4}, (uint8_t[]) {0x05, 0xaf, 0xfa, 0x50}),
				 grey, thirds, NEAR);
	check_sample(
		"8 bits",
		sample_png_file(&(sample_png) {4, 2, PNG_COLOR_TYPE_GRAY, 8}, (uint8_t[]) {0, 85, 170, 255, 255, 170, 85, 0}),
		grey, thirds, NEAR);
	check_sample(
		"16 bits",
		sample_png_file(&(sample_png) {4, 2, PNG_COLOR_TYPE_GRAY, 16},
						(uint8_t[]) {0, 0, 0x55, 0x55, 0xaa, 0xaa, 255, 255, 255, 255, 0xaa, 0xaa, 0x55, 0x55, 0, 0}),
		grey, thirds, NEAR);
	check_sample("RGB", sample_png_file(&(sample_png) {2, 2, PNG_COLOR_TYPE_RGB, 8}, rgb), color, planes, NEAR);
	for (int i = 0; i < 24; i++)
		wide[i] = rgb[i / 2];
	check_sample("RGB of 16 bits", sample_png_file(&(sample_png) {2, 2, PNG_COLOR_TYPE_RGB, 16}, wide), color, planes,
				 NEAR);
	/* 16 bits are not cut to 8 */
	check_sample("fine", sample_png_file(&(sample_png) {2, 1, PNG_COLOR_TYPE_GRAY, 16}, (uint8_t[]) {0, 1, 1, 0}),
				 (image_shape) {.width = 2, .height = 1, .channels = 1}, (float[]) {1 / 65535.f, 256 / 65535.f},
				 1e-9);
}

static void
test_png_transparency(void)
{
	image_shape grey = {.width = 3, .height = 1, .channels = 1};
	image_shape color = {.width = 3, .height = 1, .channels = 3};
	png_color palette[] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}};

	check_sample("palette",
				 sample_png_file(&(sample_png) {3, 1, PNG_COLOR_TYPE_PALETTE, 2, .palette = palette, .colors = 3},
								 (uint8_t[]) {0x18}),
				 color, (float[]) {1, 0, 0, 0, 1, 0, 0, 0, 1}, NEAR);
	check_sample("palette of 8 bits with alpha",
				 sample_png_file(&(sample_png) {3, 1, PNG_COLOR_TYPE_PALETTE, 8, .palette = palette, .colors = 3,
												.alpha = (uint8_t[]) {0, 51}, .alphas = 2},
								 (uint8_t[]) {0, 1, 2}),
				 color, (float[]) {1, .8f, 0, 1, 1, 0, 1, .8f, 1}, NEAR);
	check_sample(
		"grey and alpha",
		sample_png_file(&(sample_png) {3, 1, PNG_COLOR_TYPE_GRAY_ALPHA, 8}, (uint8_t[]) {0, 0, 0, 255, 51, 51}), grey,
		(float[]) {1, 0, .84f}, NEAR);
	check_sample("RGBA of 16 bits",
				 sample_png_file(&(sample_png) {3, 1, PNG_COLOR_TYPE_RGB_ALPHA, 16},
								 (uint8_t[]) {0, 0, 0,   0,   0,   0,   0, 0, 255, 255, 0,    0,
											  0, 0, 255, 255, 255, 255, 0, 0, 0,   0,   0x33, 0x33}),
				 color, (float[]) {1, 1, 1, 1, 0, .8f, 1, 0, .8f}, NEAR);
	check_sample(
		"grey that is none",
		sample_png_file(&(sample_png) {3, 1, PNG_COLOR_TYPE_GRAY, 8, .transparent = &(png_color_16) {.gray = 51}},
						(uint8_t[]) {0, 51, 102}),
		grey, (float[]) {0, 1, .4f}, NEAR);
	check_sample("color that is none",
				 sample_png_file(&(sample_png) {3, 1, PNG_COLOR_TYPE_RGB, 8,
												.transparent = &(png_color_16) {.red = 51, .green = 0, .blue = 255}},
								 (uint8_t[]) {51, 0, 255, 51, 0, 0, 0, 0, 255}),
				 color, (float[]) {1, .2f, 0, 1, 0, 0, 1, 0, 1}, NEAR);
}

/* Every value its own: a picture that cannot be mistaken. */
static uint8_t *
gradient(int width, int height, int channels)
{
	uint8_t *rows = malloc((size_t) width * height * channels);

	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			for (int c = 0; c < channels; c++)
				rows[((size_t) y * width + x) * channels + c] = (uint8_t) (x * 160 / width + y * 80 / height + c * 7);
	return rows;
}

/* The planes that a decoder should make of rows. */
static float *
planes_of(const uint8_t *rows, int width, int height, int channels)
{
	float *planes = malloc((size_t) width * height * channels * sizeof(float));

	for (int i = 0; i < width * height; i++)
		for (int c = 0; c < channels; c++)
			planes[(size_t) c * width * height + i] = rows[(size_t) i * channels + c] / 255.f;
	return planes;
}

static void
test_interlaced(void)
{
	for (int size = 1; size <= 19; size += 3)
	{
		int height = 20 - size;
		uint8_t *rows = gradient(size, height, 3);
		float *planes = planes_of(rows, size, height, 3);

		check_sample("interlaced", sample_png_file(&(sample_png) {size, height, PNG_COLOR_TYPE_RGB, 8, true}, rows),
					 (image_shape) {.width = size, .height = height, .channels = 3}, planes, NEAR);
		free(planes);
		free(rows);
	}
}

static void
test_jpeg(void)
{
	image_shape shape = {.width = 37, .height = 21, .channels = 3};
	uint8_t *rows = gradient(37, 21, 3);
	float *planes = planes_of(rows, 37, 21, 3);
	uint8_t *grey_rows = gradient(37, 21, 1);
	float *grey = planes_of(grey_rows, 37, 21, 1);
	uint8_t ink[16 * 16 * 4];
	float light[3 * 16 * 16];

	check_sample("JPEG", sample_jpeg_file(37, 21, JCS_RGB, 100, false, rows), shape, planes, 0.015);
	check_sample("progressive", sample_jpeg_file(37, 21, JCS_RGB, 100, true, rows), shape, planes, 0.015);
	check_sample("grey JPEG", sample_jpeg_file(37, 21, JCS_GRAYSCALE, 100, false, grey_rows),
				 (image_shape) {.width = 37, .height = 21, .channels = 1}, grey, 0.008);
	/* libjpeg marks CMYK as written by Adobe: samples are light, not ink */
	for (int i = 0; i < 16 * 16; i++)
	{
		memcpy(ink + 4 * i, (uint8_t[]) {255, 102, 0, 204}, 4);
		light[i] = .8f;
		light[256 + i] = .32f;
		light[512 + i] = 0;
	}
	check_sample("CMYK", sample_jpeg_file(16, 16, JCS_CMYK, 100, false, ink),
				 (image_shape) {.width = 16, .height = 16, .channels = 3}, light, 0.01);
	free(rows);
	free(planes);
	free(grey_rows);
	free(grey);
}

/* Decode a text picture at a size and compare. */
static void
check_scaled(const char *file, int width, int height, int channels, const float *expected)
{
	image_shape shape;
	float *pixels = decode(file, strlen(file), width, height, channels, &shape);

	if (!CHECK(pixels != NULL))
		return;
	for (int i = 0; i < shape.width * shape.height * shape.channels; i++)
		if (!CHECK_NEAR(pixels[i], expected[i], NEAR))
			fprintf(stderr, "%s at %d x %d x %d: element %d\n", file, width, height, channels, i);
	free(pixels);
}

static void
test_scaling(void)
{
	/* areas: whole pixels, parts of pixels, both axes */
	check_scaled("P2 4 1 10 0 10 4 6", 2, 1, 0, (float[]) {.5f, .5f});
	check_scaled("P2 3 1 10 0 10 4", 2, 1, 0, (float[]) {5 / 15.f, 9 / 15.f});
	check_scaled("P2 5 1 10 10 0 0 0 0", 2, 1, 0, (float[]) {.4f, 0});
	check_scaled("P2 2 4 10 0 2 4 6 10 10 0 0", 1, 2, 0, (float[]) {.3f, .5f});
	check_scaled("P2 2 2 10 1 2 3 4", 1, 1, 0, (float[]) {.25f});
	check_scaled("P3 2 1 10 0 2 4 10 6 4", 1, 1, 0, (float[]) {.5f, .4f, .4f});
	/* linear between centres, constant beyond the outer ones */
	check_scaled("P2 2 1 1 0 1", 4, 1, 0, (float[]) {0, .25f, .75f, 1});
	check_scaled("P2 1 2 1 0 1", 1, 4, 0, (float[]) {0, .25f, .75f, 1});
	check_scaled("P2 2 1 1 0 1", 3, 1, 0, (float[]) {0, .5f, 1});
	check_scaled("P2 3 1 10 0 10 5", 5, 1, 0, (float[]) {0, .4f, 1, .7f, .5f});
	check_scaled("P2 1 1 10 7", 3, 2, 0, (float[]) {.7f, .7f, .7f, .7f, .7f, .7f});
	/* one axis shrinks, the other grows */
	check_scaled("P2 2 2 10 0 10 10 10", 1, 4, 0, (float[]) {.5f, .625f, .875f, 1});
	/* one side alone keeps the ratio */
	check_scaled("P2 4 2 10 0 10 4 6 0 10 4 6", 2, 0, 0, (float[]) {.5f, .5f});
	check_scaled("P2 4 2 10 0 10 4 6 10 0 6 4", 0, 1, 0, (float[]) {.5f, .5f});
	/* colors */
	check_scaled("P2 2 1 10 2 7", 0, 0, 3, (float[]) {.2f, .7f, .2f, .7f, .2f, .7f});
	check_scaled("P3 4 1 10 10 0 0 0 10 0 0 0 10 10 10 10", 0, 0, 1, (float[]) {.299f, .587f, .114f, 1});
	check_scaled("P3 2 1 10 10 0 0 0 10 0", 1, 0, 1, (float[]) {.443f});
	check_scaled("P3 1 1 10 1 2 3", 0, 0, 3, (float[]) {.1f, .2f, .3f});
}

static void
test_fit(void)
{
	static const struct
	{
		int from[2];
		int asked[2];
		int result[2];
	} cases[] = {
		{{640, 480}, {0, 0}, {640, 480}}, {{640, 480}, {320, 0}, {320, 240}}, {{640, 480}, {0, 24}, {32, 24}},
		{{640, 480}, {10, 20}, {10, 20}}, {{3, 2}, {1, 0}, {1, 1}},           {{3, 2}, {10, 0}, {10, 7}},
		{{1000, 1}, {10, 0}, {10, 1}},    {{1, 1000}, {0, 10}, {1, 10}},      {{65535, 1}, {65535, 0}, {65535, 1}},
	};
	image_shape wanted;

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		image_shape picture = {.width = cases[i].from[0], .height = cases[i].from[1], .channels = 1};

		memset(&err, 0, sizeof(err));
		wanted = (image_shape) {.width = cases[i].asked[0], .height = cases[i].asked[1]};
		CHECK(image_fit(&picture, &wanted, &err));
		CHECK_INT(wanted.width, cases[i].result[0]);
		CHECK_INT(wanted.height, cases[i].result[1]);
		CHECK_INT(wanted.channels, 1);
	}
	wanted = (image_shape) {.width = 0};
	CHECK(!image_fit(&(image_shape) {4000, 3000, 3}, &wanted, &err));
	CHECK_STR(err.message, "a picture of 4000 x 3000 pixels with 3 channels does not fit into a tensor");
	CHECK_STR(err.hint, "Ask for a smaller one, for example llm_image(data, width => 224).");
	memset(&err, 0, sizeof(err));
	wanted = (image_shape) {.height = 65535};
	CHECK(!image_fit(&(image_shape) {65535, 1, 1}, &wanted, &err));
	CHECK_STR(err.message, "a picture of 4294836225 x 65535 pixels with 1 channels does not fit into a tensor");
}

/* Constant and mirrored pictures at many sizes. */
static void
test_scaling_properties(void)
{
	static const char *plain = "P2 7 5 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3";
	static const char *left = "P2 7 1 9 0 3 9 2 5 1 8";
	static const char *right = "P2 7 1 9 8 1 5 2 9 3 0";

	for (int side = 1; side <= 30; side++)
	{
		image_shape shape;
		float *pixels = decode(plain, strlen(plain), side, 31 - side, 0, &shape);
		float *a = decode(left, strlen(left), side, 1, 0, &shape);
		float *b = decode(right, strlen(right), side, 1, 0, &shape);

		for (int i = 0; i < side * (31 - side); i++)
			CHECK_NEAR(pixels[i], 1, NEAR);
		for (int i = 0; i < side; i++)
			CHECK_NEAR(a[i], b[side - 1 - i], NEAR);
		free(pixels);
		free(a);
		free(b);
	}
}

static void
test_formats(void)
{
	check_refused("", 0, 0, 0, LLM_INVALID, "data is not a PNG, JPEG, PGM or PPM picture", "It is empty.");
	refuse_text("hello, world", LLM_INVALID, "data is not a PNG, JPEG, PGM or PPM picture",
				"Its 12 bytes begin with 68656c6c6f2c2077.");
	refuse_text("P", LLM_INVALID, "data is not a PNG, JPEG, PGM or PPM picture", "Its 1 bytes begin with 50.");
	refuse_text("GIF89a", LLM_INVALID, "data is not a PNG, JPEG, PGM or PPM picture", "It begins like a GIF file.");
	refuse_text("RIFF....WEBP", LLM_INVALID, "data is not a PNG, JPEG, PGM or PPM picture",
				"It begins like a WebP file.");
	CHECK_STR(err.hint, "Convert the file to PNG before it is stored.");
	refuse_text("\x89PNG\r\n\x1a\n", LLM_CORRUPT, "PNG picture is truncated", NULL);
	CHECK_STR(err.hint, "Compare octet_length() with the size of the file.");
	refuse_text("\xff\xd8\xff", LLM_CORRUPT, "JPEG picture is truncated", NULL);
	refuse_text("\xff\xd8\xff\xd9", LLM_CORRUPT, "JPEG picture is damaged or of an unknown kind", NULL);
}

/* No beginning of a file is a picture, and no changed byte does harm. */
static void
test_damage(const char *name, sample_file file)
{
	image_shape shape;

	for (size_t size = 0; size < file.size; size++)
	{
		uint8_t *cut = malloc(size + 1);
		float *pixels;

		memcpy(cut, file.bytes, size);
		pixels = decode(cut, size, 0, 0, 0, &shape);
		if (!CHECK(pixels == NULL) || !CHECK(err.message[0] != '\0'))
			fprintf(stderr, "%s: %zu of %zu bytes\n", name, size, file.size);
		free(pixels);
		free(cut);
	}
	for (size_t i = 0; i < file.size; i++)
		for (int bit = 0; bit < 8; bit += 3)
		{
			float *pixels;

			file.bytes[i] ^= 1 << bit;
			pixels = decode(file.bytes, file.size, 5, 0, 0, &shape);
			CHECK(pixels != NULL || err.message[0] != '\0');
			free(pixels);
			file.bytes[i] ^= 1 << bit;
		}
	free(file.bytes);
}

/* Put the checksum of a changed header in its place: CRC-32 of bytes 12 .. 28. */
static void
sign_header(uint8_t *bytes)
{
	uint32_t crc = 0xffffffff;

	for (int i = 12; i < 29; i++)
	{
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	crc = ~crc;
	memcpy(bytes + 29, (uint8_t[]) {crc >> 24, crc >> 16 & 255, crc >> 8 & 255, crc & 255}, 4);
}

static void
test_limits(void)
{
	uint8_t *black = calloc(8200, 8200 / 8);
	sample_file file = sample_png_file(&(sample_png) {65536, 1, PNG_COLOR_TYPE_GRAY, 1}, black);

	check_refused(file.bytes, file.size, 1, 1, LLM_INVALID, "picture of 65536 x 1 pixels is too large", NULL);
	free(file.bytes);
	file = sample_png_file(&(sample_png) {8200, 8200, PNG_COLOR_TYPE_GRAY, 1}, black);
	CHECK(file.size < 10000);
	check_refused(file.bytes, file.size, 1, 1, LLM_INVALID, "picture of 8200 x 8200 pixels is too large", NULL);
	free(file.bytes);
	free(black);
	/* an interlaced picture has to be held in memory; its header says that it would take 512 MB */
	black = calloc(8192 * 8, 1);
	file = sample_png_file(&(sample_png) {8192, 1, PNG_COLOR_TYPE_RGB_ALPHA, 16, true}, black);
	memcpy(file.bytes + 20, (uint8_t[]) {0, 0, 0x20, 0}, 4);
	sign_header(file.bytes);
	check_refused(file.bytes, file.size, 1, 1, LLM_MEMORY, "not enough memory to decode a PNG picture",
				  "Decoding takes at most 268435456 bytes besides the result.");
	free(file.bytes);
	free(black);
}

static bool
stop_after(void *arg)
{
	return --*(int *) arg < 0;
}

static void
test_cancel(const uint8_t *bytes, size_t size)
{
	image_shape shape = {.width = 4, .height = 4, .channels = 1};
	float pixels[16];
	int rows = 3;

	memset(&err, 0, sizeof(err));
	CHECK(!image_decode(bytes, size, &shape, pixels, stop_after, &rows, &err));
	CHECK_INT(err.code, LLM_CANCELLED);
	CHECK_INT(rows, -1);
}

static void
test_files(void)
{
	uint8_t *rows = gradient(16, 16, 3);
	sample_file files[] = {
		sample_png_file(&(sample_png) {16, 16, PNG_COLOR_TYPE_RGB, 8}, rows),
		sample_png_file(&(sample_png) {16, 16, PNG_COLOR_TYPE_RGB, 8, true}, rows),
		sample_jpeg_file(16, 16, JCS_RGB, 90, false, rows),
		sample_jpeg_file(16, 16, JCS_RGB, 90, true, rows),
	};
	const char *names[] = {"PNG", "interlaced PNG", "JPEG", "progressive JPEG"};

	for (int i = 0; i < 4; i++)
	{
		test_cancel(files[i].bytes, files[i].size);
		test_damage(names[i], files[i]);
	}
	free(rows);
}

int
main(void)
{
	test_netpbm();
	test_png_samples();
	test_png_transparency();
	test_interlaced();
	test_jpeg();
	test_scaling();
	test_fit();
	test_scaling_properties();
	test_formats();
	test_limits();
	test_files();
	return test_summary();
}
