/*
 * test_constraint.c
 *	  Texts of random tokens under a schema: each parses, satisfies it, and keeps within its tokens.
 */
#include "../../src/constrain/constraint.h"
#include "schema_check.h"
#include "tokenizer_helper.h"

#define TEXTS 40

/* ---- making texts ---- */

static json_t *
parse(const char *text)
{
	llm_error err = {0};
	json_t *json = json_parse(text, strlen(text), &err);

	CHECK_STR(err.message, "");
	return json;
}

static bool
is_allowed(const uint64_t *mask, int32_t id)
{
	return mask[id / 64] >> id % 64 & 1;
}

/* One of the tokens whose bits are set, -1: none is. */
static int32_t
random_token(const uint64_t *mask, int32_t vocab)
{
	int32_t count = 0, chosen;

	for (int32_t i = 0; i < vocab; i++)
		count += is_allowed(mask, i);
	if (count == 0)
		return -1;
	chosen = (int32_t) next_random((uint32_t) count);
	for (int32_t i = 0;; i++)
		if (is_allowed(mask, i) && chosen-- == 0)
			return i;
}

/* A text of at most `most` tokens into `out`; false when something failed on the way. */
static bool
random_text_of(constraint *c, const tokenizer *t, int64_t most, text_buffer *out)
{
	int32_t vocab = tokenizer_size(t), end = tokenizer_special(t, SPECIAL_END);
	uint64_t *mask = calloc((vocab + 63) / 64, sizeof(uint64_t));
	constraint_place at = {0};
	llm_error err = {0};
	bool more = true, ok = true;

	out->size = 0;
	for (int64_t left = most; ok; left--)
	{
		int32_t id;

		ok = constraint_next(c, &at, out->bytes, out->size, left, end, mask, &more, &err);
		if (!ok || !more || left == 0)
			break;
		id = random_token(mask, vocab);
		if (id == end && id >= 0)
			break;
		ok = id >= 0 && tokenizer_decode(t, &id, 1, false, out, &err);
	}
	CHECK_STR(err.message, "");
	free(mask);
	return ok;
}

static constraint *
make(const char *schema, const vocabulary *v)
{
	json_t *json = parse(schema);
	llm_error err = {0};
	constraint *c = constraint_new(json, v, v->size, &err);

	if (!CHECK(c != NULL))
		fprintf(stderr, "%s: %s %s\n", schema, err.message, err.detail);
	json_decref(json);
	return c;
}

/* Of texts within `most` tokens, how many parse and satisfy the schema. */
static int
good_texts(constraint *c, const tokenizer *t, const json_t *schema, int64_t most, int texts)
{
	text_buffer out = {0};
	int good = 0;

	for (int i = 0; i < texts; i++)
	{
		bool made = random_text_of(c, t, most, &out);
		json_t *value = made ? json_loadb(out.bytes, out.size, JSON_DECODE_ANY, NULL) : NULL; /* keys may repeat */

		if (value != NULL && satisfies(schema, schema, value))
			good++;
		else
			fprintf(stderr, "not good: %.*s\n", (int) out.size, out.bytes);
		json_decref(value);
	}
	free(out.bytes);
	return good;
}

static const char *const schemas[] = {
	"{}",
	"true",
	"{\"type\": \"object\"}",
	"{\"type\": [\"string\", \"null\", \"integer\"], \"maxLength\": 5, \"minimum\": -20, \"maximum\": 105}",
	"{\"type\": \"number\"}",
	"{\"type\": [\"object\", \"array\", \"string\", \"number\", \"integer\", \"boolean\", \"null\"], \"maxLength\": "
	"3, \"maxItems\": 2}",
	"{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}",
	"{\"type\": \"number\", \"minimum\": -12.5, \"maximum\": 3}",
	"{\"type\": \"integer\", \"minimum\": 17, \"maximum\": 4321}",
	"{\"type\": \"integer\", \"exclusiveMinimum\": -1000, \"exclusiveMaximum\": -99}",
	"{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 4}",
	"{\"enum\": [\"red\", \"reddish\", \"r\\u00e9d\", 1, 0.1, null, [1, {\"a\": \"b\"}]]}",
	"{\"const\": {\"quote\\\"d\": \"\\n\"}}",
	"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": \"boolean\"}, \"c\": "
	"{\"type\": \"null\"}}, \"required\": [\"b\"]}",
	"{\"type\": \"object\", \"properties\": {\"a\": {\"const\": 1}, \"ab\": {\"const\": 2}, \"\\u00e9\": {\"const\": "
	"3}}, "
	"\"additionalProperties\": {\"type\": \"boolean\"}}",
	"{\"type\": \"object\", \"required\": [\"x\", \"y\"], \"additionalProperties\": {\"type\": \"integer\"}}",
	"{\"type\": \"array\", \"items\": {\"type\": \"boolean\"}, \"minItems\": 2, \"maxItems\": 3}",
	"{\"type\": \"array\", \"prefixItems\": [{\"type\": \"integer\"}, {\"type\": \"null\"}], \"items\": false}",
	"{\"type\": \"array\", \"prefixItems\": [{\"type\": \"integer\"}], \"items\": {\"type\": \"string\"}, "
	"\"minItems\": 3}",
	"{\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"array\", \"items\": {\"$ref\": \"#\"}}]}",
	"{\"oneOf\": [{\"type\": \"object\", \"properties\": {\"kind\": {\"const\": \"a\"}, \"x\": {\"type\": "
	"\"integer\"}}, "
	"\"required\": [\"kind\", \"x\"]}, {\"type\": \"object\", \"properties\": {\"kind\": {\"const\": \"b\"}, \"y\": "
	"{\"type\": \"string\"}}, \"required\": [\"kind\", \"y\"]}]}",
	"{\"$ref\": \"#/$defs/tree\", \"$defs\": {\"tree\": {\"type\": \"object\", \"properties\": {\"name\": {\"type\": "
	"\"string\"}, \"children\": {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/tree\"}}}, \"required\": "
	"[\"name\", \"children\"]}}}",
	"{\"type\": \"string\", \"format\": \"date\"}",
	"{\"type\": \"string\", \"pattern\": \"^[A-Z]{2}-\\\\d+(x|yy)?$\"}",
	"{\"type\": \"string\", \"pattern\": \"a.b[^c-e\\\"]|\\\\w*\\\\\\\\\\\"\"}",
};

#define SCHEMAS (sizeof(schemas) / sizeof(schemas[0]))

/* All schemas, with few and with many tokens. */
static void
check_schemas(const tokenizer *t)
{
	llm_error err = {0};
	vocabulary *v = vocabulary_new(t, &err);

	CHECK(v != NULL);
	for (size_t i = 0; v != NULL && i < SCHEMAS; i++)
	{
		json_t *schema = parse(schemas[i]);
		constraint *c = make(schemas[i], v);

		if (c == NULL)
			continue;
		if (!CHECK_INT(good_texts(c, t, schema, 200, TEXTS), TEXTS) ||
			!CHECK_INT(good_texts(c, t, schema, constraint_shortest(c), TEXTS / 4), TEXTS / 4) ||
			!CHECK_INT(good_texts(c, t, schema, constraint_shortest(c) + 3, TEXTS / 4), TEXTS / 4))
			fprintf(stderr, "of schema %s\n", schemas[i]);
		constraint_free(c);
		json_decref(schema);
	}
	vocabulary_free(v);
}

/* ---- vocabularies ---- */

static void
test_bytes(void)
{
	const special_text end = {"<end>", SPECIAL_END};
	llm_error err = {0};
	size_t bytes;
	void *block = byte_tokenizer(&end, 1, &bytes, &err);
	tokenizer *t = open_block(block, bytes);

	check_schemas(t);
	tokenizer_free(t);
	free(block);
}

/* Tokens that begin and end anywhere: learned from JSON and from text of all planes. */
static void
test_learned(void)
{
	static const char text[] =
		"{\"a\": 1, \"b\": [true, false, null], \"kind\": \"a\", \"x\": -12.5, \"name\": \"\"}\n"
		"{\"children\":[{\"name\":\"\\u00e9\",\"children\":[]},{\"name\":\"}]\"}]}\n2024-02-29";
	bpe_trainer_options options = {.vocabulary = 900, .pretokenizer = PRETOKENIZER_GPT2, .max_word_bytes = 4096};
	llm_error err = {0};
	bpe_trainer *trainer = bpe_trainer_new(&options, &err);
	char random[20000];
	size_t bytes;
	void *block;
	tokenizer *t;

	for (int i = 0; i < 100; i++)
		bpe_trainer_add(trainer, text, sizeof(text) - 1, &err);
	bpe_trainer_add(trainer, random, random_text(random, sizeof(random)), &err);
	block = bpe_trainer_finish(trainer, &bytes, &err);
	t = open_block(block, bytes);
	check_schemas(t);
	tokenizer_free(t);
	free(block);
	bpe_trainer_free(trainer);
}

/* SentencePiece's form: the space of the first token is no text, bytes have tokens of their own. */
static void
test_pieces(void)
{
	tokenizer_options options = {
		.kind = TOKENIZER_UNIGRAM, .spelling = SPELLING_SPACE_MARK, .flags = FLAG_BYTE_FALLBACK | FLAG_PREFIX_SPACE};
	llm_error err = {0};
	tokenizer_builder *b = tokenizer_builder_new(&options, &err);
	static const char *const pieces[] = {
		"\xE2\x96\x81", "\xE2\x96\x81{\"", "\xE2\x96\x81true", "\xE2\x96\x81[", "\xE2\x96\x81", "\":", "},", "a",
		"\xC3\xA9"};
	void *block = NULL;
	char text[8];
	tokenizer *t;

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		tokenizer_builder_token(b, pieces[i], strlen(pieces[i]), TOKEN_NORMAL, -(double) i, &err);
	for (int i = 0; i < 256; i++)
	{
		snprintf(text, sizeof(text), "<0x%02X>", i);
		tokenizer_builder_token(b, text, strlen(text), TOKEN_BYTE, 0, &err);
	}
	t = open_built(b, &block, &err);
	CHECK_STR(err.message, "");
	check_schemas(t);
	tokenizer_free(t);
	free(block);
}

/* Some characters, no bytes. */
static tokenizer *
open_characters(const char *characters, void **block)
{
	tokenizer_options options = {.kind = TOKENIZER_CHARACTERS};
	llm_error err = {0};
	tokenizer_builder *b = tokenizer_builder_new(&options, &err);

	for (const char *c = characters; *c != '\0'; c++)
		tokenizer_builder_token(b, c, 1, TOKEN_NORMAL, 0, &err);
	tokenizer_builder_token(b, "\xC3\xA9", 2, TOKEN_NORMAL, 0, &err);
	tokenizer_builder_token(b, "\xC3\xA8t", 3, TOKEN_NORMAL, 0, &err);
	return open_built(b, block, &err);
}

static void
test_few_characters(void)
{
	void *block;
	tokenizer *t = open_characters("{}\":,[]1235ab", &block);
	llm_error err = {0};
	vocabulary *v = vocabulary_new(t, &err);
	json_t *schema = parse(
		"{\"type\": \"object\", \"additionalProperties\": {\"enum\": [\"a\", \"\\u00e9\", \"\\u00e8\", 12, 4]}}");
	constraint *c = constraint_new(schema, v, v->size, &err);

	CHECK(!v->complete);
	CHECK_INT(good_texts(c, t, schema, 60, TEXTS), TEXTS);
	constraint_free(c);
	json_decref(schema);
	schema = parse("{\"type\": \"boolean\"}");
	c = constraint_new(schema, v, v->size, &err);
	CHECK(c == NULL);
	CHECK_STR(err.message, "the model's tokenizer lacks characters that texts of this schema need");
	json_decref(schema);
	vocabulary_free(v);
	tokenizer_free(t);
	free(block);
}

/* ---- what is possible ---- */

typedef struct fixture
{
	void *block;
	tokenizer *t;
	vocabulary *v;
} fixture;

static fixture
byte_fixture(void)
{
	llm_error err = {0};
	size_t bytes;
	fixture f = {byte_tokenizer(NULL, 0, &bytes, &err), NULL, NULL};

	f.t = open_block(f.block, bytes);
	f.v = vocabulary_new(f.t, &err);
	return f;
}

static void
free_fixture(fixture *f)
{
	vocabulary_free(f->v);
	tokenizer_free(f->t);
	free(f->block);
}

/* May the text be made, and end?  1: yes; 0: it is not ready; -1: a byte of it is not allowed. */
static int
accepts(constraint *c, const char *text)
{
	uint64_t mask[4];
	constraint_place at = {0};
	llm_error err = {0};
	bool more;

	for (size_t i = 0; i < strlen(text); i++)
		if (!constraint_next(c, &at, text, i, 10000, -1, mask, &more, &err) || !is_allowed(mask, (uint8_t) text[i]))
			return -1;
	if (!constraint_next(c, &at, text, strlen(text), 0, 0, mask, &more, &err))
		return -1;
	return !more && is_allowed(mask, 0);
}

static void
test_texts(void)
{
	static const struct
	{
		const char *schema, *text;
		int accepted;
	} cases[] = {
		{"{\"type\": \"integer\"}", "-120", 1},
		{"{\"type\": \"integer\"}", "-0", -1},
		{"{\"type\": \"integer\"}", "01", -1},
		{"{\"type\": \"integer\"}", "1.0", -1},
		{"{\"type\": \"integer\"}", "999999999999999999", 1},
		{"{\"type\": \"integer\"}", "1000000000000000000", -1},
		{"{\"type\": \"integer\", \"minimum\": 10, \"maximum\": 19}", "9", -1},
		{"{\"type\": \"integer\", \"minimum\": 10, \"maximum\": 19}", "1", 0},
		{"{\"type\": \"integer\", \"minimum\": 10, \"maximum\": 19}", "19", 1},
		{"{\"type\": \"number\"}", "-0.50", 1},
		{"{\"type\": \"number\"}", "1.", 0},
		{"{\"type\": \"number\"}", "1e5", -1},
		{"{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}", "0.999", 1},
		{"{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}", "1.1", -1},
		{"{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}", "1", 1},
		{"{\"type\": \"string\"}", "\"a\\n\\u12ab\\\"\xF0\x9F\xA6\x8A\"", 1},
		{"{\"type\": \"string\"}", "\"\\u0000", -1},
		{"{\"type\": \"string\"}", "\"\\ud800", -1},
		{"{\"type\": \"string\"}", "\"\\u0001\"", 1},
		{"{\"type\": \"string\"}", "\"\xC0", -1},
		{"{\"type\": \"string\"}", "\"\xED\xA0", -1},
		{"{\"type\": \"string\"}", "\"\n", -1},
		{"{\"type\": \"string\", \"maxLength\": 2}", "\"\xC3\xA9\\t\"", 1},
		{"{\"type\": \"string\", \"maxLength\": 2}", "\"abc", -1},
		{"{\"type\": \"string\", \"format\": \"date\"}", "\"2024-02-29\"", 1},
		{"{\"type\": \"string\", \"format\": \"date\"}", "\"2023-02-29", -1},
		{"{\"type\": \"string\", \"format\": \"date\"}", "\"2000-02-29\"", 1},
		{"{\"type\": \"string\", \"format\": \"date\"}", "\"1900-02-29", -1},
		{"{\"type\": \"string\", \"format\": \"date\"}", "\"2023-04-31", -1},
		{"{\"type\": \"string\", \"format\": \"date-time\"}", "\"2023-04-30T23:59:00.5+02:00\"", 1},
		{"{\"type\": \"string\", \"format\": \"time\"}", "\"24", -1},
		{"{\"type\": \"string\", \"format\": \"uuid\"}", "\"12345678-1234-1234-1234-123456789abc\"", 1},
		{"{\"type\": \"array\"}", "[1, [],{\"a\": [null]}]", 1},
		{"{\"type\": \"array\"}", "[1,  2", -1},
		{"{\"type\": \"array\"}", "[ 1", -1},
		{"{\"type\": \"array\"}", "[1,]", -1},
		{"{\"properties\": {\"a\": {}, \"b\": {}}}", "{\"b\": 1}", 1},
		{"{\"properties\": {\"a\": {}, \"b\": {}}}", "{\"b\": 1,\"a\"", -1},
		{"{\"properties\": {\"a\": {}, \"b\": {}}, \"required\": [\"b\", \"a\"]}", "{\"b\": 1,\"a\":2}", 1},
		{"{\"properties\": {\"a\": {}, \"b\": {}}}", "{\"c\"", -1},
		{"{\"properties\": {\"a\": {\"const\": 1}}, \"additionalProperties\": true}", "{\"\":1,\"aa\":2,\"b\":3}", 1},
		{"{\"properties\": {\"a\": {\"const\": 1}}, \"additionalProperties\": true}", "{\"a\":2", -1},
		{"{\"properties\": {\"a\": {\"const\": 1}}, \"additionalProperties\": true}", "{\"b\":2,\"a\"", -1},
		{"{\"enum\": [\"b\", \"bb\", \"b\"]}", "\"bb\"", 1},
		{"{\"type\": \"string\", \"enum\": [1, \"b\"]}", "1", -1},
		{"{\"pattern\": \"x{2,3}(ab|c)*\"}", "\"xxxabcab\"", 1},
		{"{\"pattern\": \"x{2,3}(ab|c)*\"}", "\"xa", -1},
		{"{\"pattern\": \"x{2,3}(ab|c)*\"}", "\"xxxx", -1},
		{"{\"pattern\": \"[\\\\d.-]+[^0-9]\\\\.\"}", "\"1.5-\xC3\xA9.\"", -1},
		{"{\"pattern\": \"[\\\\d.-]+[^0-9]\\\\.\"}", "\"1.5-\\\\.\"", 1},
		{"{\"pattern\": \"^a$|^b$\"}", "\"b\"", 1},
		{"{\"pattern\": \"(?:a?){2}.\"}", "\"\xC3\xA9\"", 1},
	};
	fixture f = byte_fixture();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		constraint *c = make(cases[i].schema, f.v);

		if (c != NULL && !CHECK_INT(accepts(c, cases[i].text), cases[i].accepted))
			fprintf(stderr, "text %s of schema %s\n", cases[i].text, cases[i].schema);
		constraint_free(c);
	}
	free_fixture(&f);
}

/* ---- what is refused ---- */

static void
test_errors(void)
{
	static const struct
	{
		const char *schema, *message;
	} cases[] = {
		{"{\"allOf\": []}", "the schema has \"allOf\", which is not supported"},
		{"{\"properties\": {\"a\": {\"not\": {}}}}", "the schema has \"not\", which is not supported"},
		{"{\"type\": \"text\"}", "\"type\" is not one of object, array, string, number, integer, boolean and null"},
		{"{\"type\": \"object\", \"anyOf\": [{}]}",
		 "the schema has \"type\" beside \"anyOf\", which is not supported"},
		{"{\"enum\": [1], \"minimum\": 3}", "the schema has \"minimum\" beside \"enum\", which is not supported"},
		{"{\"enum\": [1], \"type\": \"string\"}", "\"enum\" has no value of the type that the schema asks for"},
		{"{\"oneOf\": [{\"type\": \"integer\"}, {\"type\": \"number\"}]}",
		 "a value may satisfy both alternatives 1 and 2 of \"oneOf\""},
		{"{\"$ref\": \"#/$defs/x\"}", "\"$ref\" \"#/$defs/x\" leads nowhere in the schema"},
		{"{\"$ref\": \"other.json\"}", "\"$ref\" \"other.json\" leads nowhere in the schema"},
		{"{\"$ref\": \"#\"}", "\"$ref\" leads back to itself"},
		{"{\"type\": \"array\", \"items\": {\"$ref\": \"#\"}, \"minItems\": 1}", "no text satisfies the schema"},
		{"{\"anyOf\": []}", "\"anyOf\" is not an array of schemas"},
		{"false", "the schema is false there, so no value satisfies it"},
		{"3", "a schema is neither an object nor true"},
		{"{\"type\": \"integer\", \"minimum\": 3, \"maximum\": 2}",
		 "no integer lies between \"minimum\" and \"maximum\""},
		{"{\"type\": \"number\", \"exclusiveMinimum\": 3}",
		 "the schema has \"exclusiveMinimum\" of a number, which is not supported"},
		{"{\"minItems\": -1}", "\"minItems\" is not a number from 0 to 200000"},
		{"{\"minItems\": 3, \"maxItems\": 2}", "the array has at most 2 items, but \"minItems\" is 3"},
		{"{\"minLength\": 3, \"maxLength\": 2}", "\"maxLength\" is less than \"minLength\""},
		{"{\"maxLength\": 200000}", "the schema is too large: its texts need more than 200000 states"},
		{"{\"format\": \"email\"}", "the schema has \"format\" \"email\", which is not supported"},
		{"{\"format\": \"date\", \"maxLength\": 3}",
		 "the schema has a length beside \"format\", which is not supported"},
		{"{\"pattern\": \"(?=a)\"}",
		 "the schema's pattern has a group of a special kind at character 2, which is not supported"},
		{"{\"pattern\": \"a\\\\b\"}", "the schema's pattern has an escape at character 3, which is not supported"},
		{"{\"pattern\": \"(a\"}",
		 "the schema's pattern has a group without its end at character 3, which is not supported"},
		{"{\"pattern\": \"a)\"}",
		 "the schema's pattern has a parenthesis without its beginning at character 2, which is not supported"},
		{"{\"pattern\": \"[a\"}",
		 "the schema's pattern has a class without its end at character 3, which is not supported"},
		{"{\"pattern\": \"((a{1000}){1000}){1000}\"}",
		 "the schema is too large: its texts need more than 200000 states"},
		{"{\"required\": [\"a\"], \"additionalProperties\": false}",
		 "\"required\" names \"a\", which \"additionalProperties\" forbids"},
	};
	fixture f = byte_fixture();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		json_t *schema = parse(cases[i].schema);
		llm_error err = {0};

		CHECK(constraint_new(schema, f.v, f.v->size, &err) == NULL);
		CHECK_STR(err.message, cases[i].message);
		json_decref(schema);
	}
	free_fixture(&f);
}

/* The shortest text is counted in tokens, and several texts may take turns. */
static void
test_budget(void)
{
	fixture f = byte_fixture();
	constraint *c = make("{\"properties\": {\"ab\": {\"type\": \"boolean\"}}, \"required\": [\"ab\"]}", f.v);
	uint64_t mask[4];
	constraint_place at = {0};
	llm_error err = {0};
	bool more;

	CHECK_INT(constraint_shortest(c), strlen("{\"ab\":true}"));
	CHECK(constraint_next(c, &at, "{\"ab\":", 6, 5, -1, mask, &more, &err));
	CHECK(is_allowed(mask, 't') && !is_allowed(mask, 'f') && !is_allowed(mask, ' ') && more);
	CHECK(constraint_next(c, &at, "{\"ab\":", 6, 6, -1, mask, &more, &err));
	CHECK(is_allowed(mask, 'f') && is_allowed(mask, ' '));
	CHECK(!constraint_next(c, &at, "{\"ab\":x", 7, 6, -1, mask, &more, &err));
	CHECK_STR(err.message, "the text does not satisfy its schema at byte 6");
	constraint_free(c);
	free_fixture(&f);
}

/* Deep nesting ends, though there are tokens enough. */
static void
test_depth(void)
{
	fixture f = byte_fixture();
	constraint *c = make("{}", f.v);
	char text[400];
	int depth = 0;

	memset(text, '[', sizeof(text));
	for (int n = 1; n < 300; n++)
	{
		text[n] = '\0';
		if (accepts(c, text) < 0)
			break;
		text[n] = '[';
		depth = n;
	}
	CHECK(depth > 50 && depth < 110);
	constraint_free(c);
	free_fixture(&f);
}

int
main(void)
{
	test_texts();
	test_errors();
	test_budget();
	test_depth();
	test_bytes();
	test_learned();
	test_pieces();
	test_few_characters();
	return test_summary();
}
