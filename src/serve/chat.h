/*
 * chat.h
 *	  Conversations with a language model.  Include after postgres.h.
 */
#ifndef LLMAPP_CHAT_H
#define LLMAPP_CHAT_H

#include "../format/json.h"
#include "generation.h"

/* What a conversation is made of; only messages must be there. */
typedef struct Conversation
{
	json_t *messages;
	json_t *tools;  /* or NULL */
	text *template; /* NULL: the model's own */
} Conversation;

/* An answer to begin with; args as those of NewGeneration(), whose prompt is not looked at. */
extern Generation *NewChat(LanguageCall *call, const NullableDatum *args, const Conversation *c);

#endif /* LLMAPP_CHAT_H */
