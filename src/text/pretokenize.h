/*
 * pretokenize.h
 *	  Cut text into the pieces that byte pair encoding never crosses.
 *
 * Models publish their rule as a regular expression; each that is known has a scanner of its own
 * that takes the same pieces.  Every byte of a text belongs to a piece.
 */
#ifndef LLMAPP_PRETOKENIZE_H
#define LLMAPP_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are part of the stored form of a tokenizer. */
typedef enum pretokenizer
{
	PRETOKENIZER_NONE, /* the text is one piece */
	PRETOKENIZER_GPT2,
	PRETOKENIZER_LLAMA3, /* also GPT-4's cl100k_base */
	PRETOKENIZER_QWEN2,
	PRETOKENIZER_GPT2_DIGITS, /* each digit alone, then GPT-2 */
	PRETOKENIZER_SPACES       /* each space begins a piece: SentencePiece's words, cut before encoding */
} pretokenizer;

#define PRETOKENIZERS (PRETOKENIZER_SPACES + 1)

/* Bytes of the first piece of a text, which is not empty; at least 1. */
typedef size_t (*pretokenize)(const uint8_t *text, const uint8_t *end);

/* The piece before the next space that stands behind another character: how SentencePiece marks words. */
extern size_t marked_word(const uint8_t *text, const uint8_t *end);

extern pretokenize pretokenizer_scanner(pretokenizer p);
extern const char *pretokenizer_name(pretokenizer p);
extern bool pretokenizer_parse(const char *name, pretokenizer *p);
/* Its regular expression; NULL: it has none of its own. */
extern const char *pretokenizer_regex(pretokenizer p);
/* The rule whose regular expression is written exactly like this. */
extern bool pretokenizer_from_regex(const char *regex, pretokenizer *p);

#endif /* LLMAPP_PRETOKENIZE_H */
