/*
 * evaluate_text.c
 *	  Quality of a language model on the texts of a source.
 *
 * Each text is read alone, so its first token is not foreseen; the numbers are those of
 * llm_perplexity(), summed over the texts.  Bits are divided among the bytes of the tokens that are
 * foreseen.  Texts that are NULL, or of fewer than two tokens, say nothing and are skipped.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../row/source.h"
#include "../common.h"
#include "evaluate.h"
#include "language.h"
#include "predict.h"

#define TEXTS_AT_ONCE 64 /* rows of a fetch, which may hold long texts */

typedef struct TextSource
{
	LanguageCall *call;
	const char *name; /* of the column that the model learned */
	TupleDesc desc;
	TextColumn text;
	MemoryContext text_cxt; /* what belongs to the text at hand */
	TokenScore sums;
	int64 bytes; /* of the tokens in sums, UTF-8 */
} TextSource;

static bool
IsText(TupleDesc desc, int i)
{
	ValueReader reader;

	return InitValueReader(&reader, TupleDescAttr(desc, i)->atttypid) && reader.kind == COLUMN_TEXT;
}

TextColumn
BindTextColumn(TupleDesc desc, int found)
{
	TextColumn column = {.attribute = found + 1};
	Form_pg_attribute attribute = TupleDescAttr(desc, found);

	if (!IsText(desc, found))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of type %s is no text", NameStr(attribute->attname),
							   format_type_be(attribute->atttypid))));
	InitValueReader(&column.reader, attribute->atttypid);
	return column;
}

bool
ReadTextColumn(TextColumn *column, TupleDesc desc, HeapTuple tuple, value *v)
{
	bool isnull;
	Datum datum = heap_getattr(tuple, column->attribute, desc, &isnull);

	ReadValue(&column->reader, datum, isnull, v);
	return v->kind == VALUE_STRING;
}

/* The only column of text, as an index from 0. */
static int
OnlyTextColumn(TupleDesc desc, const char *name)
{
	int found = -1;

	for (int i = 0; i < desc->natts; i++)
	{
		if (!IsText(desc, i))
			continue;
		if (found >= 0)
			ereport(
				ERROR,
				(errcode(ERRCODE_AMBIGUOUS_COLUMN), errmsg("the source has several columns of text"),
				 errhint(
					 "Select the one to evaluate, or name it as the one that was learned: SELECT %s AS %s FROM ...",
					 quote_identifier(NameStr(TupleDescAttr(desc, found)->attname)), quote_identifier(name))));
		found = i;
	}
	if (found < 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the source has no column of text"),
						errhint("Its columns: %s.", ColumnNames(desc))));
	return found;
}

static void
BindText(void *arg, TupleDesc desc)
{
	TextSource *s = arg;
	int found = FindColumn(desc, s->name);

	if (found < 0)
		found = OnlyTextColumn(desc, s->name);
	s->desc = desc;
	s->text = BindTextColumn(desc, found);
}

/* Add a text, which is UTF-8. */
static void
ScoreText(TextSource *s, const char *text, Size length)
{
	LanguageCall *call = s->call;
	TokenScore score;

	EncodePromptUtf8(call, text, length, &call->tokens);
	score = ScoreTokens(call);
	if (score.tokens == 0)
		return;
	call->text.size = 0;
	DecodeToken(call, call->tokens.id[0], &call->text);
	s->bytes += length - Min(length, call->text.size);
	s->sums.tokens += score.tokens;
	s->sums.right += score.right;
	s->sums.loss += score.loss;
}

static void
ScoreTuples(void *arg, SPITupleTable *tuples, uint64 count)
{
	TextSource *s = arg;
	MemoryContext old = MemoryContextSwitchTo(s->text_cxt);
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	for (uint64 i = 0; i < count; i++)
	{
		value v;

		CHECK_FOR_INTERRUPTS();
		if (ReadTextColumn(&s->text, s->desc, tuples->vals[i], &v))
		{
			ConvertToUtf8(&v);
			ScoreText(s, v.string, v.length);
		}
		MemoryContextReset(s->text_cxt);
	}
	MemoryContextSwitchTo(old);
	MeterRows(&s->call->meter, (int64) count, NanosecondsSince(start));
}

json_t *
TokenMetrics(const LanguageCall *call, const TokenScore *sums, int64 bytes)
{
	double loss = sums->tokens == 0 ? 0 : sums->loss / sums->tokens;
	json_t *metrics = json_pack("{s:I}", "n", (json_int_t) sums->tokens);

	if (!isfinite(loss))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("model \"%s\" gives probabilities that are no numbers", get_rel_name(call->model->relid))));
	if (sums->tokens > 0)
	{
		json_object_set_new(metrics, "accuracy", json_real((double) sums->right / sums->tokens));
		json_object_set_new(metrics, "loss", json_real(loss));
		json_object_set_new(metrics, "perplexity", json_real(exp(Min(loss, 700))));
	}
	if (bytes > 0)
		json_object_set_new(metrics, "bits_per_byte", json_real(sums->loss / M_LN2 / bytes));
	return metrics;
}

json_t *
EvaluateTexts(const Model *model, const char *source, MemoryContext cxt)
{
	TextSource s = {.call = NewLanguageCall(cxt), .name = model->manifest->target->names[0]};
	SourceVisitor visitor = {.arg = &s, .columns = BindText, .rows = ScoreTuples};

	if (strcmp(model->manifest->task, "masked_lm") == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("model \"%s\" predicts hidden tokens", get_rel_name(model->relid)),
						errhint("SELECT * FROM llm_evaluate(%s) shows how well it did on texts that were held out.",
								ModelLiteral(model->relid))));
	OpenLanguageModel(s.call, model->relid);
	s.text_cxt = AllocSetContextCreate(cxt, "llmapp text of a source", ALLOCSET_DEFAULT_SIZES);
	VisitSource(source, TEXTS_AT_ONCE, cxt, &visitor);
	return json_pack("{s:o}", "metrics", TokenMetrics(s.call, &s.sums, s.bytes));
}
