/*
 * split.h
 *	  Which rows of a training are held out, the same ones in every pass.
 *
 * Use: CreateSplit(); SplitCount() for every row while it is loaded; then, as often as
 * wanted, SplitStart() and SplitNext() for every row in the same order.  Include after
 * postgres.h.
 */
#ifndef LLMAPP_SPLIT_H
#define LLMAPP_SPLIT_H

#include "../feature/feature.h"
#include "../format/params.h"

typedef struct Split Split;

/* In the current memory context.  most_classes: distinct labels up to which rows are stratified, 0: not at all. */
extern Split *CreateSplit(const train_params *params, int32 most_classes);
/* group: NULL value or not, of the column that keeps rows together; not looked at without one. */
extern void SplitCount(Split *split, const value *label, const value *group);
extern int32 SplitClasses(const Split *split); /* distinct labels, 0 when rows are not stratified */
extern void SplitForgetClasses(Split *split);

/* Whether so many folds come out alike: a row of each class in each of them, no group larger than one. */
extern bool SplitIsEven(const Split *split, int32 folds);
/* Before the first pass: draw so many folds, 0 for one held-out part. */
extern void SplitInFolds(Split *split, int32 folds);
/* With folds: hold out this one in the passes that follow, or nothing for -1, as at first. */
extern void SplitHoldOutFold(Split *split, int32 fold);
/* All rows are counted: start a pass.  ERROR when groups are fewer than folds. */
extern void SplitStart(Split *split);
/* Whether the next row is held out; flag: value of the validation column. */
extern bool SplitNext(Split *split, const value *label, const value *group, const value *flag);
extern int32 SplitClass(
	const Split *split); /* of that row: its label's number in order of appearance, -1 when not stratified */

#endif /* LLMAPP_SPLIT_H */
