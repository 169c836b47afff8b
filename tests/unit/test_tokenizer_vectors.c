/*
 * test_tokenizer_vectors.c
 *	  Tokenizers beside the reference implementations, on real vocabularies: every id must be equal.
 */
#include "tokenizer_helper.h"

/* Merges of a trainer whose ties go to the last pair of texts, over a corpus of a megabit. */
static void
test_reference_merges(void)
{
	const special_text end = {"<|endoftext|>", SPECIAL_END};
	bpe_trainer_options options = {
		.vocabulary = 500, .pretokenizer = PRETOKENIZER_GPT2, .specials = &end, .special_count = 1};
	llm_error err = {0};
	size_t corpus_size, merges_size, bytes = 0;
	char *corpus = test_file("tokenizers/vectors/bpe_train_corpus.en", &corpus_size);
	char *merges = test_file("tokenizers/vectors/bpe_train_reference_merges.txt", &merges_size), *at = merges;
	bpe_trainer *trainer = corpus && merges ? bpe_trainer_new(&options, &err) : NULL;
	void *block = trainer && bpe_trainer_add(trainer, corpus, corpus_size, &err)
					  ? bpe_trainer_finish(trainer, &bytes, NULL, NULL, &err)
					  : NULL;
	tokenizer *t = block ? tokenizer_open(block, bytes, &err) : NULL;
	int32_t equal = 0;

	CHECK_STR(err.message, "");
	for (char *line; t != NULL && (line = next_line(&at)) != NULL; equal++)
	{
		char spelled[64] = {0}, *out = spelled;
		size_t length;
		const char *token = tokenizer_token(t, 256 + equal, &length);

		for (; *line; line++) /* "Ġ t" is the token " t" */
			if (strncmp(line, "\xC4\xA0", 2) == 0)
			{
				*out++ = ' ';
				line++;
			}
			else if (*line != ' ')
				*out++ = *line;
		if (!CHECK(length == strlen(spelled) && memcmp(token, spelled, length) == 0))
			break;
	}
	if (t != NULL)
	{
		CHECK_INT(equal, 243);
		CHECK_INT(tokenizer_size(t), 500);
		CHECK_INT(tokenizer_special(t, SPECIAL_END), 499);
	}
	tokenizer_free(t);
	free(block);
	bpe_trainer_free(trainer);
	free(corpus);
	free(merges);
}

static void
test_gpt2(void)
{
	llm_error err = {0};
	size_t size;
	void *block = NULL;
	tokenizer *t = open_gpt2(&block);
	char *file = t ? test_file("tokenizers/vectors/gpt2_encoded_tokens.json", &size) : NULL;
	json_t *json = file ? json_parse(file, size, &err) : NULL, *ids = json_object_get(json, "token_ids");
	const char *text = json_string_value(json_object_get(json, "text"));
	int32_t *expected = calloc(json_array_size(ids) + 1, sizeof(int32_t));

	for (size_t i = 0; i < json_array_size(ids); i++)
		expected[i] = (int32_t) json_integer_value(json_array_get(ids, i));
	if (text != NULL)
	{
		CHECK_INT(json_array_size(ids), 221);
		CHECK(encodes_to(t, text, strlen(text), false, expected, json_array_size(ids)));
		CHECK(round_trips(t, text, strlen(text)));
	}
	free(expected);
	free(file);
	json_decref(json);
	if (t != NULL)
	{
		CHECK_INT(check_vectors(t, "tokenizers/llamacpp/ggml-vocab-gpt-2.gguf.inp",
								"tokenizers/llamacpp/ggml-vocab-gpt-2.gguf.out"),
				  46);
		CHECK_INT(tokenizer_find(t, "<|endoftext|>", 13), 50256);
		CHECK(encodes_to(t, "a<|endoftext|>b", 15, true, (int32_t[]) {64, 50256, 65}, 3));
		CHECK_IDS(t, "<|endoftext|>", 27, 91, 437, 1659, 5239, 91, 29);
	}
	tokenizer_free(t);
	free(block);
}

int
main(void)
{
	test_reference_merges();
	test_gpt2();
	return test_summary();
}
