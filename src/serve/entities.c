/*
 * entities.c
 *	  llm_extract_entities(): names of persons, places and the like, by a model that labels the words of a text.
 *
 * Words end at white space and around punctuation, and have the label of their first token, as such models
 * are trained.  A tokenizer of words gets them one by one, which is what it makes of the whole text; the
 * tokens of others are laid along the text.  Labels "B-x" and "I-x" mark the first and the other words of an
 * entity x, "O" none; others mark every word of their entity.  A text that is longer than the context is read in parts.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "../common.h"
#include "../text/unicode.h"
#include "language.h"

PG_FUNCTION_INFO_V1(llm_extract_entities);

typedef struct Word
{
	Size start, end; /* bytes of the text */
	int64 token;     /* its first one */
	int32 label;
	double probability;
} Word;

typedef struct Labelling
{
	LanguageCall *call;
	const char *utf8;
	Size length;
	Word *words;
	int32 count, room;
	token_list tokens; /* of all words */
	token_list frame;  /* of no text */
	int32 before;      /* of its tokens, before the text */
} Labelling;

static void
FreeLists(void *arg)
{
	Labelling *l = arg;

	free(l->tokens.id);
	free(l->frame.id);
}

/* ---- words ---- */

static void
AddWord(Labelling *l, Size start, Size end)
{
	if (l->count == l->room)
	{
		l->room *= 2;
		l->words = repalloc_huge(l->words, l->room * sizeof(Word));
	}
	l->words[l->count++] = (Word) {.start = start, .end = end};
}

/* Punctuation, and all that is neither letter nor digit in ASCII, stands alone. */
static void
FindWords(Labelling *l)
{
	const uint8 *text = (const uint8 *) l->utf8;
	Size begin = 0;
	int32 bytes;

	l->room = 64;
	l->words = palloc(l->room * sizeof(Word));
	for (Size at = 0; at < l->length; at += bytes)
	{
		int32 c = utf8_read(text + at, text + l->length, &bytes);
		bool space = (char_class(c) & CHAR_SPACE) != 0;
		bool alone = (char_class(c) & CHAR_PUNCTUATION) != 0 || (c > ' ' && c < 127 && !isalnum(c));

		if ((space || alone) && begin < at)
			AddWord(l, begin, at);
		if (alone)
			AddWord(l, at, at + bytes);
		if (space || alone)
			begin = at + bytes;
	}
	if (begin < l->length)
		AddWord(l, begin, l->length);
}

/* ---- their tokens ---- */

static void
EncodeWords(Labelling *l)
{
	llm_error err = {0};

	for (int32 i = 0; i < l->count; i++)
	{
		Word *w = &l->words[i];

		w->token = l->tokens.count;
		if (!tokenizer_encode(l->call->tokenizer, l->utf8 + w->start, w->end - w->start, false, &l->tokens, &err))
			ThrowError(&err);
	}
}

static Size
SkipSpace(const Labelling *l, Size at)
{
	int32 bytes;

	while (at < l->length &&
		   (char_class(utf8_read((const uint8 *) l->utf8 + at, (const uint8 *) l->utf8 + l->length, &bytes)) &
			CHAR_SPACE))
		at += bytes;
	return at;
}

/* Where in the text each token ends: behind as many bytes as it stands for, spaces aside. */
static void
AlignTokens(Labelling *l)
{
	text_buffer piece = {0};
	llm_error err = {0};
	Size at = 0;
	int32 word = 0;

	if (!tokenizer_encode(l->call->tokenizer, l->utf8, l->length, false, &l->tokens, &err))
		ThrowError(&err);
	for (int32 i = 0; i < l->count; i++)
		l->words[i].token = l->tokens.count;
	for (int64 i = 0; i < l->tokens.count; i++)
	{
		Size spaces = 0;

		piece.size = 0;
		if (!tokenizer_decode(l->call->tokenizer, &l->tokens.id[i], 1, true, &piece, &err))
			break;
		while (spaces < piece.size && isspace((unsigned char) piece.bytes[spaces]))
			spaces++;
		at = SkipSpace(l, at);
		while (word < l->count && l->words[word].end <= at)
			word++;
		if (word < l->count && spaces < piece.size)
			l->words[word].token = Min(l->words[word].token, i);
		at += piece.size - spaces;
	}
	free(piece.bytes);
	if (err.code != LLM_OK)
		ThrowError(&err);
}

static int64
WordEnd(const Labelling *l, int32 word)
{
	return word + 1 < l->count ? l->words[word + 1].token : l->tokens.count;
}

/* A word that has no token of its own belongs to the one before. */
static void
JoinWords(Labelling *l)
{
	int32 kept = 0;

	for (int32 i = 0; i < l->count; i++)
		if (WordEnd(l, i) > l->words[i].token)
			l->words[kept++] = l->words[i];
		else if (kept > 0)
			l->words[kept - 1].end = l->words[i].end;
	l->count = kept;
}

/* ---- labels ---- */

static void
TakeLabel(Word *w, const float *logits, int32 labels)
{
	double sum = 0;

	w->label = 0;
	for (int32 i = 1; i < labels; i++)
		if (logits[i] > logits[w->label])
			w->label = i;
	for (int32 i = 0; i < labels; i++)
		sum += exp((double) logits[i] - logits[w->label]);
	w->probability = 1 / sum;
}

/* Words [first, last) in one pass through the network. */
static void
LabelPart(Labelling *l, int32 first, int32 last)
{
	LanguageCall *call = l->call;
	int32 labels = net_get_config(call->net)->text.labels, room = call->context - (int32) l->frame.count;
	int64 begin = l->words[first].token, count = Min(WordEnd(l, last - 1) - begin, room);
	int32 all = (int32) (l->frame.count + count);
	int32 *ids = palloc(all * sizeof(int32)), *positions = palloc((last - first) * sizeof(int32));
	float *logits = palloc((Size) (last - first) * labels * sizeof(float));
	llm_error err = {0};

	memcpy(ids, l->frame.id, l->before * sizeof(int32));
	memcpy(ids + l->before, l->tokens.id + begin, count * sizeof(int32));
	memcpy(ids + l->before + count, l->frame.id + l->before, (l->frame.count - l->before) * sizeof(int32));
	for (int32 i = first; i < last; i++)
		positions[i - first] = l->before + (int32) (l->words[i].token - begin);
	if (!generator_label(RequireGenerator(call, all), ids, all, positions, last - first, logits, &err))
		ThrowError(&err);
	for (int32 i = first; i < last; i++)
		TakeLabel(&l->words[i], logits + (Size) labels * (i - first), labels);
	pfree(ids);
	pfree(positions);
	pfree(logits);
}

/* Parts have as many words as fit; one that does not is cut. */
static void
LabelWords(Labelling *l)
{
	int64 room = l->call->context - l->frame.count;

	for (int32 first = 0, last; first < l->count; first = last)
	{
		CHECK_FOR_INTERRUPTS();
		last = first + 1;
		while (last < l->count && WordEnd(l, last) - l->words[first].token <= room)
			last++;
		LabelPart(l, first, last);
	}
}

/* ---- entities ---- */

/* What a label stands for, without its mark; NULL: nothing. */
static const char *
EntityOf(const Labelling *l, int32 label)
{
	const char *name = json_string_value(json_array_get(l->call->model->manifest->labels, (size_t) label));

	if (strcmp(name, "O") == 0)
		return NULL;
	return (name[0] == 'B' || name[0] == 'I') && name[1] == '-' ? name + 2 : name;
}

static bool
BeginsEntity(const Labelling *l, const Word *w)
{
	const char *name = json_string_value(json_array_get(l->call->model->manifest->labels, (size_t) w->label));

	return name[0] == 'B' && name[1] == '-';
}

static int32
Characters(const char *utf8, Size bytes)
{
	int32 count = 0;

	for (Size i = 0; i < bytes; i++)
		count += (utf8[i] & 0xC0) != 0x80;
	return count;
}

/* Words [first, last) as a row. */
static void
PutEntity(const Labelling *l, ReturnSetInfo *result, int32 first, int32 last)
{
	Size start = l->words[first].start, bytes = l->words[last - 1].end - start;
	const char *name = EntityOf(l, l->words[first].label);
	double probability = 0;
	Datum values[5];
	bool nulls[5] = {false};

	for (int32 i = first; i < last; i++)
		probability += l->words[i].probability / (last - first);
	values[0] = PointerGetDatum(TextOfBytes(l->utf8 + start, bytes));
	values[1] = PointerGetDatum(TextOfBytes(name, strlen(name)));
	values[2] = Int32GetDatum(Characters(l->utf8, start) + 1);
	values[3] = Int32GetDatum(Characters(l->utf8 + start, bytes));
	values[4] = Float8GetDatum(probability);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* llm_extract_entities(model, input) */
Datum
llm_extract_entities(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Labelling *l = palloc0(sizeof(Labelling));
	llm_error err = {0};

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	OWN(l, FreeLists);
	l->call = OpenLabelCall(fcinfo, PG_GETARG_OID(0));
	l->utf8 = Utf8(PG_GETARG_TEXT_PP(1), &l->length);
	if (!tokenizer_encode_begun(l->call->tokenizer, "", 0, false, &l->frame, &err))
		ThrowError(&err);
	l->before = (int32) l->frame.count;
	l->frame.count = 0;
	if (!tokenizer_encode_framed(l->call->tokenizer, "", 0, NULL, 0, false, l->call->context, &l->frame, NULL, &err))
		ThrowError(&err);
	FindWords(l);
	if (tokenizer_get_kind(l->call->tokenizer) == TOKENIZER_WORDPIECE)
		EncodeWords(l);
	else
		AlignTokens(l);
	JoinWords(l);
	LabelWords(l);
	for (int32 first = 0, last; first < l->count; first = last)
	{
		const char *name = EntityOf(l, l->words[first].label);

		last = first + 1;
		if (name == NULL)
			continue;
		while (last < l->count && EntityOf(l, l->words[last].label) != NULL &&
			   strcmp(EntityOf(l, l->words[last].label), name) == 0 && !BeginsEntity(l, &l->words[last]))
			last++;
		PutEntity(l, result, first, last);
	}
	return (Datum) 0;
}
