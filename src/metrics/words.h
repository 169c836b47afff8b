/*
 * words.h
 *	  Texts as lists of words, cut as each metric of generated text defines them.
 *
 * Text is UTF-8; a byte that is none is a character of no class.  A word is known by a 64-bit
 * hash only: metrics compare words, they never show them.  An ideograph here is a character of a
 * script that is written without spaces between words: Han, Kana, Bopomofo.
 */
#ifndef LLMAPP_WORDS_H
#define LLMAPP_WORDS_H

#include "../engine/net.h"

typedef struct word_list
{
	uint64_t *hash; /* never 0 */
	int64_t count;
	int64_t capacity;
} word_list;

/* Asks a poll function now and then. */
typedef struct watch
{
	llm_poll poll; /* may be NULL */
	void *poll_arg;
	int64_t work; /* since it was asked */
} watch;

/* Count so much work, a few nanoseconds each.  False: LLM_CANCELLED. */
extern bool watch_work(watch *w, int64_t work, llm_error *err);

extern void words_free(word_list *words);

/*
 * Each function replaces what the list held.  False: LLM_MEMORY, LLM_CANCELLED; the list then
 * holds some of the words.
 */

/*
 * For BLEU: tokenisation "13a" of sacrebleu (mteval-v13a), or "zh", where characters of East
 * Asia are words each.  Further than sacrebleu's, "zh" cuts out Kana and ideographs from U+9FBC.
 */
extern bool words_bleu(word_list *words, const char *text, size_t length, bool zh, watch *w, llm_error *err);
/* Has the text an ideograph, an East Asian punctuation mark or a full-width character? */
extern bool text_is_east_asian(const char *text, size_t length);
/*
 * For ROUGE: runs of letters and digits in lower case, and each ideograph.  For ASCII text these
 * are the words of Google's rouge-score without stemming.
 */
extern bool words_rouge(word_list *words, const char *text, size_t length, watch *w, llm_error *err);
/*
 * For exact match and F1 of answers: in lower case, without punctuation and the articles a, an,
 * the, cut at white space, as in SQuAD v1.1; beyond ASCII as in MLQA: punctuation of all scripts
 * is removed, and each ideograph is a word.
 */
extern bool words_answer(word_list *words, const char *text, size_t length, watch *w, llm_error *err);

#endif /* LLMAPP_WORDS_H */
