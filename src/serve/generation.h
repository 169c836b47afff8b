/*
 * generation.h
 *	  A text being generated: one sequence of a call's generator, and what becomes of its logits.
 *
 * Intended use:
 *	 1. NewGeneration() reads the arguments of a call of llm_generate(), tokenises the prompt, and
 *		runs nothing.
 *	 2. The caller lets RequireTexts() make room for GenerationPositions() tokens, and sets the
 *		number of the sequence that is this text's alone.
 *	 3. NextToken() until it is false.  Several texts may take turns.  GenerateTogether() does 2 and 3 for many
 *		texts.
 *
 * A text depends on its arguments only, not on what is generated beside it.  What a generation
 * holds is freed with the memory context in which it was made.  Include after postgres.h.
 */
#ifndef LLMAPP_GENERATION_H
#define LLMAPP_GENERATION_H

#include "../constrain/constraint.h"
#include "../engine/sampler.h"
#include "language.h"

/* Arguments of llm_generate() and its sisters. */
enum
{
	GENERATE_MODEL,
	GENERATE_PROMPT,
	GENERATE_MAX_TOKENS,
	GENERATE_TEMPERATURE,
	GENERATE_TOP_K,
	GENERATE_TOP_P,
	GENERATE_STOP,
	GENERATE_SEED,
	GENERATE_MIN_P,
	GENERATE_REPETITION_PENALTY,
	GENERATE_TRUNCATE,
	GENERATE_SCHEMA,
	GENERATE_ARGS
};

typedef struct Generation
{
	LanguageCall *call;
	int32 sequence; /* of the call's generator, or text at its server */
	int32 writer;   /* of the call, that the next two are about */
	int64 begin;    /* the first token that the network sees, */
	int32 fed;      /* and how many from there it has read */
	sampler *sampler;
	token_list source; /* what an encoder reads */
	token_list tokens; /* prompt and what was made */
	text_buffer text;  /* what was made, UTF-8 */
	int32 end;         /* token that ends the text, or -1, */
	int32 turn_end;    /* and one that ends a part of a conversation */
	int32 most;        /* tokens to make at most */
	int32 made;        /* so far */
	Size given;        /* bytes of text that were given out */
	char **stops;      /* UTF-8 */
	int stop_count;
	constraint *constraint; /* NULL: any text */
	constraint_place place;
	uint64 *allowed; /* tokens that may be next, of a text with a constraint */
	bool done;
} Generation;

/* Model and prompt are not NULL; NULL elsewhere is the default. */
extern Generation *NewGeneration(LanguageCall *call, const NullableDatum *args);
/*
 * The same with a prompt in tokens, of a model that is not one of pairs; turn_end: a token that ends the text beside
 * the usual one, or -1.
 */
extern Generation *NewGenerationOf(LanguageCall *call, const NullableDatum *args, const token_list *prompt,
								   int32 turn_end);
/* Tokens that its sequence will have at most. */
extern int32 GenerationPositions(const Generation *gen);
/* Make the next token and add its text; false at the end.  *logprob: as sampler_next(), or NULL. */
extern bool NextToken(Generation *gen, float *logprob);

/*
 * Make all tokens of several texts.  Each pass through the network reads the next token of up to eight of
 * them, and the place of a text that has ended is taken by the next one.
 */
extern void GenerateTogether(LanguageCall *call, Generation **texts, int32 count);

/* All of the text that was made, without an unfinished character at its end. */
extern text *GeneratedText(const Generation *gen);

#endif /* LLMAPP_GENERATION_H */
