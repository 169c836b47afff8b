/*
 * architecture.h
 *	  The kinds of networks that a training can make: one table for settings, manifests
 *	  and llm_architectures().
 */
#ifndef LLMAPP_ARCHITECTURE_H
#define LLMAPP_ARCHITECTURE_H

#include <stdint.h>

/* As bits: a setting says by them for which it has a meaning. */
#define ARCH_MLP 1
#define ARCH_CNN 2
#define ARCH_LAYERS 4
#define ARCH_GPT 8
#define ARCH_LLAMA 16
#define ARCH_BERT 32
#define ARCH_T5 64
#define ARCH_TABLE (ARCH_MLP | ARCH_CNN | ARCH_LAYERS) /* networks on the columns of a row */
#define ARCH_DECODER (ARCH_GPT | ARCH_LLAMA)           /* write a text token after token */
#define ARCH_READER (ARCH_DECODER | ARCH_BERT)         /* predict columns from a text */
#define ARCH_TEXT (ARCH_DECODER | ARCH_BERT | ARCH_T5) /* transformers on the tokens of a text */
#define ARCH_ALL (ARCH_TABLE | ARCH_TEXT)

typedef struct architecture_info
{
	const char *name;
	uint32_t bit;
	const char *tasks;
	const char *description;
} architecture_info;

extern const architecture_info *architecture_table(int32_t *count);
extern const architecture_info *architecture_find(const char *name); /* NULL: unknown */

#endif /* LLMAPP_ARCHITECTURE_H */
