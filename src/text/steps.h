/*
 * steps.h
 *	  What happens to a text before it is cut into tokens, as a list in the tokenizer's block.
 *
 * Tokenizers of other libraries are put together from small parts, each of which changes the text
 * in a way of its own; tokenizer_file.h turns those parts into steps.  A tokenizer that has steps
 * follows them alone; one that has none follows its flags, see normalise.h.
 *
 * In the block a step is its number, the lengths of its two texts as uint16 each, and the texts.
 */
#ifndef LLMAPP_STEPS_H
#define LLMAPP_STEPS_H

#include "tokenizer_block.h"

/* The numbers are part of the stored form. */
enum step_kind
{
	STEP_CUT, /* added tokens with ADDED_NORMALISED are cut out here; before the first step if it is not there */
	STEP_NFC, /* UAX #15 */
	STEP_NFD,
	STEP_LOWER,
	STEP_NONSPACING, /* BERT: drop Mn */
	STEP_MARKS,      /* drop what ROLE_MARK says */
	STEP_CLEAN,      /* BERT: drop control characters, white space becomes spaces */
	STEP_IDEOGRAPHS, /* BERT: spaces around each */
	STEP_STRIP_LEFT, /* white space at the start goes */
	STEP_STRIP_RIGHT,
	STEP_REPLACE,      /* first text by second */
	STEP_SPACE_RUNS,   /* two spaces and more by second text */
	STEP_PREPEND,      /* second text in front */
	STEP_MAP,          /* SentencePiece's character map, as the library tokenizers reads it */
	STEP_SENTENCE,     /* all that SentencePiece does, by the flags */
	STEP_SPACE_MARKS,  /* U+2581 becomes a space */
	STEP_PREFIX,       /* a space in front, unless one is there */
	STEP_PREFIX_FIRST, /* the same where the whole text begins */
	STEP_WORDS         /* for each run of white space one space, and one in front; U+2581 becomes a space */
};

#define STEP_KINDS (STEP_WORDS + 1)
#define STEPS_MAX 32
#define STEP_TEXT_MAX 255

typedef struct step
{
	const uint8_t *text[2];
	uint16_t length[2];
	uint8_t kind;
} step;

/* Check SECTION_STEPS and set t->steps; LLM_CORRUPT, LLM_MEMORY. */
extern bool steps_open(tokenizer *t, llm_error *err);

/*
 * Steps from `from` to before `to` on *text, which becomes the result: it lies where it lay, or in
 * the tokenizer until the next call.  starts: the whole text begins here.
 */
extern bool steps_run(tokenizer *t, int32_t from, int32_t to, bool starts, const uint8_t **text, size_t *length,
					  llm_error *err);

/* Is it a tokenizer of SentencePiece, whose normal form of a text is not that of its parts? */
extern bool steps_are_sentence(const tokenizer *t);

#endif /* LLMAPP_STEPS_H */
