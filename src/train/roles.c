/*
 * roles.c
 *	  The part that each column of a source plays in a training.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "../common.h"
#include "../format/layers.h"
#include "../row/source.h"
#include "../row/value_reader.h"
#include "training.h"

static const char *
AttributeName(TupleDesc tupdesc, int i)
{
	return NameStr(TupleDescAttr(tupdesc, i)->attname);
}

static column
AttributeColumn(TupleDesc tupdesc, int i)
{
	Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

	return MakeColumn(NameStr(attribute->attname), attribute->atttypid, attribute->atttypmod);
}

bool
IsTextTask(const char *task)
{
	return task != NULL &&
		   (strcmp(task, "generation") == 0 || strcmp(task, "masked_lm") == 0 || IsEmbeddingTask(task));
}

bool
IsEmbeddingTask(const char *task)
{
	return task != NULL && strcmp(task, "embedding") == 0;
}

/* What a transformer is for when no task says it: with a label beside a text it reads the text. */
static bool
LearnsText(TupleDesc tupdesc, const char *target, const char *task, const train_params *params)
{
	int a = target != NULL ? FindColumn(tupdesc, target) : -1;

	if (!(params->architecture->bit & ARCH_TEXT) || task != NULL)
		return IsTextTask(task);
	for (int i = 0; i < tupdesc->natts && target != NULL; i++)
		if (i != a && AttributeColumn(tupdesc, i).kind == COLUMN_TEXT)
			return params->prompt_column != NULL || params->architecture->bit == ARCH_T5;
	return true;
}

static void
RequireTextColumn(const column *c)
{
	if (c->kind == COLUMN_TEXT)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("column \"%s\" of type %s is no text", c->name, c->sql_type),
			 errhint("Convert it in the source: SELECT %s::text AS %s FROM ...", quote_identifier(c->name),
					 quote_identifier(c->name))));
}

/* The column whose texts a language model learns: the one named, or the only one. */
static void
AssignText(SourceRoles *roles, TupleDesc tupdesc, const char *target)
{
	int found = target != NULL ? RequireColumn(tupdesc, target, "the target") : -1;

	for (int i = 0; i < tupdesc->natts && target == NULL; i++)
	{
		if (AttributeColumn(tupdesc, i).kind != COLUMN_TEXT)
			continue;
		if (found >= 0)
			ereport(ERROR, (errcode(ERRCODE_AMBIGUOUS_COLUMN), errmsg("the source has several columns of text"),
							errhint("Name the one to learn: target => '%s'.", AttributeName(tupdesc, found))));
		found = i;
	}
	if (found < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the source has no column of text"),
						errhint("Its columns: %s.", ColumnNames(tupdesc))));
	roles->target_columns = palloc0(sizeof(column));
	roles->target_attributes = palloc0(sizeof(int));
	roles->target_attributes[0] = found;
	roles->target_columns[0] = AttributeColumn(tupdesc, found);
	roles->targets = 1;
	RequireTextColumn(&roles->target_columns[0]);
}

/* The column with the prompts of the texts to learn, the only input. */
static void
AssignPrompt(SourceRoles *roles, TupleDesc tupdesc, const char *task, const train_params *params)
{
	if (params->prompt_column == NULL && IsEmbeddingTask(task))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("parameter \"prompt\" is missing"),
				 errdetail("An embedding is learned from pairs of texts that belong together."),
				 errhint("Name the column with the other text: params => '{\"prompt\": \"column\"}'; there are: %s.",
						 ColumnNames(tupdesc))));
	if (params->prompt_column == NULL && params->architecture->bit == ARCH_T5)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("parameter \"prompt\" is missing"),
						errdetail("An encoder-decoder reads one text and learns to write another."),
						errhint("Name the column that it reads: params => '{\"prompt\": \"column\"}'; there are: %s.",
								ColumnNames(tupdesc))));
	if (params->prompt_column == NULL)
		return;
	roles->prompt = 0;
	roles->inputs = 1;
	roles->text = 1;
	roles->attributes[0] = RequireColumn(tupdesc, params->prompt_column, "parameter \"prompt\"");
	roles->columns[0] = AttributeColumn(tupdesc, roles->attributes[0]);
	if (roles->attributes[0] == roles->target_attributes[0])
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("column \"%s\" cannot be both prompt and target", params->prompt_column)));
	RequireTextColumn(&roles->columns[0]);
	roles->columns[0].tokens = true;
}

/* One name, or several separated by commas; one column may have a comma in its name. */
static void
AssignTargets(SourceRoles *roles, TupleDesc tupdesc, const char *target)
{
	List *names;
	ListCell *cell;

	if (target == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the target is missing"),
						errhint("Name the column to predict, target => 'column'; the source has: %s.",
								ColumnNames(tupdesc))));
	if (FindColumn(tupdesc, target) >= 0 || !SplitIdentifierString(pstrdup(target), ',', &names) || names == NIL)
		names = list_make1((char *) target);
	roles->target_columns = palloc0(list_length(names) * sizeof(column));
	roles->target_attributes = palloc0(list_length(names) * sizeof(int));
	foreach(cell, names)
	{
		int i = RequireColumn(tupdesc, lfirst(cell), "the target");

		for (int k = 0; k < roles->targets; k++)
			if (roles->target_attributes[k] == i)
				ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
								errmsg("target column \"%s\" is named twice", AttributeName(tupdesc, i))));
		roles->target_attributes[roles->targets] = i;
		roles->target_columns[roles->targets++] = AttributeColumn(tupdesc, i);
	}
}

/* A column with a task of its own, which therefore is not an input. */
static int
AssignSpecial(TupleDesc tupdesc, const char *name, const char *parameter, column_kind kind, const char *wanted)
{
	int i;
	ValueReader reader;

	if (name == NULL)
		return -1;
	i = RequireColumn(tupdesc, name, psprintf("parameter \"%s\"", parameter));
	if (!InitValueReader(&reader, TupleDescAttr(tupdesc, i)->atttypid) || reader.kind != kind)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" is of type %s, parameter \"%s\" needs %s", AttributeName(tupdesc, i),
							   format_type_be(TupleDescAttr(tupdesc, i)->atttypid), parameter, wanted)));
	return i;
}

/* Any type whose values are numbers or strings. */
static int
AssignGroup(TupleDesc tupdesc, const char *name)
{
	int i;
	ValueReader reader;

	if (name == NULL)
		return -1;
	i = RequireColumn(tupdesc, name, "parameter \"group_column\"");
	if (!InitValueReader(&reader, TupleDescAttr(tupdesc, i)->atttypid) || reader.kind == COLUMN_VECTOR)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of type %s cannot group rows", AttributeName(tupdesc, i),
							   format_type_be(TupleDescAttr(tupdesc, i)->atttypid)),
						errhint("Convert it to text in the source.")));
	return i;
}

static int
AssignTime(TupleDesc tupdesc, const char *name)
{
	int i;

	if (name == NULL)
		return -1;
	i = RequireColumn(tupdesc, name, "parameter \"time_column\"");
	if (!OidIsValid(lookup_type_cache(TupleDescAttr(tupdesc, i)->atttypid, TYPECACHE_LT_OPR)->lt_opr))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of type %s has no order", AttributeName(tupdesc, i),
							   format_type_be(TupleDescAttr(tupdesc, i)->atttypid)),
						errdetail("Parameter \"time_column\" needs one.")));
	return i;
}

/* Mark the columns that are not inputs; the target cannot be left out. */
static bool *
TakenColumns(const SourceRoles *roles, TupleDesc tupdesc, const train_params *params)
{
	bool *taken = palloc0(Max(tupdesc->natts, 1) * sizeof(bool));

	for (int32 i = 0; i < params->exclude_count; i++)
		taken[RequireColumn(tupdesc, params->exclude[i], "parameter \"exclude\"")] = true;
	if (roles->validation >= 0)
		taken[roles->validation] = true;
	if (roles->weight >= 0)
		taken[roles->weight] = true;
	if (roles->group >= 0)
		taken[roles->group] = true;
	for (int32 i = 0; i < roles->targets; i++)
	{
		if (taken[roles->target_attributes[i]])
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("column \"%s\" is the target and cannot be excluded or have another use",
								   roles->target_columns[i].name)));
		taken[roles->target_attributes[i]] = true;
	}
	return taken;
}

/* All columns without another use, in their order. */
static void
AssignInputs(SourceRoles *roles, TupleDesc tupdesc, const bool *taken)
{
	for (int i = 0; i < tupdesc->natts; i++)
	{
		if (taken[i])
			continue;
		for (int32 k = 0; k < roles->inputs; k++)
			if (strcmp(roles->columns[k].name, AttributeName(tupdesc, i)) == 0)
				ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
								errmsg("the source has two columns \"%s\"", roles->columns[k].name),
								errhint("Give one another name with AS, or leave it out of the SELECT.")));
		roles->attributes[roles->inputs] = i;
		roles->columns[roles->inputs++] = AttributeColumn(tupdesc, i);
	}
	if (roles->inputs == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the source has no column to learn from"),
						errhint("Select at least one column beside the target.")));
}

/* The columns of the model to start from, in its order. */
static void
AssignBaseInputs(SourceRoles *roles, TupleDesc tupdesc, const bool *taken, const encoder *base)
{
	for (int32 i = 0; i < encoder_column_count(base); i++)
	{
		const column *c = encoder_column(base, i);
		int a = FindColumn(tupdesc, c->name);

		roles->columns[i] = *c;
		roles->attributes[i] = -1;
		roles->inputs++;
		if (!encoder_column_used(base, i))
			continue;
		if (a < 0 || taken[a])
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("the source has no column \"%s\", which the base model needs", c->name),
							errhint("Columns of the source: %s.", ColumnNames(tupdesc))));
		if (AttributeColumn(tupdesc, a).kind != c->kind)
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column \"%s\" is of type %s, the base model was trained with %s", c->name,
								   format_type_be(TupleDescAttr(tupdesc, a)->atttypid), c->sql_type)));
		roles->attributes[i] = a;
	}
}

/* ---- the image ---- */

/* "a, b", the inputs that may be one */
static char *
VectorNames(const SourceRoles *roles)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int32 i = 0; i < roles->inputs; i++)
		if (roles->columns[i].kind == COLUMN_VECTOR)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", quote_identifier(roles->columns[i].name));
	return names.data;
}

/* The column that the user named. */
static column *
NamedImage(SourceRoles *roles, TupleDesc tupdesc, const char *name)
{
	int a = RequireColumn(tupdesc, name, "parameter \"image\"");

	for (int32 i = 0; i < roles->inputs; i++)
	{
		if (roles->attributes[i] != a)
			continue;
		if (roles->columns[i].kind == COLUMN_VECTOR)
			return &roles->columns[i];
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of type %s is no image", roles->columns[i].name, roles->columns[i].sql_type),
				 errhint("Decode files in the source: SELECT llm_image(%s, 32, 32) AS %s, ...",
						 quote_identifier(roles->columns[i].name), quote_identifier(roles->columns[i].name))));
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("column \"%s\" is not an input", name),
					errdetail("It was named as parameter \"image\"."),
					errhint("Leave it out of \"exclude\", or name another column.")));
}

/* The only column that can be one. */
static column *
OnlyImage(SourceRoles *roles)
{
	column *found = NULL;

	for (int32 i = 0; i < roles->inputs; i++)
	{
		if (roles->columns[i].kind != COLUMN_VECTOR)
			continue;
		if (found != NULL)
			ereport(ERROR, (errcode(ERRCODE_AMBIGUOUS_COLUMN),
							errmsg("the source has several columns that may be the image"),
							errdetail("They are %s.", VectorNames(roles)),
							errhint("Name one: params => '{\"image\": \"%s\"}'.", found->name)));
		found = &roles->columns[i];
	}
	if (found == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the source has no column with an image"),
						errdetail("An image is a tensor (height, width) or (channels, height, width)."),
						errhint("Decode files in the source: SELECT llm_image(file, 32, 32) AS image, ... "
								"or use architecture => 'mlp'.")));
	return found;
}

static void
AssignImage(SourceRoles *roles, TupleDesc tupdesc, const train_params *params)
{
	if (params->architecture->bit == ARCH_LAYERS && params->layers == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("parameter \"layers\" is missing"),
						errhint("For example params => '{\"layers\": [{\"type\": \"linear\", \"width\": 64}, "
								"{\"type\": \"activation\", \"function\": \"relu\"}]}'.")));
	if (params->image_column != NULL)
		NamedImage(roles, tupdesc, params->image_column)->image = true;
	else if (params->architecture->bit == ARCH_CNN || (params->layers != NULL && layers_read_image(params->layers)))
		OnlyImage(roles)->image = true;
}

/* ---- the text ---- */

/* The input that the user named, or the only one that is text. */
static column *
FindTextInput(SourceRoles *roles, TupleDesc tupdesc, const char *name)
{
	int a = name != NULL ? RequireColumn(tupdesc, name, "parameter \"text\"") : -1;
	column *found = NULL;

	for (int32 i = 0; i < roles->inputs; i++)
	{
		if (name != NULL ? roles->attributes[i] != a : roles->columns[i].kind != COLUMN_TEXT)
			continue;
		if (found != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_AMBIGUOUS_COLUMN), errmsg("the source has several columns of text"),
					 errhint("Name the one to read token by token: params => '{\"text\": \"%s\"}'.", found->name)));
		found = &roles->columns[i];
	}
	return found;
}

static void
AssignTokens(SourceRoles *roles, TupleDesc tupdesc, const train_params *params)
{
	column *found = FindTextInput(roles, tupdesc, params->text_column);

	if (found == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the source has no column of text that is an input"),
						errhint("Its columns: %s. Without a text use architecture => 'mlp'.", ColumnNames(tupdesc))));
	RequireTextColumn(found);
	found->tokens = true;
}

/* Which input is read token by token, -1 for none. */
static int
TokensInput(const SourceRoles *roles)
{
	for (int32 i = 0; i < roles->inputs; i++)
		if (roles->columns[i].tokens)
			return i;
	return -1;
}

/* ---- all of them ---- */

SourceRoles *
AssignRoles(TupleDesc tupdesc, const char *target, const char *task, const train_params *params, const manifest *base)
{
	SourceRoles *roles = palloc0(sizeof(SourceRoles));
	const encoder *inputs = base == NULL || base->target->kind == TARGET_TEXT ? NULL : base->encoder;
	int most = Max(tupdesc->natts, inputs ? encoder_column_count(inputs) : 0);
	bool *taken;

	roles->columns = palloc0(Max(most, 1) * sizeof(column));
	roles->attributes = palloc0(Max(most, 1) * sizeof(int));
	roles->prompt = -1;
	roles->learns_text = LearnsText(tupdesc, target, task, params);
	if (roles->learns_text)
		AssignText(roles, tupdesc, target);
	else
		AssignTargets(roles, tupdesc, target);
	roles->validation = AssignSpecial(tupdesc, params->validation_column, "validation", COLUMN_BOOLEAN, "boolean");
	roles->weight = AssignSpecial(tupdesc, params->weight_column, "weight_column", COLUMN_NUMBER, "a number");
	roles->group = AssignGroup(tupdesc, params->group_column);
	roles->time = AssignTime(tupdesc, params->time_column);
	taken = TakenColumns(roles, tupdesc, params);
	if (roles->learns_text)
	{
		AssignPrompt(roles, tupdesc, task, params);
		return roles;
	}
	if (inputs != NULL)
		AssignBaseInputs(roles, tupdesc, taken, inputs);
	else
	{
		AssignInputs(roles, tupdesc, taken);
		if (params->architecture->bit & ARCH_TEXT)
			AssignTokens(roles, tupdesc, params);
		else
			AssignImage(roles, tupdesc, params);
	}
	roles->text = TokensInput(roles);
	return roles;
}
