/*
 * tokenizer.h
 *	  Text to token ids and back.
 *
 * Intended use:
 *	 1. tokenizer_build.h or tokenizer_train.h makes a tokenizer: a block of bytes that lies inside
 *		a model, is mapped read-only by many processes, and is used where it lies.
 *	 2. tokenizer_open() checks every byte that encoding and decoding will rely on, because the
 *		owner of a model may have written anything.  It copies none of them.
 *	 3. tokenizer_encode() appends ids, tokenizer_decode() appends text.
 *
 * Text is UTF-8.  Bytes that are not are items of their own: byte-level kinds return them as they
 * were, others make them unknown.  A tokenizer is used by one thread at a time.
 */
#ifndef LLMAPP_TOKENIZER_H
#define LLMAPP_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../engine/net.h"
#include "pretokenize.h"

#define TOKENIZER_ALIGNMENT 64                /* of the block in memory */
#define TOKENIZER_TEXT_MAX ((size_t) 1 << 30) /* bytes of one text */

/* The numbers are part of the stored form. */
typedef enum tokenizer_kind
{
	TOKENIZER_BYTES,
	TOKENIZER_CHARACTERS, /* one token for each code point */
	TOKENIZER_BPE,        /* Sennrich et al. 2016; of bytes as GPT-2 (Radford et al. 2019), or of characters */
	TOKENIZER_WORDPIECE,  /* Devlin et al. 2019 */
	TOKENIZER_UNIGRAM     /* Kudo 2018 */
} tokenizer_kind;

#define TOKENIZER_KINDS (TOKENIZER_UNIGRAM + 1)

/* Bits; the numbers are part of the stored form. */
enum tokenizer_flag
{
	FLAG_IGNORE_MERGES = 1, /* BPE: a piece that is a token is that token */
	FLAG_BYTE_FALLBACK = 2, /* an unknown character becomes the tokens of its bytes */
	FLAG_NFC = 4,           /* text is composed first */
	FLAG_CHARACTERS = 8,    /* BPE of characters, not of bytes */
	FLAG_PREFIX_SPACE = 16, /* a text gets a space in front */
	FLAG_SPACES_ONCE = 32,  /* runs of spaces are one space, none at the ends */
	FLAG_CLEAN_TEXT = 64,   /* WordPiece: drop control characters */
	FLAG_SPLIT_CJK = 128,   /* WordPiece: ideographs are words of their own */
	FLAG_STRIP_ACCENTS = 256,
	FLAG_LOWERCASE = 512,
	FLAG_SPACE_MARKS = 2048,  /* tokens have a space where their source has U+2581, which is a space in text, too */
	FLAG_FUSE_UNKNOWN = 4096, /* BPE of characters: unknown ones in a row are one unknown token */
	FLAG_FLOAT_SCORES = 8192  /* unigram: scores are added as float, as SentencePiece does */
};

typedef enum token_type
{
	TOKEN_NORMAL,
	TOKEN_SPECIAL,   /* stands for no text */
	TOKEN_ADDED,     /* cut out of text before all else */
	TOKEN_BYTE,      /* a byte of an unknown character */
	TOKEN_UNUSED,    /* decoded, never encoded */
	TOKEN_ADDED_WORD /* both added and normal */
} token_type;

typedef enum special_token
{
	SPECIAL_UNKNOWN,
	SPECIAL_BEGIN,
	SPECIAL_END,
	SPECIAL_PADDING,
	SPECIAL_CLASS,
	SPECIAL_SEPARATOR,
	SPECIAL_MASK
} special_token;

#define SPECIAL_TOKENS (SPECIAL_MASK + 1)

/* How a special or added token is found in text; bits, part of the stored form. */
enum added_flag
{
	ADDED_LEFT = 1,      /* takes white space before it */
	ADDED_RIGHT = 2,     /* takes white space behind it */
	ADDED_ALONE = 4,     /* not within a word */
	ADDED_NORMALISED = 8 /* looked for, as all text, in its normal form */
};

/* A place in the frame that a model wants around one text or two; part of the stored form. */
typedef struct frame_item
{
	int32_t id;   /* of a token, or enum frame_text */
	int32_t type; /* token_type_ids of what stands here */
} frame_item;

enum frame_text
{
	FRAME_FIRST = -1,
	FRAME_SECOND = -2,
	FRAME_PAIR = -3 /* no place: what follows is the frame of two texts */
};

#define FRAME_ITEMS_MAX 64
#define FRAME_TYPE_MAX 255

/* Grow as needed; start from zeros, release with free(list.id) and free(buffer.bytes). */
typedef struct token_list
{
	int32_t *id;
	int64_t count;
	int64_t capacity;
} token_list;

typedef struct text_buffer
{
	char *bytes; /* not terminated */
	size_t size;
	size_t capacity;
} text_buffer;

typedef struct tokenizer tokenizer;

/*
 * The block must be aligned to TOKENIZER_ALIGNMENT and stay as it is while the tokenizer lives.
 * NULL with LLM_CORRUPT for bytes that are no tokenizer, LLM_MEMORY, or LLM_UNAVAILABLE on a
 * machine whose numbers are big-endian.
 */
extern tokenizer *tokenizer_open(const void *block, size_t bytes, llm_error *err);
extern void tokenizer_free(tokenizer *t); /* t may be NULL */

extern tokenizer_kind tokenizer_get_kind(const tokenizer *t);
extern const char *tokenizer_kind_name(tokenizer_kind kind);
extern bool tokenizer_kind_parse(const char *name, tokenizer_kind *kind);
extern uint32_t tokenizer_flags(const tokenizer *t); /* enum tokenizer_flag */
extern pretokenizer tokenizer_pretokenizer(const tokenizer *t);
extern int32_t tokenizer_size(const tokenizer *t);                        /* ids are 0 .. size - 1 */
extern int32_t tokenizer_special(const tokenizer *t, special_token name); /* id or -1 */
extern token_type tokenizer_type(const tokenizer *t, int32_t id);
/* Bytes of a token as they are stored, not terminated; id must be below size. */
extern const char *tokenizer_token(const tokenizer *t, int32_t id, size_t *length);
/* Id of the token that is stored as these bytes, a special one included, or -1. */
extern int32_t tokenizer_find(const tokenizer *t, const char *text, size_t length);

/* Ask this between words of a long text whether to stop; NULL: never. */
extern void tokenizer_set_poll(tokenizer *t, llm_poll poll, void *arg);

/*
 * Append the ids of a text, without tokens that frame it such as SPECIAL_BEGIN.  Special tokens
 * come from ordinary text only with parse_special.  LLM_INVALID for a text longer than
 * TOKENIZER_TEXT_MAX, LLM_MEMORY, LLM_CANCELLED; then *out is as long as before.
 */
extern bool tokenizer_encode(tokenizer *t, const char *text, size_t length, bool parse_special, token_list *out,
							 llm_error *err);

/*
 * The same of a text that is partly somebody else's, marked by a 1 for each byte: special tokens
 * come only from bytes that have no mark, and as they are written.
 */
extern bool tokenizer_encode_marked(tokenizer *t, const char *text, const char *marks, size_t length, token_list *out,
									llm_error *err);

/* Does it have a frame, of one text or of two? */
extern bool tokenizer_has_frame(const tokenizer *t, bool pair);
/*
 * Append the ids of a text, or of two if second is not NULL, within the frame that the model was
 * trained with; without one as they are.  No more than `most` ids (0: any number) are appended:
 * of two texts the longer is cut first, always at the end, never the frame.  types, unless it is
 * NULL, gets one token_type_id for each.  Errors as of tokenizer_encode(), and LLM_INVALID where
 * the frame alone is longer than `most`.
 */
extern bool tokenizer_encode_framed(tokenizer *t, const char *text, size_t length, const char *second,
									size_t second_length, bool parse_special, int64_t most, token_list *out,
									token_list *types, llm_error *err);

/*
 * A text as a network reads it whole: within its frame, or, of a tokenizer without one that knows
 * SPECIAL_END, with that behind its first tokens; `most` ids at most, at least 1.
 */
extern bool tokenizer_encode_input(tokenizer *t, const char *text, size_t length, int64_t most, token_list *out,
								   llm_error *err);
/* One text that is to be gone on with: what its frame has before it, and the text. */
extern bool tokenizer_encode_begun(tokenizer *t, const char *text, size_t length, bool parse_special, token_list *out,
								   llm_error *err);

/*
 * Bytes of the text, at least `wanted` if it has them, behind which it can be cut: the ids of both
 * parts are those of the whole.  All of it where no such place is found.
 */
extern size_t tokenizer_cut(const tokenizer *t, const char *text, size_t length, size_t wanted);

/*
 * Append the text of ids as it continues what *out holds: kinds that mark words put no space in
 * front of the first.  So a text may be decoded token by token into one buffer; what was added
 * may end within a UTF-8 sequence, see text_complete().  Special tokens add their text only with
 * keep_special.  LLM_INVALID for an id that the tokenizer does not have, LLM_MEMORY.
 */
extern bool tokenizer_decode(const tokenizer *t, const int32_t *ids, int64_t count, bool keep_special,
							 text_buffer *out, llm_error *err);

extern bool token_list_append(token_list *list, int32_t id, llm_error *err); /* LLM_MEMORY */

/* Bytes at the start of a text that do not end within a UTF-8 sequence; what follows is to be held back. */
extern size_t text_complete(const char *text, size_t length);

#endif /* LLMAPP_TOKENIZER_H */
