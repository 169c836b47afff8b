/*
 * sentencepiece.c
 *	  tokenizer.model of SentencePiece: a ModelProto in the wire format of Protocol Buffers.
 *
 * A message is a sequence of fields: a number of seven bits a byte whose low three bits are the
 * wire type and the others the field, then its value.  Fields that are not asked for are skipped;
 * groups and everything beyond the end of the message are refused.
 *
 *	 ModelProto: pieces = 1, trainer_spec = 2, normalizer_spec = 3
 *	 SentencePiece: piece = 1, score = 2, type = 3
 *	 TrainerSpec: model_type = 3, treat_whitespace_as_suffix = 24, byte_fallback = 35, unk_id = 40 ...
 *	 NormalizerSpec: precompiled_charsmap = 2, add_dummy_prefix = 3, remove_extra_whitespaces = 4,
 *	 escape_whitespaces = 5
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_source.h"

#define T5_EXTRA_MAX 1000
#define T5_EXTRA_BYTES 24

enum piece_type
{
	PIECE_NORMAL = 1,
	PIECE_UNKNOWN,
	PIECE_CONTROL,
	PIECE_USER,
	PIECE_UNUSED,
	PIECE_BYTE
};

enum model_type
{
	MODEL_UNIGRAM = 1,
	MODEL_BPE,
	MODEL_WORD,
	MODEL_CHAR
};

/* ---- the wire format ---- */

typedef struct message
{
	const uint8_t *at, *end;
} message;

typedef struct field
{
	uint32_t number;
	uint64_t value; /* of a number; of four or eight bytes their bits */
	message bytes;  /* of a string or message */
} field;

static bool
read_varint(message *m, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && m->at < m->end; shift += 7)
	{
		uint8_t byte = *m->at++;

		*value |= (uint64_t) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

static bool
read_fixed(message *m, int bytes, uint64_t *value)
{
	*value = 0;
	if (m->end - m->at < bytes)
		return false;
	for (int i = 0; i < bytes; i++)
		*value |= (uint64_t) *m->at++ << 8 * i;
	return true;
}

/* The next field; false with *ok at the end of the message, without *ok for bytes that are none. */
static bool
next_field(message *m, field *f, bool *ok)
{
	uint64_t key, length = 0;

	*ok = true;
	if (m->at == m->end)
		return false;
	*f = (field) {.number = 0};
	*ok = read_varint(m, &key) && key >> 3 > 0 && key >> 3 < UINT32_C(1) << 29;
	f->number = (uint32_t) (key >> 3);
	if (*ok)
		switch (key & 7)
		{
			case 0: *ok = read_varint(m, &f->value); break;
			case 1: *ok = read_fixed(m, 8, &f->value); break;
			case 2:
				*ok = read_varint(m, &length) && length <= (uint64_t) (m->end - m->at);
				f->bytes = (message) {m->at, m->at + (*ok ? length : 0)};
				m->at = f->bytes.end;
				break;
			case 5: *ok = read_fixed(m, 4, &f->value); break;
			default: *ok = false;
		}
	return *ok;
}

static bool
damaged(llm_error *err)
{
	return llm_fail(err, LLM_CORRUPT, "tokenizer.model is not a model of SentencePiece, or is damaged");
}

/* ---- the two specifications ---- */

typedef struct specification
{
	uint64_t model; /* enum model_type */
	bool byte_fallback, suffix;
	bool prefix, once, escape;
	message map;
	int64_t special[SPECIAL_TOKENS]; /* ids that the trainer gave */
} specification;

static bool
read_trainer(message m, specification *spec)
{
	field f;
	bool ok;

	while (next_field(&m, &f, &ok))
		switch (f.number)
		{
			case 3: spec->model = f.value; break;
			case 24: spec->suffix = f.value != 0; break;
			case 35: spec->byte_fallback = f.value != 0; break;
			case 40: spec->special[SPECIAL_UNKNOWN] = (int32_t) f.value; break;
			case 41: spec->special[SPECIAL_BEGIN] = (int32_t) f.value; break;
			case 42: spec->special[SPECIAL_END] = (int32_t) f.value; break;
			case 43: spec->special[SPECIAL_PADDING] = (int32_t) f.value; break;
			default: break;
		}
	return ok;
}

static bool
read_normalizer(message m, specification *spec)
{
	field f;
	bool ok;

	while (next_field(&m, &f, &ok))
		switch (f.number)
		{
			case 2: spec->map = f.bytes; break;
			case 3: spec->prefix = f.value != 0; break;
			case 4: spec->once = f.value != 0; break;
			case 5: spec->escape = f.value != 0; break;
			default: break;
		}
	return ok;
}

static bool
read_specification(message m, specification *spec, size_t *pieces, llm_error *err)
{
	field f;
	bool ok, inner = true;

	*spec = (specification) {
		.model = MODEL_UNIGRAM, .prefix = true, .once = true, .escape = true, .special = {0, 1, 2, -1, -1, -1, -1}};
	*pieces = 0;
	while (inner && next_field(&m, &f, &ok))
	{
		*pieces += f.number == 1;
		if (f.number == 2)
			inner = read_trainer(f.bytes, spec);
		if (f.number == 3)
			inner = read_normalizer(f.bytes, spec);
	}
	if (!inner || !ok || *pieces == 0)
		return damaged(err);
	if (spec->model != MODEL_UNIGRAM && spec->model != MODEL_BPE)
		return source_unsupported(err, "a SentencePiece model of the type",
								  spec->model == MODEL_WORD   ? "word"
								  : spec->model == MODEL_CHAR ? "char"
															  : "unknown",
								  "Supported are unigram and bpe.");
	if (spec->suffix || !spec->escape)
		return source_unsupported(err, "a setting of SentencePiece",
								  spec->suffix ? "treat_whitespace_as_suffix" : "escape_whitespaces = false",
								  "Supported are models that mark words in front.");
	return true;
}

/* ---- pieces ---- */

static const struct
{
	uint64_t type;
	token_type token;
} piece_types[] = {
	{PIECE_NORMAL, TOKEN_NORMAL}, {PIECE_UNKNOWN, TOKEN_SPECIAL}, {PIECE_CONTROL, TOKEN_SPECIAL},
	{PIECE_USER, TOKEN_ADDED},    {PIECE_UNUSED, TOKEN_UNUSED},   {PIECE_BYTE, TOKEN_BYTE},
};

static bool
read_piece(tokenizer_source *s, message m, int64_t id, llm_error *err)
{
	message text = {NULL, NULL};
	uint64_t type = PIECE_NORMAL;
	float score = 0;
	field f;
	bool ok;
	size_t n = 0;

	while (next_field(&m, &f, &ok))
	{
		uint32_t bits = (uint32_t) f.value;

		if (f.number == 1)
			text = f.bytes;
		if (f.number == 2)
			memcpy(&score, &bits, sizeof(score));
		if (f.number == 3)
			type = f.value;
	}
	while (n < sizeof(piece_types) / sizeof(piece_types[0]) && piece_types[n].type != type)
		n++;
	if (!ok || text.at == NULL || n == sizeof(piece_types) / sizeof(piece_types[0]))
		return damaged(err);
	if (!source_token_put(s, id, (const char *) text.at, (size_t) (text.end - text.at), piece_types[n].token,
						  type == PIECE_NORMAL || type == PIECE_USER ? score : 0, err))
		return false;
	if (type == PIECE_USER)
		s->token[id].added = ADDED_NORMALISED;
	if (type == PIECE_UNKNOWN)
		s->special[SPECIAL_UNKNOWN] = (int32_t) id;
	return true;
}

/*
 * Ids of XLM-RoBERTa are those of its first trainer: <s> <pad> </s> <unk>, then the pieces behind
 * the three special ones, each one higher, then <mask>.
 */
static int64_t
shifted_id(int64_t piece)
{
	static const int64_t first[] = {3, 0, 2};

	return piece < 3 ? first[piece] : piece + 1;
}

static bool
read_pieces(tokenizer_source *s, message m, bool shifted, llm_error *err)
{
	int64_t piece = 0;
	field f;
	bool ok;

	while (next_field(&m, &f, &ok))
		if (f.number == 1)
		{
			if (!read_piece(s, f.bytes, shifted ? shifted_id(piece) : piece, err))
				return false;
			piece++;
		}
	return ok || damaged(err);
}

/* ---- classes of transformers ---- */

static bool
finish_shifted(tokenizer_source *s, llm_error *err)
{
	return source_token_add(s, 1, "<pad>", 5, true, 0, err) &&
		   source_token_add(s, s->tokens, "<mask>", 6, true, ADDED_LEFT, err) &&
		   source_frame_around(s, "<s>", "</s>", "</s>", false, err);
}

/* <extra_id_0> is the last of as many as the configuration says. */
static bool
finish_t5(tokenizer_source *s, llm_error *err)
{
	int64_t extra = 100;
	int32_t first = s->tokens;

	if (json_object_get(s->config, "extra_ids") != NULL &&
		!json_read_int(s->config, "extra_ids", 0, T5_EXTRA_MAX, &extra, err))
		return false;
	s->kept = calloc((size_t) extra + 1, T5_EXTRA_BYTES);
	if (s->kept == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
	for (int64_t i = extra - 1; i >= 0; i--)
	{
		char *text = s->kept + i * T5_EXTRA_BYTES;

		snprintf(text, T5_EXTRA_BYTES, "<extra_id_%d>", (int) i);
		if (!source_token_add(s, first + extra - 1 - i, text, strlen(text), true, ADDED_LEFT | ADDED_RIGHT, err))
			return false;
	}
	return source_frame_around(s, NULL, NULL, "</s>", false, err);
}

/* The beginning alone, as of Llama; tokenizer_config.json may say otherwise. */
static bool
finish_begin(tokenizer_source *s, llm_error *err)
{
	int32_t begin = s->special[SPECIAL_BEGIN];

	if (begin < 0)
		return true;
	return source_frame_add(&s->one, begin, 0, err) && source_frame_add(&s->one, FRAME_FIRST, 0, err) &&
		   source_frame_add(&s->two, begin, 0, err) && source_frame_add(&s->two, FRAME_FIRST, 0, err) &&
		   source_frame_add(&s->two, begin, 1, err) && source_frame_add(&s->two, FRAME_SECOND, 1, err);
}

static bool
finish_plain(tokenizer_source *s, llm_error *err)
{
	return true;
}

static const struct
{
	const char *name;
	bool shifted;
	bool (*finish)(tokenizer_source *s, llm_error *err);
} classes[] = {
	{"", false, finish_plain},
	{"T5Tokenizer", false, finish_t5},
	{"LlamaTokenizer", false, finish_begin},
	{"GemmaTokenizer", false, finish_begin},
	{"XLMRobertaTokenizer", true, finish_shifted},
};

#define CLASS_COUNT (sizeof(classes) / sizeof(classes[0]))

/* ---- the file ---- */

static bool
keep_map(tokenizer_source *s, message map, llm_error *err)
{
	if (map.at == map.end)
		return true;
	s->character_map_bytes = (size_t) (map.end - map.at);
	s->character_map = malloc(s->character_map_bytes);
	if (s->character_map == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading a tokenizer");
	memcpy(s->character_map, map.at, s->character_map_bytes);
	return true;
}

static bool
set_special(tokenizer_source *s, const specification *spec, bool shifted)
{
	for (int i = SPECIAL_BEGIN; i <= SPECIAL_PADDING; i++)
	{
		int64_t id = spec->special[i];

		id = shifted && id >= 0 ? shifted_id(id) : id;
		if (id >= 0 && id < s->tokens && s->token[id].text != NULL && s->token[id].type == TOKEN_SPECIAL)
			s->special[i] = (int32_t) id;
	}
	return true;
}

bool
sentencepiece_read(tokenizer_source *s, file_bytes file, llm_error *err)
{
	message m = {(const uint8_t *) file.bytes, (const uint8_t *) file.bytes + file.size};
	specification spec;
	char name[64];
	size_t n = 0;

	if (!source_class(s->config, name, sizeof(name), err) || !read_specification(m, &spec, &s->expected, err))
		return false;
	while (n < CLASS_COUNT && strcmp(classes[n].name, name) != 0)
		n++;
	if (n == CLASS_COUNT)
		return source_unsupported(err, "a tokenizer.model of the class", name,
								  "Save the model with transformers to have a tokenizer.json.");
	s->options.kind = spec.model == MODEL_BPE ? TOKENIZER_BPE : TOKENIZER_UNIGRAM;
	s->options.flags = (spec.prefix ? FLAG_PREFIX_SPACE : 0) | (spec.once ? FLAG_SPACES_ONCE : 0) |
					   (spec.byte_fallback ? FLAG_BYTE_FALLBACK : 0) |
					   (spec.model == MODEL_BPE ? FLAG_CHARACTERS | FLAG_FUSE_UNKNOWN : FLAG_FLOAT_SCORES);
	s->space_marks = true;
	s->merge_by_score = spec.model == MODEL_BPE;
	return read_pieces(s, m, classes[n].shifted, err) && keep_map(s, spec.map, err) &&
		   set_special(s, &spec, classes[n].shifted) && source_step_add(s, STEP_SENTENCE, NULL, NULL, err) &&
		   source_step_add(s, STEP_CUT, NULL, NULL, err) && classes[n].finish(s, err);
}
