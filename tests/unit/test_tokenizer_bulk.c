/*
 * test_tokenizer_bulk.c
 *	  Texts by several threads: the ids of one thread, for every kind that is trained, and stopping.
 */
#include "../../src/text/tokenizer_bulk.h"
#include "tokenizer_helper.h"

#define TEXTS 300
#define LONG_BYTES ((size_t) 3 << 19)

/* Words of few letters between spaces of several kinds and bytes that are no text; then code points of all planes. */
static char *
random_words(size_t size)
{
	static const char *const gaps[] = {
		" ", " ", " ", "\n", "  ", "\t", "\r\n", ".", "'s ", "\xC2\xA0 ", "\xE3\x80\x80 ", "\xFF ", "\xA0 "};
	char *text = malloc(size + 64);

	for (size_t at = 0; at < size / 2;)
	{
		uint32_t letters = next_random(9);

		for (uint32_t i = 0; i < letters; i++)
			text[at++] = (char) ('a' + next_random(20));
		for (const char *gap = gaps[next_random(13)]; *gap; gap++)
			text[at++] = *gap;
	}
	memset(text + size / 2, ' ', size - size / 2);
	random_text(text + size / 2, size - size / 2);
	return text;
}

static void *
learned(const char *text, size_t length, size_t *bytes)
{
	const special_text end = {"<|endoftext|>", SPECIAL_END};
	bpe_trainer_options options = {
		.vocabulary = 600, .pretokenizer = PRETOKENIZER_GPT2, .specials = &end, .special_count = 1};
	llm_error err = {0};
	bpe_trainer *t = bpe_trainer_new(&options, &err);
	void *block = bpe_trainer_add(t, text, length, &err) ? bpe_trainer_finish(t, bytes, &err) : NULL;

	CHECK_STR(err.message, "");
	bpe_trainer_free(t);
	return block;
}

static void *
learned_characters(const char *text, size_t length, size_t *bytes)
{
	llm_error err = {0};
	character_trainer *t = character_trainer_new(20, NULL, 0, &err);
	void *block;

	character_trainer_add(t, text, length);
	block = character_trainer_finish(t, bytes, &err);
	character_trainer_free(t);
	return block;
}

/* The ids of all texts, the long one in their midst, are those of tokenizer_encode(). */
static void
check_equal(const void *block, size_t bytes, const text_span *texts, int32_t threads)
{
	llm_error err = {0};
	tokenizer *t = open_block(block, bytes);
	bulk_tokenizer *b = bulk_tokenizer_new(block, bytes, threads, NULL, NULL, &err);
	token_list one = {0}, all = {0};
	int64_t end[TEXTS];
	int equal = 0;

	CHECK(token_list_append(&all, 7, &err));
	CHECK(token_list_append(&one, 7, &err));
	CHECK(bulk_tokenizer_encode(b, texts, TEXTS, &all, end, &err));
	for (int i = 0; i < TEXTS; i++)
	{
		CHECK(tokenizer_encode(t, texts[i].text, texts[i].length, false, &one, &err));
		equal += end[i] == one.count;
	}
	CHECK_INT(equal, TEXTS);
	CHECK(all.count == one.count && memcmp(all.id, one.id, one.count * sizeof(int32_t)) == 0);
	CHECK(bulk_tokenizer_encode(b, texts, 0, &all, end, &err));
	CHECK_INT(all.count, one.count);
	free(one.id);
	free(all.id);
	bulk_tokenizer_free(b);
	tokenizer_free(t);
}

static bool
stop_later(void *arg)
{
	return ++*(int *) arg > 10;
}

static void
check_stopped(const void *block, size_t bytes, text_span text, int32_t threads)
{
	llm_error err = {0};
	int asked = 0;
	bulk_tokenizer *b = bulk_tokenizer_new(block, bytes, threads, stop_later, &asked, &err);
	token_list all = {0};
	int64_t end;

	CHECK(!bulk_tokenizer_encode(b, &text, 1, &all, &end, &err));
	CHECK_INT(err.code, LLM_CANCELLED);
	CHECK_INT(all.count, 0);
	err = (llm_error) {0};
	asked = INT32_MIN;
	CHECK(bulk_tokenizer_encode(b, &text, 1, &all, &end, &err)); /* it can go on */
	CHECK(all.count == end && end > 0);
	free(all.id);
	bulk_tokenizer_free(b);
}

static void
test_kinds(void)
{
	char *text = random_words(LONG_BYTES), *wall = malloc(LONG_BYTES);
	text_span texts[TEXTS];
	size_t bytes[3];
	void *blocks[3] = {learned(text, 1 << 18, &bytes[0]), learned_characters(text, 1 << 18, &bytes[1]),
					   byte_tokenizer(NULL, 0, &bytes[2], &(llm_error) {0})};

	memset(wall, 'a', LONG_BYTES);
	for (int i = 0; i < TEXTS; i++)
		texts[i] = (text_span) {text + next_random(1 << 20), next_random(i % 10 == 0 ? 60000 : 200)};
	texts[17] = (text_span) {text, LONG_BYTES};
	texts[18] = (text_span) {wall, LONG_BYTES / 8};
	texts[TEXTS - 1].length = texts[0].length = 0;
	for (int k = 0; k < 3; k++)
	{
		for (int32_t threads = 1; threads <= 3; threads++)
			check_equal(blocks[k], bytes[k], texts, threads);
		for (int32_t threads = 1; threads <= 2; threads++)
			check_stopped(blocks[k], bytes[k], texts[17], threads);
	}
	check_stopped(blocks[0], bytes[0], (text_span) {wall, LONG_BYTES}, 2); /* one word, nowhere to be cut */
	for (int k = 0; k < 3; k++)
		free(blocks[k]);
	free(text);
	free(wall);
}

/* Of a rule that looks further no text is cut. */
static void
test_cut(void)
{
	const char *text = "one two\xC2\xA0 three\xA0 four";
	size_t length = strlen(text), bytes;
	void *block = learned(text, length, &bytes);
	tokenizer *t = open_block(block, bytes);

	CHECK_INT(tokenizer_cut(t, text, length, 0), 3);
	CHECK_INT(tokenizer_cut(t, text, length, 3), 3);
	CHECK_INT(tokenizer_cut(t, text, length, 4), length);
	CHECK_INT(tokenizer_cut(t, text, 3, 1), 3);
	CHECK_INT(tokenizer_cut(t, text, 0, 10), 0);
	CHECK_INT(tokenizer_cut(t, "one,\r\ntwo", 9, 0), 4);
	tokenizer_free(t);
	free(block);
}

int
main(void)
{
	test_kinds();
	test_cut();
	return test_summary();
}
