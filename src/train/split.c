/*
 * split.c
 *	  Which rows of a training are held out, the same ones in every pass.
 *
 * The choice is a function of the seed, the row's place within its class, and counts that
 * are complete when the first pass starts:
 * by class, exactly its share is drawn from each (Knuth's selection sampling);
 * by group, whole groups are drawn until the share is reached;
 * by time, the last rows; by column, the rows that it marks;
 * in folds, of k rows of a class that follow one another each goes to another fold, or
 * groups, the largest first, to the fold that is the smallest by then.
 *
 * Labels and groups are known by 64-bit hashes, which are taken for the values.
 */
#include "postgres.h"

#include <math.h>

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "../engine/philox.h"
#include "split.h"

#define MAX_GROUPS 262144                         /* beyond, groups are drawn one by one, which comes as near */
#define SPLIT_KEY UINT64CONST(0x53706c6974526f77) /* these keep the engine's streams apart */
#define FOLD_KEY UINT64CONST(0x53706c6974466c64)
#define GROUP_KEY UINT64CONST(0x53706c6974477270)

/* Rows of one class, from which an exact share is held out. */
typedef struct Stratum
{
	uint64 key;   /* hash of the label */
	int32 number; /* in order of appearance */
	int64 rows;
	int64 left;   /* in this pass: not met yet */
	int64 wanted; /* in this pass: still to be held out */
} Stratum;

typedef struct Group
{
	uint64 key; /* hash of the value */
	int64 rows;
	int32 part; /* its fold, or without folds 1 when it is held out */
} Group;

struct Split
{
	uint64 seed;
	double fraction;
	int32 folds;              /* 0: one part is held out */
	int32 fold;               /* that is held out, or -1 */
	const char *group_column; /* NULL: rows stand alone */
	bool by_column;
	bool by_order;
	int32 most_classes;
	HTAB *strata; /* NULL: all rows are one */
	Stratum all;
	HTAB *groups;     /* NULL: too many to remember */
	bool drawn;       /* each group has its part */
	int64 row;        /* of the current pass */
	Stratum *stratum; /* of the row that was asked for last */
};

static HTAB *
CreateTable(const char *name, Size entry)
{
	HASHCTL control = {.keysize = sizeof(uint64), .entrysize = entry, .hcxt = CurrentMemoryContext};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

Split *
CreateSplit(const train_params *params, int32 most_classes)
{
	Split *s = palloc0(sizeof(Split));

	s->seed = params->seed;
	s->fraction = params->validation;
	s->fold = -1;
	s->by_column = params->validation_column != NULL;
	s->by_order = params->time_column != NULL && !s->by_column;
	s->group_column = params->group_column;
	s->most_classes = most_classes;
	s->all.number = -1;
	s->stratum = &s->all;
	if (most_classes > 0)
		s->strata = CreateTable("llmapp classes", sizeof(Stratum));
	if (s->group_column != NULL)
		s->groups = CreateTable("llmapp groups", sizeof(Group));
	return s;
}

static uint64
ValueKey(const value *v)
{
	if (v->kind == VALUE_STRING)
		return hash_bytes_extended((const unsigned char *) v->string, v->length, 0);
	if (v->kind != VALUE_NUMBER)
		return 0;
	return hash_bytes_extended((const unsigned char *) &v->number, sizeof(double), 1);
}

/* ---- counting ---- */

static void
CountLabel(Split *s, const value *label)
{
	uint64 key = ValueKey(label);
	bool found;
	Stratum *stratum = hash_search(s->strata, &key, HASH_ENTER, &found);

	if (!found)
	{
		stratum->number = hash_get_num_entries(s->strata) - 1;
		stratum->rows = 0;
	}
	stratum->rows++;
	/* More labels than classes can be mean that this is no classification. */
	if (stratum->number >= s->most_classes)
		SplitForgetClasses(s);
}

static void
CountGroup(Split *s, const value *value)
{
	uint64 key = ValueKey(value);
	bool found;
	Group *group = hash_search(s->groups, &key, HASH_ENTER, &found);

	if (!found)
		group->rows = 0;
	group->rows++;
	if (hash_get_num_entries(s->groups) > MAX_GROUPS)
	{
		hash_destroy(s->groups);
		s->groups = NULL;
	}
}

void
SplitCount(Split *s, const value *label, const value *group)
{
	s->all.rows++;
	if (s->strata != NULL)
		CountLabel(s, label);
	if (s->groups != NULL)
		CountGroup(s, group);
}

int32
SplitClasses(const Split *s)
{
	return s->strata ? hash_get_num_entries(s->strata) : 0;
}

void
SplitForgetClasses(Split *s)
{
	hash_destroy(s->strata);
	s->strata = NULL;
}

bool
SplitIsEven(const Split *s, int32 folds)
{
	HASH_SEQ_STATUS scan;
	const Stratum *stratum;
	const Group *group;
	bool even = s->group_column == NULL || s->groups != NULL;

	if (s->strata != NULL)
		hash_seq_init(&scan, s->strata);
	while (s->strata != NULL && (stratum = hash_seq_search(&scan)) != NULL)
		even &= stratum->rows >= folds;
	if (s->groups != NULL)
		hash_seq_init(&scan, s->groups);
	while (s->groups != NULL && (group = hash_seq_search(&scan)) != NULL)
		even &= group->rows <= s->all.rows / folds;
	return even;
}

void
SplitInFolds(Split *s, int32 folds)
{
	s->folds = folds;
}

/* ---- drawing groups ---- */

static double
Uniform(uint64 seed, uint64 counter)
{
	uint32 random[4];

	philox(seed, counter, 0, 0, random);
	return (random[0] + random[1] * 0x1p-32) * 0x1p-32;
}

/* In random order; keys are hashes, so their order does not depend on that of the rows. */
static int
CompareGroups(const void *a, const void *b, void *arg)
{
	uint64 seed = ((const Split *) arg)->seed ^ GROUP_KEY;
	const Group *x = *(Group *const *) a;
	const Group *y = *(Group *const *) b;
	double u = Uniform(seed, x->key);
	double v = Uniform(seed, y->key);

	if (u != v)
		return u < v ? -1 : 1;
	return x->key < y->key ? -1 : x->key > y->key;
}

static Group **
SortGroups(Split *s, int64 *count)
{
	Group **list = MemoryContextAllocHuge(CurrentMemoryContext, hash_get_num_entries(s->groups) * sizeof(Group *));
	HASH_SEQ_STATUS scan;
	Group *group;

	*count = 0;
	hash_seq_init(&scan, s->groups);
	while ((group = hash_seq_search(&scan)) != NULL)
	{
		group->part = 0;
		list[(*count)++] = group;
	}
	qsort_arg(list, *count, sizeof(Group *), CompareGroups, s);
	return list;
}

/* Hold groups out as long as that comes nearer to the share; the smallest when all are too large, never all. */
static void
DrawGroups(Split *s)
{
	int64 count;
	Group **list = SortGroups(s, &count);
	Group *smallest = list[0];
	double wanted = s->fraction * s->all.rows;
	int64 held = 0;

	for (int64 i = 0; i < count; i++)
	{
		Group *group = list[i];

		if (group->rows < smallest->rows)
			smallest = group;
		group->part = held + group->rows / 2.0 <= wanted && held + group->rows < s->all.rows;
		held += group->part ? group->rows : 0;
	}
	if (held == 0 && count > 1 && wanted > 0)
		smallest->part = 1;
	pfree(list);
}

static int
CompareSizes(const void *a, const void *b, void *arg)
{
	const Group *x = *(Group *const *) a;
	const Group *y = *(Group *const *) b;

	if (x->rows != y->rows)
		return x->rows > y->rows ? -1 : 1;
	return CompareGroups(a, b, arg);
}

static void
DrawGroupFolds(Split *s)
{
	int64 rows[PARAMS_MAX_FOLDS] = {0};
	int64 count;
	Group **list = SortGroups(s, &count);

	if (count < s->folds)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("column \"%s\" has " INT64_FORMAT " groups, too few for %d folds", s->group_column,
							   count, s->folds),
						errhint("Use fewer folds: params => '{\"folds\": 2, ...}'.")));
	qsort_arg(list, count, sizeof(Group *), CompareSizes, s);
	for (int64 i = 0; i < count; i++)
	{
		for (int32 fold = 1; fold < s->folds; fold++)
			if (rows[fold] < rows[list[i]->part])
				list[i]->part = fold;
		rows[list[i]->part] += list[i]->rows;
	}
	pfree(list);
}

/* Part of the row's group, see there. */
static int32
GroupPart(const Split *s, const value *value)
{
	uint64 key = ValueKey(value);
	const Group *group;

	if (s->groups == NULL)
	{
		double u = Uniform(s->seed ^ GROUP_KEY, key);

		return s->folds > 0 ? (int32) (u * s->folds) : u < s->fraction;
	}
	group = hash_search(s->groups, &key, HASH_FIND, NULL);
	if (group == NULL)
		elog(ERROR, "a row of the temporary file is damaged");
	return group->part;
}

/* ---- passes ---- */

static void
StartStratum(Stratum *stratum, double fraction)
{
	stratum->left = stratum->rows;
	stratum->wanted = Min((int64) rint(fraction * stratum->rows), stratum->rows - 1);
}

void
SplitHoldOutFold(Split *s, int32 fold)
{
	s->fold = fold;
}

void
SplitStart(Split *s)
{
	HASH_SEQ_STATUS scan;
	Stratum *stratum;

	s->row = 0;
	StartStratum(&s->all, s->fraction);
	if (s->groups != NULL && !s->drawn)
	{
		if (s->folds > 0)
			DrawGroupFolds(s);
		else
			DrawGroups(s);
	}
	s->drawn = true;
	if (s->strata == NULL)
		return;
	hash_seq_init(&scan, s->strata);
	while ((stratum = hash_seq_search(&scan)) != NULL)
		StartStratum(stratum, s->fraction);
}

static Stratum *
FindStratum(Split *s, const value *label)
{
	uint64 key = ValueKey(label);
	Stratum *stratum;

	if (s->strata == NULL)
		return &s->all;
	stratum = hash_search(s->strata, &key, HASH_FIND, NULL);
	if (stratum == NULL)
		elog(ERROR, "a row of the temporary file is damaged");
	return stratum;
}

/* Draw the row with the probability that leaves exactly the wanted number in the end. */
static bool
DrawHeldOut(Split *s)
{
	Stratum *stratum = s->stratum;
	bool drawn = Uniform(s->seed ^ SPLIT_KEY, s->row) * stratum->left < stratum->wanted;

	stratum->left--;
	stratum->wanted -= drawn;
	return drawn;
}

/* The row's place in a permutation of the folds that is made anew for each k rows of its class. */
static int32
DrawFold(Split *s)
{
	Stratum *stratum = s->stratum;
	int64 place = stratum->rows - stratum->left--;
	int32 order[PARAMS_MAX_FOLDS];

	for (int32 i = 0; i < s->folds; i++)
	{
		uint32 random[4];
		int32 k;

		philox(s->seed ^ FOLD_KEY, place / s->folds, (uint32) stratum->number, i, random);
		k = ((uint64) random[0] * (i + 1)) >> 32;
		order[i] = order[k];
		order[k] = i;
	}
	return order[place % s->folds];
}

static bool
IsHeldOut(Split *s, const value *group, const value *flag)
{
	if (s->by_column)
		return flag->kind == VALUE_NUMBER && flag->number != 0;
	if (s->by_order)
		return s->row >= s->all.rows - s->all.wanted;
	if (s->folds > 0)
		return (s->group_column != NULL ? GroupPart(s, group) : DrawFold(s)) == s->fold;
	if (s->group_column != NULL)
		return GroupPart(s, group) == 1;
	return DrawHeldOut(s);
}

bool
SplitNext(Split *s, const value *label, const value *group, const value *flag)
{
	bool held_out;

	s->stratum = FindStratum(s, label);
	held_out = IsHeldOut(s, group, flag);
	s->row++;
	return held_out;
}

int32
SplitClass(const Split *s)
{
	return s->stratum->number;
}
