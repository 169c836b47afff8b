/*
 * test_tokenizer.c
 *	  Small vocabularies with known ids, texts that come back, and blocks that were tampered with.
 */
#include "character_map.h"
#include "tokenizer_helper.h"

static void
test_bytes(void)
{
	const special_text end = {"<end>", SPECIAL_END};
	llm_error err = {0};
	size_t bytes;
	void *block = byte_tokenizer(&end, 1, &bytes, &err);
	tokenizer *t = open_block(block, bytes);
	char text[64];

	CHECK_INT(tokenizer_size(t), 257);
	CHECK_INT(tokenizer_special(t, SPECIAL_END), 256);
	CHECK_INT(tokenizer_special(t, SPECIAL_MASK), -1);
	CHECK_IDS(t, "aé", 'a', 0xC3, 0xA9);
	CHECK(encodes_to(t, "<end>", 5, true, (int32_t[]) {256}, 1));
	CHECK(encodes_to(t, "<end>", 5, false, (int32_t[]) {'<', 'e', 'n', 'd', '>'}, 5));
	for (size_t length = 0; length < sizeof(text); length++)
	{
		for (size_t i = 0; i < length; i++)
			text[i] = (char) next_random(256);
		CHECK(round_trips(t, text, length));
	}
	tokenizer_free(t);
	free(block);
}

/* Special tokens come from bytes without a mark alone; what stands around them is cut as always. */
static void
test_marks(void)
{
	const special_text ends[] = {{"<end>", SPECIAL_END}, {"<begin>", SPECIAL_BEGIN}};
	static const struct
	{
		const char *text, *marks;
		int64_t count;
		int32_t first, last;
	} cases[] = {
		{"<end>", "00000", 1, 256, 256},     {"<end>", "11111", 5, '<', '>'},
		{"<end>", "00100", 5, '<', '>'},     {"<end><end>", "0000011111", 6, 256, '>'},
		{"a<end>b", "1000001", 3, 'a', 'b'}, {"<begin><end>", "111111100000", 8, '<', 256},
	};
	llm_error err = {0};
	size_t bytes;
	void *block = byte_tokenizer(ends, 2, &bytes, &err);
	tokenizer *t = open_block(block, bytes);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		token_list list = {0};
		char marks[16];

		for (size_t k = 0; k < strlen(cases[i].marks); k++)
			marks[k] = cases[i].marks[k] == '1';
		CHECK(tokenizer_encode_marked(t, cases[i].text, marks, strlen(cases[i].text), &list, &err));
		CHECK_INT(list.count, cases[i].count);
		CHECK_INT(list.id[0], cases[i].first);
		CHECK_INT(list.id[list.count - 1], cases[i].last);
		free(list.id);
	}
	tokenizer_free(t);
	free(block);
}

/* ---- byte pairs ---- */

static void *
small_bpe(size_t *bytes, uint32_t flags)
{
	static const entry entries[] = {{"<unk>", TOKEN_SPECIAL},
									{"l"},
									{"o"},
									{"w"},
									{"e"},
									{"r"},
									{"\xC4\xA0"},
									{"lo"},
									{"low"},
									{"er"},
									{"\xC4\xA0low"},
									{"lower"},
									{"\xC4\xA0l"},
									{"ow"}};
	tokenizer_options options = {
		.kind = TOKENIZER_BPE, .pretokenizer = PRETOKENIZER_GPT2, .spelling = SPELLING_BYTE_ALPHABET, .flags = flags};

	return BUILD(&options, entries, "#version: 0.2\nl o\nlo w\ne r\n\xC4\xA0 low\n", bytes);
}

static void
test_merges(void)
{
	size_t bytes;
	void *block = small_bpe(&bytes, 0);
	tokenizer *t = open_block(block, bytes);

	CHECK_IDS(t, "low lower", 8, 10, 9);
	CHECK_IDS(t, "lox", 7, 0);
	CHECK_IDS(t, "lower", 8, 9);
	CHECK(round_trips(t, "lower low lower", 15));
	tokenizer_free(t);
	free(block);
	block = small_bpe(&bytes, FLAG_IGNORE_MERGES);
	t = open_block(block, bytes);
	CHECK_IDS(t, "lower low lowe", 11, 10, 10, 4);
	tokenizer_free(t);
	free(block);
}

/* Long words take another way to the same tokens: equal to pieces that are short. */
static void
test_long_words(void)
{
	static const entry entries[] = {{"a"}, {"b"}, {"aa"}, {"ab"}, {"aab"}, {"aaaa"}, {"bb"}, {"c"}};
	tokenizer_options options = {.kind = TOKENIZER_BPE};
	size_t bytes;
	void *block = BUILD(&options, entries, "a a\naa b\na b\naa aa\nb b\n", &bytes);
	tokenizer *t = open_block(block, bytes);
	static char text[20000];
	token_list list;

	memset(text, 'a', sizeof(text));
	list = encode(t, text, 1000, false);
	CHECK_INT(list.count, 250);
	CHECK(list.id[0] == 5 && list.id[249] == 5);
	free(list.id);
	/* Nothing merges with "c"; cut there, the parts are short. */
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 50 == 49 ? 'c' : "aab"[next_random(3)];
	list = encode(t, text, sizeof(text), false);
	for (size_t i = 0, at = 0; i < sizeof(text); i += 50)
	{
		token_list part = encode(t, text + i, 50, false);

		if (!CHECK(at + part.count <= list.count && memcmp(list.id + at, part.id, part.count * sizeof(int32_t)) == 0))
			break;
		at += part.count;
		free(part.id);
	}
	free(list.id);
	tokenizer_free(t);
	free(block);
}

/* Both pre-tokenizers, piece by piece; the bar stands between pieces. */
static void
test_pieces(void)
{
	static const struct
	{
		pretokenizer rule;
		const char *text;
	} cases[] = {
		{PRETOKENIZER_GPT2, "Hello| world|'s|  | x|1234| 5|!!|\n|'|S|   "},
		{PRETOKENIZER_GPT2, "中文|，|字| é|½|\t|\t|b"},
		{PRETOKENIZER_LLAMA3, "Hello| world|'S|ay|  | x|123|4| |5|!!\n\n|\tb|  \n\n|  | a|(c|'LL|   "},
		{PRETOKENIZER_QWEN2, "a|1|2|3| b|'re|\r\n|c"},
		{PRETOKENIZER_NONE, "all of it"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char plain[256], cut[256] = {0};
		size_t size = 0;

		for (const char *c = cases[i].text; *c; c++)
			if (*c != '|')
				plain[size++] = *c;
		for (size_t at = 0, piece; at < size; at += piece)
		{
			piece = pretokenizer_scanner(cases[i].rule)((uint8_t *) plain + at, (uint8_t *) plain + size);
			if (at > 0)
				strcat(cut, "|");
			strncat(cut, plain + at, piece);
		}
		CHECK_STR(cut, cases[i].text);
	}
}

static void *
trained(size_t *bytes)
{
	const special_text specials[] = {{"<pad>", SPECIAL_PADDING}, {"<end>", SPECIAL_END}};
	bpe_trainer_options options = {
		.vocabulary = 300, .pretokenizer = PRETOKENIZER_LLAMA3, .specials = specials, .special_count = 2};
	llm_error err = {0};
	bpe_trainer *trainer = bpe_trainer_new(&options, &err);
	void *block;

	for (int i = 0; i < 20; i++)
		bpe_trainer_add(trainer, "the cat sat on the mat<end>the caterpillar sat there ------------ 中文中文",
						strlen("the cat sat on the mat<end>the caterpillar sat there ------------ 中文中文"), &err);
	block = bpe_trainer_finish(trainer, bytes, &err);
	CHECK_STR(err.message, "");
	bpe_trainer_free(trainer);
	return block;
}

static void
test_round_trips(void)
{
	size_t bytes;
	void *block = trained(&bytes);
	tokenizer *t = open_block(block, bytes);
	char text[400];

	CHECK(tokenizer_find(t, " sat", 4) >= 256);
	CHECK(tokenizer_find(t, "d>", 2) < 0); /* the specials' texts are not learned from */
	for (int i = 0; i < 200; i++)
	{
		size_t size = random_text(text, next_random(sizeof(text)));

		CHECK(round_trips(t, text, size));
		for (size_t k = 0; k < size; k++)
			text[k] = (char) next_random(256);
		CHECK(round_trips(t, text, size));
	}
	tokenizer_free(t);
	free(block);
}

static bool
stop(void *arg)
{
	++*(int *) arg;
	return true;
}

static void
test_cancelled(void)
{
	size_t bytes;
	void *block = small_bpe(&bytes, 0);
	tokenizer *t = open_block(block, bytes);
	token_list list = {0};
	llm_error err = {0};
	static char text[5000 * 4];
	int asked = 0;

	for (int i = 0; i < 5000; i++)
		memcpy(text + 4 * i, " low", 4);
	tokenizer_set_poll(t, stop, &asked);
	CHECK(!tokenizer_encode(t, text, sizeof(text), false, &list, &err));
	CHECK_INT(err.code, LLM_CANCELLED);
	CHECK(asked == 1 && list.count == 0);
	free(list.id);
	tokenizer_free(t);
	free(block);
}

/* ---- wordpiece and unigram ---- */

static const entry words[] = {{"[UNK]", TOKEN_SPECIAL},
							  {"un"},
							  {"##aff"},
							  {"##able"},
							  {"cafe"},
							  {"!"},
							  {"中"},
							  {"a"},
							  {"##a"},
							  {"the"},
							  {"una"}};

#define BERT_UNCASED (FLAG_CLEAN_TEXT | FLAG_SPLIT_CJK | FLAG_STRIP_ACCENTS | FLAG_LOWERCASE)

static void
test_wordpiece(void)
{
	tokenizer_options options = {.kind = TOKENIZER_WORDPIECE, .flags = BERT_UNCASED};
	size_t bytes;
	void *block = BUILD(&options, words, NULL, &bytes);
	tokenizer *t = open_block(block, bytes);
	const int32_t ids[] = {1, 2, 3, 5, 4};
	text_buffer text = {0};
	llm_error err = {0};
	char long_word[101];

	CHECK_IDS(t, "Unaffable", 0); /* the longest piece first, and no way back */
	CHECK_IDS(t, " Café!\t中中 ", 4, 5, 6, 6);
	CHECK_IDS(t,
			  "cafe\xCC\x81 a\xC2\xAD"
			  "a \xEF\xBF\xBD\x01",
			  4, 7, 8);
	CHECK_IDS(t, "the the\xFF", 9, 9);
	memset(long_word, 'a', sizeof(long_word));
	CHECK(encodes_to(t, long_word, 101, false, (int32_t[]) {0}, 1));
	CHECK(tokenizer_decode(t, ids, 5, false, &text, &err));
	CHECK(text.size == 16 && memcmp(text.bytes, "unaffable ! cafe", 16) == 0);
	free(text.bytes);
	tokenizer_free(t);
	free(block);
}

static const entry pieces[] = {{"<unk>", TOKEN_SPECIAL, 0},
							   {"\xE2\x96\x81", TOKEN_NORMAL, -3},
							   {"a", TOKEN_NORMAL, -2},
							   {"b", TOKEN_NORMAL, -2},
							   {"ab", TOKEN_NORMAL, -4.5},
							   {"\xE2\x96\x81"
								"a",
								TOKEN_NORMAL, -4},
							   {"ba", TOKEN_NORMAL, -3.5},
							   {"<0xC3>", TOKEN_BYTE, -9},
							   {"<0xA9>", TOKEN_BYTE, -9}};

static void
test_unigram(void)
{
	tokenizer_options options = {
		.kind = TOKENIZER_UNIGRAM, .flags = FLAG_PREFIX_SPACE | FLAG_BYTE_FALLBACK, .spelling = SPELLING_SPACE_MARK};
	size_t bytes;
	void *block = BUILD(&options, pieces, NULL, &bytes);
	tokenizer *t = open_block(block, bytes);

	CHECK_IDS(t, "ab", 5, 3);      /* -6, before -7.5 */
	CHECK_IDS(t, "abab", 5, 6, 3); /* -9.5 */
	CHECK_IDS(t, "bé", 1, 3, 7, 8);
	CHECK_IDS(t, "xya", 1, 0, 2);
	CHECK(round_trips(t, "ab ba é", 8));
	tokenizer_free(t);
	free(block);
	options.flags = FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE;
	block = BUILD(&options, pieces, NULL, &bytes);
	t = open_block(block, bytes);
	CHECK_IDS(t, "  a   b ", 5, 1, 3);
	CHECK(encodes_to(t, "   ", 3, false, NULL, 0));
	tokenizer_free(t);
	free(block);
}

/* Tokens that are cut out of text, also where a merge makes the same; the longest first. */
static void
test_added(void)
{
	static const entry entries[] = {
		{"a"}, {"b"}, {"aa"}, {"aa", TOKEN_ADDED}, {"aab", TOKEN_SPECIAL}, {"b", TOKEN_UNUSED}};
	tokenizer_options options = {.kind = TOKENIZER_BPE};
	size_t bytes;
	void *block = BUILD(&options, entries, "a a\n", &bytes);
	tokenizer *t = open_block(block, bytes);

	CHECK_IDS(t, "baab", 1, 3, 1);
	CHECK_IDS(t, "aaaaa", 3, 3, 0);
	CHECK(encodes_to(t, "baab", 4, true, (int32_t[]) {1, 4}, 2));
	CHECK(encodes_to(t, "aaaab", 5, true, (int32_t[]) {3, 4}, 2));
	CHECK_INT(tokenizer_type(t, 4), TOKEN_SPECIAL);
	tokenizer_free(t);
	free(block);
}

/* What characters are replaced by before a text is cut. */
static void
test_normal_forms(void)
{
	static const entry entries[] = {{"f"}, {"i"}, {"A"}, {" "}, {"\xC3\xA9"}, {"e"}};
	static uint8_t map[MAP_BYTES];
	tokenizer_options options = {.kind = TOKENIZER_BPE, .flags = FLAG_CHARACTERS};
	llm_error err = {0};
	void *block;
	tokenizer *t;
	tokenizer_builder *b = tokenizer_builder_new(&options, &err);

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		tokenizer_builder_token(b, entries[i].text, strlen(entries[i].text), TOKEN_NORMAL, 0, &err);
	tokenizer_builder_character_map(b, map, write_character_map(map), &err);
	t = open_built(b, &block, &err);
	CHECK_STR(err.message, "");
	CHECK_IDS(t,
			  "\xEF\xAC\x81\xEF\xBC\xA1\xE3\x80\x80"
			  "e\xCC\x81\xC2\xAD"
			  "ef",
			  0, 1, 2, 3, 4, 5, 0);
	CHECK(encodes_to(t, "\xC2\xAD", 2, false, NULL, 0));
	tokenizer_free(t);
	free(block);

	options.flags |= FLAG_NFC;
	b = tokenizer_builder_new(&options, &err);
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		tokenizer_builder_token(b, entries[i].text, strlen(entries[i].text), TOKEN_NORMAL, 0, &err);
	t = open_built(b, &block, &err);
	CHECK_IDS(t, "ee\xCC\x81 \xC3\xA9", 5, 4, 3, 4);
	tokenizer_free(t);
	free(block);
}

/* ---- bytes of a stranger ---- */

/* A block that was changed is refused, or does no harm; what harm is, the sanitizers say. */
static void
try_block(const uint8_t *bytes, size_t size)
{
	void *copy =
		aligned_alloc(TOKENIZER_ALIGNMENT, (size + TOKENIZER_ALIGNMENT - 1) & ~(size_t) (TOKENIZER_ALIGNMENT - 1));
	llm_error err = {0};
	token_list list = {0};
	text_buffer text = {0};
	char input[200];
	size_t length = random_text(input, sizeof(input));
	tokenizer *t;

	memcpy(copy, bytes, size);
	t = tokenizer_open(copy, size, &err);
	CHECK((t == NULL) == (err.code != LLM_OK));
	if (t != NULL && tokenizer_encode(t, input, length, true, &list, &err))
	{
		for (int64_t i = 0; i < list.count; i++)
			if (list.id[i] < 0 || list.id[i] >= tokenizer_size(t))
				CHECK(false);
		CHECK(tokenizer_decode(t, list.id, list.count, true, &text, &err));
	}
	free(list.id);
	free(text.bytes);
	tokenizer_free(t);
	free(copy);
}

static void
tamper(void *block, size_t bytes)
{
	uint8_t *copy = malloc(bytes);

	for (size_t i = 0; i <= 400 && i < bytes; i++)
		try_block(block, i < 300 ? i : bytes - (i - 299));
	for (int i = 0; i < 2000; i++)
	{
		memcpy(copy, block, bytes);
		for (uint32_t n = 1 + next_random(3); n > 0; n--)
			copy[next_random(next_random(2) ? 256 : (uint32_t) bytes)] ^= (uint8_t) (1 << next_random(8));
		try_block(copy, bytes);
	}
	free(copy);
	free(block);
}

static void
test_hostile(void)
{
	tokenizer_options options = {.kind = TOKENIZER_WORDPIECE, .flags = BERT_UNCASED};
	llm_error err = {0};
	size_t bytes;
	void *block = trained(&bytes);

	CHECK(tokenizer_open((char *) block + 8, bytes - 8, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	tamper(block, bytes);
	block = BUILD(&options, words, NULL, &bytes);
	tamper(block, bytes);
	options =
		(tokenizer_options) {.kind = TOKENIZER_UNIGRAM, .flags = FLAG_PREFIX_SPACE, .spelling = SPELLING_SPACE_MARK};
	block = BUILD(&options, pieces, NULL, &bytes);
	tamper(block, bytes);
	options.kind = TOKENIZER_BPE;
	options.flags = FLAG_CHARACTERS | FLAG_BYTE_FALLBACK | FLAG_SPACES_ONCE;
	block = BUILD(&options, pieces, "a b\nb a\n", &bytes);
	tamper(block, bytes);
}

static void
test_builder_errors(void)
{
	tokenizer_options options = {.kind = TOKENIZER_BPE, .spelling = SPELLING_BYTE_ALPHABET};
	llm_error err = {0};
	tokenizer_builder *b = tokenizer_builder_new(&options, &err);
	size_t bytes;

	CHECK(tokenizer_builder_finish(b, &bytes, &err) == NULL);
	CHECK_STR(err.message, "a tokenizer needs at least one token");
	err = (llm_error) {0};
	CHECK(tokenizer_builder_token(b, "a", 1, TOKEN_NORMAL, 0, &err));
	CHECK(!tokenizer_builder_merge(b, "a", 1, "a", 1, &err));
	CHECK_STR(err.message, "merge 1 of the tokenizer joins what are no tokens, or to what is none");
	CHECK(tokenizer_builder_finish(b, &bytes, &err) == NULL);
	tokenizer_builder_free(b);
	err = (llm_error) {0};
	b = tokenizer_builder_new(&options, &err);
	CHECK(!tokenizer_builder_token(b, "a b", 3, TOKEN_NORMAL, 0, &err));
	CHECK_STR(err.message, "a token of the tokenizer is not written in the alphabet of bytes");
	tokenizer_builder_free(b);
	for (int byte = 0; byte < 256; byte++)
		for (int other = 0; other < byte; other++)
			if (byte_alphabet((uint8_t) byte) == byte_alphabet((uint8_t) other))
				CHECK(false);
}

static void
test_complete(void)
{
	CHECK_INT(text_complete("", 0), 0);
	CHECK_INT(text_complete("ab", 2), 2);
	CHECK_INT(text_complete("a\xC3", 2), 1);
	CHECK_INT(text_complete("a\xC3\xA9", 3), 3);
	CHECK_INT(text_complete("\xF0\x9F\x98", 3), 0);
	CHECK_INT(text_complete("\xF0\x9F\x98\x80", 4), 4);
	CHECK_INT(text_complete("\x80\x80\x80\x80", 4), 4);
	CHECK_INT(text_complete("a\xFF", 2), 2);
}

int
main(void)
{
	test_bytes();
	test_marks();
	test_merges();
	test_long_words();
	test_pieces();
	test_round_trips();
	test_cancelled();
	test_wordpiece();
	test_unigram();
	test_added();
	test_normal_forms();
	test_hostile();
	test_builder_errors();
	test_complete();
	return test_summary();
}
