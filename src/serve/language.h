/*
 * language.h
 *	  One call of a language function in a query: the open model, its tokenizer, and a
 *	  generator, kept from row to row.
 *
 * Text is in the server's encoding outside, in UTF-8 inside.  Include after postgres.h.
 */
#ifndef LLMAPP_LANGUAGE_H
#define LLMAPP_LANGUAGE_H

#include "fmgr.h"
#include "utils/array.h"

#include "../engine/generator.h"
#include "../infer/infer.h"
#include "../model/model.h"
#include "../text/tokenizer.h"
#include "stat.h"

struct SharedSchema;

typedef struct LanguageCall
{
	MemoryContext model_cxt; /* what belongs to the open model; reset when it changes */
	MemoryContext generator_cxt;
	Model *model; /* NULL while none is open */
	tokenizer *tokenizer;
	struct vocabulary *vocabulary; /* NULL until a text follows a schema, */
	struct SharedSchema *schema;   /* the last one that did, */
	MemoryContext schema_cxt;      /* and what keeps it */
	const net *net;
	int32 context; /* of the model */
	generator *generator;
	int32 sequences;           /* that the generator has room for, */
	int32 positions;           /* each of so many tokens */
	InferenceCall *inference;  /* where texts are written in its place; NULL: nowhere else */
	int32 inference_texts;     /* that it has room for */
	bool alone;                /* no server takes texts of this call */
	InferenceCall *embeddings; /* where whole texts are embedded; NULL: nowhere yet */
	bool embeds_alone;         /* no server takes them */
	int32 writers;             /* generators and servers that it has had */
	struct embedder *embedder; /* of the model on a GPU, kept by who set it; NULL: EmbedTexts() uses the generator */
	int32 embedder_texts;      /* most of a pass, */
	int32 embedder_tokens;     /* and theirs */
	token_list tokens;         /* of the text at hand */
	token_list batch;          /* of several texts */
	text_buffer text;
	UseMeter meter;
	MemoryContextCallback release;
} LanguageCall;

/* State of this call site, with the model's live version open. */
extern LanguageCall *OpenLanguageCall(FunctionCallInfo fcinfo, Oid relid);
/* The same for a model that need not write texts: one that predicts columns may read tokens, too. */
extern LanguageCall *OpenTokenCall(FunctionCallInfo fcinfo, Oid relid);
/* The same for a model that labels the words of a text. */
extern LanguageCall *OpenLabelCall(FunctionCallInfo fcinfo, Oid relid);
/* The same for state that the caller keeps; cxt owns it. */
extern LanguageCall *NewLanguageCall(MemoryContext cxt);
extern void OpenLanguageModel(LanguageCall *call, Oid relid);
extern void OpenTokenModel(LanguageCall *call, Oid relid);

/* A text in UTF-8, perhaps its own bytes. */
extern const char *Utf8(text *input, Size *length);
/* Tokens of a text in place of what the list holds. */
extern void EncodeText(LanguageCall *call, text *input, token_list *out);
extern void EncodeUtf8(LanguageCall *call, const char *utf8, Size length, token_list *out);
/* The same of a text that is to be gone on with, or to be foreseen: behind what the model wants before any text. */
extern void EncodePrompt(LanguageCall *call, text *input, token_list *out);
extern void EncodePromptUtf8(LanguageCall *call, const char *utf8, Size length, token_list *out);
/* Of a text that the network reads whole, cut to so many tokens. */
extern void EncodeWhole(LanguageCall *call, text *input, int32 most, token_list *out);
extern void EncodeWholeUtf8(LanguageCall *call, const char *utf8, Size length, int32 most, token_list *out);
/* A generator with room for one sequence of so many tokens, empty. */
extern generator *RequireGenerator(LanguageCall *call, int32 positions);
/* The same for several sequences: how many of those wanted call->generator has room for, at least 1. */
extern int32 RequireSequences(LanguageCall *call, int32 wanted, int32 positions);
/*
 * Room for up to `wanted` texts of so many tokens that are to be written, at a server if one takes them, else in the
 * generator: how many, at least 1.
 */
extern int32 RequireTexts(LanguageCall *call, int32 wanted, int32 positions);
/* The server is gone: go on in a generator with as much room. */
extern void WriteAlone(LanguageCall *call);
/* Count texts that were written. */
extern void MeterTexts(LanguageCall *call, int64 texts, double ns);
/* Append the text of a token. */
extern void DecodeToken(LanguageCall *call, int32 id, text_buffer *out);
/* Bytes of UTF-8 as text; what is no character becomes U+FFFD. */
extern text *TextOfBytes(const char *bytes, Size size);
extern text *TextOfTokens(LanguageCall *call, const int32 *ids, int64 count);

/* ERROR that says both lengths, unless a text of the tokens fits the context; hint: what to do about it. */
extern void CheckContext(const LanguageCall *call, int64 tokens, const char *hint);

/* Tokens of the longest text that the model embeds as a whole, without and with those that stand around it. */
extern int32 EmbeddingRoom(LanguageCall *call);
extern int32 EmbeddingContext(const LanguageCall *call);
/* What the network reads of a text is not empty. */
extern bool HasTokens(LanguageCall *call, const char *utf8, Size length);
/* UTF-8 texts that each have a token and fit, as the model was trained to embed them, of length 1: (count, width). */
extern void EmbedTexts(LanguageCall *call, const char *const *utf8, const Size *lengths, int32 count, float *out);
extern int32 EmbeddingWidth(const LanguageCall *call);
extern ArrayType *EmbeddingArray(const LanguageCall *call, const float *embedding);

/* How well the model foresees tokens, each given those before it. */
typedef struct TokenScore
{
	int64 tokens;
	int64 right; /* of them: none is more probable */
	double loss; /* sum of the negative logarithms of their probabilities */
} TokenScore;

/*
 * Of all tokens of call->tokens but the first, each given as many before it as the context holds,
 * at least half of it.
 */
extern TokenScore ScoreTokens(LanguageCall *call);

#endif /* LLMAPP_LANGUAGE_H */
