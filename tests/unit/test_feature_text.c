/*
 * test_feature_text.c
 *	  N-grams of texts in several scripts, counted by hand.
 */
#include "../../src/feature/stats.h"
#include "../../src/feature/text.h"
#include "feature_helper.h"

#define BUCKETS (1 << 20) /* collisions of a few n-grams are unlikely, and would show */

static int32_t
words_of(const char *text, gram_set *set)
{
	int32_t words = 0;

	set->row_of = NULL;
	set->buckets = BUCKETS;
	set->max = TEXT_PAIRS_MAX;
	text_grams(set, text, (int32_t) strlen(text));
	for (int32_t i = 0; i < set->count; i++)
		words += set->row[i] < text_word_buckets(BUCKETS);
	return words;
}

static bool
same_grams(const char *a, const char *b)
{
	gram_set x, y;

	words_of(a, &x);
	words_of(b, &y);
	return x.count == y.count && memcmp(x.row, y.row, x.count * sizeof(int32_t)) == 0;
}

static void
test_counts(void)
{
	gram_set set;

	CHECK_INT(words_of("", &set), 0);
	CHECK_INT(set.count, 0);
	CHECK_INT(words_of(" .,!? ", &set), 0);
	CHECK_INT(words_of("ab", &set), 1);
	CHECK_INT(set.count, 1);
	/* "abc": the word, " abc" and "abc " */
	CHECK_INT(words_of("abc", &set), 1);
	CHECK_INT(set.count, 3);
	/* "to be": two words, one pair, nothing inside words so short */
	CHECK_INT(words_of("to be", &set), 2);
	CHECK_INT(set.count, 3);
	/* repeated words are counted, the pair comes three times */
	CHECK_INT(words_of("no no no no", &set), 1);
	CHECK_INT(set.count, 2);
	CHECK_INT(set.times[0], 4);
	CHECK_INT(set.times[1], 3);
	/* "hello": the word and four inside: " hel" "hell" "ello" "llo " */
	CHECK_INT(words_of("hello", &set), 1);
	CHECK_INT(set.count, 5);
}

static void
test_scripts(void)
{
	gram_set set;

	CHECK(same_grams("Hello, WORLD", "hello world"));
	CHECK(!same_grams("hello world", "world hello"));
	/* three characters: three single, two pairs among the words, one triple */
	CHECK_INT(words_of("\xE6\x95\xB0\xE6\x8D\xAE\xE5\xBA\x93", &set), 5);
	CHECK_INT(set.count, 6);
	/* a full stop of that script ends the run: 2 + 1 and 1 */
	CHECK_INT(words_of("\xE6\x95\xB0\xE6\x8D\xAE\xE3\x80\x82\xE5\xBA\x93", &set), 4);
	CHECK_INT(set.count, 4);
	/* Cyrillic letters are two bytes and one character: a word of three characters */
	CHECK_INT(words_of("\xD0\xB4\xD0\xBE\xD0\xBC", &set), 1);
	CHECK_INT(set.count, 3);
	/* Bytes that are not UTF-8 are letters. */
	CHECK_INT(words_of("caf\xE9", &set), 1);
	CHECK_INT(words_of("\xE6\x95", &set), 1);
	CHECK(text_is_token("A-17/b", 6));
	CHECK(!text_is_token("A 17", 4));
	CHECK(!text_is_token("\xC3\xA9", 2));
}

/* Words longer than the buffer, texts with more n-grams than are counted, every cut of a character. */
static void
test_bounds(void)
{
	static char text[200000];
	gram_set set;
	int used = 0;

	memset(text, 'x', 1000);
	text[1000] = '\0';
	CHECK(words_of(text, &set) >= 1);
	for (int i = 0; i < 1000; i += 4)
		memcpy(text + i, "\xF0\xA0\x80\x80", 4);
	text[999] = '\0';
	words_of(text, &set);
	for (int i = 0; i < 30000; i++)
		used += sprintf(text + used, "%d ", i);
	words_of(text, &set);
	CHECK_INT(set.count, TEXT_PAIRS_MAX);
	for (int length = 0; length < 12; length++)
	{
		set.max = TEXT_PAIRS_MAX;
		text_grams(&set, "\xE6\x95\xB0\xD0\xB4\xF0\xA0\x80\x80xyz", length);
		CHECK(set.count <= 20);
	}
}

/* Texts in the tally count once for all of their rows, those that do not fit into it row by row: no difference. */
static void
test_row_counts(void)
{
	enum
	{
		TEXTS = 100,
		BYTES = 50000, /* of each: more than CATEGORY_BYTES_MAX together */
		FEW = 256
	};
	column c = COLUMN("note", "text", COLUMN_TEXT);
	static char text[BYTES + 1];
	uint32_t rows[FEW] = {0};
	column_stats s;
	llm_error err = {.code = LLM_OK};
	gram_set set = {.buckets = FEW, .max = TEXT_PAIRS_MAX};

	CHECK(stats_init(&s, &c, FEW, &err));
	for (int i = 0; i < 2 * TEXTS; i++)
	{
		int length = snprintf(text, sizeof(text), "word%d and more", i % TEXTS);

		memset(text + length, ' ', BYTES - length);
		CHECK(stats_add(&s, &c, &STRING(text), 0, 1, 0, FEW, &err));
		text_grams(&set, text, BYTES);
		for (int32_t k = 0; k < set.count; k++)
			rows[set.row[k]]++;
	}
	CHECK(s.values->overflow > 0 && s.values->overflow < 2 * TEXTS);
	stats_count_grams(&s, FEW);
	CHECK(memcmp(s.bucket_rows, rows, sizeof(rows)) == 0);
	stats_free(&s);
}

/* 30 short texts: words in at least 5 rows but not in all are kept, (1 + ln n) to a length of one. */
static void
test_encoding(void)
{
	column c = COLUMN("note", "text", COLUMN_TEXT);
	char text[30][64];
	value rows[30];
	value probe[3];
	llm_error err = {.code = LLM_OK};
	encoder *e;
	batch *b;
	double twice = 1 + log(2), norm;

	for (int r = 0; r < 30; r++)
	{
		snprintf(text[r], sizeof(text[r]), "all %s w%d", r % 2 ? "even" : "odd cheap", r);
		rows[r] = STRING(text[r]);
	}
	rows[29] = NOTHING;
	e = fit_rows(&c, 1, &default_options, rows, 30, NULL, NULL, &err);
	b = encoder_batch(e, 3);
	CHECK_INT(b->shape.bag_rows, 4); /* even, odd, cheap, missing; "all" is in every text */
	probe[0] = STRING("Cheap cheap, ODD thing");
	probe[1] = NOTHING;
	probe[2] = STRING("never seen");
	for (int r = 0; r < 3; r++)
		CHECK(encoder_row(e, &probe[r], b, &err));
	CHECK_INT(b->bag_start[1], 2);
	norm = sqrt(twice * twice + 1);
	CHECK_NEAR(b->bag_value[0], twice / norm, 1e-6);
	CHECK_NEAR(b->bag_value[1], 1 / norm, 1e-6);
	CHECK_INT(b->bag_start[2], 3);
	CHECK_INT(b->bag_index[2], 3);
	CHECK_INT(b->bag_start[3], 3);
	batch_free(b);
	encoder_free(e);
}

static void
test_rare_words(void)
{
	column c[2] = {COLUMN("note", "text", COLUMN_TEXT), COLUMN("x", "real", COLUMN_NUMBER)};
	char text[100][64];
	value rows[200];
	finding *findings;
	llm_error err = {.code = LLM_OK};
	encoder *e;

	for (int r = 0; r < 100; r++)
	{
		snprintf(text[r], sizeof(text[r]), "q%d w%d", r, r);
		rows[2 * r] = STRING(text[r]);
		rows[2 * r + 1] = NUMBER(r * 0.5);
	}
	e = fit_rows(c, 2, &default_options, rows, 100, NULL, &findings, &err);
	CHECK(!encoder_column_used(e, 0));
	CHECK(find_finding(findings, "note", "rare_words") != NULL);
	finding_free(findings);
	encoder_free(e);
}

int
main(void)
{
	test_counts();
	test_scripts();
	test_bounds();
	test_row_counts();
	test_encoding();
	test_rare_words();
	return test_summary();
}
