/*
 * fuzz_image.c
 *	  Readers of pictures: PNG, JPEG, PGM, PPM at any size and number of channels.
 *
 * The first three bytes say what is wanted: width and height (0: as the picture is) and
 * channels.  What is decoded lies between 0 and 1, is complete, and comes out equal twice.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/format/image.h"
#include "fuzz.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Larger pictures are possible, but take too long here. */
#define MAX_PIXELS (1 << 20)

static bool
decode(const uint8_t *data, size_t size, const image_shape *wanted, float *pixels, size_t count)
{
	llm_error err = {.code = LLM_OK};
	bool ok;

	for (size_t i = 0; i < count; i++)
		pixels[i] = -1;
	ok = image_decode(data, size, wanted, pixels, NULL, NULL, &err);
	REQUIRE(ok ? err.code == LLM_OK : err.code != LLM_OK && err.message[0] != '\0');
	return ok;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	image_shape picture, wanted;
	float *pixels, *again;
	size_t count;

	if (size < 3)
		return 0;
	wanted = (image_shape) {.width = data[0], .height = data[1], .channels = data[2] % 3 == 2 ? 3 : data[2] % 3};
	data += 3;
	size -= 3;
	if (!image_probe(data, size, &picture, &err))
	{
		REQUIRE(err.code != LLM_OK && err.message[0] != '\0');
		return 0;
	}
	REQUIRE(picture.width >= 1 && picture.width <= IMAGE_MAX_SIDE && picture.height >= 1 &&
			picture.height <= IMAGE_MAX_SIDE);
	REQUIRE(picture.channels == 1 || picture.channels == 3);
	if ((int64_t) picture.width * picture.height > MAX_PIXELS || !image_fit(&picture, &wanted, &err))
		return 0;
	count = (size_t) wanted.width * wanted.height * wanted.channels;
	if (count > MAX_PIXELS)
		return 0;
	pixels = malloc(count * sizeof(float));
	again = malloc(count * sizeof(float));
	if (decode(data, size, &wanted, pixels, count))
	{
		for (size_t i = 0; i < count; i++)
			REQUIRE(pixels[i] >= 0 && pixels[i] <= 1);
		REQUIRE(decode(data, size, &wanted, again, count));
		REQUIRE(memcmp(pixels, again, count * sizeof(float)) == 0);
	}
	free(pixels);
	free(again);
	return 0;
}
