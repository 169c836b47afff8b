/*
 * test_text_metrics.c
 *	  BLEU, ROUGE-L and answers beside sacrebleu 2.6.0, rouge-score 0.1.2 and SQuAD's own program.
 */
#include <stdlib.h>

#include "../../src/feature/hash.h"
#include "../../src/metrics/text_metrics.h"
#include "../../src/metrics/words.h"
#include "../../src/text/unicode.h"
#include "test.h"

#define TOLERANCE 1e-6

typedef const char *const text_pairs[][2];

static const text_pairs english = {
	{"The cat sat on the mat.", "A cat was sitting on the mat."},
	{"He paid $1,250.50 for 3-4 tickets, didn't he?", "He paid $1,250.50 for 3-4 tickets; didn't he?"},
	{"Hello &amp; welcome to the U.S.A...", "Hello & welcome, to the U.S.A."},
	{"It is what it is", "It was what it was, and it will be what it will be."},
	{"\"Quoted\" text (with brackets) and 5.\n", "'Quoted' text [with brackets], and 5 more"},
};
static const text_pairs chinese = {
	{"今天天气很好，我们去公园散步。", "今天天气真好，我们一起去公园散步吧。"},
	{"他说：“价格是10.5元”……", "他说“价格为10.5元”……"},
	{"机器学习", "机器学习是人工智能的一个分支"},
};

static bool
add(text_scores *s, const char *prediction, const char *reference)
{
	llm_error err = {0};

	return CHECK(text_scores_add(s, prediction, strlen(prediction), reference, strlen(reference), NULL, NULL, &err));
}

static text_metrics
metrics_of(const text_pairs pairs, int count)
{
	text_scores s = {0};

	for (int i = 0; i < count; i++)
		add(&s, pairs[i][0], pairs[i][1]);
	return text_scores_result(&s);
}

static void
check_metrics(text_metrics m, double bleu, double rouge_l, double exact_match, double token_f1)
{
	CHECK_NEAR(m.bleu, bleu, TOLERANCE);
	CHECK_NEAR(m.rouge_l, rouge_l, TOLERANCE);
	CHECK_NEAR(m.exact_match, exact_match, TOLERANCE);
	CHECK_NEAR(m.token_f1, token_f1, TOLERANCE);
}

static void
test_english(void)
{
	text_metrics m = metrics_of(english, 5);

	CHECK_INT(m.n, 5);
	check_metrics(m, 0.418939900, 0.761025641, 0.2, 0.762393162);
	check_metrics(metrics_of(english, 1), 0.376849916, 0.615384615, 0, 0.666666667);
	check_metrics(metrics_of(english + 1, 1), 0.761160600, 1, 1, 1);
	check_metrics(metrics_of(english + 2, 1), 0.670342090, 0.933333333, 0, 0.888888889);
	check_metrics(metrics_of(english + 3, 1), 0.031998052, 0.333333333, 0, 0.333333333);
	check_metrics(metrics_of(english + 4, 1), 0.112084668, 0.923076923, 0, 0.923076923);
}

/* BLEU is that of tokenize="zh"; the others know no Chinese: theirs follow from 12 of 13 and 16 characters, and so on. */
static void
test_chinese(void)
{
	text_metrics m = metrics_of(chinese, 3);

	CHECK_NEAR(m.bleu, 0.388126019, TOLERANCE);
	CHECK_NEAR(m.rouge_l, (24 / 29.0 + 14 / 16.0 + 8 / 18.0) / 3, TOLERANCE);
	CHECK_NEAR(m.token_f1, (24 / 29.0 + 12 / 14.0 + 8 / 18.0) / 3, TOLERANCE);
	CHECK_NEAR(metrics_of(chinese, 1).bleu, 0.481533656, TOLERANCE);
	CHECK_NEAR(metrics_of(chinese + 1, 1).bleu, 0.465953842, TOLERANCE);
	/* characters of Japanese are words, too: BLEU is that of tokenize="char" */
	check_metrics(metrics_of((text_pairs) {{"私は猫が好きです。", "私は犬が好きです。"}}, 1), 0.660632863, 0.875, 0,
				  0.875);
}

/* ---- words ---- */

static uint64_t
hash_of_word(const char *word)
{
	const uint8_t *at = (const uint8_t *) word, *end = at + strlen(word);
	uint64_t hash = HASH_START;
	int32_t size;

	for (; at < end; at += size)
	{
		int32_t c = utf8_read(at, end, &size);

		hash = hash_bytes(hash, &c, sizeof(c));
	}
	return hash_end(hash);
}

/* Are the words those in `expected`, between single spaces? */
static void
check_words(const word_list *words, const char *expected)
{
	char *copy = strdup(expected);
	char *rest = copy, *word;
	int64_t i = 0;
	bool same = true;

	while (*rest != '\0' && (word = strsep(&rest, " ")) != NULL)
	{
		same &= i < words->count && words->hash[i] == hash_of_word(word);
		i++;
		if (rest == NULL)
			break;
	}
	if (!CHECK(same && i == words->count))
		fprintf(stderr, "expected %s\n", expected);
	free(copy);
}

static void
check_bleu_words(const char *text, bool zh, const char *expected)
{
	word_list words = {0};
	watch w = {0};
	llm_error err = {0};

	CHECK(words_bleu(&words, text, strlen(text), zh, &w, &err));
	check_words(&words, expected);
	words_free(&words);
}

/* What sacrebleu's Tokenizer13a and TokenizerZh make of the texts. */
static void
test_bleu_words(void)
{
	check_bleu_words("a..5 1...5 .5 5. 1.5 2,000,5 a,b", false, "a . .5 1 . . .5 . 5 5 . 1.5 2,000,5 a , b");
	check_bleu_words("x-1 1-x it's {a}/b<c>", false, "x-1 1 - x it's { a } / b < c >");
	check_bleu_words("well-\nknown &quot;&amp;lt;&quot;<skipped>", false, "wellknown \" < \"");
	check_bleu_words("-\n", false, "-");
	check_bleu_words("1\u00a02〃3\x1c"
					 "4",
					 false, "1 2〃3 4");
	check_bleu_words(".5", false, ". 5");
	check_bleu_words(" .5好“a”—5.", true, ".5 好 “ a ” — 5.");
	check_bleu_words(" \n", false, "");
	check_bleu_words("", true, "");
}

static void
test_rouge_words(void)
{
	static const char *const cases[][2] = {{"The foo_bar's 2x.", "the foo bar s 2x"},
										   {"Жук ÉTÉ e\u0301te\u0301", "жук été e\u0301te\u0301"},
										   {"AI是猫、カナ", "ai 是 猫 カ ナ"},
										   {"...", ""}};

	for (int i = 0; i < 4; i++)
	{
		word_list words = {0};
		watch w = {0};
		llm_error err = {0};

		CHECK(words_rouge(&words, cases[i][0], strlen(cases[i][0]), &w, &err));
		check_words(&words, cases[i][1]);
		words_free(&words);
	}
}

/* normalize_answer() of SQuAD, of MLQA for the last two. */
static void
test_answer_words(void)
{
	static const char *const cases[][2] = {{"The Beatles!", "beatles"},
										   {"an apple a day", "apple day"},
										   {"U.S., 1,000 t.h.e theory", "us 1000 theory"},
										   {"a", ""},
										   {"the\u2122x a1 1a", "\u2122x a1 1a"},
										   {"“The” end—a", "enda"},
										   {"“The” end — a", "end"},
										   {"《三国》 the", "三 国"}};

	for (int i = 0; i < 8; i++)
	{
		word_list words = {0};
		watch w = {0};
		llm_error err = {0};

		CHECK(words_answer(&words, cases[i][0], strlen(cases[i][0]), &w, &err));
		check_words(&words, cases[i][1]);
		words_free(&words);
	}
}

/* ---- edges ---- */

static void
test_empty(void)
{
	text_scores none = {0};

	CHECK_INT(text_scores_result(&none).n, 0);
	check_metrics(text_scores_result(&none), 0, 0, 0, 0);
	check_metrics(metrics_of((text_pairs) {{"", ""}}, 1), 0, 0, 1, 0);
	check_metrics(metrics_of((text_pairs) {{"", "a cat"}}, 1), 0, 0, 0, 0);
	check_metrics(metrics_of((text_pairs) {{"cat", ""}}, 1), 0, 0, 0, 0);
	check_metrics(metrics_of((text_pairs) {{"one two", "one two"}}, 1), 0, 1, 1, 1); /* no 4-gram */
	check_metrics(metrics_of((text_pairs) {{"one two three four", "one two three four"}}, 1), 1, 1, 1, 1);
}

/* Bytes that are no UTF-8, zero bytes and cut characters are characters like others. */
static void
test_any_bytes(void)
{
	char bytes[512];
	text_scores s = {0};
	llm_error err = {0};

	for (int i = 0; i < 512; i++)
		bytes[i] = (char) (i * 167 + i / 256);
	for (size_t length = 0; length <= sizeof(bytes); length += 7)
	{
		char *exact = malloc(length + 1);

		memcpy(exact, bytes, length);
		CHECK(text_scores_add(&s, exact, length, bytes, length, NULL, NULL, &err));
		free(exact);
	}
	CHECK_NEAR(text_scores_result(&s).exact_match, 1, 0);
	CHECK_NEAR(text_scores_result(&s).bleu, 1, 1e-12);
	add(&s, "\xE4\xBD", "\xE4\xBD\xA0\xFF");
}

static void
test_merge(void)
{
	text_scores all = {0}, part = {0};

	for (int i = 0; i < 5; i++)
		add(i < 2 ? &all : &part, english[i][0], english[i][1]);
	text_scores_merge(&all, &part);
	check_metrics(text_scores_result(&all), 0.418939900, 0.761025641, 0.2, 0.762393162);
}

/* ---- long texts ---- */

static uint32_t seed = 1;

/* `count` words of one letter. */
static void
random_letters(char *text, int count, int letters)
{
	for (int i = 0; i < count; i++)
	{
		seed = seed * 1664525 + 1013904223;
		text[2 * i] = (char) ('b' + (seed >> 16) % letters);
		text[2 * i + 1] = ' ';
	}
}

/* By the table of the textbook. */
static int
subsequence_by_table(const char *a, int n, const char *b, int m)
{
	int *row = calloc(m + 1, sizeof(int));
	int length;

	for (int i = 0; i < n; i++)
		for (int j = 1, corner = 0; j <= m; j++)
		{
			int above = row[j];

			row[j] = a[2 * i] == b[2 * (j - 1)] ? corner + 1 : above > row[j - 1] ? above : row[j - 1];
			corner = above;
		}
	length = row[m];
	free(row);
	return length;
}

static void
test_subsequence(void)
{
	char a[2 * 300], b[2 * 300];

	for (int n = 1; n < 300; n += 31)
		for (int m = 1; m < 300; m += 63)
		{
			text_scores s = {0};
			llm_error err = {0};

			random_letters(a, n, 1 + n % 20);
			random_letters(b, m, 20);
			CHECK(text_scores_add(&s, a, 2 * n, b, 2 * m, NULL, NULL, &err));
			CHECK_NEAR(s.rouge_l, 2.0 * subsequence_by_table(a, n, b, m) / (n + m), 1e-12);
		}
}

static bool
stop_at_third(void *arg)
{
	int *asked = arg;

	return ++*asked == 3;
}

/* A poll function ends long work at once and leaves the sums alone. */
static void
test_cancel(void)
{
	enum
	{
		COUNT = 200000
	};
	char *text = malloc(2 * COUNT);
	text_scores s = {0};
	llm_error err = {0};
	int asked = 0;

	random_letters(text, COUNT, 2);
	CHECK(!text_scores_add(&s, text, 2 * COUNT, text, 2 * COUNT, stop_at_third, &asked, &err));
	CHECK_INT(err.code, LLM_CANCELLED);
	CHECK_INT(asked, 3);
	CHECK_INT(s.pairs, 0);
	CHECK_INT(s.predicted_words, 0);
	free(text);
}

int
main(void)
{
	test_english();
	test_chinese();
	test_bleu_words();
	test_rouge_words();
	test_answer_words();
	test_empty();
	test_any_bytes();
	test_merge();
	test_subsequence();
	test_cancel();
	return test_summary();
}
