/*
 * test_chunk.c
 *	  Where texts are cut: at known places, into pieces that fit, of any text and tokenizer.
 */
#include "../../src/text/chunk.h"
#include "tokenizer_helper.h"

static void *
make_bytes(tokenizer **t)
{
	llm_error err = {0};
	size_t bytes;
	void *block = byte_tokenizer(NULL, 0, &bytes, &err);

	*t = open_block(block, bytes);
	return block;
}

/* Are these, with bars between them, the pieces? */
static bool
cuts_into(tokenizer *t, const char *barred, int32_t most, int32_t overlap)
{
	char text[1000], got[1000];
	size_t length = 0, size = 0;
	piece_list list = {0};
	llm_error err = {0};
	bool equal;

	for (const char *c = barred; *c; c++)
		if (*c != '|')
			text[length++] = *c;
	CHECK(text_chunk(t, text, length, most, overlap, &list, &err));
	for (int64_t i = 0; i < list.count; i++)
		size += (size_t) snprintf(got + size, sizeof(got) - size, "%s%.*s", i ? "|" : "", (int) list.piece[i].length,
								  text + list.piece[i].start);
	got[size] = '\0';
	equal = strcmp(got, barred) == 0;
	if (!equal)
		fprintf(stderr, "expected %s\nbecame   %s\n", barred, got);
	free(list.piece);
	return equal;
}

static void
test_places(void)
{
	tokenizer *t;
	void *block = make_bytes(&t);

	CHECK(cuts_into(t, "", 10, 0));
	CHECK(cuts_into(t, "short", 10, 0));
	CHECK(cuts_into(t, "exactly 10", 10, 0));
	CHECK(cuts_into(t, "aaaa bbbb |cccc dddd", 12, 0));                     /* words */
	CHECK(cuts_into(t, "Aa bb. |Cc dd? |Eee.", 10, 0));                     /* sentences before words */
	CHECK(cuts_into(t, "A 3.14 b: \"C.\" |D e f.", 18, 0));                 /* not every point, not before a quote */
	CHECK(cuts_into(t, "Aa bb.\n\n|Cc. Dd. Ee. |Ff.", 14, 0));              /* paragraphs before sentences */
	CHECK(cuts_into(t, "one line\n|and another\n|one more", 14, 0));        /* lines as sentences */
	CHECK(cuts_into(t, "abcdefghij|klmnopqrst|uvwxyz", 10, 0));             /* nothing better than characters */
	CHECK(cuts_into(t, "\xC3\xA4\xC3\xB6\xC3\xBC|\xC3\x84\xC3\x96", 7, 0)); /* not within one */
	CHECK(cuts_into(t, "\xE3\x81\x82\xE3\x80\x82|\xE3\x81\x84\xE3\x81\x86", 8, 0)); /* a full stop without a space */
	CHECK(cuts_into(t, "aae\xCC\x81|bb", 5, 0) && cuts_into(t, "aab|e\xCC\x81", 4, 0)); /* a letter with its accent */
	tokenizer_free(t);
	free(block);
}

/* What is repeated begins with a word. */
static void
test_overlap(void)
{
	tokenizer *t;
	void *block = make_bytes(&t);
	const char *text = "one two three four five six";
	piece_list list = {0};
	llm_error err = {0};

	CHECK(text_chunk(t, text, strlen(text), 14, 6, &list, &err));
	CHECK_INT(list.count, 3);
	CHECK(list.piece[0].start == 0 && list.piece[0].length == 14);  /* one two three_ */
	CHECK(list.piece[1].start == 8 && list.piece[1].length == 11);  /* three four_ */
	CHECK(list.piece[2].start == 14 && list.piece[2].length == 13); /* four five six */
	CHECK(text_chunk(t, text, strlen(text), 14, 13, &list, &err));
	for (int64_t i = 1; i < list.count; i++)
		CHECK(list.piece[i].start > list.piece[i - 1].start &&
			  list.piece[i].start <= list.piece[i - 1].start + list.piece[i - 1].length);
	free(list.piece);
	tokenizer_free(t);
	free(block);
}

static void
test_refused(void)
{
	tokenizer *t;
	void *block = make_bytes(&t);
	piece_list list = {0};
	llm_error err = {0};

	CHECK(!text_chunk(t, "ab\xE2\x82\xAC", 5, 2, 0, &list, &err));
	CHECK_INT(err.code, LLM_INVALID);
	CHECK_STR(err.message, "a character takes more than 2 tokens");
	free(list.piece);
	tokenizer_free(t);
	free(block);
}

/* Whatever the text: pieces follow each other, fit, are half full, end at characters and make up the text. */
static void
check_pieces(tokenizer *t, const char *text, size_t length, int32_t most, int32_t overlap)
{
	piece_list list = {0};
	llm_error err = {0};
	size_t end = 0;

	if (!CHECK(text_chunk(t, text, length, most, overlap, &list, &err)))
		return;
	for (int64_t i = 0; i < list.count; i++)
	{
		const text_piece *p = &list.piece[i];
		token_list alone = encode(t, text + p->start, p->length, false);

		CHECK(alone.count == p->tokens && p->tokens <= most);
		CHECK(p->length > 0 && p->start <= end && p->start + p->length > end && (overlap > 0 || p->start == end));
		CHECK(p->start == length || ((unsigned char) text[p->start] & 0xC0) != 0x80);
		free(alone.id);
		if (p->start < end)
		{
			alone = encode(t, text + p->start, end - p->start, false);
			CHECK(alone.count <= overlap);
			free(alone.id);
		}
		end = p->start + p->length;
	}
	CHECK(end == length);
	free(list.piece);
}

static void
test_any_text(tokenizer *t)
{
	static char text[5000];
	static const char words[] =
		"It was the best of times, it was the worst of times. We had everything before us!\n\n";

	for (int i = 0; i < 60; i++)
	{
		size_t length = random_text(text, next_random(sizeof(text)));
		int32_t most = 12 + (int32_t) next_random(300);

		check_pieces(t, text, length, most, 0);
		check_pieces(t, text, length, most, (int32_t) next_random((uint32_t) most));
	}
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = words[i % (sizeof(words) - 1)];
	check_pieces(t, text, sizeof(text), 64, 0);
	check_pieces(t, text, sizeof(text), 64, 16);
	memset(text, ' ', sizeof(text));
	check_pieces(t, text, sizeof(text), 64, 8);
	memset(text, 'a', sizeof(text));
	check_pieces(t, text, sizeof(text), 64, 8);
}

/* A tokenizer of words drops spaces and accents: fewer tokens than bytes say nothing of where they end. */
static void *
make_wordpiece(tokenizer **t)
{
	static const entry entries[] = {{"[UNK]", TOKEN_SPECIAL},
									{"a"},
									{"b"},
									{"it"},
									{"was"},
									{"the"},
									{"times"},
									{"##a"},
									{"##s"},
									{","},
									{"."},
									{"##it"}};
	tokenizer_options options = {.kind = TOKENIZER_WORDPIECE, .flags = FLAG_CLEAN_TEXT | FLAG_LOWERCASE};
	size_t bytes;
	void *block = BUILD(&options, entries, NULL, &bytes);

	*t = open_block(block, bytes);
	return block;
}

int
main(void)
{
	tokenizer *t;
	void *block;

	test_places();
	test_overlap();
	test_refused();
	block = make_bytes(&t);
	test_any_text(t);
	tokenizer_free(t);
	free(block);
	block = make_wordpiece(&t);
	test_any_text(t);
	tokenizer_free(t);
	free(block);
	t = open_gpt2(&block);
	if (t != NULL)
		test_any_text(t);
	tokenizer_free(t);
	if (t != NULL)
		free(block);
	return test_summary();
}
