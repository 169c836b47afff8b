/*
 * frame.c
 *	  Tokens around a text, or two, as a model was trained with them.
 *
 * What does not fit is cut as the library tokenizers does it ("longest first"): the longer of two
 * texts down to the length of the other, then both.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_block.h"

/* The items of one of the two frames. */
static const frame_item *
frame_items(const tokenizer *t, bool pair, int64_t *count)
{
	int64_t items = (int64_t) section_count(t->header, SECTION_FRAME), middle = 0;

	while (middle < items && t->frame[middle].id != FRAME_PAIR)
		middle++;
	*count = !pair ? middle : middle < items ? items - middle - 1 : 0;
	return pair && *count > 0 ? t->frame + middle + 1 : t->frame;
}

bool
tokenizer_has_frame(const tokenizer *t, bool pair)
{
	int64_t count;

	frame_items(t, pair, &count);
	return count > 0;
}

/* How many ids of two texts stay; room is for both together. */
static void
fit_texts(int64_t room, int64_t *first, int64_t *second)
{
	int64_t *shorter = *first <= *second ? first : second, *longer = *first <= *second ? second : first;

	if (*first + *second <= room)
		return;
	*longer = *shorter > room ? *shorter : room - *shorter > *shorter ? room - *shorter : *shorter;
	if (*first + *second <= room)
		return;
	*shorter = room / 2;
	*longer = room - room / 2;
}

static bool
append_run(token_list *out, token_list *types, const int32_t *ids, int64_t count, int32_t type, llm_error *err)
{
	if (!token_list_reserve(out, count, err) || (types != NULL && !token_list_reserve(types, count, err)))
		return false;
	if (count > 0)
		memcpy(out->id + out->count, ids, (size_t) count * sizeof(int32_t));
	out->count += count;
	for (int64_t i = 0; types != NULL && i < count; i++)
		types->id[types->count++] = type;
	return true;
}

/* Texts are ids one after the other, of which kept[] are taken of each. */
static bool
append_framed(const frame_item *item, int64_t items, const token_list *texts, int64_t second_at,
			  const int64_t kept[2], token_list *out, token_list *types, llm_error *err)
{
	for (int64_t i = 0; i < items; i++)
	{
		bool text = item[i].id < 0, second = item[i].id == FRAME_SECOND;
		const int32_t *ids = !text ? &item[i].id : texts->id != NULL ? texts->id + (second ? second_at : 0) : NULL;

		if (!append_run(out, types, ids, text ? kept[second] : 1, item[i].type, err))
			return false;
	}
	return true;
}

bool
tokenizer_encode_framed(tokenizer *t, const char *text, size_t length, const char *second, size_t second_length,
						bool parse_special, int64_t most, token_list *out, token_list *types, llm_error *err)
{
	static const frame_item bare[] = {{FRAME_FIRST, 0}, {FRAME_SECOND, 1}};
	int64_t items, before = out->count, types_before = types ? types->count : 0, kept[2] = {0, 0}, frame = 0;
	const frame_item *item = frame_items(t, second != NULL, &items);
	token_list texts = {0};
	bool ok = tokenizer_encode(t, text, length, parse_special, &texts, err);

	if (items == 0)
	{
		item = bare;
		items = second != NULL ? 2 : 1;
	}
	for (int64_t i = 0; i < items; i++)
		frame += item[i].id >= 0;
	if (ok && most > 0 && frame > most)
		ok = llm_fail(err, LLM_INVALID, "the tokens around a text are %lld, more than the %lld that are allowed",
					  (long long) frame, (long long) most);
	kept[0] = texts.count;
	ok = ok && (second == NULL || tokenizer_encode(t, second, second_length, parse_special, &texts, err));
	if (ok)
	{
		int64_t second_at = kept[0];

		kept[1] = texts.count - second_at;
		if (most > 0 && second != NULL)
			fit_texts(most - frame, &kept[0], &kept[1]);
		else if (most > 0 && kept[0] > most - frame)
			kept[0] = most - frame;
		ok = append_framed(item, items, &texts, second_at, kept, out, types, err);
	}
	if (!ok)
	{
		out->count = before;
		if (types != NULL)
			types->count = types_before;
	}
	free(texts.id);
	return ok;
}

bool
tokenizer_encode_begun(tokenizer *t, const char *text, size_t length, bool parse_special, token_list *out,
					   llm_error *err)
{
	int64_t items, before = out->count;
	const frame_item *item = frame_items(t, false, &items);
	bool ok = true;

	for (int64_t i = 0; ok && i < items && item[i].id >= 0; i++)
		ok = token_list_append(out, item[i].id, err);
	if (ok && tokenizer_encode(t, text, length, parse_special, out, err))
		return true;
	out->count = before;
	return false;
}

bool
tokenizer_encode_input(tokenizer *t, const char *text, size_t length, int64_t most, token_list *out, llm_error *err)
{
	int64_t before = out->count;

	if (tokenizer_has_frame(t, false))
		return tokenizer_encode_framed(t, text, length, NULL, 0, false, most, out, NULL, err);
	if (!tokenizer_encode(t, text, length, false, out, err))
		return false;
	if (out->count - before > most - 1)
		out->count = before + most - 1;
	return token_list_append(out, tokenizer_special(t, SPECIAL_END), err);
}
