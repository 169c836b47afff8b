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
	MEMBER_FLAG,
	/* written where it is not 0, which it is where it is not there */
	MEMBER_OPTIONAL_INTEGER,
	MEMBER_OPTIONAL_NUMBER,
	MEMBER_OPTIONAL_FLAG
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
	{"rotary_dim", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, rotary_dim)},
	{"rope_factor", MEMBER_OPTIONAL_NUMBER, offsetof(transformer_config, rope_factor)},
	{"rope_low", MEMBER_OPTIONAL_NUMBER, offsetof(transformer_config, rope_low)},
	{"rope_high", MEMBER_OPTIONAL_NUMBER, offsetof(transformer_config, rope_high)},
	{"rope_context", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, rope_context)},
	{"rope_yarn", MEMBER_OPTIONAL_FLAG, offsetof(transformer_config, rope_yarn)},
	{"rope_whole", MEMBER_OPTIONAL_FLAG, offsetof(transformer_config, rope_whole)},
	{"rope_attention", MEMBER_OPTIONAL_NUMBER, offsetof(transformer_config, rope_attention)},
	{"window", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, window)},
	{"window_period", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, window_period)},
	{"window_theta", MEMBER_OPTIONAL_NUMBER, offsetof(transformer_config, window_theta)},
	{"query_dim", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, query_dim)},
	{"score_cap", MEMBER_OPTIONAL_NUMBER, offsetof(transformer_config, score_cap)},
	{"logit_cap", MEMBER_OPTIONAL_NUMBER, offsetof(transformer_config, logit_cap)},
	{"added_norm", MEMBER_OPTIONAL_FLAG, offsetof(transformer_config, added_norm)},
	{"parallel", MEMBER_OPTIONAL_FLAG, offsetof(transformer_config, parallel)},
	{"embed_scale", MEMBER_OPTIONAL_FLAG, offsetof(transformer_config, embed_scale)},
	{"types", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, types)},
	{"separator", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, separator)},
	{"labels", MEMBER_OPTIONAL_INTEGER, offsetof(transformer_config, labels)},
};

#define MEMBERS (sizeof(members) / sizeof(members[0]))

static void
write_member(json_t *o, const char *key, member_type type, const void *at)
{
	json_t *value = NULL;

	switch (type)
	{
		case MEMBER_INTEGER: value = json_integer(*(const int32_t *) at); break;
		case MEMBER_NUMBER: value = json_real(*(const float *) at); break;
		case MEMBER_FLAG: value = json_boolean(*(const bool *) at); break;
		case MEMBER_OPTIONAL_INTEGER:
			if (*(const int32_t *) at != 0)
				write_member(o, key, MEMBER_INTEGER, at);
			return;
		case MEMBER_OPTIONAL_NUMBER:
			if (*(const float *) at != 0)
				write_member(o, key, MEMBER_NUMBER, at);
			return;
		case MEMBER_OPTIONAL_FLAG:
			if (*(const bool *) at)
				write_member(o, key, MEMBER_FLAG, at);
			return;
	}
	json_object_set_new(o, key, value);
}

json_t *
transformer_json(const transformer_config *c)
{
	json_t *o = json_object();

	for (size_t i = 0; i < MEMBERS; i++)
		write_member(o, members[i].key, members[i].type, (const char *) c + members[i].offset);
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
		case MEMBER_OPTIONAL_INTEGER:
		case MEMBER_OPTIONAL_NUMBER:
		case MEMBER_OPTIONAL_FLAG:
			return json_object_get(o, key) == NULL ||
				   read_member(o, key, type - MEMBER_OPTIONAL_INTEGER + MEMBER_INTEGER, at, err);
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
