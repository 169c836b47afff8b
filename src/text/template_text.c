/*
 * template_text.c
 *	  What templates do with texts: change their case, strip, replace, split and join them.
 *
 * The bytes of a result keep their marks.  Letters beyond ASCII keep their case.
 */
#include "template_eval.h"

#include "unicode.h"

piece
change_case(rendering *r, piece text, letter_case to)
{
	piece_builder out = {.a = &r->a};
	bool inside = false; /* of a word */

	for (size_t i = 0; i < text.size && template_charge(r, 1); i++)
	{
		char c = text.bytes[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		bool upper = to == CASE_UPPER || (to == CASE_TITLE && !inside) || (to == CASE_CAPITAL && i == 0);

		inside = letter || (uint8_t) c >= 0x80;
		if (letter)
			c = (char) (upper ? c & ~0x20 : c | 0x20);
		build_byte(&out, c, text.marks && text.marks[i]);
	}
	return build_finish(&out);
}

/* Is the character at a place one to strip: white space, or one of `set` if that is given? */
static bool
strips(piece text, size_t at, size_t end, const piece *set)
{
	int32_t length, c = utf8_read((const uint8_t *) text.bytes + at, (const uint8_t *) text.bytes + end, &length);

	if (set != NULL)
		return piece_find(*set, piece_cut(text, at, at + (size_t) length), 0) <= set->size;
	return (char_class(c) & CHAR_SPACE) != 0 || (c >= 0x1C && c <= 0x1F);
}

piece
strip_text(rendering *r, piece text, const piece *set, bool left, bool right)
{
	size_t from = 0, to = text.size;

	template_charge(r, text.size);
	while (left && from < to && strips(text, from, to, set))
		from += piece_offset(piece_cut(text, from, to), 1);
	while (right && from < to)
	{
		size_t last = to - 1;

		while (last > from && ((uint8_t) text.bytes[last] & 0xC0) == 0x80)
			last--;
		if (!strips(text, last, to, set))
			break;
		to = last;
	}
	return piece_cut(text, from, to);
}

piece
replace_text(rendering *r, piece text, piece old, piece new, int64_t most)
{
	piece_builder out = {.a = &r->a};
	size_t at = 0;

	for (int64_t n = 0; (most < 0 || n < most) && template_charge(r, text.size - at); n++)
	{
		size_t found = piece_find(text, old, at);

		if (found > text.size || (old.size == 0 && found == text.size && n > 0))
			break;
		build_add(&out, piece_cut(text, at, found));
		build_add(&out, new);
		at = found + old.size;
		if (old.size == 0)
		{
			size_t next = at + piece_offset(piece_cut(text, at, text.size), 1);

			build_add(&out, piece_cut(text, at, next));
			at = next;
			if (at == text.size)
			{
				if (most < 0 || n + 1 < most)
					build_add(&out, new);
				break;
			}
		}
	}
	build_add(&out, piece_cut(text, at, text.size));
	return build_finish(&out);
}

template_value
split_text(rendering *r, piece text, const piece *separator, int64_t most)
{
	template_value result = list_value(&r->a);
	bool words = separator == NULL;
	size_t at = 0;

	if (!words && separator->size == 0)
		template_fail(&r->a, "a text cannot be split by an empty separator");
	for (int64_t n = 0; template_charge(r, text.size - at); n++)
	{
		piece rest = piece_cut(text, at, text.size);
		size_t end = at;

		if (words)
		{
			rest = strip_text(r, rest, NULL, true, n == most);
			at = (size_t) (rest.bytes - text.bytes);
			if (rest.size == 0)
				break;
			for (end = at; end < text.size && !strips(text, end, text.size, NULL);)
				end += piece_offset(piece_cut(text, end, text.size), 1);
		}
		else
			end = piece_find(text, *separator, at);
		if (end >= text.size + !words || n == most)
		{
			template_list_add(&r->a, result.list, text_value(n == most ? rest : piece_cut(text, at, text.size)));
			break;
		}
		template_list_add(&r->a, result.list, text_value(piece_cut(text, at, end)));
		at = end + (words ? 0 : separator->size);
	}
	return result;
}

piece
join_texts(rendering *r, template_value list, piece separator, const template_value *attribute)
{
	piece_builder out = {.a = &r->a};

	list = elements_of(r, list);
	for (size_t i = 0; !template_failed(&r->a) && i < list.list->count && template_charge(r, 1); i++)
	{
		template_value item = list.list->items[i];

		if (attribute != NULL)
			item = get_item(r, item, *attribute);
		if (i > 0)
			build_add(&out, separator);
		build_add(&out, printed_text(&r->a, item));
	}
	return build_finish(&out);
}

bool
has_affix(rendering *r, piece text, const template_value *given, bool at_end)
{
	size_t count = given == NULL ? 0 : given->kind == VALUE_LIST ? given->list->count : 1;

	if (given == NULL || (given->kind != VALUE_LIST && given->kind != VALUE_TEXT))
		template_fail(&r->a, "the beginning or end to look for is not a string");
	for (size_t i = 0; i < count && !template_failed(&r->a) && template_charge(r, 1); i++)
	{
		piece affix = given->kind == VALUE_LIST ? given->list->items[i].text : given->text;

		if (affix.size <= text.size && piece_equal(affix, at_end ? piece_cut(text, text.size - affix.size, text.size)
																 : piece_cut(text, 0, affix.size)))
			return true;
	}
	return false;
}
