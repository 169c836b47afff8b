/*
 * test_ggml_blocks.c
 *	  Blocks of GGML against its own package, to the last bit, and what encoding does with what it has not.
 *
 * The file of expected values is made by golden/make_gguf.py, which says what it holds.
 */
#include "../../src/format/ggml_blocks.h"
#include "golden_file.h"

#define NUMBERS_MAX 4096

static const uint8_t *at; /* in the file */

static int32_t
next_int(void)
{
	int32_t n;

	memcpy(&n, at, sizeof(n));
	at += sizeof(n);
	return n;
}

static void
check_types(void)
{
	for (int32_t left = next_int(); left > 0; left--)
	{
		const ggml_type *type = ggml_type_numbered((uint32_t) next_int());
		int32_t length = next_int(), bytes = next_int();

		if (!CHECK(type != NULL))
			continue;
		CHECK_INT(type->length, length);
		CHECK_INT(type->bytes, bytes);
		if (type->source != SOURCE_OTHER)
			CHECK(ggml_type_of(type->source) == type && type->decode != NULL);
	}
	for (uint32_t removed = 0; removed < 64; removed++)
		if (removed == 4 || removed == 5 || (removed >= 31 && removed <= 33) || (removed >= 36 && removed <= 38) ||
			removed > 41)
			CHECK(ggml_type_numbered(removed) == NULL);
	CHECK(ggml_type_of(SOURCE_OTHER) == NULL);
}

static void
check_decoded(void)
{
	static float numbers[NUMBERS_MAX];

	for (int32_t left = next_int(); left > 0; left--)
	{
		const ggml_type *type = ggml_type_numbered((uint32_t) next_int());
		int32_t blocks = next_int();
		size_t bytes = blocks * type->bytes, count = blocks * type->length;

		type->decode(at, blocks, numbers);
		if (!CHECK_BYTES(numbers, at + bytes, count * sizeof(float)))
			fprintf(stderr, "type %s\n", type->name);
		at += bytes + count * sizeof(float);
	}
}

static void
check_encoded(void)
{
	static float numbers[NUMBERS_MAX];
	static uint8_t out[NUMBERS_MAX * sizeof(float)];

	for (int32_t left = next_int(); left > 0; left--)
	{
		const ggml_type *type = ggml_type_numbered((uint32_t) next_int());
		int32_t blocks = next_int();
		size_t bytes = blocks * type->bytes, count = blocks * type->length;

		memcpy(numbers, at, count * sizeof(float));
		type->encode(numbers, blocks, out);
		if (!CHECK_BYTES(out, at + count * sizeof(float), bytes))
			fprintf(stderr, "type %s\n", type->name);
		at += bytes + count * sizeof(float);
	}
}

static void
test_golden(void)
{
	size_t size;
	uint8_t *file = golden_file("ggml_blocks.bin", &size);

	if (file == NULL)
		return;
	at = file;
	check_types();
	check_decoded();
	check_encoded();
	CHECK_INT(at - file, size);
	free(file);
}

/* Every half comes back, a NaN as a NaN. */
static void
test_halves(void)
{
	const ggml_type *types[] = {ggml_type_of(SOURCE_F16), ggml_type_of(SOURCE_BF16)};

	for (int t = 0; t < 2; t++)
	{
		int different = 0;

		for (uint32_t bits = 0; bits < 65536; bits++)
		{
			uint8_t in[2] = {(uint8_t) bits, (uint8_t) (bits >> 8)}, out[2];
			float f, again;

			types[t]->decode(in, 1, &f);
			types[t]->encode(&f, 1, out);
			types[t]->decode(out, 1, &again);
			different += isnan(f) ? !isnan(again) : memcmp(in, out, 2) != 0;
		}
		CHECK_INT(different, 0);
	}
}

/* Numbers whose factor has no inverse become 0, by whatever code. */
static void
test_tiny(void)
{
	source_type sources[] = {SOURCE_Q4_0, SOURCE_Q8_0};

	for (int t = 0; t < 2; t++)
	{
		const ggml_type *type = ggml_type_of(sources[t]);
		uint8_t block[64];
		float numbers[32], sum = 0;

		for (int i = 0; i < 32; i++)
			numbers[i] = ldexpf((float) (i - 16), -149);
		type->encode(numbers, 1, block);
		type->decode(block, 1, numbers);
		for (int i = 0; i < 32; i++)
			sum += fabsf(numbers[i]);
		CHECK(sum == 0);
	}
}

int
main(void)
{
	test_golden();
	test_halves();
	test_tiny();
	return test_summary();
}
