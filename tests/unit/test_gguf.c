/*
 * test_gguf.c
 *	  GGUF files: what is read, and every way in which one can lie.
 *
 * golden/sample.gguf is made by golden/make_gguf.py.  malloc and its relatives are replaced, so that
 * a file that lies is seen to cost no memory; needs the allocator's inner names, which glibc exports.
 */
#include "../../src/format/gguf_split.h"
#include "gguf_helper.h"
#include "golden_file.h"

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static size_t largest_allocation;

static void
note(size_t size)
{
	largest_allocation = size > largest_allocation ? size : largest_allocation;
}

void *
malloc(size_t size)
{
	note(size);
	return __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	note(count * size);
	return __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	note(size);
	return __libc_realloc(old, size);
}

/* ---- making and opening files ---- */

static gguf *
open_bytes(llm_error *err)
{
	*err = (llm_error) {0};
	asked = largest_allocation = 0;
	return gguf_open(read_bytes, NULL, 0, claimed, err);
}

static void
number(uint64_t n, int length)
{
	for (int i = 0; i < length; i++)
		bytes[size++] = (uint8_t) (n >> (8 * i));
	claimed = size;
}

static void
text(const char *s)
{
	number(strlen(s), 8);
	while (*s)
		number((uint8_t) *s++, 1);
}

static void
start(uint32_t version, uint64_t tensors, uint64_t keys)
{
	size = 0;
	for (const char *s = "GGUF"; *s; s++)
		number((uint8_t) *s, 1);
	number(version, 4);
	number(tensors, 8);
	number(keys, 8);
}

static void
key(const char *name, uint32_t type)
{
	text(name);
	number(type, 4);
}

static void
info(const char *name, uint32_t type, uint64_t offset, int ndim, const uint64_t *dims)
{
	text(name);
	number((uint32_t) ndim, 4);
	for (int i = 0; i < ndim; i++)
		number(dims[i], 8);
	number(type, 4);
	number(offset, 8);
}

#define INFO(name, type, offset, ...) \
	info(name, type, offset, sizeof((uint64_t[]) {__VA_ARGS__}) / sizeof(uint64_t), (uint64_t[]) {__VA_ARGS__})

static void
data(size_t count)
{
	while (size % 32 != 0)
		number(0, 1);
	for (size_t i = 0; i < count; i++)
		number(i, 1);
}

/* Refused with this code and message, and without much memory or reading. */
static void
check_refused(llm_code code, const char *message, int line)
{
	llm_error err;
	gguf *g = open_bytes(&err);
	bool ok = CHECK(g == NULL) & CHECK_INT(err.code, code) & CHECK(strstr(err.message, message) != NULL) &
			  CHECK(largest_allocation <= 1 << 20) & CHECK(asked <= 1 << 20);

	if (!ok)
		fprintf(stderr, "line %d: %s\n", line, err.message);
	gguf_close(g);
}

#define REFUSED(message) check_refused(LLM_CORRUPT, message, __LINE__)
#define NO_FILE(message) check_refused(LLM_INVALID, message, __LINE__)

static void
check_accepted(int line)
{
	llm_error err;
	gguf *g = open_bytes(&err);

	if (!CHECK(g != NULL))
		fprintf(stderr, "line %d: %s\n", line, err.message);
	gguf_close(g);
}

#define ACCEPTED() check_accepted(__LINE__)

/* ---- files that lie ---- */

static void
test_start(void)
{
	start(3, 0, 0);
	ACCEPTED();
	start(2, 0, 0);
	ACCEPTED();
	for (claimed = 0; claimed < 8; claimed++)
		NO_FILE("not a GGUF file");
	for (; claimed < 24; claimed++)
		REFUSED("it ends after");
	bytes[3] = 'f';
	NO_FILE("does not begin with \"GGUF\"");
	start(1, 0, 0);
	NO_FILE("of version 1");
	start(4, 0, 0);
	NO_FILE("of version 4");
	start(0x03000000, 0, 0);
	NO_FILE("big-endian");
}

/* Counts that are multiplied with the size of a record: CVE-2024-21836, CVE-2024-23605. */
static void
test_counts(void)
{
	start(3, UINT64_MAX, 0);
	REFUSED("claims to have 18446744073709551615 tensors");
	start(3, 0, UINT64_MAX / 44 + 2);
	REFUSED("keys, for which it is too short");
	start(3, 1, 0);
	REFUSED("claims to have 1 tensors");
	start(3, 65537, 0);
	claimed = UINT64_C(1) << 40;
	REFUSED("the file has 65537 tensors, at most 65536");
	start(3, 0, 65537);
	claimed = UINT64_C(1) << 40;
	REFUSED("the file has 65537 keys, at most 65536");
}

/* Lengths of strings: CVE-2024-23496, where a byte is added; and limits on what a large file may claim. */
static void
test_strings(void)
{
	static const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63, UINT64_C(1) << 32, 100};

	for (int i = 0; i < 5; i++)
	{
		start(3, 0, 1);
		number(lengths[i], 8);
		data(32);
		REFUSED("it ends after");
		start(3, 0, 1);
		key("a", GGUF_STRING);
		number(lengths[i], 8);
		REFUSED("it ends after");
	}
	start(3, 0, 1);
	key("a", GGUF_STRING);
	number(UINT64_C(1) << 30, 8);
	claimed = UINT64_C(1) << 40;
	REFUSED("more than 134217728 bytes of the file come before its data");
}

/* Counts and types of arrays: CVE-2024-21825; arrays in arrays, one in the other. */
static void
test_arrays(void)
{
	static const uint64_t counts[] = {UINT64_MAX, UINT64_MAX / 4 + 2, UINT64_C(1) << 61, 9};

	for (int i = 0; i < 4; i++)
		for (uint32_t type = 0; type <= GGUF_F64; type++)
		{
			start(3, 0, 1);
			key("a", GGUF_ARRAY);
			number(type, 4);
			number(counts[i], 8);
			for (int b = 0; b < 8; b++)
				number(0, 1);
			REFUSED(type == GGUF_ARRAY ? "an array of arrays" : "for which the file is too short");
		}
	start(3, 0, 1);
	key("a", GGUF_ARRAY);
	number(GGUF_STRING, 4);
	number(UINT64_C(1) << 30, 8);
	claimed = UINT64_C(1) << 40;
	bytes[size + 3] = 0xff; /* the first one's length */
	size += 8;
	REFUSED("more than 134217728 bytes");
	memset(bytes + size - 8, 0, 8);
	start(3, 0, 1);
	key("a", GGUF_ARRAY);
	number(GGUF_F64, 4);
	number(UINT64_C(1) << 30, 8);
	claimed = UINT64_C(1) << 40;
	REFUSED("more than 134217728 bytes");
	start(3, 0, 1);
	key("a", GGUF_ARRAY);
	number(13, 4);
	number(0, 8);
	REFUSED("an array of unknown type 13");
	start(3, 0, 1);
	key("a", GGUF_ARRAY);
	number(GGUF_U8, 4);
	number(0, 8);
	ACCEPTED();
}

static void
test_keys(void)
{
	static char longest[65537];

	start(3, 0, 1);
	key("a", 13);
	number(0, 8);
	REFUSED("key \"a\" is of unknown type 13");
	start(3, 0, 1);
	key("a", GGUF_BOOL);
	number(2, 1);
	REFUSED("a truth value of 2");
	start(3, 0, 1);
	key("", GGUF_U8);
	number(0, 2);
	REFUSED("the name of a key has 0 bytes");
	start(3, 0, 1);
	memset(longest, 'a', 65536);
	size = 24;
	number(65536, 8);
	claimed = 200000;
	REFUSED("the name of a key has 65536 bytes");
	start(3, 0, 1);
	key("a\x01", GGUF_U8);
	number(0, 1);
	REFUSED("key \"a?\" has other bytes");
	/* #19856: the second would win in one place and the first in another. */
	start(3, 0, 3);
	key("b", GGUF_U8);
	number(0, 1);
	key("a", GGUF_U8);
	number(0, 1);
	key("b", GGUF_U8);
	number(0, 1);
	REFUSED("key \"b\" is there twice");
}

/* #24997: an alignment without an upper bound. */
static void
test_alignment(void)
{
	static const uint32_t wrong[] = {0, 1, 4, 24, 33, 131072, 1u << 31, UINT32_MAX};

	for (int i = 0; i < 8; i++)
	{
		start(3, 0, 1);
		key("general.alignment", GGUF_U32);
		number(wrong[i], 4);
		REFUSED("not a power of two from 8 to 65536");
	}
	start(3, 0, 1);
	key("general.alignment", GGUF_U64);
	number(32, 8);
	REFUSED("is not of type u32");
	start(3, 0, 1);
	key("general.alignment", GGUF_ARRAY);
	number(GGUF_U32, 4);
	number(1, 8);
	number(32, 4);
	REFUSED("is not of type u32");
	start(3, 1, 1);
	key("general.alignment", GGUF_U32);
	number(65536, 4);
	INFO("a", 0, 0, 1);
	REFUSED("do not end within the file");
}

static void
test_infos(void)
{
	static const uint32_t unknown[] = {4, 5, 9, 15, 31, 32, 33, 36, 37, 38, 42, 255, UINT32_MAX};
	static const char longest[] = "123456789012345678901234567890123456789012345678901234567890123";

	/* CVE-2024-21802: more dimensions than the array of them has. */
	start(3, 1, 0);
	INFO("a", 0, 0, 1, 1, 1, 1, 1);
	data(4);
	REFUSED("tensor \"a\" has 5 dimensions");
	for (int i = 0; i < 13; i++)
	{
		start(3, 1, 0);
		INFO("a", unknown[i], 0, 256);
		data(1024);
		REFUSED("tensor \"a\" is of unknown type");
	}
	start(3, 1, 0);
	INFO("a", 8, 0, 33, 32);
	data(2048);
	REFUSED("rows of tensor a Q8_0 (32, 33) are not made of blocks of 32 numbers");
	start(3, 1, 0);
	info("a", 12, 0, 0, NULL);
	data(2048);
	REFUSED("rows of tensor a Q4_K () are not made of blocks of 256 numbers");
	start(3, 1, 0);
	INFO(longest, 0, 0, 1);
	data(4);
	ACCEPTED();
	start(3, 1, 0);
	INFO("1234567890123456789012345678901234567890123456789012345678901234", 0, 0, 1);
	data(4);
	REFUSED("the name of a tensor has 64 bytes");
	start(3, 1, 0);
	INFO("gr\xC3\xBCn", 0, 0, 1);
	data(4);
	REFUSED("tensor \"gr??n\" has other bytes");
	start(3, 2, 0);
	INFO("a", 0, 0, 1);
	INFO("a", 0, 32, 1);
	data(36);
	REFUSED("two tensors are named \"a\"");
}

/* GHSA-96jg-mvhq-q7q7: products; GHSA-vgg9-87g3-85w8: sums; #24759: the padding in between. */
static void
test_sizes(void)
{
	start(3, 1, 0);
	INFO("a", 0, 0, UINT64_C(1) << 32, UINT64_C(1) << 32);
	data(64);
	REFUSED("the shape of tensor \"a\" is too large");
	start(3, 1, 0);
	INFO("a", 0, 0, UINT64_C(1) << 63, 0);
	data(64);
	REFUSED("the shape of tensor \"a\" is too large");
	start(3, 1, 0);
	INFO("a", 0, 0, UINT64_C(1) << 62);
	data(64);
	REFUSED("the shape of tensor \"a\" is too large");
	start(3, 1, 0);
	INFO("a", 0, 0, UINT64_C(1) << 61, 2, 2);
	data(64);
	REFUSED("the shape of tensor \"a\" is too large");
	start(3, 2, 0);
	INFO("a", 24, 0, UINT64_C(1) << 62, 2);
	INFO("b", 24, UINT64_C(1) << 63, UINT64_C(1) << 62, 2);
	data(64);
	REFUSED("lies beyond every file");
	start(3, 2, 0);
	INFO("a", 24, 0, INT64_MAX - 2, 2); /* 2^64 - 6 bytes, which pad to 0 */
	INFO("b", 0, 0, 8);
	data(64);
	REFUSED("lies beyond every file");
	start(3, 1, 0);
	INFO("a", 24, 0, INT64_MAX - 2, 2);
	data(64);
	REFUSED("which do not end within the file");
}

/* CVE-2026-7482: more numbers than the file has bytes; tensors in each other or apart. */
static void
test_places(void)
{
	start(3, 1, 0);
	INFO("a", 0, 0, 1000000, 1000);
	data(4000);
	REFUSED("tensor a F32 (1000, 1000000) has 4000000000 bytes, which do not end within the file");
	start(3, 1, 0);
	INFO("a", 0, 0, 5, 5);
	data(99);
	REFUSED("tensor a F32 (5, 5) has 100 bytes, which do not end");
	number(0, 1);
	ACCEPTED();
	start(3, 2, 0);
	INFO("a", 0, 0, 8);
	INFO("b", 0, 0, 8);
	data(64);
	REFUSED("tensor \"b\" begins at byte 0 of the data, not at byte 32");
	start(3, 2, 0);
	INFO("a", 0, 0, 8);
	INFO("b", 0, 64, 8);
	data(96);
	REFUSED("tensor \"b\" begins at byte 64 of the data, not at byte 32");
	start(3, 1, 0);
	INFO("a", 0, UINT64_MAX, 8);
	data(64);
	REFUSED("begins at byte 18446744073709551615 of the data, not at byte 0");
	start(3, 2, 0);
	INFO("a", 0, 0, 0, 7);
	INFO("b", 0, 0, 8);
	data(32);
	ACCEPTED();
}

/* ---- the sample ---- */

static bool
load_sample(void)
{
	uint8_t *file = golden_file("sample.gguf", &size);

	if (file == NULL)
		return false;
	memcpy(bytes, file, size);
	claimed = size;
	free(file);
	return true;
}

static void
check_int(const gguf *g, const char *key, int64_t expected)
{
	llm_error err = {0};
	int64_t n = 0;
	double d = 0;

	CHECK(gguf_read_int(g, key, INT64_MIN, INT64_MAX, &n, &err));
	CHECK_INT(n, expected);
	CHECK(gguf_read_number(g, key, -1e20, 1e20, &d, &err) && d == (double) expected);
	CHECK(!gguf_read_int(g, key, expected + 1, INT64_MAX, &n, &err));
	CHECK(strstr(err.message, "outside") != NULL);
}

static void
check_numbers(const gguf *g)
{
	llm_error err = {0};
	double d, *many;
	size_t count;
	int64_t n;

	check_int(g, "test.u8", 200);
	check_int(g, "test.i8", -100);
	check_int(g, "test.u16", 60000);
	check_int(g, "test.i16", -30000);
	check_int(g, "test.u32", 4000000000);
	check_int(g, "test.i32", -2000000000);
	check_int(g, "test.i64", -(INT64_C(1) << 40));
	CHECK(gguf_read_number(g, "test.f32", 0, 1, &d, &err) && d == 0.1f);
	CHECK(gguf_read_number(g, "test.f64", 0, 1, &d, &err) && d == 0.1);
	CHECK(!gguf_read_number(g, "test.f64", 0, 0.05, &d, &err));
	CHECK_STR(err.message, "key \"test.f64\" is not a number from 0 to 0.05");
	CHECK(!gguf_read_int(g, "test.f32", 0, 1, &n, &(llm_error) {0}));
	CHECK(!gguf_read_int(g, "test.u64", 0, INT64_MAX, &n, &(llm_error) {0})); /* 2^63 + 5 */
	CHECK(!gguf_read_int(g, "test.integers", 0, INT64_MAX, &n, &(llm_error) {0}));
	err.code = LLM_OK;
	CHECK(gguf_read_numbers(g, "test.integers", 3, 3, -2, 3, &many, &count, &err) && count == 3 && many[1] == -2);
	free(many);
	CHECK(gguf_read_numbers(g, "test.floats", 0, 9, -2, 3, &many, &count, &err) && count == 2 && many[1] == -1.25);
	free(many);
	CHECK(gguf_read_numbers(g, "test.u8", 1, 9, 0, 200, &many, &count, &err) && count == 1 && many[0] == 200);
	free(many);
	CHECK(!gguf_read_numbers(g, "test.integers", 4, 9, -2, 3, &many, &count, &err) && many == NULL);
	CHECK_STR(err.message, "key \"test.integers\" holds 3 elements, 4 to 9 are allowed");
	CHECK(!gguf_read_numbers(g, "test.integers", 3, 3, -1, 3, &many, &count, &(llm_error) {0}));
	CHECK(!gguf_read_numbers(g, "test.strings", 0, 9, -1, 3, &many, &count, &(llm_error) {0}));
}

static void
check_strings(const gguf *g)
{
	llm_error err = {0};
	gguf_strings s;
	const char *string;
	size_t length;
	bool yes;

	CHECK(gguf_read_string(g, "general.architecture", &string, &length, &err));
	CHECK_STR(string, "sample");
	CHECK(gguf_read_string(g, "test.string", &string, &length, &err));
	CHECK_INT(length, 5);
	CHECK_STR(string, "gr\xC3\xBCn");
	CHECK(gguf_read_strings(g, "test.strings", 4, &s, &err));
	CHECK_INT(s.count, 4);
	CHECK_STR(gguf_string_at(&s, 0, &length), "<s>");
	CHECK_STR(gguf_string_at(&s, 1, &length), "");
	CHECK_STR(gguf_string_at(&s, 3, &length), "\xE4\xB8\xAD");
	CHECK_INT(length, 3);
	CHECK(gguf_read_bool(g, "test.true", &yes, &err) && yes);
	CHECK(gguf_read_bool(g, "test.false", &yes, &err) && !yes);
	CHECK_STR(err.message, "");
	CHECK(!gguf_read_strings(g, "test.strings", 3, &s, &(llm_error) {0}));
	CHECK(!gguf_read_strings(g, "test.string", 3, &s, &(llm_error) {0}));
	CHECK(!gguf_read_bool(g, "test.u8", &yes, &(llm_error) {0}));
	CHECK(!gguf_read_string(g, "test.u8", &string, &length, &(llm_error) {0}));
	CHECK(!gguf_read_string(g, "test.absent", &string, &length, &err));
	CHECK_STR(err.message, "key \"test.absent\" is missing");
	CHECK(gguf_has(g, "test.u8") && !gguf_has(g, "test.u"));
}

static void
test_sample(void)
{
	llm_error err;
	tensor_source s = {.read = read_bytes};
	float number;
	gguf *g;

	if (!load_sample())
		return;
	g = open_bytes(&err);
	if (!CHECK(g != NULL))
		return;
	check_numbers(g);
	check_strings(g);
	for (int32_t i = 1; i < gguf_key_count(g); i++)
		CHECK(strcmp(gguf_key(g, i - 1), gguf_key(g, i)) < 0);
	CHECK(gguf_source(g, &s, &err) && tensor_source_sort(&s, &err));
	gguf_close(g);
	CHECK_INT(s.count, 6);
	check_tensor(&s, "a.weight", SOURCE_F16, 0);
	check_tensor(&s, "b.weight", SOURCE_F32, 0);
	check_tensor(&s, "t.BF16", SOURCE_BF16, 0.02f);
	check_tensor(&s, "t.Q8_0", SOURCE_Q8_0, 0.04f);
	check_tensor(&s, "t.Q4_0", SOURCE_Q4_0, 1);
	CHECK(!tensor_source_read(&s, tensor_source_find(&s, "i"), 0, 1, &number, &err));
	CHECK_STR(err.message, "tensor i I32 (3) is of a type that cannot be read as numbers");
	tensor_source_clear(&s);
}

/* All that is asked of a file that was accepted. */
static void
use(const gguf *g)
{
	tensor_source s = {.read = read_bytes};
	llm_error err = {0};
	float numbers[256];

	for (int32_t i = 0; i < gguf_key_count(g); i++)
	{
		gguf_strings strings;
		double *many = NULL;
		size_t count, length;

		if (gguf_read_strings(g, gguf_key(g, i), 100, &strings, &(llm_error) {0}) && strings.count > 0)
			CHECK(gguf_string_at(&strings, strings.count - 1, &length)[length] == '\0');
		gguf_read_numbers(g, gguf_key(g, i), 0, 100, -1e300, 1e300, &many, &count, &(llm_error) {0});
		free(many);
	}
	CHECK(gguf_source(g, &s, &err) && tensor_source_sort(&s, &err));
	for (int32_t i = 0; i < s.count; i++)
	{
		const source_tensor *t = &s.tensors[i];

		CHECK(t->offset <= claimed && t->bytes <= claimed - t->offset);
		if (t->type != SOURCE_OTHER && t->count >= 256)
			CHECK(tensor_source_read(&s, t, t->count - 256, 256, numbers, &err));
	}
	CHECK_STR(err.message, "");
	tensor_source_clear(&s);
}

/* Cut off anywhere, and with any bit turned over: refused, or all right as far as can be known. */
static void
test_damaged(void)
{
	llm_error err;
	size_t last = 0, accepted = 0;

	if (!load_sample())
		return;
	for (claimed = 0; claimed < size; claimed++)
	{
		gguf *g = open_bytes(&err);

		CHECK((g == NULL) == (err.code != LLM_OK));
		if (g != NULL)
			use(g);
		last = g == NULL ? claimed : last;
		accepted += g != NULL;
		gguf_close(g);
	}
	CHECK_INT(accepted, size - 1 - last); /* padding behind the last tensor alone can be missing */
	CHECK(accepted < 64);
	claimed = size;
	for (size_t bit = 0; bit < 8 * size; bit++)
	{
		gguf *g;

		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		g = open_bytes(&err);
		CHECK((g == NULL) == (err.code != LLM_OK) && largest_allocation <= 1 << 20);
		if (g != NULL)
			use(g);
		gguf_close(g);
		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
}

/* ---- parts of a model ---- */

/* A file that says it is part `number` of `count`. */
static bool
read_part(uint64_t number_said, uint64_t count_said, gguf_split *split, llm_error *err)
{
	gguf *g;
	bool ok;

	start(3, 0, 2);
	key("split.no", GGUF_U16);
	number(number_said, 2);
	key("split.count", GGUF_U16);
	number(count_said, 2);
	g = open_bytes(err);
	ok = CHECK(g != NULL) && gguf_read_split(g, split, err);
	gguf_close(g);
	return ok;
}

static void
test_parts(void)
{
	static const char *const wrong[] = {"m.gguf",
										"-00001-of-00003.gguf",
										"m-00000-of-00003.gguf",
										"m-00004-of-00003.gguf",
										"m-00001-of-00002.gguf",
										"m-0000x-of-00003.gguf",
										"m-00001-of-00003.GGUF"};
	llm_error err = {0};
	gguf_split split;
	char *name;
	gguf *g;

	CHECK(read_part(2, 3, &split, &err) && split.number == 2 && split.count == 3 && split.tensors == -1);
	CHECK(read_part(0, 0, &split, &err) && split.number == 0 && split.count == 1);
	CHECK(!read_part(3, 3, &split, &err) && err.code == LLM_CORRUPT);
	start(3, 0, 0);
	g = open_bytes(&err);
	CHECK(g != NULL && gguf_read_split(g, &split, &err) && split.count == 1);
	gguf_close(g);
	name = gguf_part_name("m-00001-of-00003.gguf", 2, 3, &err);
	CHECK(name != NULL && strcmp(name, "m-00003-of-00003.gguf") == 0);
	free(name);
	CHECK(gguf_names_first_part("m-00001-of-00003.gguf") && !gguf_names_first_part("m-00002-of-00003.gguf"));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		err = (llm_error) {0};
		CHECK(gguf_part_name(wrong[i], 0, 3, &err) == NULL && err.code == LLM_INVALID);
	}
}

int
main(void)
{
	test_start();
	test_counts();
	test_strings();
	test_arrays();
	test_keys();
	test_alignment();
	test_infos();
	test_sizes();
	test_places();
	test_sample();
	test_damaged();
	test_parts();
	return test_summary();
}
