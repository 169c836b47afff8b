/*
 * chunk.h
 *	  A text in pieces that a model reads whole, as SQL sees them.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_SERVE_CHUNK_H
#define LLMAPP_SERVE_CHUNK_H

#include "language.h"

typedef struct ChunkOptions
{
	int32 max_tokens; /* 0: as many as the model embeds as a whole */
	int32 overlap;
} ChunkOptions;

typedef struct TextPiece
{
	int32 start; /* characters, from 1, as substr() counts */
	int32 length;
	int32 tokens;
	const char *utf8;
	Size bytes;
} TextPiece;

/* Two arguments of a call, of which the first may be NULL; ERROR for what is no length. */
extern ChunkOptions ChunkArguments(FunctionCallInfo fcinfo, int max_tokens, int overlap);
/* Fill in what the model reads; ERROR when it reads less, or what is repeated is all of a piece. */
extern void ResolveChunkOptions(LanguageCall *call, ChunkOptions *options);
/* palloc'd; none of an empty text. */
extern TextPiece *ChunkText(LanguageCall *call, text *input, const ChunkOptions *options, int64 *count);
/* In the server's encoding. */
extern text *PieceText(const TextPiece *piece);

#endif /* LLMAPP_SERVE_CHUNK_H */
