/*
 * architecture.c
 *	  The kinds of networks that a training can make.
 */
#include "architecture.h"

#include <stddef.h>
#include <string.h>

#define TASKS "classification, regression"
#define TEXT_TASKS "generation, embedding, classification, regression"

static const architecture_info architectures[] = {
	{"mlp", ARCH_MLP, TASKS,
	 "multilayer perceptron on table columns; without hidden layers a linear or logistic regression"},
	{"cnn", ARCH_CNN, TASKS, "convolutional network on an image column, with other columns beside it"},
	{"layers", ARCH_LAYERS, TASKS, "the network that the setting layers declares, on columns, an image or both"},
	{"gpt", ARCH_GPT, TEXT_TASKS,
	 "decoder transformer as GPT-2: learned positions, layer norm, GELU; learns the texts of one column, or reads "
	 "one "
	 "beside others"},
	{"llama", ARCH_LLAMA, TEXT_TASKS,
	 "decoder transformer as Llama: rotary positions, RMS norm, gated SiLU, grouped heads; learns the texts of one "
	 "column, or reads one beside others"},
	{"bert", ARCH_BERT, "masked_lm, embedding, classification, regression",
	 "encoder transformer as BERT, whose tokens see the whole text: learns the texts of one column by predicting "
	 "hidden "
	 "tokens, or reads one beside others"},
	{"t5", ARCH_T5, "generation",
	 "encoder-decoder transformer as T5: relative positions, RMS norm; learns to write a text for the text of "
	 "another "
	 "column, the prompt"},
};

#define ARCHITECTURES ((int32_t) (sizeof(architectures) / sizeof(architectures[0])))

const architecture_info *
architecture_table(int32_t *count)
{
	*count = ARCHITECTURES;
	return architectures;
}

const architecture_info *
architecture_find(const char *name)
{
	for (int32_t i = 0; i < ARCHITECTURES; i++)
		if (strcmp(architectures[i].name, name) == 0)
			return &architectures[i];
	return NULL;
}
