/*
 * tokenizer_block.h
 *	  The stored form of a tokenizer, and what an open one holds beside it.
 *
 * A block is a header and sections at multiples of TOKENIZER_ALIGNMENT bytes from its start; all
 * numbers are little-endian.  Tables are open addressing with linear probing of at most PROBES
 * slots, which the writer keeps by choosing their size; so a lookup ends whatever is stored.
 * Only tokenizer.c reads a block before it is checked.
 */
#ifndef LLMAPP_TOKENIZER_BLOCK_H
#define LLMAPP_TOKENIZER_BLOCK_H

#include "../feature/hash.h"
#include "pretokenize.h"
#include "tokenizer.h"

#define BLOCK_MAGIC "llmtoken"
#define BLOCK_VERSION 2 /* 1 is read, too: it has no sections from SECTION_ADDED on */
#define PROBES 128
#define TOKENS_MAX (1 << 24)
#define TABLE_MAX (1 << 26) /* elements of a table, and bytes of all tokens */
#define TOKEN_TYPES (TOKEN_ADDED_WORD + 1)
#define FLAG_MARKED_WORDS 1024 /* set by the builder: no token has a space behind another character, a space is one */
#define TOKENIZER_FLAGS 16383  /* all bits */
#define ADDED_LENGTH_MAX 255   /* bytes of a token that is cut out of text before all else */
#define CONTINUATION "##"      /* wordpieces inside a word */
#define SPACE_MARK "\xE2\x96\x81" /* U+2581: SentencePiece has it for a space */
#define SPACE_MARK_BYTES 3
#define WORDPIECE_CHARACTERS 100 /* a longer word is unknown */

enum block_section
{
	SECTION_TEXT,          /* uint8: tokens one after the other */
	SECTION_START,         /* uint32 (size + 1): where in it each begins, then its end */
	SECTION_TYPE,          /* uint8 (size): token_type */
	SECTION_TOKEN_SLOT,    /* uint32 (power of two): id + 1, 0 = empty, by token_hash() */
	SECTION_MERGE_SLOT,    /* merge_slot (power of two), by merge_hash() */
	SECTION_BYTE,          /* int32 (256): token of each byte, -1 = none */
	SECTION_SCORE,         /* double (size): unigram */
	SECTION_PREFIX,        /* uint64 (power of two): unigram, bits of what tokens begin with, see token_goes_on() */
	SECTION_CHARACTER_MAP, /* uint8: SentencePiece's precompiled_charsmap, see normalise.c */
	SECTION_ADDED,         /* uint8 (size): added_flag */
	SECTION_STEPS,         /* uint8: what happens to a text before it is cut, see steps.h */
	SECTION_FRAME,         /* frame_item: of one text, FRAME_PAIR, of two; either may be empty */
	SECTIONS
};

typedef struct block_part
{
	uint64_t offset; /* bytes from the start of the block */
	uint64_t count;  /* elements, 0 = the section is not there */
} block_part;

typedef struct block_header
{
	char magic[8];
	uint32_t version;
	uint32_t kind;
	uint64_t bytes; /* of the whole block */
	int32_t size;   /* tokens */
	uint32_t flags; /* enum tokenizer_flag */
	uint32_t pretokenizer;
	int32_t special[SPECIAL_TOKENS]; /* id or -1 */
	block_part part[SECTIONS];       /* of version 1: SECTION_ADDED of them */
} block_header;

_Static_assert(sizeof(block_header) == 64 + 16 * SECTIONS, "no padding in what is stored");

static inline uint64_t
section_count(const block_header *h, enum block_section s)
{
	return h->version == 1 && s >= SECTION_ADDED ? 0 : h->part[s].count;
}

/* The pair (left, right) becomes id; the lowest rank is merged first. */
typedef struct merge_slot
{
	int32_t left; /* -1: empty */
	int32_t right;
	int32_t rank;
	int32_t id;
} merge_slot;

struct word_cache;
struct step;

/* Tokens that are cut out of text, made when a tokenizer is opened; see added.c. */
typedef struct added_token
{
	uint32_t start; /* of what is looked for, in added_set.text */
	uint32_t length;
	int32_t id;
} added_token;

typedef struct added_set
{
	added_token *token;
	int32_t count;
	bool always;    /* some are cut out though special tokens are not */
	uint32_t *slot; /* (mask + 1) number of a token + 1, 0 = empty, by token_hash() */
	uint32_t mask;
	text_buffer text;
	uint64_t begins[65536 / 64]; /* pairs of bytes that one may begin with */
	bool length[ADDED_LENGTH_MAX + 1];
	uint32_t longest;
} added_set;

struct tokenizer
{
	const block_header *header;
	const uint8_t *text;
	const uint32_t *start;
	const uint8_t *type;
	const uint32_t *token_slot;
	const merge_slot *merge_slot;
	const int32_t *byte;
	const double *score;
	const uint64_t *prefix;
	const uint8_t *character_map; /* NULL: none; its trie's units, then texts */
	uint32_t token_mask;
	uint32_t merge_mask;
	uint32_t prefix_mask; /* of bits */
	uint32_t map_units;
	uint32_t longest;        /* bytes of a token */
	double unknown_score;    /* unigram: of a character that is no token */
	const uint8_t *added;    /* NULL: all zero */
	const frame_item *frame; /* NULL: none */
	struct step *steps;      /* NULL: none */
	int32_t step_count;
	int32_t cut_step;         /* where among them added tokens are cut out of the normal text */
	bool marks_before_cut;    /* are marks of words spaces by then? */
	added_set raw;            /* looked for in text as it comes, */
	added_set normalised;     /* and in its normal form */
	struct word_cache *cache; /* of BPE, NULL until needed */
	void *scratch;            /* working memory of one call, grown as needed */
	size_t scratch_bytes;
	/* While a text with marks is encoded: the text, and a byte for each of its own; otherwise NULL. */
	const uint8_t *marked;
	const char *marks;
	llm_poll poll; /* may be NULL */
	void *poll_arg;
	uint32_t words;     /* encoded so far */
	text_buffer mapped; /* the text of the moment with its characters replaced, */
	text_buffer normal; /* and ready to be cut; between steps both are used in turn, */
	text_buffer whole;  /* and this is what SECTION_STEPS gives before added tokens are cut out */
};

/* Of a token's bytes; a hash that is part of the format. */
static inline uint64_t
token_hash(const uint8_t *text, size_t length)
{
	return hash_end(hash_bytes(HASH_START, text, length));
}

static inline uint32_t
merge_hash(int32_t left, int32_t right)
{
	return (uint32_t) (((uint64_t) (uint32_t) left << 32 | (uint32_t) right) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* Slot of the pair, or NULL. */
static inline const merge_slot *
merge_find(const tokenizer *t, int32_t left, int32_t right)
{
	uint32_t at = merge_hash(left, right);

	for (int i = 0; i < PROBES; i++, at++)
	{
		const merge_slot *slot = &t->merge_slot[at & t->merge_mask];

		if (slot->left == left && slot->right == right)
			return slot;
		if (slot->left < 0)
			break;
	}
	return NULL;
}

static inline uint32_t
token_length(const tokenizer *t, int32_t id)
{
	return t->start[id + 1] - t->start[id];
}

/*
 * Id of the token `head` + `tail` with this hash, or -1; of types whose bit is set.  Two parts
 * because a wordpiece inside a word is stored with a mark in front.
 */
static inline int32_t
token_find(const tokenizer *t, uint64_t hash, const char *head, size_t head_length, const uint8_t *tail,
		   size_t tail_length, unsigned types)
{
	uint32_t at = (uint32_t) hash;

	for (int i = 0; i < PROBES; i++, at++)
	{
		int32_t id = (int32_t) t->token_slot[at & t->token_mask] - 1;
		const uint8_t *text;

		if (id < 0)
			break;
		text = t->text + t->start[id];
		if (token_length(t, id) == head_length + tail_length && (types >> t->type[id] & 1) &&
			memcmp(text, head, head_length) == 0 && memcmp(text + head_length, tail, tail_length) == 0)
			return id;
	}
	return -1;
}

/* Bit of a hash in SECTION_PREFIX; the low half of the hash finds tokens. */
static inline uint32_t
prefix_bit(uint64_t hash, uint32_t mask)
{
	return (uint32_t) (hash >> 32) & mask;
}

/* Can a token begin with the bytes of this hash and be longer?  A yes may be wrong (Bloom 1970). */
static inline bool
token_goes_on(const tokenizer *t, uint64_t hash)
{
	uint32_t bit = prefix_bit(hash, t->prefix_mask);

	return t->prefix[bit / 64] >> bit % 64 & 1;
}

/* To be called for each word, and within long ones; false: poll asked to stop. */
static inline bool
encode_goes_on(tokenizer *t, llm_error *err)
{
	if (++t->words % 4096 != 0 || t->poll == NULL || !t->poll(t->poll_arg))
		return true;
	return llm_fail(err, LLM_CANCELLED, "encoding a text was cancelled");
}

#define TYPES_NORMAL (1u << TOKEN_NORMAL | 1u << TOKEN_ADDED_WORD)
#define TYPES_ALL (TYPES_NORMAL | 1u << TOKEN_ADDED | 1u << TOKEN_SPECIAL)

/* ---- what the kinds share: token_list.c ---- */

/* Room for `more` ids; false: out of memory. */
extern bool token_list_reserve(token_list *list, int64_t more, llm_error *err);
extern bool text_buffer_reserve(text_buffer *buffer, size_t more, llm_error *err);
extern bool text_buffer_add(text_buffer *buffer, const void *bytes, size_t length, llm_error *err);
/* Working memory until the next call; contents are lost. */
extern void *tokenizer_scratch(tokenizer *t, size_t bytes, llm_error *err);
/* Append a token by its text or, by what the tokenizer has: the tokens of its bytes, the unknown token, nothing. */
extern bool encode_missing(const tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err);

/* ---- tokens that are cut out before all else: added.c ---- */

/* Where the search for them is; start from zeros. */
typedef struct added_cursor
{
	size_t done;   /* everything before is encoded */
	size_t search; /* the next may begin here */
} added_cursor;

typedef struct added_match
{
	size_t start, end; /* with the white space that it takes */
	int32_t id;
} added_match;

/* Number in the set of the token with this text, whose token_hash() it is, or -1. */
extern int32_t added_find(const added_set *set, uint64_t hash, const uint8_t *text, uint32_t length);
/* Are there any to be looked for? */
extern bool added_any(const added_set *set, bool special);
/* Bytes of the longest at text that is no special token, or 0. */
extern size_t added_at(const tokenizer *t, const added_set *set, const uint8_t *text, size_t left);
/* The next in text; false: no more. */
extern bool added_next(const tokenizer *t, const added_set *set, const uint8_t *text, size_t length, bool special,
					   added_cursor *at, added_match *match);

/* ---- added_sets.c ---- */

/* Make both sets of a tokenizer that is open but for them; LLM_CORRUPT for one that is too long, LLM_MEMORY. */
extern bool added_sets_make(tokenizer *t, llm_error *err);
extern void added_sets_free(tokenizer *t);

/* ---- the kinds: append the ids of a text without tokens to cut out ---- */

extern bool bpe_encode(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err);
extern bool wordpiece_encode(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err);
extern bool unigram_encode(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err);

#endif /* LLMAPP_TOKENIZER_BLOCK_H */
