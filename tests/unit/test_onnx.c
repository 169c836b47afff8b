/*
 * test_onnx.c
 *	  ONNX files: weights in each form that is read, and every way in which a file can be wrong.
 */
#include <stdlib.h>

#include "../../src/format/onnx.h"
#include "test.h"

/* A message under construction. */
typedef struct message
{
	uint8_t bytes[4096];
	size_t count;
} message;

static void
put(message *m, const void *bytes, size_t count)
{
	memcpy(m->bytes + m->count, bytes, count);
	m->count += count;
}

static void
put_integer(message *m, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		put(m, (uint8_t[]) {(uint8_t) (n | 0x80)}, 1);
	put(m, (uint8_t[]) {(uint8_t) n}, 1);
}

static void
integer(message *m, int field, uint64_t n)
{
	put_integer(m, (uint64_t) field << 3);
	put_integer(m, n);
}

static void
bytes_field(message *m, int field, const void *bytes, size_t count)
{
	put_integer(m, (uint64_t) field << 3 | 2);
	put_integer(m, count);
	put(m, bytes, count);
}

static void
inner(message *m, int field, const message *from)
{
	bytes_field(m, field, from->bytes, from->count);
}

static uint8_t file[8192];
static size_t size;
static uint64_t bytes_read;

static bool
read_bytes(void *arg, int32_t number, uint64_t offset, void *out, size_t count, llm_error *err)
{
	CHECK(number == 2 && offset <= size && count <= size - offset);
	memcpy(out, file + offset, count);
	bytes_read += count;
	return true;
}

static bool
read_file(tensor_source *s, llm_error *err)
{
	*s = (tensor_source) {.read = read_bytes};
	*err = (llm_error) {0};
	return onnx_source(s, 2, size, NULL, err) && tensor_source_sort(s, err);
}

/* A model of version 8 and this graph, between fields that are passed over. */
static void
make_file(const message *graph)
{
	message m = {.count = 0};

	integer(&m, 1, 8);
	bytes_field(&m, 2, "maker", 5);
	put(&m, "\x7d....", 5);     /* field 15, four bytes */
	put(&m, "\x79........", 9); /* and eight */
	bytes_field(&m, 8, "\x10\x11", 2);
	inner(&m, 7, graph);
	integer(&m, 5, UINT64_MAX);
	memcpy(file, m.bytes, m.count);
	size = m.count;
}

static const float floats[] = {1.5f, -2, 0.25f, 7};

static message
tensor(const char *name, int type, int field, const void *bytes, size_t count)
{
	message t = {.count = 0};

	integer(&t, 1, 2);
	integer(&t, 1, 2);
	integer(&t, 2, (uint64_t) type);
	bytes_field(&t, 8, name, strlen(name));
	if (field != 0)
		bytes_field(&t, field, bytes, count);
	return t;
}

static void
check_numbers(const tensor_source *s, const char *name)
{
	const source_tensor *t = tensor_source_find(s, name);
	llm_error err = {0};
	float numbers[4];

	if (!CHECK(t != NULL))
		return;
	CHECK_INT(t->ndim, 2);
	CHECK_INT(t->dims[1], 2);
	CHECK(tensor_source_read(s, t, 0, 4, numbers, &err));
	CHECK_BYTES(numbers, floats, sizeof(floats));
	CHECK_STR(err.message, "");
}

static void
test_read(void)
{
	static const double doubles[] = {1.5, -2, 0.25, 7};
	static const uint8_t halves[] = {0x00, 0x3e, 0x00, 0xc0, 0x00, 0x34, 0x00, 0x47};
	static const uint8_t short_floats[] = {0xc0, 0x3f, 0x00, 0xc0, 0x80, 0x3e, 0xe0, 0x40};
	message graph = {.count = 0}, packed = {.count = 0}, t;
	tensor_source s;
	llm_error err;

	bytes_field(&graph, 1, "an operator", 11);
	inner(&graph, 5, (t = tensor("raw", 1, 9, floats, sizeof(floats)), &t));
	inner(&graph, 5, (t = tensor("listed", 1, 4, floats, sizeof(floats)), &t));
	inner(&graph, 5, (t = tensor("doubles", 11, 10, doubles, sizeof(doubles)), &t));
	inner(&graph, 5, (t = tensor("halves", 10, 9, halves, sizeof(halves)), &t));
	inner(&graph, 5, (t = tensor("bf16", 16, 9, short_floats, sizeof(short_floats)), &t));
	inner(&graph, 5, (t = tensor("halves in integers", 10, 5, "\1\2\3\4", 4), &t));
	inner(&graph, 5, (t = tensor("integers", 7, 7, "\1\2\3\4", 4), &t));
	bytes_field(&packed, 1, "\2\2", 2);
	bytes_field(&packed, 9, floats, sizeof(floats));
	integer(&packed, 2, 1);
	bytes_field(&packed, 8, "packed", 6);
	inner(&graph, 5, &packed);
	make_file(&graph);
	if (!CHECK(read_file(&s, &err)))
		fprintf(stderr, "%s\n", err.message);
	CHECK_INT(s.count, 8);
	check_numbers(&s, "raw");
	check_numbers(&s, "listed");
	check_numbers(&s, "doubles");
	check_numbers(&s, "halves");
	check_numbers(&s, "bf16");
	check_numbers(&s, "packed");
	CHECK_INT(tensor_source_find(&s, "integers")->type, SOURCE_OTHER);
	CHECK_STR(SOURCE_TEXT(tensor_source_find(&s, "halves in integers")), "halves in integers FLOAT16 (2, 2)");
	tensor_source_clear(&s);
}

static void
check_refused(const message *graph, llm_code code, const char *message)
{
	tensor_source s;
	llm_error err;

	make_file(graph);
	CHECK(!read_file(&s, &err));
	CHECK_INT(err.code, code);
	if (!CHECK(strstr(err.message, message) != NULL))
		fprintf(stderr, "expected %s: %s\n", message, err.message);
	tensor_source_clear(&s);
}

static void
check_tensor_refused(const message *t, const char *what)
{
	message graph = {.count = 0};

	inner(&graph, 5, t);
	check_refused(&graph, LLM_CORRUPT, what);
}

static void
test_wrong_tensors(void)
{
	message t = tensor("a", 1, 9, floats, 12), graph = {.count = 0};

	check_tensor_refused(&t, "tensor a FLOAT (2, 2) has 12 bytes, which are not those");
	t = tensor("a", 1, 10, floats, 16);
	check_tensor_refused(&t, "has 0 bytes");
	t = tensor("a", 1, 0, NULL, 0);
	check_tensor_refused(&t, "has 0 bytes");
	t = tensor("a", 24, 9, floats, 16);
	check_tensor_refused(&t, "tensor \"a\" is of unknown type 24");
	t = tensor("a", 0, 9, floats, 16);
	check_tensor_refused(&t, "unknown type 0");
	t = tensor("", 1, 9, floats, 16);
	check_tensor_refused(&t, "is not one of 1 to 1024 bytes");
	t = tensor("\n", 1, 9, floats, 16);
	check_tensor_refused(&t, "other bytes than printable ASCII");
	t = tensor("a", 1, 4, floats, 8);
	bytes_field(&t, 4, floats, 8);
	check_tensor_refused(&t, "in several pieces");
	t = tensor("a", 1, 9, floats, 16);
	integer(&t, 4, 0);
	check_tensor_refused(&t, "in several pieces");
	t = tensor("a", 1, 9, floats, 16);
	integer(&t, 1, UINT64_C(1) << 62);
	check_tensor_refused(&t, "the shape of a tensor of the file is too large");
	t = tensor("a", 1, 9, floats, 16);
	integer(&t, 1, UINT64_MAX);
	check_tensor_refused(&t, "the shape of a tensor of the file is too large");
	t = tensor("a", 1, 9, floats, 16);
	bytes_field(&t, 1, "\1\1\1\1\1\1\1", 7);
	check_tensor_refused(&t, "more than 8 dimensions");
	t = tensor("a", 1, 9, floats, 16);
	bytes_field(&t, 1, "\x81", 1);
	check_tensor_refused(&t, "does not end within its message");
	t = tensor("a", 1, 9, floats, 16);
	bytes_field(&t, 3, "", 0);
	check_tensor_refused(&t, "is a segment");
	t = (message) {.count = 0};
	integer(&t, 2, 7);
	check_tensor_refused(&t, "has no name");
	t = tensor("a", 1, 0, NULL, 0);
	integer(&t, 14, 1);
	inner(&graph, 5, &t);
	check_refused(&graph, LLM_INVALID, "are in another file");
}

static void
test_wrong_fields(void)
{
	static const struct
	{
		const char *bytes;
		size_t count;
		const char *message;
	} wrong[] = {
		{"\0\0", 2, "a field of number 0"},
		{"\x0b", 1, "of unknown form 3"},
		{"\x0f", 1, "of unknown form 7"},
		{"\x0d...", 4, "does not end within its message"},
		{"\x09.......", 8, "does not end within its message"},
		{"\x0a\1", 2, "does not end within its message"},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "does not end within its message"},
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, "more than 64 bits"},
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", 12, "more than 64 bits"},
		{"\x08\x80", 2, "does not end within its message"},
		{"\x28\x01", 2, "a tensor of the file is no message"},
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		message graph = {.count = 0};

		put(&graph, wrong[i].bytes, wrong[i].count);
		check_refused(&graph, LLM_CORRUPT, wrong[i].message);
	}
}

static void
test_no_model(void)
{
	tensor_source s;
	llm_error err;

	size = 0;
	CHECK(!read_file(&s, &err));
	CHECK_STR(err.message, "the file is not an ONNX file: it has no version or no graph");
	memcpy(file, "\x08\x08", 2);
	size = 2;
	CHECK(!read_file(&s, &err));
	CHECK_INT(err.code, LLM_INVALID);
	memcpy(file, "\x08\x08\x3a\0\x3a\0", 6);
	size = 6;
	CHECK(!read_file(&s, &err));
	CHECK_STR(err.message, "the file has not one graph");
	size = 4;
	CHECK(read_file(&s, &err) && s.count == 0);
}

/* Cut off anywhere, and with any bit turned over: refused, or with tensors that lie within the file. */
static void
test_damaged(void)
{
	message graph = {.count = 0}, t = tensor("raw", 1, 9, floats, sizeof(floats));
	tensor_source s;
	llm_error err;
	size_t whole;

	inner(&graph, 5, &t);
	make_file(&graph);
	whole = size;
	for (size = 0; size < whole - 11; size++) /* behind it are eleven bytes of another field */
	{
		CHECK(!read_file(&s, &err));
		tensor_source_clear(&s);
	}
	size = whole;
	for (size_t bit = 0; bit < 8 * whole; bit++)
	{
		file[bit / 8] ^= (uint8_t) (1 << bit % 8);
		CHECK(read_file(&s, &err) == (err.code == LLM_OK));
		for (int32_t i = 0; i < s.count; i++)
			CHECK(s.tensors[i].offset <= size && s.tensors[i].bytes <= size - s.tensors[i].offset);
		tensor_source_clear(&s);
		file[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
}

int
main(void)
{
	test_read();
	test_wrong_tensors();
	test_wrong_fields();
	test_no_model();
	test_damaged();
	return test_summary();
}
