/*
 * fuzz_tokenizer.c
 *	  Any bytes as a tokenizer, and text encoded and decoded with it.
 *
 * The input is two bytes, the length of the text, then the text, then the block.  What is encoded
 * must be tokens, and decode.  Where no block follows the text is learned from, and must come back.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/text/chunk.h"
#include "../../src/text/tokenizer_train.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_text(tokenizer *t, const char *text, size_t length, bool exact)
{
	llm_error err = {.code = LLM_OK};
	token_list list = {0};
	text_buffer back = {0};

	REQUIRE(tokenizer_encode(t, text, length, !exact, &list, &err));
	for (int64_t i = 0; i < list.count; i++)
		REQUIRE(list.id[i] >= 0 && list.id[i] < tokenizer_size(t));
	REQUIRE(tokenizer_decode(t, list.id, list.count, true, &back, &err));
	list.count = 0;
	if (!exact)
		REQUIRE(tokenizer_encode_framed(t, text, length, text, length / 2, true, 0, &list, NULL, &err));
	REQUIRE(text_complete(back.bytes, back.size) <= back.size);
	if (exact)
		REQUIRE(back.size == length && (length == 0 || memcmp(back.bytes, text, length) == 0));
	free(list.id);
	free(back.bytes);
}

/* Pieces follow each other and fit; only a character with more tokens than fit is refused. */
static void
try_pieces(tokenizer *t, const char *text, size_t length, int32_t most, int32_t overlap)
{
	llm_error err = {.code = LLM_OK};
	piece_list list = {0};
	size_t end = 0;

	if (text_chunk(t, text, length, most, overlap, &list, &err))
	{
		for (int64_t i = 0; i < list.count; i++)
		{
			const text_piece *p = &list.piece[i];

			REQUIRE(p->tokens <= most && p->start <= end && p->start + p->length > end);
			REQUIRE(p->start + p->length <= length && (overlap > 0 || p->start == end));
			end = p->start + p->length;
		}
		REQUIRE(end == length);
	}
	else
		REQUIRE(err.code == LLM_INVALID);
	free(list.piece);
}

static void
learn(const char *text, size_t length, pretokenizer rule)
{
	bpe_trainer_options options = {.vocabulary = 300, .pretokenizer = rule, .max_word_bytes = 4096};
	llm_error err = {.code = LLM_OK};
	bpe_trainer *trainer = bpe_trainer_new(&options, &err);
	size_t bytes;
	void *block;
	tokenizer *t;

	REQUIRE(bpe_trainer_add(trainer, text, length, &err));
	block = bpe_trainer_finish(trainer, &bytes, &err);
	REQUIRE(block != NULL);
	t = tokenizer_open(block, bytes, &err);
	REQUIRE(t != NULL);
	try_text(t, text, length, true);
	try_pieces(t, text, length, 7, 0);
	try_pieces(t, text, length, 9, 5);
	tokenizer_free(t);
	free(block);
	bpe_trainer_free(trainer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	size_t length = size < 2 ? 0 : data[0] | (size_t) data[1] << 8;
	char *text;
	void *block;
	tokenizer *t;

	if (size < 2)
		return 0;
	size -= 2;
	data += 2;
	length = length < size ? length : size;
	text = malloc(length + (length == 0)); /* of exact size, so that reading on is noticed */
	memcpy(text, data, length);
	size -= length;
	REQUIRE(posix_memalign(&block, TOKENIZER_ALIGNMENT, size + (size == 0)) == 0);
	memcpy(block, data + length, size);
	t = tokenizer_open(block, size, &err);
	REQUIRE((t == NULL) == (err.code != LLM_OK));
	if (t != NULL)
	{
		try_text(t, text, length, false);
		try_pieces(t, text, length, 3, 1);
	}
	else if (size == 0 && length % 8 == 7) /* few, as it takes the most time */
		learn(text, length, (pretokenizer) (length / 8 % PRETOKENIZERS));
	tokenizer_free(t);
	free(block);
	free(text);
	return 0;
}
