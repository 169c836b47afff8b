/*
 * tokenizer.c
 *	  Open and check the stored form of a tokenizer.
 *
 * After tokenizer_open() every id in a table is below the size, every token lies inside the text,
 * and every table has the number of elements that its reader assumes; nothing is checked again.
 */
#include "tokenizer_block.h"

#include <stdlib.h>
#include <string.h>

#include "steps.h"

#define SCORE_MAX 1e30
#define UNKNOWN_PENALTY 10 /* below the least probable token, as in SentencePiece */

static const char *const kind_names[TOKENIZER_KINDS] = {
	[TOKENIZER_BYTES] = "bytes",         [TOKENIZER_CHARACTERS] = "characters", [TOKENIZER_BPE] = "bpe",
	[TOKENIZER_WORDPIECE] = "wordpiece", [TOKENIZER_UNIGRAM] = "unigram",
};

/* Sections that a kind cannot do without have at least one element. */
static const struct
{
	const char *name;
	uint32_t width;
	uint32_t kinds; /* bit per kind that needs it */
} sections[SECTIONS] = {
	[SECTION_TEXT] = {"text", 1, 0},
	[SECTION_START] = {"starts", 4, (1 << TOKENIZER_KINDS) - 1},
	[SECTION_TYPE] = {"types", 1, (1 << TOKENIZER_KINDS) - 1},
	[SECTION_TOKEN_SLOT] = {"tokens", 4, (1 << TOKENIZER_KINDS) - 1},
	[SECTION_MERGE_SLOT] = {"merges", sizeof(merge_slot), 1 << TOKENIZER_BPE},
	[SECTION_BYTE] = {"bytes", 4, (1 << TOKENIZER_KINDS) - 1},
	[SECTION_SCORE] = {"scores", 8, 1 << TOKENIZER_UNIGRAM},
	[SECTION_PREFIX] = {"prefixes", 8, 1 << TOKENIZER_UNIGRAM},
	[SECTION_CHARACTER_MAP] = {"characters", 1, 0},
	[SECTION_ADDED] = {"added tokens", 1, 0},
	[SECTION_STEPS] = {"steps", 1, 0},
	[SECTION_FRAME] = {"frames", sizeof(frame_item), 0},
};

static bool
corrupt(llm_error *err, const char *what)
{
	return llm_fail(err, LLM_CORRUPT, "the tokenizer of the model is damaged: %s", what);
}

static bool
check_header(const block_header *h, size_t bytes, llm_error *err)
{
	size_t first = offsetof(block_header, part[SECTION_ADDED]);

	if (bytes < first || memcmp(h->magic, BLOCK_MAGIC, sizeof(h->magic)) != 0)
		return corrupt(err, "it does not begin like one");
	if (h->version < 1 || h->version > BLOCK_VERSION)
		return llm_fail(err, LLM_CORRUPT, "the tokenizer of the model has version %u, this release reads up to %d",
						h->version, BLOCK_VERSION);
	if (h->version > 1 && bytes < sizeof(*h))
		return corrupt(err, "it does not begin like one");
	if (h->bytes != bytes)
		return corrupt(err, "its size is not the one it gives");
	if (h->kind >= TOKENIZER_KINDS || (h->flags & ~(uint32_t) TOKENIZER_FLAGS) != 0 ||
		h->pretokenizer >= PRETOKENIZERS)
		return corrupt(err, "its kind is not known");
	if (h->size < 1 || h->size > TOKENS_MAX)
		return corrupt(err, "it has no tokens, or too many");
	for (int i = 0; i < SPECIAL_TOKENS; i++)
		if (h->special[i] < -1 || h->special[i] >= h->size)
			return corrupt(err, "a special token does not exist");
	return true;
}

/* Elements that a section must have; 0: any number. */
static uint64_t
expected_count(const block_header *h, enum block_section s)
{
	switch (s)
	{
		case SECTION_START: return (uint64_t) h->size + 1;
		case SECTION_TYPE:
		case SECTION_ADDED:
		case SECTION_SCORE: return h->size;
		case SECTION_BYTE: return 256;
		default: return 0;
	}
}

static bool
check_sections(const block_header *h, llm_error *err)
{
	for (int s = 0; s < SECTIONS; s++)
	{
		const block_part *p = &h->part[s];
		uint64_t expected = expected_count(h, s);
		bool table = s == SECTION_TOKEN_SLOT || s == SECTION_MERGE_SLOT || s == SECTION_PREFIX;

		if (section_count(h, s) == 0 && (sections[s].kinds >> h->kind & 1) == 0)
			continue;
		if (p->count == 0 || (expected != 0 && p->count != expected) || (table && (p->count & (p->count - 1)) != 0) ||
			p->count > TABLE_MAX || p->offset % TOKENIZER_ALIGNMENT != 0 || p->offset > h->bytes ||
			p->count > (h->bytes - p->offset) / sections[s].width)
			return llm_fail(err, LLM_CORRUPT, "the tokenizer of the model is damaged: table of %s", sections[s].name);
	}
	return true;
}

static const void *
section(const block_header *h, enum block_section s)
{
	return section_count(h, s) > 0 ? (const char *) h + h->part[s].offset : NULL;
}

static void
find_sections(tokenizer *t)
{
	const block_header *h = t->header;

	t->text = section(h, SECTION_TEXT);
	t->start = section(h, SECTION_START);
	t->type = section(h, SECTION_TYPE);
	t->token_slot = section(h, SECTION_TOKEN_SLOT);
	t->merge_slot = section(h, SECTION_MERGE_SLOT);
	t->byte = section(h, SECTION_BYTE);
	t->score = section(h, SECTION_SCORE);
	t->prefix = section(h, SECTION_PREFIX);
	t->added = section(h, SECTION_ADDED);
	t->frame = section(h, SECTION_FRAME);
	t->token_mask = (uint32_t) h->part[SECTION_TOKEN_SLOT].count - 1;
	t->merge_mask = (uint32_t) h->part[SECTION_MERGE_SLOT].count - 1;
	t->prefix_mask = (uint32_t) (64 * h->part[SECTION_PREFIX].count - 1);
	if (t->text == NULL)
		t->text = (const uint8_t *) "";
}

static bool
check_tokens(tokenizer *t, llm_error *err)
{
	uint64_t text = t->header->part[SECTION_TEXT].count;
	bool ok = t->start[0] == 0 && t->start[t->header->size] == text;

	for (int32_t i = 0; ok && i < t->header->size; i++)
	{
		ok = t->start[i] <= t->start[i + 1] && t->type[i] < TOKEN_TYPES;
		if (ok && t->type[i] != TOKEN_SPECIAL && token_length(t, i) > t->longest)
			t->longest = token_length(t, i);
	}
	return ok || corrupt(err, "a token lies outside its text");
}

/* The length of a trie in bytes, the trie, texts of which the last ends with a zero byte. */
static bool
check_character_map(tokenizer *t, llm_error *err)
{
	uint64_t bytes = t->header->part[SECTION_CHARACTER_MAP].count;
	uint32_t trie = 0;

	if (bytes == 0)
		return true;
	t->character_map = section(t->header, SECTION_CHARACTER_MAP);
	if (bytes > sizeof(trie))
		memcpy(&trie, t->character_map, sizeof(trie));
	if (trie < sizeof(uint32_t) || trie % sizeof(uint32_t) != 0 || trie >= bytes - sizeof(trie) ||
		t->character_map[bytes - 1] != '\0')
		return corrupt(err, "its map of characters");
	t->map_units = trie / sizeof(uint32_t);
	return true;
}

/* Without branches inside the loops: a large tokenizer has a million slots. */
static bool
check_tables(tokenizer *t, llm_error *err)
{
	uint32_t size = (uint32_t) t->header->size, wrong = 0;
	double lowest = SCORE_MAX;

	for (uint64_t i = 0; i < t->header->part[SECTION_TOKEN_SLOT].count; i++)
		wrong |= t->token_slot[i] > size;
	for (uint64_t i = 0; i < t->header->part[SECTION_MERGE_SLOT].count; i++)
	{
		const merge_slot *m = &t->merge_slot[i];

		wrong |= m->left >= 0 && ((uint32_t) m->left >= size || (uint32_t) m->right >= size ||
								  (uint32_t) m->id >= size || m->rank < 0);
	}
	for (int i = 0; i < 256; i++)
		wrong |= t->byte[i] < -1 || t->byte[i] >= (int32_t) size;
	for (uint64_t i = 0; i < t->header->part[SECTION_SCORE].count; i++)
	{
		wrong |= !(t->score[i] > -SCORE_MAX && t->score[i] < SCORE_MAX);
		lowest = t->score[i] < lowest ? t->score[i] : lowest;
	}
	t->unknown_score = lowest - UNKNOWN_PENALTY;
	if (t->header->flags & FLAG_FLOAT_SCORES)
		t->unknown_score = (float) t->unknown_score;
	return wrong == 0 || corrupt(err, "a number in a table is out of range");
}

/* Of each text once, and of ids that exist. */
static bool
check_frame(const tokenizer *t, llm_error *err)
{
	uint64_t items = section_count(t->header, SECTION_FRAME);
	int first = 0, second = 0, pairs = 0;
	bool ok = items <= FRAME_ITEMS_MAX;

	for (uint64_t i = 0; ok && i < items; i++)
	{
		const frame_item *item = &t->frame[i];

		ok = item->id >= FRAME_PAIR && item->id < t->header->size && item->type >= 0 && item->type <= FRAME_TYPE_MAX;
		first += item->id == FRAME_FIRST;
		second += item->id == FRAME_SECOND;
		if (ok && item->id == FRAME_PAIR)
		{
			ok = pairs++ == 0 && second == 0 && (i == 0 || first == 1);
			first = 0;
		}
	}
	ok = ok && (items == 0 || pairs == 1) &&
		 (items == 0 || t->frame[items - 1].id == FRAME_PAIR || (first == 1 && second == 1));
	return ok || corrupt(err, "its frame");
}

tokenizer *
tokenizer_open(const void *block, size_t bytes, llm_error *err)
{
	tokenizer *t;

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	llm_fail(err, LLM_UNAVAILABLE, "tokenizers cannot be used on a big-endian machine");
	return NULL;
#endif
	if ((uintptr_t) block % TOKENIZER_ALIGNMENT != 0)
	{
		llm_fail(err, LLM_INVALID, "a tokenizer must lie at a multiple of %d bytes", TOKENIZER_ALIGNMENT);
		return NULL;
	}
	if (!check_header(block, bytes, err) || !check_sections(block, err))
		return NULL;
	t = calloc(1, sizeof(tokenizer));
	if (t == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory while opening a tokenizer");
		return NULL;
	}
	t->header = block;
	find_sections(t);
	if (check_tokens(t, err) && check_tables(t, err) && check_character_map(t, err) && check_frame(t, err) &&
		steps_open(t, err) && added_sets_make(t, err))
		return t;
	tokenizer_free(t);
	return NULL;
}

void
tokenizer_free(tokenizer *t)
{
	if (t == NULL)
		return;
	free(t->cache);
	free(t->scratch);
	free(t->mapped.bytes);
	free(t->normal.bytes);
	free(t->whole.bytes);
	free(t->steps);
	added_sets_free(t);
	free(t);
}

void
tokenizer_set_poll(tokenizer *t, llm_poll poll, void *arg)
{
	t->poll = poll;
	t->poll_arg = arg;
}

tokenizer_kind
tokenizer_get_kind(const tokenizer *t)
{
	return (tokenizer_kind) t->header->kind;
}

const char *
tokenizer_kind_name(tokenizer_kind kind)
{
	return kind_names[kind];
}

bool
tokenizer_kind_parse(const char *name, tokenizer_kind *kind)
{
	for (int i = 0; i < TOKENIZER_KINDS; i++)
		if (strcmp(kind_names[i], name) == 0)
		{
			*kind = (tokenizer_kind) i;
			return true;
		}
	return false;
}

uint32_t
tokenizer_flags(const tokenizer *t)
{
	return t->header->flags & ~(uint32_t) FLAG_MARKED_WORDS;
}

pretokenizer
tokenizer_pretokenizer(const tokenizer *t)
{
	return (pretokenizer) t->header->pretokenizer;
}

int32_t
tokenizer_size(const tokenizer *t)
{
	return t->header->size;
}

int32_t
tokenizer_special(const tokenizer *t, special_token name)
{
	return t->header->special[name];
}

token_type
tokenizer_type(const tokenizer *t, int32_t id)
{
	return (token_type) t->type[id];
}

const char *
tokenizer_token(const tokenizer *t, int32_t id, size_t *length)
{
	*length = token_length(t, id);
	return (const char *) t->text + t->start[id];
}

int32_t
tokenizer_find(const tokenizer *t, const char *text, size_t length)
{
	return token_find(t, token_hash((const uint8_t *) text, length), "", 0, (const uint8_t *) text, length,
					  TYPES_ALL);
}
