/*
 * bench_tokenizer.c
 *	  How fast text becomes tokens, and how fast byte pairs are learned from it.
 *
 * Usage: bench_tokenizer GPT2_MERGES TEXT...	prints "open SECONDS" for GPT-2, "encode.N SECONDS" for each text,
 *												in lines, and "train SECONDS" for 10,000 merges over all of them
 */
#include "bench_gpt2.h"
#include "../../src/text/tokenizer_train.h"

#define MERGES 10000

typedef struct task
{
	tokenizer *tokenizer;
	const void *block;
	size_t block_bytes;
	file *text;
	int texts;
	int64_t tokens;
} task;

static void
open_block(void *arg)
{
	task *t = arg;
	llm_error err = {0};

	tokenizer_free(tokenizer_open(t->block, t->block_bytes, &err));
	check(&err);
}

/* The next line of a text with its end. */
static size_t
line_length(const file *text, size_t at)
{
	const char *end = memchr(text->bytes + at, '\n', text->size - at);

	return (end ? (size_t) (end - text->bytes) + 1 : text->size) - at;
}

static void
encode_lines(void *arg)
{
	task *t = arg;
	llm_error err = {0};
	token_list out = {0};

	for (size_t at = 0, length; at < t->text->size; at += length)
	{
		length = line_length(t->text, at);
		tokenizer_encode(t->tokenizer, t->text->bytes + at, length, false, &out, &err);
	}
	check(&err);
	t->tokens = out.count;
	free(out.id);
}

static void
train(void *arg)
{
	task *t = arg;
	bpe_trainer_options options = {.vocabulary = 256 + MERGES, .pretokenizer = PRETOKENIZER_GPT2};
	llm_error err = {0};
	bpe_trainer *trainer = bpe_trainer_new(&options, &err);
	size_t bytes;

	for (int i = 0; i < t->texts; i++)
		for (size_t at = 0, length; at < t->text[i].size; at += length)
		{
			length = line_length(&t->text[i], at);
			bpe_trainer_add(trainer, t->text[i].bytes + at, length, &err);
		}
	free(bpe_trainer_finish(trainer, &bytes, &err));
	check(&err);
	bpe_trainer_free(trainer);
}

int
main(int argc, char **argv)
{
	file text[16];
	task t = {.text = text, .texts = argc - 2};
	llm_error err = {0};
	double start;

	if (argc < 3 || argc > 18)
		return 2;
	t.block = gpt2_block(read_file(argv[1]), &t.block_bytes);
	t.tokenizer = tokenizer_open(t.block, t.block_bytes, &err);
	check(&err);
	printf("open %.4g\n", median_time(1, open_block, &t));
	for (int i = 0; i < t.texts; i++)
	{
		text[i] = read_file(argv[i + 2]);
		t.text = &text[i];
		printf("encode.%d %.4g\n", i, median_time(1, encode_lines, &t));
		printf("tokens.%d %lld\n", i, (long long) t.tokens);
	}
	t.text = text;
	start = seconds(1);
	train(&t);
	printf("train %.4g\n", seconds(1) - start);
	return 0;
}
