/*
 * text_metrics.h
 *	  Quality of generated texts beside the texts that were wanted, one reference for each.
 *
 * Plain C, no PostgreSQL.  Pairs are added one by one; sums of fixed size are all that is kept.
 *
 * bleu: of the corpus (Papineni et al. 2002), as sacrebleu computes it by default: 4-grams, brevity
 * penalty, smoothing "exp", case counts; tokenisation "13a", but "zh" for a pair that has East Asian
 * characters.  0 without any 4-gram.  rouge_l: mean over pairs of the F1 of the longest common
 * subsequence of words (Lin 2004), as rouge-score without stemming.  exact_match, token_f1: means
 * over pairs, as SQuAD v1.1; the F1 of two texts without words is 0, while they match exactly.
 * Words are those of words.h.  All are from 0 to 1.
 */
#ifndef LLMAPP_TEXT_METRICS_H
#define LLMAPP_TEXT_METRICS_H

#include "../engine/net.h"

#define BLEU_ORDERS 4

/* Sums over pairs; all zero without any.  Two of them are added by adding each number. */
typedef struct text_scores
{
	int64_t pairs;
	int64_t predicted_words; /* of BLEU */
	int64_t reference_words;
	int64_t grams[BLEU_ORDERS];   /* of the predictions, by length */
	int64_t matched[BLEU_ORDERS]; /* of them in the reference, each as often as it is there */
	double rouge_l;
	double exact;
	double token_f1;
} text_scores;

typedef struct text_metrics
{
	int64_t n;
	double bleu;
	double rouge_l;
	double exact_match;
	double token_f1;
} text_metrics;

/*
 * Add a pair of texts in UTF-8, whatever their bytes.  Memory is about 90 bytes for each word of the longer
 * text; time grows with the product of the numbers of words, 64 at a time, and poll, which may be
 * NULL, is asked meanwhile.  False: LLM_MEMORY, LLM_CANCELLED; the sums are as before.
 */
extern bool text_scores_add(text_scores *s, const char *prediction, size_t prediction_length, const char *reference,
							size_t reference_length, llm_poll poll, void *poll_arg, llm_error *err);
extern void text_scores_merge(text_scores *s, const text_scores *more);
/* All 0 without pairs. */
extern text_metrics text_scores_result(const text_scores *s);

#endif /* LLMAPP_TEXT_METRICS_H */
