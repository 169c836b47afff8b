/*
 * tokenizer_build.c
 *	  Collect tokens and merges, then lay out the block that tokenizer_open() reads.
 *
 * While tokens arrive, a table of strings finds them by their text.  The tables of the block are
 * made at the end, twice as large each time that a slot is further than PROBES from its place.
 */
#include "tokenizer_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../feature/strings.h"
#include "steps.h"
#include "unicode.h"

#define NO_TOKEN (-1)

typedef struct token_entry
{
	uint32_t start; /* in text */
	uint32_t length;
	token_type type;
	uint8_t added;
	bool listed; /* found by its text; of normal tokens the first of each text */
	double score;
} token_entry;

struct tokenizer_builder
{
	tokenizer_options options;
	int32_t special[SPECIAL_TOKENS];
	token_entry *token;
	int32_t tokens, token_capacity;
	text_buffer text;
	strings *known;    /* texts of normal tokens */
	int32_t *known_id; /* (tokens) token of each */
	int32_t listed;
	merge_slot *merge; /* in order */
	int32_t merges, merge_capacity;
	int32_t byte[256];
	int32_t step_count;
	text_buffer character_map;
	text_buffer steps;
	text_buffer frame;   /* frame_item */
	text_buffer spelled; /* the last text that was read */
	bool failed;
};

static bool
fail(tokenizer_builder *b)
{
	b->failed = true;
	return false;
}

static bool
fail_memory(tokenizer_builder *b, llm_error *err)
{
	llm_fail(err, LLM_MEMORY, "out of memory while building a tokenizer");
	return fail(b);
}

/* ---- spelling ---- */

/* 33 to 126, 161 to 172 and 174 to 255 stand for themselves, the others follow from 256 on. */
int32_t
byte_alphabet(uint8_t byte)
{
	if (byte >= 174 || (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172))
		return byte;
	return 256 + (byte <= 32 ? byte : byte <= 160 ? byte - 127 + 33 : 67);
}

/* The byte that a code point stands for, or -1. */
static int32_t
alphabet_byte(int32_t c)
{
	int32_t n = c - 256;

	if (n >= 0 && n < 68)
		return n <= 32 ? n : n < 67 ? n - 33 + 127 : 173;
	return c >= 0 && c < 256 && byte_alphabet((uint8_t) c) == c ? c : -1;
}

static bool
spell_bytes(text_buffer *out, const uint8_t *text, const uint8_t *end, llm_error *err)
{
	for (int32_t length; text < end; text += length)
	{
		int32_t byte = alphabet_byte(utf8_read(text, end, &length));

		if (byte < 0)
			return llm_fail(err, LLM_INVALID, "a token of the tokenizer is not written in the alphabet of bytes");
		if (!text_buffer_add(out, &(uint8_t) {(uint8_t) byte}, 1, err))
			return false;
	}
	return true;
}

static bool
spell_spaces(text_buffer *out, const uint8_t *text, const uint8_t *end, llm_error *err)
{
	for (int32_t length; text < end; text += length)
	{
		bool mark = utf8_read(text, end, &length) == 0x2581;

		if (!text_buffer_add(out, mark ? (const uint8_t *) " " : text, mark ? 1 : length, err))
			return false;
	}
	return true;
}

/* <0x0A>, or the byte itself. */
static int32_t
fallback_byte(const char *text, size_t length)
{
	char digits[3] = {0};
	unsigned byte;

	if (length == 1)
		return (uint8_t) text[0];
	if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
		return -1;
	memcpy(digits, text + 3, 2);
	return strspn(digits, "0123456789ABCDEFabcdef") == 2 && sscanf(digits, "%x", &byte) == 1 ? (int32_t) byte : -1;
}

/* The bytes that a text stands for, into b->spelled. */
static bool
spell(tokenizer_builder *b, const char *text, size_t length, token_type type, llm_error *err)
{
	const uint8_t *bytes = (const uint8_t *) text;

	b->spelled.size = 0;
	if (type == TOKEN_BYTE)
	{
		int32_t byte = fallback_byte(text, length);

		return (byte >= 0 || llm_fail(err, LLM_INVALID, "a byte token of the tokenizer is not written as <0xNN>")) &&
			   text_buffer_add(&b->spelled, &(uint8_t) {(uint8_t) byte}, 1, err);
	}
	if (b->options.spelling == SPELLING_BYTE_ALPHABET && (TYPES_NORMAL >> type & 1))
		return spell_bytes(&b->spelled, bytes, bytes + length, err);
	if (b->options.spelling == SPELLING_SPACE_MARK && (TYPES_NORMAL >> type & 1))
		return spell_spaces(&b->spelled, bytes, bytes + length, err);
	return text_buffer_add(&b->spelled, text, length, err);
}

/* ---- tokens ---- */

tokenizer_builder *
tokenizer_builder_new(const tokenizer_options *options, llm_error *err)
{
	tokenizer_builder *b = calloc(1, sizeof(tokenizer_builder));

	if (b != NULL)
		b->known = strings_new(TOKENS_MAX, TABLE_MAX);
	if (b == NULL || b->known == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory while building a tokenizer");
		free(b);
		return NULL;
	}
	b->options = *options;
	memset(b->special, 0xFF, sizeof(b->special));
	memset(b->byte, 0xFF, sizeof(b->byte));
	return b;
}

void
tokenizer_builder_free(tokenizer_builder *b)
{
	if (b == NULL)
		return;
	free(b->token);
	free(b->text.bytes);
	strings_free(b->known);
	free(b->known_id);
	free(b->merge);
	free(b->character_map.bytes);
	free(b->steps.bytes);
	free(b->frame.bytes);
	free(b->spelled.bytes);
	free(b);
}

static bool
grow_tokens(tokenizer_builder *b)
{
	int32_t capacity = b->token_capacity ? b->token_capacity * 2 : 1024;
	token_entry *token = realloc(b->token, capacity * sizeof(token_entry));
	int32_t *known_id;

	if (token != NULL)
		b->token = token;
	known_id = token ? realloc(b->known_id, capacity * sizeof(int32_t)) : NULL;
	if (known_id == NULL)
		return false;
	b->known_id = known_id;
	b->token_capacity = capacity;
	return true;
}

/* Let text become this token, if no earlier one has the same. */
static bool
make_known(tokenizer_builder *b, int32_t id, llm_error *err)
{
	int32_t before = b->known->count;
	int32_t index = strings_put(b->known, b->spelled.bytes, b->spelled.size);
	bool bytes = b->options.kind == TOKENIZER_BYTES ||
				 (b->options.kind == TOKENIZER_BPE && !(b->options.flags & FLAG_CHARACTERS));

	if (index == STRINGS_NO_MEMORY)
		return fail_memory(b, err);
	if (index < 0)
	{
		llm_fail(err, LLM_INVALID, "the tokenizer has too many tokens");
		return fail(b);
	}
	if (index < before)
		return true;
	b->known_id[index] = id;
	b->token[id].listed = true;
	if (bytes && b->spelled.size == 1)
		b->byte[(uint8_t) b->spelled.bytes[0]] = id;
	return true;
}

/* How the token just added is found: by its text, or by its byte. */
static bool
list_token(tokenizer_builder *b, int32_t id, llm_error *err)
{
	token_entry *e = &b->token[id];
	int32_t *byte = &b->byte[(uint8_t) b->spelled.bytes[0]];

	if (e->type == TOKEN_BYTE && *byte < 0)
		*byte = id;
	if ((TYPES_NORMAL >> e->type & 1) && e->length > 0 && !make_known(b, id, err))
		return false;
	e->listed = e->listed || ((e->type == TOKEN_SPECIAL || e->type == TOKEN_ADDED) && e->length > 0);
	b->listed += e->listed;
	return true;
}

bool
tokenizer_builder_token(tokenizer_builder *b, const char *text, size_t length, token_type type, double score,
						llm_error *err)
{
	int32_t id = b->tokens;

	if (b->failed || !spell(b, text, length, type, err))
		return fail(b);
	if (id >= TOKENS_MAX || b->text.size + b->spelled.size > TABLE_MAX ||
		((TYPES_ALL >> type & 1) && type != TOKEN_NORMAL && length > ADDED_LENGTH_MAX))
	{
		llm_fail(err, LLM_INVALID, "a token of the tokenizer is too long, or there are too many");
		return fail(b);
	}
	if (id == b->token_capacity && !grow_tokens(b))
		return fail_memory(b, err);
	b->token[id] = (token_entry) {(uint32_t) b->text.size, (uint32_t) b->spelled.size, type, 0, false, score};
	if (!text_buffer_add(&b->text, b->spelled.bytes, b->spelled.size, err))
		return fail(b);
	b->tokens++;
	return b->spelled.size == 0 || list_token(b, id, err);
}

bool
tokenizer_builder_added(tokenizer_builder *b, uint8_t flags)
{
	if (!b->failed)
		b->token[b->tokens - 1].added = flags;
	return !b->failed;
}

bool
tokenizer_builder_join(tokenizer_builder *b, int32_t left, int32_t right, llm_error *err)
{
	text_buffer whole = {0};
	const int32_t halves[2] = {left, right};
	bool ok = !b->failed;

	for (int i = 0; ok && i < 2; i++)
	{
		const token_entry *e = &b->token[halves[i]];

		ok = text_buffer_add(&whole, b->text.bytes + e->start, e->length, err);
	}
	ok = ok && tokenizer_builder_token(b, whole.bytes, whole.size, TOKEN_NORMAL, 0, err);
	free(whole.bytes);
	return ok || fail(b);
}

bool
tokenizer_builder_special(tokenizer_builder *b, special_token name, int32_t id, llm_error *err)
{
	if (b->failed)
		return false;
	if (id < -1 || id >= b->tokens)
	{
		llm_fail(err, LLM_INVALID, "special token %d of the tokenizer does not exist", id);
		return fail(b);
	}
	b->special[name] = id;
	return true;
}

/* ---- merges ---- */

bool
tokenizer_builder_merge_ids(tokenizer_builder *b, int32_t left, int32_t right, int32_t id, llm_error *err)
{
	if (b->failed)
		return false;
	if (b->merges == b->merge_capacity)
	{
		int32_t capacity = b->merge_capacity ? b->merge_capacity * 2 : 1024;
		merge_slot *merge = realloc(b->merge, capacity * sizeof(merge_slot));

		if (merge == NULL)
			return fail_memory(b, err);
		b->merge = merge;
		b->merge_capacity = capacity;
	}
	b->merge[b->merges] = (merge_slot) {left, right, b->merges, id};
	b->merges++;
	return true;
}

/* Token of a text that is spelled already, or NO_TOKEN. */
static int32_t
known_token(const tokenizer_builder *b, const char *text, size_t length)
{
	int32_t index = strings_find(b->known, text, length);

	return index >= 0 ? b->known_id[index] : NO_TOKEN;
}

bool
tokenizer_builder_merge(tokenizer_builder *b, const char *left, size_t left_length, const char *right,
						size_t right_length, llm_error *err)
{
	text_buffer whole = {0};
	int32_t halves[2] = {NO_TOKEN, NO_TOKEN}, id = NO_TOKEN;

	if (b->failed || !spell(b, left, left_length, TOKEN_NORMAL, err))
		return fail(b);
	halves[0] = known_token(b, b->spelled.bytes, b->spelled.size);
	if (text_buffer_add(&whole, b->spelled.bytes, b->spelled.size, err) &&
		spell(b, right, right_length, TOKEN_NORMAL, err))
	{
		halves[1] = known_token(b, b->spelled.bytes, b->spelled.size);
		if (text_buffer_add(&whole, b->spelled.bytes, b->spelled.size, err))
			id = known_token(b, whole.bytes, whole.size);
	}
	free(whole.bytes);
	if (halves[0] >= 0 && halves[1] >= 0 && id >= 0)
		return tokenizer_builder_merge_ids(b, halves[0], halves[1], id, err);
	llm_fail(err, LLM_INVALID, "merge %d of the tokenizer joins what are no tokens, or to what is none",
			 b->merges + 1);
	return fail(b);
}

static int
by_score(const void *a, const void *b)
{
	const token_entry *x = *(token_entry *const *) a, *y = *(token_entry *const *) b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* All cuts of one token into two, between characters where those are symbols; they have one rank, the token's. */
static bool
merge_cuts(tokenizer_builder *b, int32_t id, int32_t rank, llm_error *err)
{
	const token_entry *e = &b->token[id];
	const char *text;

	if (e->length < 2) /* when all are empty, there is no text */
		return true;
	text = b->text.bytes + e->start;
	for (uint32_t cut = 1; cut < e->length; cut++)
	{
		int32_t left, right;

		if ((b->options.flags & FLAG_CHARACTERS) && ((uint8_t) text[cut] & 0xC0) == 0x80)
			continue;
		left = known_token(b, text, cut);
		right = left >= 0 ? known_token(b, text + cut, e->length - cut) : NO_TOKEN;
		if (right >= 0 && !tokenizer_builder_merge_ids(b, left, right, id, err))
			return false;
		if (right >= 0)
			b->merge[b->merges - 1].rank = rank;
	}
	return true;
}

bool
tokenizer_builder_merge_by_score(tokenizer_builder *b, llm_error *err)
{
	token_entry **order = b->failed ? NULL : malloc((b->tokens + 1) * sizeof(token_entry *));
	int32_t count = 0, rank = -1;
	bool ok = true;

	if (order == NULL)
		return fail_memory(b, err);
	for (int32_t i = 0; i < b->tokens; i++)
		if (TYPES_NORMAL >> b->token[i].type & 1)
			order[count++] = &b->token[i];
	qsort(order, count, sizeof(token_entry *), by_score);
	for (int32_t i = 0; ok && i < count; i++)
	{
		rank += i == 0 || order[i]->score != order[i - 1]->score;
		ok = merge_cuts(b, (int32_t) (order[i] - b->token), rank, err);
	}
	free(order);
	return ok;
}

bool
tokenizer_builder_character_map(tokenizer_builder *b, const void *bytes, size_t length, llm_error *err)
{
	b->character_map.size = 0;
	return (!b->failed && text_buffer_add(&b->character_map, bytes, length, err)) || fail(b);
}

bool
tokenizer_builder_step(tokenizer_builder *b, int kind, const char *first, const char *second, llm_error *err)
{
	const char *texts[2] = {first ? first : "", second ? second : ""};
	size_t lengths[2] = {strlen(texts[0]), strlen(texts[1])};
	uint8_t head[5] = {(uint8_t) kind, (uint8_t) lengths[0], 0, (uint8_t) lengths[1], 0};

	if (b->failed)
		return false;
	if (lengths[0] > STEP_TEXT_MAX || lengths[1] > STEP_TEXT_MAX || b->step_count++ == STEPS_MAX)
	{
		llm_fail(err, LLM_INVALID, "the tokenizer changes texts in too many steps, or replaces too long ones");
		return fail(b);
	}
	return (text_buffer_add(&b->steps, head, sizeof(head), err) &&
			text_buffer_add(&b->steps, texts[0], lengths[0], err) &&
			text_buffer_add(&b->steps, texts[1], lengths[1], err)) ||
		   fail(b);
}

bool
tokenizer_builder_frame(tokenizer_builder *b, const frame_item *one, int32_t ones, const frame_item *two,
						int32_t twos, llm_error *err)
{
	const frame_item pair = {FRAME_PAIR, 0};

	b->frame.size = 0;
	return (!b->failed && text_buffer_add(&b->frame, one, (size_t) ones * sizeof(*one), err) &&
			text_buffer_add(&b->frame, &pair, sizeof(pair), err) &&
			text_buffer_add(&b->frame, two, (size_t) twos * sizeof(*two), err)) ||
		   fail(b);
}

/* ---- the block ---- */

/* Empty tables whose slots are all within PROBES come from this; 0: keys collide whatever the size. */
static uint64_t
table_slots(int32_t count, int attempt)
{
	uint64_t slots = 8;

	while (slots < (uint64_t) count + count / 2 + 1)
		slots *= 2;
	return attempt < 4 ? slots << attempt : 0;
}

static bool
fill_tokens(const tokenizer_builder *b, uint32_t *table, uint64_t slots)
{
	for (int32_t id = 0; id < b->tokens; id++)
	{
		const token_entry *e = &b->token[id];
		uint32_t at = e->listed ? (uint32_t) token_hash((const uint8_t *) b->text.bytes + e->start, e->length) : 0;
		int32_t probes = 0;

		if (!e->listed)
			continue;
		for (; table[at & (slots - 1)] != 0 && probes < PROBES; at++)
			probes++;
		if (probes == PROBES)
			return false;
		table[at & (slots - 1)] = (uint32_t) id + 1;
	}
	return true;
}

/* Of a pair that comes twice the first rank counts. */
static bool
fill_merges(const tokenizer_builder *b, merge_slot *table, uint64_t slots)
{
	memset(table, 0xFF, slots * sizeof(merge_slot));
	for (int32_t i = 0; i < b->merges; i++)
	{
		const merge_slot *m = &b->merge[i];
		uint32_t at = merge_hash(m->left, m->right);
		int32_t probes = 0;
		merge_slot *slot = &table[at & (slots - 1)];

		for (; slot->left >= 0 && (slot->left != m->left || slot->right != m->right) && probes < PROBES; probes++)
			slot = &table[++at & (slots - 1)];
		if (probes == PROBES)
			return false;
		if (slot->left < 0)
			*slot = *m;
	}
	return true;
}

/* Bits for what tokens begin with, eight for each byte of them so that few collide; as words of 64. */
static uint64_t
prefix_words(const tokenizer_builder *b)
{
	uint64_t words = 8;

	while (words * 64 < (uint64_t) b->text.size * 8)
		words *= 2;
	return words;
}

static void
fill_prefixes(const tokenizer_builder *b, uint64_t *words, uint64_t count)
{
	for (int32_t i = 0; i < b->known->count; i++)
	{
		const token_entry *e = &b->token[b->known_id[i]];
		const uint8_t *text = (const uint8_t *) b->text.bytes + e->start;
		uint64_t hash = HASH_START;

		for (uint32_t n = 0; n + 1 < e->length; n++)
		{
			uint32_t bit;

			hash = hash_bytes(hash, text + n, 1);
			bit = prefix_bit(hash_end(hash), (uint32_t) (64 * count - 1));
			words[bit / 64] |= UINT64_C(1) << bit % 64;
		}
	}
}

/*
 * Can a text be cut in front of each space that stands behind another character, and its parts be
 * encoded alone?  That saves memory and finds words in the cache.
 */
static bool
has_marked_words(const tokenizer_builder *b)
{
	for (int32_t i = 0; i < b->known->count; i++)
	{
		const char *text = strings_at(b->known, i);

		for (uint32_t k = 1; k < b->known->length[i]; k++)
			if (text[k] == ' ' && text[k - 1] != ' ')
				return false;
	}
	return strings_find(b->known, " ", 1) >= 0;
}

static const uint32_t widths[SECTIONS] = {1, 4, 1, 4, sizeof(merge_slot), 4, 8, 8, 1, 1, 1, sizeof(frame_item)};

static bool
has_added_flags(const tokenizer_builder *b)
{
	for (int32_t i = 0; i < b->tokens; i++)
		if (b->token[i].added != 0)
			return true;
	return false;
}

/* Sizes and places of the sections; the header is complete but for the tables' contents. */
static void
lay_out(const tokenizer_builder *b, block_header *h, const int attempt[SECTIONS])
{
	bool bpe = b->options.kind == TOKENIZER_BPE, unigram = b->options.kind == TOKENIZER_UNIGRAM;
	const uint64_t counts[SECTIONS] = {
		[SECTION_TEXT] = b->text.size,
		[SECTION_START] = (uint64_t) b->tokens + 1,
		[SECTION_TYPE] = b->tokens,
		[SECTION_TOKEN_SLOT] = table_slots(b->listed, attempt[SECTION_TOKEN_SLOT]),
		[SECTION_MERGE_SLOT] = bpe ? table_slots(b->merges, attempt[SECTION_MERGE_SLOT]) : 0,
		[SECTION_BYTE] = 256,
		[SECTION_SCORE] = unigram ? b->tokens : 0,
		[SECTION_PREFIX] = unigram ? prefix_words(b) : 0,
		[SECTION_CHARACTER_MAP] = b->character_map.size,
		[SECTION_ADDED] = has_added_flags(b) ? b->tokens : 0,
		[SECTION_STEPS] = b->steps.size,
		[SECTION_FRAME] = b->frame.size / sizeof(frame_item),
	};
	uint64_t at = sizeof(*h);

	memset(h, 0, sizeof(*h));
	memcpy(h->magic, BLOCK_MAGIC, sizeof(h->magic));
	h->version = BLOCK_VERSION;
	h->kind = b->options.kind;
	h->size = b->tokens;
	h->flags = (b->options.flags & ~FLAG_MARKED_WORDS) | (has_marked_words(b) ? FLAG_MARKED_WORDS : 0);
	h->pretokenizer = b->options.pretokenizer;
	memcpy(h->special, b->special, sizeof(h->special));
	for (int s = 0; s < SECTIONS; s++)
	{
		at = (at + TOKENIZER_ALIGNMENT - 1) & ~(uint64_t) (TOKENIZER_ALIGNMENT - 1);
		h->part[s] = (block_part) {counts[s] > 0 ? at : 0, counts[s]};
		at += counts[s] * widths[s];
	}
	h->bytes = (at + TOKENIZER_ALIGNMENT - 1) & ~(uint64_t) (TOKENIZER_ALIGNMENT - 1);
}

static void *
place(block_header *h, enum block_section s)
{
	return (char *) h + h->part[s].offset;
}

static void
copy_section(block_header *h, enum block_section s, const void *from)
{
	if (h->part[s].count > 0)
		memcpy(place(h, s), from, h->part[s].count * widths[s]);
}

static void
fill_block(const tokenizer_builder *b, block_header *h)
{
	uint32_t *start = place(h, SECTION_START);
	uint8_t *type = place(h, SECTION_TYPE);
	uint8_t *added = h->part[SECTION_ADDED].count > 0 ? place(h, SECTION_ADDED) : NULL;
	double *score = h->part[SECTION_SCORE].count > 0 ? place(h, SECTION_SCORE) : NULL;

	for (int32_t i = 0; i < b->tokens; i++)
	{
		start[i] = b->token[i].start;
		type[i] = (uint8_t) b->token[i].type;
		if (added != NULL)
			added[i] = b->token[i].added;
		if (score != NULL)
			score[i] = b->token[i].score;
	}
	start[b->tokens] = (uint32_t) b->text.size;
	copy_section(h, SECTION_TEXT, b->text.bytes);
	copy_section(h, SECTION_BYTE, b->byte);
	copy_section(h, SECTION_CHARACTER_MAP, b->character_map.bytes);
	copy_section(h, SECTION_STEPS, b->steps.bytes);
	copy_section(h, SECTION_FRAME, b->frame.bytes);
	if (h->part[SECTION_PREFIX].count > 0)
		fill_prefixes(b, place(h, SECTION_PREFIX), h->part[SECTION_PREFIX].count);
}

/* A block with tables of these sizes, or NULL: out of memory, or *full says which table is too small. */
static block_header *
try_block(const tokenizer_builder *b, const int attempt[SECTIONS], int *full)
{
	block_header head, *h;

	lay_out(b, &head, attempt);
	*full = -1;
	h = aligned_alloc(TOKENIZER_ALIGNMENT, head.bytes);
	if (h == NULL)
		return NULL;
	memset(h, 0, head.bytes);
	*h = head;
	fill_block(b, h);
	if (!fill_tokens(b, place(h, SECTION_TOKEN_SLOT), h->part[SECTION_TOKEN_SLOT].count))
		*full = SECTION_TOKEN_SLOT;
	else if (h->part[SECTION_MERGE_SLOT].count > 0 &&
			 !fill_merges(b, place(h, SECTION_MERGE_SLOT), h->part[SECTION_MERGE_SLOT].count))
		*full = SECTION_MERGE_SLOT;
	else
		return h;
	free(h);
	return NULL;
}

void *
tokenizer_builder_finish(tokenizer_builder *b, size_t *bytes, llm_error *err)
{
	int attempt[SECTIONS] = {0}, full = -1;
	block_header *h = NULL;

	if (b->failed)
		return NULL;
	if (b->tokens == 0)
	{
		llm_fail(err, LLM_INVALID, "a tokenizer needs at least one token");
		return NULL;
	}
	while ((h = try_block(b, attempt, &full)) == NULL && full >= 0)
		if (table_slots(0, ++attempt[full]) == 0)
		{
			llm_fail(err, LLM_INVALID, "the tokens of the tokenizer are made to collide");
			return NULL;
		}
	if (h == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory while building a tokenizer");
	else
		*bytes = h->bytes;
	return h;
}
