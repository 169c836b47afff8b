/*
 * bench_constraint.c
 *	  What it costs that a text follows a schema: masks of the 50,256 tokens of GPT-2.
 *
 * Usage: bench_constraint GPT2_MERGES	prints "vocabulary SECONDS", its tree built; "schema SECONDS", compiled; "first
 *										SECONDS" and "later SECONDS" of a mask in texts that meet their states for the
 *										first time and again; "worst SECONDS" of one mask
 */
#include "bench_gpt2.h"
#include "../../src/constrain/constraint.h"

#define TOKENS 400 /* of a text */
#define TEXTS 20

static const char schema_text[] = "{\"type\": \"object\", \"properties\": {\"title\": {\"type\": \"string\"}, "
								  "\"tags\": {\"type\": \"array\", \"items\": "
								  "{\"type\": \"string\", \"maxLength\": 40}}, \"year\": {\"type\": \"integer\"}, "
								  "\"score\": {\"type\": \"number\"}, "
								  "\"kind\": {\"enum\": [\"book\", \"film\", \"song\"]}, \"rest\": {}}, "
								  "\"required\": [\"title\", \"tags\", \"year\", \"score\", \"kind\", \"rest\"]}";

/* Of the tokens allowed, the one that comes next behind a random one. */
static int32_t
choose(const uint64_t *mask, int32_t vocab, uint32_t step)
{
	uint32_t random[4];

	philox(1, step, 0, 0, random);
	for (int32_t i = 0; i < vocab; i++)
	{
		int32_t id = (int32_t) ((random[0] + (uint32_t) i) % (uint32_t) vocab);

		if (mask[id / 64] >> id % 64 & 1)
			return id;
	}
	return -1;
}

/* Make a text and add up the time of its masks; its tokens. */
static int64_t
write_text(constraint *c, const tokenizer *t, double *all, double *worst)
{
	int32_t vocab = tokenizer_size(t);
	uint64_t *mask = calloc((vocab + 63) / 64, sizeof(uint64_t));
	text_buffer text = {0};
	constraint_place at = {0};
	llm_error err = {0};
	bool more = true;
	int64_t made = 0;

	for (;; made++)
	{
		double start = seconds(1), time;
		int32_t id;

		constraint_next(c, &at, text.bytes, text.size, TOKENS - made, -1, mask, &more, &err);
		check(&err);
		time = seconds(1) - start;
		*all += time;
		*worst = time > *worst ? time : *worst;
		if (!more)
			break;
		id = choose(mask, vocab, (uint32_t) made);
		tokenizer_decode(t, &id, 1, false, &text, &err);
	}
	free(mask);
	free(text.bytes);
	return made;
}

int
main(int argc, char **argv)
{
	llm_error err = {0};
	size_t bytes;
	void *block = gpt2_block(read_file(argv[1]), &bytes);
	tokenizer *t = tokenizer_open(block, bytes, &err);
	json_t *schema = json_parse(schema_text, sizeof(schema_text) - 1, &err);
	double start = seconds(1), all = 0, worst = 0, ignored = 0;
	vocabulary *v = vocabulary_new(t, &err);
	constraint *c;
	int64_t made;

	printf("vocabulary %.6f\n", seconds(1) - start);
	start = seconds(1);
	c = constraint_new(schema, v, v->size, &err);
	check(&err);
	printf("schema %.6f\n", seconds(1) - start);
	made = write_text(c, t, &all, &worst);
	printf("first %.6f\nworst %.6f\n", all / (double) made, worst);
	all = 0;
	for (int i = 0; i < TEXTS; i++)
		made = write_text(c, t, &all, &ignored);
	printf("later %.6f\n", all / TEXTS / (double) made);
	constraint_free(c);
	vocabulary_free(v);
	json_decref(schema);
	tokenizer_free(t);
	free(block);
	return 0;
}
