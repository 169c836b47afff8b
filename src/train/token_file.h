/*
 * token_file.h
 *	  The tokens of all texts of a training, one after the other, in a temporary file, and
 *	  reading them in windows.
 *
 * Use: CreateTokenFile(), AppendTokens() for each text; then StartWindows() and NextWindow()
 * until it returns 0, as often as wanted.  A shuffled reading cuts the file at other places
 * in each epoch and takes the windows in random order; both depend on seed and epoch only, so
 * any position in it can be found again without reading.  Include after postgres.h.
 */
#ifndef LLMAPP_TOKEN_FILE_H
#define LLMAPP_TOKEN_FILE_H

typedef struct TokenFile TokenFile;

/* In the current memory context; ids of tokens are below vocabulary. */
extern TokenFile *CreateTokenFile(int32 vocabulary);
extern void AppendTokens(TokenFile *file, const int32 *ids, int64 count);
extern int64 CountTokens(const TokenFile *file);
/* Give up the tokens; what they count stays known. */
extern void CloseTokenFile(TokenFile *file);

/* Windows of `length` tokens and the one that comes after, so that each token of a window has a next one. */
extern int64 CountWindows(const TokenFile *file, int32 length);
extern void StartWindows(TokenFile *file, int32 length, bool shuffle, uint64 seed, uint64 epoch);
/* Leave out the next `count` windows without reading them. */
extern void SkipWindows(TokenFile *file, int64 count);
/* ids (length + 1); how many were read, 0 at the end.  Only the last window of the file may be shorter. */
extern int32 NextWindow(TokenFile *file, int32 *ids);

#endif /* LLMAPP_TOKEN_FILE_H */
