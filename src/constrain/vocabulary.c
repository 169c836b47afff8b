/*
 * vocabulary.c
 *	  Build the tree of a tokenizer's tokens: sort them, then share beginnings.
 */
#include "vocabulary.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES_MAX 256 /* nobody needs a longer one */
#define NODES_MAX (1 << 23)

typedef struct spelled
{
	const char *text;
	int32_t length;
	int32_t token;
} spelled;

static int
by_text(const void *a, const void *b)
{
	const spelled *x = a, *y = b;
	int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);

	if (order != 0)
		return order;
	return x->length != y->length ? x->length - y->length : x->token - y->token;
}

/* Tokens that stand for text, sorted; their number. */
static int32_t
spell_tokens(const tokenizer *t, vocabulary *v, spelled *tokens)
{
	int32_t count = 0;

	for (int32_t id = 0; id < v->size; id++)
	{
		size_t length;
		const char *text = tokenizer_token(t, id, &length);

		v->same[id] = -1;
		if (length > 0 && length <= TOKEN_BYTES_MAX && tokenizer_type(t, id) != TOKEN_SPECIAL &&
			tokenizer_type(t, id) != TOKEN_UNUSED)
			tokens[count++] = (spelled) {text, (int32_t) length, id};
	}
	qsort(tokens, count, sizeof(spelled), by_text);
	return count;
}

static int32_t
same_beginning(const spelled *a, const spelled *b)
{
	int32_t n = 0;

	while (n < a->length && n < b->length && a->text[n] == b->text[n])
		n++;
	return n;
}

static size_t
count_nodes(const spelled *tokens, int32_t count)
{
	size_t nodes = 0;

	for (int32_t i = 0; i < count; i++)
		nodes += tokens[i].length - (i > 0 ? same_beginning(&tokens[i - 1], &tokens[i]) : 0);
	return nodes;
}

/* way[d]: the node of depth d on the way to the last token; those below depth `kept` have no more nodes below them. */
static void
close_nodes(vocabulary *v, const int32_t *way, int32_t depth, int32_t kept)
{
	for (int32_t d = depth; d > kept; d--)
		v->nodes[way[d]].skip = v->node_count;
}

static void
add_nodes(vocabulary *v, const spelled *tokens, int32_t count)
{
	int32_t way[TOKEN_BYTES_MAX + 1], depth = 0, last = -1;

	for (int32_t i = 0; i < count; i++)
	{
		int32_t kept = i > 0 ? same_beginning(&tokens[i - 1], &tokens[i]) : 0;

		if (kept == tokens[i].length && depth == kept)
		{
			v->same[last] = tokens[i].token;
			last = tokens[i].token;
			continue;
		}
		close_nodes(v, way, depth, kept);
		for (depth = kept; depth < tokens[i].length; depth++)
		{
			way[depth + 1] = v->node_count;
			v->nodes[v->node_count++] = (vocabulary_node) {
				.token = -1, .depth = (uint16_t) (depth + 1), .byte = (uint8_t) tokens[i].text[depth]};
			v->usable[(uint8_t) tokens[i].text[depth]] = true;
		}
		last = v->nodes[way[depth]].token = tokens[i].token;
		v->longest = depth > v->longest ? depth : v->longest;
	}
	close_nodes(v, way, depth, 0);
}

static void
look_for_bytes(vocabulary *v)
{
	int32_t bytes = 0;

	for (int32_t n = 0; n < v->node_count; n = v->nodes[n].skip)
		bytes += v->nodes[n].token >= 0;
	v->complete = bytes == 256;
}

static bool
build_tree(vocabulary *v, const tokenizer *t)
{
	spelled *tokens = malloc(v->size * sizeof(spelled));
	int32_t count;
	size_t nodes;

	v->same = malloc(v->size * sizeof(int32_t));
	if (tokens == NULL || v->same == NULL)
	{
		free(tokens);
		return false;
	}
	count = spell_tokens(t, v, tokens);
	nodes = count_nodes(tokens, count);
	v->nodes = nodes <= NODES_MAX ? malloc((nodes + 1) * sizeof(vocabulary_node)) : NULL;
	if (v->nodes != NULL)
		add_nodes(v, tokens, count);
	free(tokens);
	return v->nodes != NULL;
}

vocabulary *
vocabulary_new(const tokenizer *t, llm_error *err)
{
	vocabulary *v;

	if (tokenizer_get_kind(t) == TOKENIZER_WORDPIECE)
	{
		llm_fail(err, LLM_INVALID, "the texts of a model with a WordPiece tokenizer cannot follow a schema");
		return NULL;
	}
	v = calloc(1, sizeof(vocabulary));
	if (v != NULL)
	{
		v->size = tokenizer_size(t);
		v->drops_space = (tokenizer_flags(t) & FLAG_PREFIX_SPACE) != 0;
	}
	if (v == NULL || !build_tree(v, t))
	{
		vocabulary_free(v);
		llm_fail(err, LLM_MEMORY, "out of memory for a vocabulary");
		return NULL;
	}
	look_for_bytes(v);
	return v;
}

void
vocabulary_free(vocabulary *v)
{
	if (v == NULL)
		return;
	free(v->nodes);
	free(v->same);
	free(v);
}
