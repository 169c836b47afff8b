/*
 * test_stories.c
 *	  A model that others trained, continued greedily: the text must be the known one, to the
 *	  letter.  The checkpoint's layout is that of llama2.c; it is looked for in the folder that
 *	  LLMAPP_TEST_DATA names.
 *
 * In the file, rotary positions turn neighbours (2 i, 2 i + 1) of a head; here numbers i and
 * i + head_dim / 2.  So rows of queries and keys change places within their head.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/engine/generator.h"
#include "../../src/engine/net_record.h"
#include "../../src/engine/transformer.h"
#include "test.h"

#define STEPS 256
#define BEGIN 1

/* Seven numbers at the start of the file. */
typedef struct stories_header
{
	int32_t width, ffn, depth, heads, kv_heads, vocab, context;
} stories_header;

static char *
read_file(const char *name, long *size)
{
	const char *folder = getenv("LLMAPP_TEST_DATA");
	char path[4096];
	char *bytes = NULL;
	FILE *f;

	snprintf(path, sizeof(path), "%s/weights/%s", folder ? folder : "", name);
	f = folder ? fopen(path, "rb") : NULL;
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	*size = ftell(f);
	rewind(f);
	bytes = malloc(*size + 1);
	if (fread(bytes, 1, *size, f) != (size_t) *size)
		*size = 0;
	bytes[*size] = '\0';
	fclose(f);
	return bytes;
}

static const float *
copy(const net *n, float *weights, int32_t number, size_t at, const float *from, size_t count)
{
	memcpy(weights + n->tensors[number].offset + at, from, count * sizeof(float));
	return from + count;
}

/* One layer's heads of queries or keys, (heads head_dim, width). */
static const float *
copy_turned(const net *n, float *weights, int32_t number, size_t row, const float *from, int32_t heads, int32_t d,
			int32_t width)
{
	float *to = weights + n->tensors[number].offset + row * width;

	for (int32_t h = 0; h < heads; h++)
		for (int32_t i = 0; i < d; i++)
			memcpy(to + (h * d + i / 2 + (i % 2) * (d / 2)) * width, from + (h * d + i) * width,
				   width * sizeof(float));
	return from + (size_t) heads * d * width;
}

static void
fill_weights(const net *n, float *weights, const stories_header *h, const float *w)
{
	const transformer_config *c = &n->config.text;
	transformer_tensors t;
	size_t width = h->width, q = width, kv = (size_t) c->kv_heads * c->head_dim, ffn = h->ffn;

	transformer_tensors_of(c, &t);
	w = copy(n, weights, t.embed, 0, w, h->vocab * width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy(n, weights, t.stack.layers[i].attn_norm[0], 0, w, width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy_turned(n, weights, t.stack.layers[i].qkv[0], 0, w, c->heads, c->head_dim, h->width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy_turned(n, weights, t.stack.layers[i].qkv[0], q, w, c->kv_heads, c->head_dim, h->width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy(n, weights, t.stack.layers[i].qkv[0], (q + kv) * width, w, kv * width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy(n, weights, t.stack.layers[i].out[0], 0, w, width * q);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy(n, weights, t.stack.layers[i].ffn_norm[0], 0, w, width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy(n, weights, t.stack.layers[i].up[0], 0, w, ffn * width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy(n, weights, t.stack.layers[i].down[0], 0, w, ffn * width);
	for (int32_t i = 0; i < h->depth; i++)
		w = copy(n, weights, t.stack.layers[i].up[0], ffn * width, w, ffn * width);
	copy(n, weights, t.stack.norm[0], 0, w, width);
}

static net *
stories_net(const stories_header *h, llm_error *err)
{
	net_config c = {
		.shape = {.outputs = 1, .token_target = true, .vocab = h->vocab, .context = h->context},
		.loss = LOSS_CROSS_ENTROPY,
	};

	CHECK(transformer_family("llama", &c.text));
	c.text.vocab = h->vocab;
	c.text.context = h->context;
	c.text.width = h->width;
	c.text.depth = h->depth;
	c.text.heads = h->heads;
	c.text.kv_heads = h->kv_heads;
	c.text.head_dim = h->width / h->heads;
	c.text.ffn = h->ffn;
	return net_new(&c, err);
}

/* The piece of a token in the tokenizer's file: (score, length, bytes) each, behind one number. */
static void
append_piece(const char *pieces, int32_t token, bool first, char *text)
{
	int32_t length;
	unsigned byte;

	for (pieces += 4;; pieces += 8 + length, token--)
	{
		memcpy(&length, pieces + 4, 4);
		if (token == 0)
			break;
	}
	pieces += 8;
	if (length == 6 && sscanf(pieces, "<0x%02X>", &byte) == 1)
		sprintf(text + strlen(text), "%c", (char) byte);
	else
		sprintf(text + strlen(text), "%.*s", (int) length - (first && *pieces == ' '),
				pieces + (first && *pieces == ' '));
}

static void
continue_text(const net *n, const float *weights, const char *pieces, const char *expected)
{
	static char text[STEPS * 16];
	llm_error err = {0};
	generator *g = generator_new(n, weights, 1, STEPS, 0, &err);
	int32_t token = BEGIN;
	size_t length = strlen(expected);

	while (length > 0 && expected[length - 1] == '\n')
		length--;
	for (int i = 0; CHECK(g != NULL) && i < STEPS; i++)
	{
		const float *logits;
		bool first = token == BEGIN;

		if (!CHECK(generator_append(g, 0, &token, 1, &err)))
			break;
		logits = generator_logits(g, 0);
		token = 0;
		for (int32_t k = 1; k < n->config.text.vocab; k++)
			if (logits[k] > logits[token])
				token = k;
		if (token == BEGIN)
			break;
		append_piece(pieces, token, first, text);
	}
	CHECK(strlen(text) >= length && strncmp(text, expected, length) == 0);
	generator_free(g);
}

int
main(void)
{
	long size, piece_size, text_size;
	char *file = read_file("stories260K.bin", &size);
	char *pieces = read_file("stories260K_tok512.bin", &piece_size);
	char *expected = read_file("stories260K_expected_greedy.txt", &text_size);
	llm_error err = {0};

	if (file && pieces && expected)
	{
		stories_header h;
		net *n;
		float *weights;

		memcpy(&h, file, sizeof(h));
		n = stories_net(&h, &err);
		if (CHECK(n != NULL))
		{
			weights = aligned_alloc(64, net_weight_bytes(n));
			memset(weights, 0, net_weight_bytes(n));
			fill_weights(n, weights, &h, (const float *) (file + sizeof(h)));
			continue_text(n, weights, pieces, expected);
			free(weights);
		}
		net_free(n);
	}
	else
		printf("skipped: LLMAPP_TEST_DATA names no folder with weights/stories260K.bin\n");
	free(file);
	free(pieces);
	free(expected);
	return test_summary();
}
