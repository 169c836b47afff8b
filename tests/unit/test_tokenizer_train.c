/*
 * test_tokenizer_train.c
 *	  What is learned from small texts: characters, byte pairs, within bounds of memory.
 */
#include "tokenizer_helper.h"

static void
test_characters(void)
{
	llm_error err = {0};
	size_t bytes;
	character_trainer *trainer = character_trainer_new(4, NULL, 0, &err);
	void *block;
	tokenizer *t;
	token_list list;
	text_buffer text = {0};

	character_trainer_add(trainer, "bccaaab", 7);
	character_trainer_add(trainer, "中中中d\xFF", 11);
	block = character_trainer_finish(trainer, &bytes, &err);
	t = open_block(block, bytes);
	/* a and 中 occur three times; of b and c, two each, b comes first. */
	CHECK_INT(tokenizer_size(t), 4);
	CHECK_INT(tokenizer_special(t, SPECIAL_UNKNOWN), 3);
	CHECK_IDS(t, "ab中", 0, 1, 2);
	CHECK_IDS(t,
			  "c\xFF"
			  "d",
			  3, 3, 3);
	list = encode(t, "a中x", 5, false);
	CHECK(tokenizer_decode(t, list.id, list.count, false, &text, &err));
	CHECK(text.size == 7 && memcmp(text.bytes, "a中\xEF\xBF\xBD", 7) == 0);
	free(list.id);
	free(text.bytes);
	tokenizer_free(t);
	free(block);
	character_trainer_free(trainer);
	CHECK(character_trainer_new(1, NULL, 0, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
}

static bool
stop_at_once(void *arg)
{
	return ++*(int *) arg > 3;
}

static void
test_training(void)
{
	bpe_trainer_options options = {.vocabulary = 260, .pretokenizer = PRETOKENIZER_GPT2, .max_word_bytes = 4096};
	llm_error err = {0};
	bpe_trainer *trainer = bpe_trainer_new(&options, &err);
	size_t bytes, length;
	void *block;
	tokenizer *t;
	int asked = 0;
	static char long_text[65536];

	/* More distinct words than are remembered; the frequent one stays. */
	for (int i = 0; i < 5000; i++)
	{
		char text[32];

		CHECK(bpe_trainer_add(trainer, text,
							  (size_t) snprintf(text, sizeof(text), "xyxy%c%d", 'A' + i % 26, i * 7919), &err));
	}
	CHECK(bpe_trainer_words(trainer) < 600);
	block = bpe_trainer_finish(trainer, &bytes, &err);
	t = open_block(block, bytes);
	CHECK(memcmp(tokenizer_token(t, 256, &length), "xy", 2) == 0 && length == 2);
	CHECK(memcmp(tokenizer_token(t, 257, &length), "xyxy", 4) == 0 && length == 4);
	tokenizer_free(t);
	free(block);
	bpe_trainer_free(trainer);

	/* Pairs run out. */
	options.vocabulary = 5000;
	trainer = bpe_trainer_new(&options, &err);
	bpe_trainer_add(trainer, "ab ab", 5, &err);
	block = bpe_trainer_finish(trainer, &bytes, &err);
	t = open_block(block, bytes);
	CHECK_INT(tokenizer_size(t), 258);
	tokenizer_free(t);
	free(block);
	bpe_trainer_free(trainer);

	/* Learning is stopped, then counting the words of one long text. */
	options.poll = stop_at_once;
	options.poll_arg = &asked;
	trainer = bpe_trainer_new(&options, &err);
	bpe_trainer_add(trainer, "abcdefghijkl", 12, &err);
	CHECK(bpe_trainer_finish(trainer, &bytes, &err) == NULL);
	CHECK_INT(err.code, LLM_CANCELLED);
	err = (llm_error) {0};
	asked = 0;
	memset(long_text, ' ', sizeof(long_text));
	for (size_t i = 0; i < sizeof(long_text); i += 2)
		long_text[i] = 'a';
	CHECK(!bpe_trainer_add(trainer, long_text, sizeof(long_text), &err));
	CHECK_INT(err.code, LLM_CANCELLED);
	bpe_trainer_free(trainer);
	err = (llm_error) {0};
	options.specials = (special_text[]) {{"<a>", -1}, {"<a>", -1}};
	options.special_count = 2;
	CHECK(bpe_trainer_new(&options, &err) == NULL);
	CHECK_STR(err.message, "special token \"<a>\" is given twice");
	err = (llm_error) {0};
	options.special_count = 0;
	options.vocabulary = 255;
	CHECK(bpe_trainer_new(&options, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
}

int
main(void)
{
	test_characters();
	test_training();
	return test_summary();
}
