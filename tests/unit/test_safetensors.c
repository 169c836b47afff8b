/*
 * test_safetensors.c
 *	  Safetensors files: what is read, each way in which a file can be wrong, what is written.
 */
#include <stdlib.h>

#include "../../src/format/safetensors.h"
#include "test.h"

static uint8_t bytes[4096];

/* A file with this header, spaces behind it up to `padding`, and `data` bytes 0, 1, 2, ... */
static size_t
make_file(const char *header, size_t data)
{
	size_t length = strlen(header);

	memset(bytes, 0, sizeof(bytes));
	bytes[0] = (uint8_t) length;
	bytes[1] = (uint8_t) (length >> 8);
	memcpy(bytes + 8, header, length);
	for (size_t i = 0; i < data; i++)
		bytes[8 + length + i] = (uint8_t) i;
	return 8 + length + data;
}

/* The bytes as a file; what lies behind `size` cannot be read. */
static size_t file_size;
static size_t bytes_read;

static bool
read_bytes(void *arg, int32_t file, uint64_t offset, void *out, size_t count, llm_error *err)
{
	CHECK_INT(file, 3);
	if (offset > file_size || count > file_size - offset)
		return llm_fail(err, LLM_CORRUPT, "the file ends");
	memcpy(out, bytes + offset, count);
	bytes_read += count;
	return true;
}

static safetensors *
open_header(size_t size, llm_error *err)
{
	file_size = size;
	bytes_read = 0;
	return safetensors_open_header(read_bytes, NULL, 3, size, err);
}

#define F32(name, shape, begin, end) \
	"\"" name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

static void
test_read(void)
{
	llm_error err = {0};
	size_t size =
		make_file("{\"__metadata__\":{\"format\":\"pt\"}," F32("b", "2,1", 0, 8) "," F32(
					  "a", "", 8, 12) ","
									  "\"empty\":{\"dtype\":\"I64\",\"shape\":[0,3],\"data_offsets\":[8,8]}}   ",
				  12);
	safetensors *file = safetensors_open(bytes, size, &err);
	const safetensor *t;

	CHECK_STR(err.message, "");
	if (!CHECK(file != NULL))
		return;
	CHECK_INT(safetensors_count(file), 3);
	CHECK_STR(safetensors_at(file, 1)->name, "empty");
	CHECK_STR(safetensors_metadata(file, "format"), "pt");
	CHECK(safetensors_metadata(file, "llmapp") == NULL);
	CHECK(safetensors_find(file, "c") == NULL);
	t = safetensors_find(file, "b");
	CHECK_INT(t->ndim, 2);
	CHECK_INT(t->count, 2);
	CHECK_STR(safetensor_text(t, (char[SAFETENSORS_TEXT_BYTES]) {0}), "b F32 (2, 1)");
	t = safetensors_find(file, "a");
	CHECK_INT(t->ndim, 0);
	CHECK_INT(t->count, 1);
	CHECK_INT(t->data[0], 8);
	safetensors_close(file);
}

typedef struct wrong
{
	const char *header;
	size_t data;
	const char *message;
} wrong;

#define ENTRY(members) "{\"a\":{" members "}}"

static const wrong wrongs[] = {
	{"", 0, "does not begin with"},
	{" {}", 0, "does not begin with"},
	{"[]", 0, "does not begin with"},
	{"{\"a\":", 0, "cannot be read"},
	{"{}x", 0, "cannot be read"},
	{"{\"a\xff\":1}", 0, "cannot be read"},
	{"{" F32("a", "1", 0, 4) "," F32("a", "1", 4, 8) "}", 8, "have the same name"},
	{"{\"a\":1}", 0, "is not described by an object"},
	{ENTRY("\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"x\":1"), 4, "unknown member \"x\""},
	{ENTRY("\"shape\":[],\"data_offsets\":[0,4]"), 4, "has no \"dtype\""},
	{ENTRY("\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[0,4]"), 4, "unknown dtype \"F4\""},
	{ENTRY("\"dtype\":\"F32\",\"data_offsets\":[0,4]"), 4, "is not an array of at most"},
	{"{" F32("a", "1,1,1,1,1,1,1,1,1", 0, 4) "}", 4, "is not an array of at most"},
	{"{" F32("a", "-1", 0, 4) "}", 4, "something else than lengths"},
	{"{" F32("a", "1.0", 0, 4) "}", 4, "something else than lengths"},
	{"{" F32("a", "99999999999999999999", 0, 4) "}", 4, "cannot be read"},
	{"{" F32("a", "4294967296,4294967296", 0, 4) "}", 4, "is too large"},
	{"{" F32("a", "4611686018427387904", 0, 0) "}", 0, "not those of its shape and dtype"},
	{ENTRY("\"dtype\":\"F32\",\"shape\":[]"), 4, "is not an array of begin and end"},
	{ENTRY("\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]"), 4, "is not an array of begin and end"},
	{ENTRY("\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4.0]"), 4, "is not an array of begin and end"},
	{"{" F32("a", "", -4, 0) "}", 4, "is not an array of begin and end"},
	{"{" F32("a", "", 4, 0) "}", 4, "is not an array of begin and end"},
	{"{" F32("a", "2", 0, 8) "}", 7, "ends at byte 8 of 7"},
	{"{" F32("a", "2", 0, 7) "}", 8, "has 7 bytes, which are not those"},
	{"{" F32("a", "2", 0, 8) "," F32("b", "2", 4, 12) "}", 12, "\"a\" and \"b\" of the file overlap"},
	{"{" F32("a", "1", 0, 4) "," F32("b", "1", 0, 4) "}", 4, "overlap"},
	{"{" F32("a", "1", 0, 4) "," F32("b", "1", 8, 12) "}", 12, "4 bytes before tensor \"b\""},
	{"{" F32("a", "1", 4, 8) "}", 8, "4 bytes before tensor \"a\""},
	{"{" F32("a", "1", 0, 4) "}", 6, "2 bytes at the end"},
	{"{}", 1, "1 bytes at the end"},
	{"{\"__metadata__\":[]}", 0, "is not an object"},
	{"{\"__metadata__\":{\"a\":1}}", 0, "is not a string"},
};

static void
test_wrong(void)
{
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
	{
		llm_error err = {0}, again = {0};
		safetensors *file = safetensors_open(bytes, make_file(wrongs[i].header, wrongs[i].data), &err);

		CHECK(file == NULL);
		CHECK_INT(err.code, strstr(wrongs[i].message, "begin with") ? LLM_INVALID : LLM_CORRUPT);
		if (!CHECK(strstr(err.message, wrongs[i].message) != NULL))
			fprintf(stderr, "%s: %s\n", wrongs[i].header, err.message);
		CHECK(open_header(make_file(wrongs[i].header, wrongs[i].data), &again) == NULL);
		CHECK_STR(again.message, err.message);
	}
}

static void
check_length(uint64_t length, size_t size, llm_code code, const char *message)
{
	llm_error err = {0}, again = {0};

	memset(bytes, ' ', sizeof(bytes));
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t) (length >> (8 * i));
	bytes[8] = '{';
	bytes[9] = '}';
	CHECK(safetensors_open(bytes, size, &err) == NULL);
	CHECK_INT(err.code, code);
	CHECK(strstr(err.message, message) != NULL);
	CHECK(open_header(size, &again) == NULL);
	CHECK_STR(again.message, err.message);
	CHECK(bytes_read <= 8);
}

static void
test_length(void)
{
	check_length(2, 0, LLM_INVALID, "too short");
	check_length(2, 7, LLM_INVALID, "too short");
	check_length(0, 8, LLM_INVALID, "does not begin with");
	check_length(3, 10, LLM_CORRUPT, "the file ends after 2");
	check_length(SAFETENSORS_HEADER_MAX, 100, LLM_CORRUPT, "the file ends after 92");
	check_length(SAFETENSORS_HEADER_MAX + 1, 100, LLM_INVALID, "at most 100000000 are allowed");
	check_length(UINT64_MAX, 100, LLM_INVALID, "at most 100000000 are allowed");
}

/* One number of a type from its bytes, behind a byte of another tensor so that nothing is aligned. */
static double
number_of(const char *dtype, int length, const uint8_t *number, llm_error *err)
{
	char header[256];
	safetensors *file;
	size_t size;
	float value = NAN;

	sprintf(header,
			"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
			"\"n\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[1,%d]}}",
			dtype, length + 1);
	size = make_file(header, length + 1);
	memcpy(bytes + size - length, number, length);
	file = safetensors_open(bytes, size, err);
	if (file != NULL)
		(void) safetensor_floats(safetensors_find(file, "n"), 0, 1, &value, err);
	safetensors_close(file);
	return value;
}

#define NUMBER_OF(dtype, ...) \
	number_of(dtype, sizeof((uint8_t[]) {__VA_ARGS__}), (uint8_t[]) {__VA_ARGS__}, &(llm_error) {0})

static void
test_numbers(void)
{
	llm_error err = {0};

	CHECK(NUMBER_OF("F32", 0, 0, 0x80, 0x3f) == 1);
	CHECK(NUMBER_OF("F32", 0, 0, 0xc0, 0xff) != 0);
	CHECK(NUMBER_OF("F64", 0x18, 0x2d, 0x44, 0x54, 0xfb, 0x21, 0x09, 0xc0) == (float) -M_PI);
	CHECK(isinf(NUMBER_OF("F64", 0, 0, 0, 0, 0, 0, 0xf0, 0x7e)));
	CHECK(NUMBER_OF("BF16", 0x80, 0xbf) == -1);
	CHECK(NUMBER_OF("F16", 0, 0x3c) == 1);
	CHECK(NUMBER_OF("F16", 0xff, 0x7b) == 65504);
	CHECK(NUMBER_OF("F16", 0x01, 0x80) == -ldexp(1, -24));
	CHECK(NUMBER_OF("F16", 0xff, 0x03) == ldexp(1023, -24));
	CHECK(NUMBER_OF("F16", 0, 4) == ldexp(1, -14));
	CHECK(NUMBER_OF("F16", 0, 0xfc) == -INFINITY);
	CHECK(isnan(NUMBER_OF("F16", 1, 0x7c)));
	CHECK(isnan(number_of("I32", 4, (uint8_t[4]) {1}, &err)));
	CHECK_INT(err.code, LLM_INVALID);
	CHECK_STR(err.message, "tensor n I32 () cannot be read as numbers of type real; F32, F16, BF16 and F64 can");
}

static void
test_write(void)
{
	safetensors_entry entries[] = {{"z", 1, {3}, 0, 0}, {"a\"b", 2, {1, 2}, 1, 0}, {"m", 0, {0}, 2, 0}};
	float numbers[] = {1.5f, -2, 3e-30f};
	json_t *metadata = json_pack("{s:s}", "llmapp", "{\"x\": 1}");
	llm_error err = {0};
	size_t header_bytes, file_bytes;
	uint8_t *header = safetensors_header(entries, 3, metadata, &header_bytes, &file_bytes, &err);
	safetensors *file;
	float back[3];

	json_decref(metadata);
	if (!CHECK(header != NULL))
		return;
	CHECK_INT(header_bytes % 8, 0);
	CHECK_INT(file_bytes, header_bytes + 24);
	CHECK_INT(entries[0].id, 1);
	CHECK_INT(entries[2].offset, header_bytes + 12);
	memcpy(bytes, header, header_bytes);
	free(header);
	safetensors_put(SOURCE_F32, numbers, 3, bytes + entries[2].offset);
	file = safetensors_open(bytes, file_bytes, &err);
	CHECK_STR(err.message, "");
	if (!CHECK(file != NULL))
		return;
	CHECK_STR(safetensors_metadata(file, "llmapp"), "{\"x\": 1}");
	CHECK_STR(safetensors_at(file, 0)->name, "a\"b");
	CHECK(safetensor_floats(safetensors_find(file, "z"), 0, 3, back, &err));
	CHECK(memcmp(back, numbers, sizeof(back)) == 0);
	safetensors_close(file);
}

/* A tensor of each type that is written; the header alone is read before the numbers. */
static void
test_source(void)
{
	safetensors_entry entries[] = {
		{"a", 1, {3}, .type = SOURCE_F16}, {"b", 1, {1}, .type = SOURCE_F32}, {"c", 2, {1, 3}, .type = SOURCE_BF16}};
	float numbers[] = {1.5f, -2, 0.25f}, back[3];
	llm_error err = {0};
	size_t header_bytes, size;
	uint8_t *header = safetensors_header(entries, 3, NULL, &header_bytes, &size, &err);
	tensor_source s = {.read = read_bytes};
	const source_tensor *t;
	safetensors *file;

	if (!CHECK(header != NULL))
		return;
	CHECK_INT(size, header_bytes + 16);
	memcpy(bytes, header, header_bytes);
	free(header);
	CHECK_STR(entries[0].name, "b");
	for (int i = 0; i < 3; i++)
		safetensors_put(entries[i].type, numbers, i == 0 ? 1 : 3, bytes + entries[i].offset);
	file = open_header(size, &err);
	if (!CHECK(file != NULL))
		return;
	CHECK_INT(bytes_read, header_bytes);
	CHECK(safetensors_at(file, 0)->data == NULL);
	CHECK(safetensors_source(file, 3, &s, &err) && tensor_source_sort(&s, &err));
	safetensors_close(file);
	CHECK_INT(s.count, 3);
	for (int i = 0; i < 3; i++)
	{
		t = tensor_source_find(&s, entries[i].name);
		CHECK_INT(t->type, entries[i].type);
		CHECK_INT(t->count, i == 0 ? 1 : 3);
		CHECK(tensor_source_read(&s, t, 0, t->count, back, &err));
		CHECK_BYTES(back, numbers, t->count * sizeof(float));
	}
	CHECK_STR(SOURCE_TEXT(t), "c BF16 (1, 3)");
	CHECK_STR(err.message, "");
	tensor_source_clear(&s);
}

static void
test_shown(void)
{
	CHECK_STR(SHOWN("gr\xC3\xBCn\n"), "gr??n?");
	CHECK_INT(strlen(SHOWN("0123456789012345678901234567890123456789012345678901234567890123456789")), 63);
}

int
main(void)
{
	test_read();
	test_wrong();
	test_length();
	test_numbers();
	test_write();
	test_source();
	test_shown();
	return test_summary();
}
