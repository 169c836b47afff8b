/*
 * chat.c
 *	  llm_chat(), llm_chat_prompt(): the answer of a model to the messages of a conversation.
 *
 * The model's template makes one prompt of the messages.  Special tokens are taken from the
 * template's own text alone, so that nobody can type one into a message.  What the template
 * writes behind an answer tells by which token the model will end its own.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"

#include "../common.h"
#include "../text/template.h"
#include "chat.h"
#include "schema.h"

PG_FUNCTION_INFO_V1(llm_chat);
PG_FUNCTION_INFO_V1(llm_chat_prompt);

/* Arguments of llm_chat() behind those of llm_generate(). */
enum
{
	CHAT_TOOLS = GENERATE_ARGS,
	CHAT_TEMPLATE
};

/* A prompt, and what of it came from the conversation. */
typedef struct Prompt
{
	text_buffer text;
	text_buffer marks;
} Prompt;

/* Of models that have none: ChatML where its tokens are known. */
static const char chatml[] =
	"{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
	"{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
static const char plain[] = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\\n' }}{% endfor %}"
							"{% if add_generation_prompt %}assistant:{% endif %}";
static const char last_message[] = "{{ messages[-1].content }}"; /* of models of pairs */

/* ---- the template ---- */

static bool
HasToken(const LanguageCall *call, const char *token)
{
	return tokenizer_find(call->tokenizer, token, strlen(token)) >= 0;
}

static const char *
TemplateSource(const LanguageCall *call, text *given)
{
	char *source;

	if (given != NULL)
	{
		source = text_to_cstring(given);
		return pg_server_to_any(source, strlen(source), PG_UTF8);
	}
	if (call->model->manifest->chat_template != NULL)
		return call->model->manifest->chat_template;
	if (encoder_has_tokens(call->model->manifest->encoder))
		return last_message;
	return HasToken(call, "<|im_start|>") && HasToken(call, "<|im_end|>") ? chatml : plain;
}

static chat_template *
OpenTemplate(const LanguageCall *call, text *given)
{
	const char *source = TemplateSource(call, given);
	llm_error err = {0};
	chat_template *t = template_parse(source, strlen(source), &err);

	if (t == NULL)
		ThrowError(&err);
	OWN(t, template_free);
	return t;
}

/* ---- prompts ---- */

static json_t *
SpecialToken(const LanguageCall *call, special_token name)
{
	int32 id = tokenizer_special(call->tokenizer, name);
	size_t length = 0;
	const char *token = id < 0 ? "" : tokenizer_token(call->tokenizer, id, &length);

	return json_stringn(token, length);
}

static struct tm
LocalTime(void)
{
	pg_time_t seconds = (pg_time_t) time(NULL);
	struct pg_tm *local = pg_localtime(&seconds, session_timezone);

	return (struct tm) {.tm_sec = local->tm_sec,
						.tm_min = local->tm_min,
						.tm_hour = local->tm_hour,
						.tm_mday = local->tm_mday,
						.tm_mon = local->tm_mon,
						.tm_year = local->tm_year,
						.tm_wday = local->tm_wday,
						.tm_yday = local->tm_yday,
						.tm_isdst = local->tm_isdst};
}

static void
FreePrompt(void *arg)
{
	Prompt *prompt = arg;

	free(prompt->text.bytes);
	free(prompt->marks.bytes);
}

/* answer: let the prompt end where the model's answer begins. */
static Prompt *
RenderPrompt(const LanguageCall *call, const chat_template *t, const Conversation *c, json_t *messages, bool answer,
			 llm_error *err)
{
	Prompt *prompt = palloc0(sizeof(Prompt));
	struct tm now = LocalTime();
	json_t *given = json_pack("{s:O, s:O?}", "messages", messages, "tools", c->tools);
	json_t *own =
		json_pack("{s:b, s:o, s:o, s:n}", "add_generation_prompt", answer, "bos_token",
				  SpecialToken(call, SPECIAL_BEGIN), "eos_token", SpecialToken(call, SPECIAL_END), "documents");
	bool ok = !json_memory_failed();

	OWN(prompt, FreePrompt);
	if (ok)
		ok = template_render(t, given, own, &now, &prompt->text, &prompt->marks, err);
	else
		llm_fail(err, LLM_MEMORY, "out of memory for a prompt");
	json_decref(given);
	json_decref(own);
	return ok ? prompt : NULL;
}

static void
EncodeRendered(LanguageCall *call, const Prompt *prompt, Size from, token_list *out)
{
	llm_error err = {0};

	out->count = 0;
	if (!tokenizer_encode_marked(call->tokenizer, prompt->text.bytes + from, prompt->marks.bytes + from,
								 prompt->text.size - from, out, &err))
		ThrowError(&err);
}

/* The special token that the template writes right behind an answer, or -1. */
static int32
TurnEnd(LanguageCall *call, const chat_template *t, const Conversation *c)
{
	json_t *messages = json_deep_copy(c->messages);
	llm_error ignored = {0}; /* templates may refuse an answer where one is made up */
	Prompt *prompt;
	Size behind;

	json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "assistant", "content", "answer"));
	prompt = RenderPrompt(call, t, c, messages, false, &ignored);
	json_decref(messages);
	if (prompt == NULL)
		return -1;
	for (behind = prompt->text.size; behind > 0 && !prompt->marks.bytes[behind - 1];)
		behind--;
	EncodeRendered(call, prompt, behind, &call->tokens);
	return call->tokens.count > 0 && tokenizer_type(call->tokenizer, call->tokens.id[0]) == TOKEN_SPECIAL
			   ? call->tokens.id[0]
			   : -1;
}

static void
CheckMessages(const Conversation *c)
{
	size_t i;
	json_t *message;
	bool ok = json_array_size(c->messages) > 0;

	json_array_foreach(c->messages, i, message)
		ok &= json_is_string(json_object_get(message, "role"));
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("messages are not an array of objects with a role"),
				 errhint("Write messages as in '[{\"role\": \"user\", \"content\": \"Hello\"}]'.")));
}

static Prompt *
RequirePrompt(LanguageCall *call, const chat_template *t, const Conversation *c)
{
	llm_error err = {0};
	Prompt *prompt = RenderPrompt(call, t, c, c->messages, true, &err);

	if (prompt == NULL)
		ThrowError(&err);
	return prompt;
}

Generation *
NewChat(LanguageCall *call, const NullableDatum *args, const Conversation *c)
{
	chat_template *t = OpenTemplate(call, c->template);
	Prompt *prompt = RequirePrompt(call, t, c);
	NullableDatum pair_args[GENERATE_ARGS];
	int32 turn_end;

	if (encoder_has_tokens(call->model->manifest->encoder)) /* of pairs: its prompts are text */
	{
		memcpy(pair_args, args, sizeof(pair_args));
		pair_args[GENERATE_PROMPT].value = PointerGetDatum(TextOfBytes(prompt->text.bytes, prompt->text.size));
		pair_args[GENERATE_PROMPT].isnull = false;
		return NewGeneration(call, pair_args);
	}
	turn_end = TurnEnd(call, t, c);
	EncodeRendered(call, prompt, 0, &call->tokens);
	return NewGenerationOf(call, args, &call->tokens, turn_end);
}

/* ---- functions ---- */

static Conversation
ReadConversation(Jsonb *messages, NullableDatum tools, NullableDatum template)
{
	Conversation c = {.messages = JsonOfJsonb(JsonbPGetDatum(messages)),
					  .tools = tools.isnull ? NULL : JsonOfJsonb(tools.value),
					  .template = template.isnull ? NULL : DatumGetTextPP(template.value)};

	CheckMessages(&c);
	return c;
}

/* llm_chat(model, messages, ... as llm_generate() ..., tools, template) */
Datum
llm_chat(PG_FUNCTION_ARGS)
{
	LanguageCall *call;
	Conversation c;
	Generation *gen;
	instr_time start;

	if (PG_ARGISNULL(GENERATE_MODEL) || PG_ARGISNULL(GENERATE_PROMPT))
		PG_RETURN_NULL();
	INSTR_TIME_SET_CURRENT(start);
	call = OpenLanguageCall(fcinfo, PG_GETARG_OID(GENERATE_MODEL));
	c = ReadConversation(PG_GETARG_JSONB_P(GENERATE_PROMPT), fcinfo->args[CHAT_TOOLS], fcinfo->args[CHAT_TEMPLATE]);
	gen = NewChat(call, fcinfo->args, &c);
	GenerateTogether(call, &gen, 1);
	MeterTexts(call, 1, NanosecondsSince(start));
	PG_RETURN_TEXT_P(GeneratedText(gen));
}

/* llm_chat_prompt(model, messages, tools, template) */
Datum
llm_chat_prompt(PG_FUNCTION_ARGS)
{
	LanguageCall *call;
	Conversation c;
	Prompt *prompt;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	call = OpenLanguageCall(fcinfo, PG_GETARG_OID(0));
	c = ReadConversation(PG_GETARG_JSONB_P(1), fcinfo->args[2], fcinfo->args[3]);
	prompt = RequirePrompt(call, OpenTemplate(call, c.template), &c);
	PG_RETURN_TEXT_P(TextOfBytes(prompt->text.bytes, prompt->text.size));
}
