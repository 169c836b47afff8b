/*
 * transformer_json.c
 *	  The configuration of a transformer to JSON and back, member by member of one table.
 */
#include "transformer_json.h"

#include <stddef.h>

typedef enum member_type
{
	MEMBER_INTEGER,
	MEMBER_NUMBER,
	MEMBER_FLAG
} member_type;

static const struct
{
	const char *key;
	member_type type;
	size_t offset;
} members[] = {
	{"vocab", MEMBER_INTEGER, offsetof(transformer_config, vocab)},
	{"context", MEMBER_INTEGER, offsetof(transformer_config, context)},
	{"width", MEMBER_INTEGER, offsetof(transformer_config, width)},
	{"depth", MEMBER_INTEGER, offsetof(transformer_config, depth)},
	{"heads", MEMBER_INTEGER, offsetof(transformer_config, heads)},
	{"kv_heads", MEMBER_INTEGER, offsetof(transformer_config, kv_heads)},
	{"head_dim", MEMBER_INTEGER, offsetof(transformer_config, head_dim)},
	{"ffn", MEMBER_INTEGER, offsetof(transformer_config, ffn)},
	{"encoder_depth", MEMBER_INTEGER, offsetof(transformer_config, encoder_depth)},
	{"source_context", MEMBER_INTEGER, offsetof(transformer_config, source_context)},
	{"rotary", MEMBER_FLAG, offsetof(transformer_config, rotary)},
	{"rope_theta", MEMBER_NUMBER, offsetof(transformer_config, rope_theta)},
	{"buckets", MEMBER_INTEGER, offsetof(transformer_config, buckets)},
	{"distance", MEMBER_INTEGER, offsetof(transformer_config, distance)},
	{"rms_norm", MEMBER_FLAG, offsetof(transformer_config, rms_norm)},
	{"norm_epsilon", MEMBER_NUMBER, offsetof(transformer_config, norm_epsilon)},
	{"gated", MEMBER_FLAG, offsetof(transformer_config, gated)},
	{"bias", MEMBER_FLAG, offsetof(transformer_config, bias)},
	{"qkv_bias", MEMBER_FLAG, offsetof(transformer_config, qkv_bias)},
	{"qk_norm", MEMBER_FLAG, offsetof(transformer_config, qk_norm)},
	{"tied", MEMBER_FLAG, offsetof(transformer_config, tied)},
	{"bidirectional", MEMBER_FLAG, offsetof(transformer_config, bidirectional)},
	{"post_norm", MEMBER_FLAG, offsetof(transformer_config, post_norm)},
	{"head_transform", MEMBER_FLAG, offsetof(transformer_config, head_transform)},
	{"head_scale", MEMBER_FLAG, offsetof(transformer_config, head_scale)},
	{"dropout", MEMBER_NUMBER, offsetof(transformer_config, dropout)},
};

#define MEMBERS (sizeof(members) / sizeof(members[0]))

json_t *
transformer_json(const transformer_config *c)
{
	json_t *o = json_object();

	for (size_t i = 0; i < MEMBERS; i++)
	{
		const void *at = (const char *) c + members[i].offset;

		json_object_set_new(o, members[i].key,
							members[i].type == MEMBER_INTEGER  ? json_integer(*(const int32_t *) at)
							: members[i].type == MEMBER_NUMBER ? json_real(*(const float *) at)
															   : json_boolean(*(const bool *) at));
	}
	json_object_set_new(o, "activation", json_string(net_activation_name(c->activation)));
	return o;
}

static bool
read_member(const json_t *o, const char *key, member_type type, void *at, llm_error *err)
{
	int64_t integer;
	double number;

	switch (type)
	{
		case MEMBER_INTEGER:
			if (!json_read_int(o, key, 0, INT32_MAX, &integer, err))
				return false;
			*(int32_t *) at = (int32_t) integer;
			return true;
		case MEMBER_NUMBER:
			if (!json_read_number(o, key, 0, 1e9, &number, err))
				return false;
			*(float *) at = (float) number;
			return true;
		case MEMBER_FLAG: return json_read_bool(o, key, at, err);
	}
	return false;
}

bool
transformer_from_json(const json_t *o, transformer_config *c, llm_error *err)
{
	const char *activation;

	for (size_t i = 0; i < MEMBERS; i++)
		if (!read_member(o, members[i].key, members[i].type, (char *) c + members[i].offset, err))
			return false;
	if (!json_read_string(o, "activation", &activation, err))
		return false;
	if (!net_activation_parse(activation, &c->activation))
		return llm_fail(err, LLM_CORRUPT, "\"activation\" is \"%.32s\", which this version does not know",
						activation);
	return c->vocab > 0 || llm_fail(err, LLM_CORRUPT, "\"vocab\" of \"transformer\" is 0");
}
