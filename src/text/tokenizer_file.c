/*
 * tokenizer_file.c
 *	  The files of a tokenizer: which is read, and what transformers keeps beside it.
 */
#include "tokenizer_file.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer_source.h"

/* ---- special tokens ---- */

static const struct
{
	const char *key;
	const char *usual[4]; /* what it is called where no file says */
} roles[SPECIAL_TOKENS] = {
	[SPECIAL_UNKNOWN] = {"unk_token", {NULL}},
	[SPECIAL_BEGIN] = {"bos_token", {"<s>", "<bos>", "<|begin_of_text|>", NULL}},
	[SPECIAL_END] = {"eos_token", {"</s>", "<eos>", "<|endoftext|>", NULL}},
	[SPECIAL_PADDING] = {"pad_token", {"<pad>", "[PAD]", NULL}},
	[SPECIAL_CLASS] = {"cls_token", {"[CLS]", NULL}},
	[SPECIAL_SEPARATOR] = {"sep_token", {"[SEP]", NULL}},
	[SPECIAL_MASK] = {"mask_token", {"[MASK]", "<mask>", NULL}},
};

/* A text, or {"content": text}; NULL: none. */
static const char *
role_text(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

/* What is unknown is the model's own business; the first that names another token wins. */
static void
find_roles(tokenizer_source *s, const json_t *map)
{
	for (int i = SPECIAL_BEGIN; i < SPECIAL_TOKENS; i++)
	{
		const char *text = role_text(s->config, roles[i].key);

		if (text == NULL)
			text = role_text(map, roles[i].key);
		if (text != NULL)
			s->special[i] = source_find(s, text, strlen(text));
		for (int n = 0; text == NULL && s->special[i] < 0 && roles[i].usual[n] != NULL; n++)
		{
			int32_t id = source_find(s, roles[i].usual[n], strlen(roles[i].usual[n]));

			s->special[i] = id >= 0 && s->token[id].type == TOKEN_SPECIAL ? id : -1;
		}
	}
}

/* ---- what transformers keeps beside lists and models ---- */

/* {"id": {"content": ..., "special": ...}, ...} */
static bool
read_added_decoder(tokenizer_source *s, llm_error *err)
{
	const json_t *list = json_object_get(s->config, "added_tokens_decoder"), *token;
	const char *key, *text;

	s->expected += json_object_size(list);
	json_object_foreach((json_t *) list, key, token)
	{
		char *end;
		long long id = strtoll(key, &end, 10);
		bool special;
		uint8_t flags;

		if (*key == '\0' || *end != '\0')
			return llm_fail(err, LLM_CORRUPT, "added_tokens_decoder has a key that is no number");
		if (!json_read_string(token, "content", &text, err) || !source_added_flags(token, &flags, &special, err) ||
			!source_token_add(s, id, text, strlen(text), special, flags, err))
			return false;
	}
	return true;
}

/* {"content": id, ...}: special are those that have a role. */
static bool
read_added_tokens(tokenizer_source *s, const json_t *added, llm_error *err)
{
	const char *text;
	const json_t *id;

	s->expected += json_object_size(added);
	json_object_foreach((json_t *) added, text, id)
	{
		bool special = false;

		if (!json_is_integer(id))
			return llm_fail(err, LLM_CORRUPT, "token \"%.100s\" of added_tokens.json has no number", text);
		if (json_integer_value(id) < s->tokens && json_integer_value(id) >= 0 &&
			s->token[json_integer_value(id)].added != 0)
			continue;
		for (int i = 0; i < SPECIAL_TOKENS; i++)
		{
			const char *role = role_text(s->config, roles[i].key);

			special = special || (role != NULL && strcmp(role, text) == 0);
		}
		if (!source_token_add(s, json_integer_value(id), text, strlen(text), special, special ? 0 : ADDED_NORMALISED,
							  err))
			return false;
	}
	return true;
}

/* add_bos_token and add_eos_token come before the frame that the file has. */
static bool
read_frame_settings(tokenizer_source *s, llm_error *err)
{
	static const char *const keys[] = {"add_bos_token", "add_eos_token"};
	int32_t begin = s->special[SPECIAL_BEGIN], end = s->special[SPECIAL_END];
	bool add[2] = {false, false}, said = false;

	for (int i = 0; i < 2; i++)
	{
		if (!source_bool(s->config, keys[i], false, &add[i], err))
			return false;
		said = said || json_is_boolean(json_object_get(s->config, keys[i]));
	}
	if (!said || s->options.kind != TOKENIZER_BPE)
		return true;
	s->one.count = s->two.count = 0;
	for (int second = 0; second < 2; second++)
		for (int frame = second; frame < 2; frame++)
		{
			source_frame *f = frame ? &s->two : &s->one;

			if ((add[0] && begin >= 0 && !source_frame_add(f, begin, second, err)) ||
				!source_frame_add(f, second ? FRAME_SECOND : FRAME_FIRST, second, err) ||
				(add[1] && end >= 0 && !source_frame_add(f, end, second, err)))
				return false;
		}
	return true;
}

/* ---- for the caller ---- */

static char *
copy_text(const char *text, size_t length, llm_error *err)
{
	char *copy = malloc(length + 1);

	if (copy == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
		return NULL;
	}
	memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

/* A text, or a list of {"name", "template"}. */
static const json_t *
find_template(const json_t *value)
{
	const json_t *first = json_object_get(json_array_get(value, 0), "template");

	if (!json_is_array(value))
		return value;
	for (size_t i = 0; i < json_array_size(value); i++)
	{
		const char *name = json_string_value(json_object_get(json_array_get(value, i), "name"));

		if (name != NULL && strcmp(name, "default") == 0)
			return json_object_get(json_array_get(value, i), "template");
	}
	return first;
}

static bool
read_chat_template(const tokenizer_source *s, file_bytes file, tokenizer_file_info *info, llm_error *err)
{
	const json_t *value = json_object_get(s->config, "chat_template"), *found = find_template(value);

	if (file.bytes != NULL && memchr(file.bytes, '\0', file.size) != NULL)
		return llm_fail(err, LLM_CORRUPT, "the chat template has a zero byte");
	if (file.bytes != NULL)
		info->chat_template = copy_text(file.bytes, file.size, err);
	else if (json_is_string(found))
		info->chat_template = copy_text(json_string_value(found), json_string_length(found), err);
	else if (value == NULL || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0))
		return true;
	else
		return llm_fail(err, LLM_CORRUPT, "chat_template of tokenizer_config.json is not a text");
	return info->chat_template != NULL;
}

/* transformers writes 1e30 for "any length". */
static bool
read_info(const tokenizer_source *s, file_bytes chat_template, tokenizer_file_info *info, llm_error *err)
{
	const json_t *length = json_object_get(s->config, "model_max_length");
	char name[64];

	if (json_is_number(length) && json_number_value(length) > 0 && json_number_value(length) <= INT32_MAX)
		info->max_length = (int64_t) json_number_value(length);
	if (!source_class(s->config, name, sizeof(name), err) || !read_chat_template(s, chat_template, info, err))
		return false;
	if (name[0] != '\0')
		info->class_name = copy_text(name, strlen(name), err);
	return name[0] == '\0' || info->class_name != NULL;
}

/* ---- all files ---- */

static bool
read_model_file(tokenizer_source *s, const tokenizer_files *f, llm_error *err)
{
	const json_t *json;

	if (f->tokenizer_json.bytes != NULL)
		return (json = source_parse(s, "tokenizer.json", f->tokenizer_json, err)) != NULL &&
			   tokenizer_json_read(s, json, err);
	if (f->tokenizer_model.bytes != NULL)
	{
		if (!sentencepiece_read(s, f->tokenizer_model, err))
			return false;
	}
	else if (f->vocab_txt.bytes != NULL)
	{
		if (!vocabulary_txt_read(s, f->vocab_txt, err))
			return false;
	}
	else if (f->vocab_json.bytes != NULL)
	{
		if ((json = source_parse(s, "vocab.json", f->vocab_json, err)) == NULL ||
			!vocabulary_json_read(s, json, f->merges_txt, err))
			return false;
	}
	else
	{
		llm_fail(err, LLM_INVALID, "there is no file of a tokenizer");
		return llm_hint(err, "Needed is tokenizer.json, tokenizer.model, vocab.txt, or vocab.json with merges.txt.");
	}
	if (!read_added_decoder(s, err))
		return false;
	if (f->added_tokens_json.bytes == NULL)
		return true;
	return (json = source_parse(s, "added_tokens.json", f->added_tokens_json, err)) != NULL &&
		   read_added_tokens(s, json, err);
}

/* What sentence-transformers puts in front of a normalizer that does not make texts lower-case itself. */
static bool
read_lower_case(tokenizer_source *s, file_bytes file, llm_error *err)
{
	const json_t *settings = file.bytes ? source_parse(s, "sentence_bert_config.json", file, err) : NULL;
	bool lower;

	if (file.bytes == NULL)
		return true;
	if (settings == NULL || !source_bool(settings, "do_lower_case", false, &lower, err))
		return false;
	for (int32_t i = 0; i < s->steps && lower; i++)
		lower = s->step[i].kind != STEP_LOWER;
	if (!lower)
		return true;
	if (s->options.kind == TOKENIZER_WORDPIECE)
	{
		s->options.flags |= FLAG_LOWERCASE;
		return true;
	}
	if (!source_step_add(s, STEP_LOWER, NULL, NULL, err))
		return false;
	memmove(s->step + 1, s->step, (s->steps - 1) * sizeof(s->step[0]));
	s->step[0] = (source_step) {STEP_LOWER};
	return true;
}

static bool
read_files(tokenizer_source *s, const tokenizer_files *f, tokenizer_file_info *info, llm_error *err)
{
	static const file_bytes nothing = {"{}", 2};
	const json_t *map;

	s->config = source_parse(s, "tokenizer_config.json",
							 f->tokenizer_config_json.bytes ? f->tokenizer_config_json : nothing, err);
	map = s->config ? source_parse(s, "special_tokens_map.json",
								   f->special_tokens_map_json.bytes ? f->special_tokens_map_json : nothing, err)
					: NULL;
	if (map == NULL || !read_model_file(s, f, err) || !read_lower_case(s, f->sentence_bert_config_json, err))
		return false;
	find_roles(s, map);
	return read_frame_settings(s, err) && read_info(s, f->chat_template, info, err);
}

void *
tokenizer_from_files(const tokenizer_files *files, tokenizer_file_info *info, size_t *block_bytes, llm_error *err)
{
	tokenizer_source s = {.options = {.kind = TOKENIZER_BPE}};
	void *block = NULL;

	*info = (tokenizer_file_info) {0};
	memset(s.special, 0xFF, sizeof(s.special));
	if (read_files(&s, files, info, err))
		block = source_build(&s, block_bytes, err);
	source_free(&s);
	if (block == NULL)
		tokenizer_file_info_free(info);
	return block;
}

void
tokenizer_file_info_free(tokenizer_file_info *info)
{
	free(info->chat_template);
	free(info->class_name);
	*info = (tokenizer_file_info) {0};
}
