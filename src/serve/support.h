/*
 * support.h
 *	  What the planner is told about prediction functions.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_SUPPORT_H
#define LLMAPP_SUPPORT_H

#include "../model/model.h"

/* Remember for this session how much work a row is for a model that was opened. */
extern void RememberModel(const Model *model);
/* Multiplications of a row for such a model; negative when it is not known. */
extern double KnownMultiplications(Oid relid);

#endif /* LLMAPP_SUPPORT_H */
