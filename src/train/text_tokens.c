/*
 * text_tokens.c
 *	  The texts of a pass over the loaded rows as tokens, made by several threads.
 *
 * Texts are copied into batches, whose tokens are made at once and handed out one by one.  A text
 * that no batch has room for is one by itself and stays where the row is.
 *
 * Everything belongs to one memory context, so that threads end before the texts that they read.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../text/tokenizer_bulk.h"
#include "text_tokens.h"

#define BATCH_BYTES ((Size) 1 << 20)
#define BATCH_TEXTS 4096

struct TextTokens
{
	MemoryContext cxt;
	Dataset *data;
	bulk_tokenizer *tokenizer;
	char *buffer; /* (BATCH_BYTES) */
	/* the text that was read last */
	text_span read;
	bool read_held_out;
	bool waiting; /* is in no batch yet */
	/* the batch */
	int32 texts;
	int32 next; /* to hand out */
	text_span text[BATCH_TEXTS];
	bool held_out[BATCH_TEXTS];
	int64 end[BATCH_TEXTS]; /* of its tokens */
	token_list tokens;
	int64 done; /* texts handed out */
	bool paused;
};

static void
FreeTextTokens(void *arg)
{
	TextTokens *t = arg;

	bulk_tokenizer_free(t->tokenizer);
	free(t->tokens.id);
}

TextTokens *
StartTextTokens(Dataset *d)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp texts", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	TextTokens *t = palloc0(sizeof(TextTokens));
	llm_error err = {0};

	t->cxt = cxt;
	t->data = d;
	t->buffer = palloc(BATCH_BYTES);
	OWN(t, FreeTextTokens);
	t->tokenizer =
		bulk_tokenizer_new(d->corpus->tokenizer_block, d->corpus->tokenizer_size, ThreadCount(), JobPoll, NULL, &err);
	if (t->tokenizer == NULL)
		ThrowError(&err);
	MemoryContextSwitchTo(old);
	JobPhase("tokenizing", CountTexts(d));
	StartPass(d);
	return t;
}

static bool
ReadText(TextTokens *t)
{
	if (!t->waiting)
		t->waiting = NextText(t->data, &t->read.text, &t->read.length, &t->read_held_out);
	return t->waiting;
}

static void
ReadBatch(TextTokens *t)
{
	Size bytes = 0;

	t->texts = t->next = 0;
	while (t->texts < BATCH_TEXTS && bytes < BATCH_BYTES && ReadText(t))
	{
		text_span *text = &t->text[t->texts];

		if (t->texts > 0 && t->read.length > BATCH_BYTES - bytes)
			return;
		*text = t->read;
		if (text->length <= BATCH_BYTES)
			text->text = memcpy(t->buffer + bytes, t->read.text, t->read.length);
		bytes += text->length;
		t->held_out[t->texts++] = t->read_held_out;
		t->waiting = false;
	}
}

/* False when no text is left or the job is to pause. */
static bool
EncodeBatch(TextTokens *t)
{
	llm_error err = {0};

	ReadBatch(t);
	t->tokens.count = 0;
	while (!bulk_tokenizer_encode(t->tokenizer, t->text, t->texts, &t->tokens, t->end, &err))
	{
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CHECK_FOR_INTERRUPTS();
		t->paused = JobPauseRequested();
		if (t->paused)
			return false;
		err.code = LLM_OK;
	}
	return t->texts > 0;
}

bool
NextTextTokens(TextTokens *t, const int32 **ids, int64 *count, bool *held_out)
{
	int64 start;

	if (t->next == t->texts && !EncodeBatch(t))
		return false;
	start = t->next > 0 ? t->end[t->next - 1] : 0;
	*ids = t->tokens.id + start;
	*count = t->end[t->next] - start;
	*held_out = t->held_out[t->next++];
	JobProgress(++t->done, 0, 0, 0);
	return true;
}

bool
EndTextTokens(TextTokens *t)
{
	bool complete = !t->paused;

	MemoryContextDelete(t->cxt);
	return complete;
}

int64
TokenBytes(const Corpus *c, const int32 *ids, int64 count)
{
	int64 bytes = 0;

	for (int64 i = 0; i < count; i++)
	{
		size_t length = 0;

		if (tokenizer_type(c->tokenizer, ids[i]) != TOKEN_SPECIAL)
			(void) tokenizer_token(c->tokenizer, ids[i], &length);
		bytes += length;
	}
	return bytes;
}
