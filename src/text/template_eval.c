/*
 * template_eval.c
 *	  What all of a rendering takes: steps from those that are left, and parts of values.
 */
#include "template_eval.h"

bool
template_charge(rendering *r, size_t steps)
{
	r->steps -= (int64_t) steps;
	return r->steps >= 0 ? !template_failed(&r->a)
						 : template_fail(&r->a, "the template takes more than %d steps", TEMPLATE_STEPS_MAX);
}

bool
has_parts(rendering *r, template_value of)
{
	piece name = of.text;

	if (of.kind != VALUE_UNDEFINED)
		return true;
	return template_fail(&r->a, "\"%.*s\" is undefined", (int) (name.size < 60 ? name.size : 60), name.bytes);
}

/* A position in a sequence of `count` elements, counted from its end if negative; count: there is none. */
static size_t
position(int64_t index, size_t count)
{
	if (index < 0)
		index += (int64_t) count;
	return index < 0 || index >= (int64_t) count ? count : (size_t) index;
}

template_value
get_item(rendering *r, template_value of, template_value key)
{
	const template_value *found;
	size_t at;

	if (!has_parts(r, of))
		return none_value();
	if ((of.kind == VALUE_DICT || of.kind == VALUE_NAMESPACE) && key.kind == VALUE_TEXT)
	{
		template_charge(r, of.dict->count);
		found = template_dict_find(of.dict, key.text);
		return found ? *found : undefined_value(key.text);
	}
	if (of.kind == VALUE_LIST && key.kind == VALUE_INTEGER)
	{
		at = position(key.integer, of.list->count);
		return at < of.list->count ? of.list->items[at] : undefined_value(piece_of("an element"));
	}
	if (of.kind == VALUE_TEXT && key.kind == VALUE_INTEGER && template_charge(r, of.text.size))
	{
		size_t count = piece_length(of.text);

		at = position(key.integer, count);
		if (at < count)
			return text_value(piece_cut(of.text, piece_offset(of.text, at), piece_offset(of.text, at + 1)));
	}
	return undefined_value(key.kind == VALUE_TEXT ? key.text : piece_of("an element"));
}

template_value
elements_of(rendering *r, template_value v)
{
	template_value result;

	if (v.kind == VALUE_LIST)
		return v;
	result = list_value(&r->a);
	if (v.kind == VALUE_TEXT)
		for (size_t at = 0, next; at < v.text.size && template_charge(r, 1); at = next)
		{
			next = at + piece_offset(piece_cut(v.text, at, v.text.size), 1);
			template_list_add(&r->a, result.list, text_value(piece_cut(v.text, at, next)));
		}
	else if (v.kind == VALUE_DICT)
		for (size_t i = 0; i < v.dict->count && template_charge(r, 1); i++)
			template_list_add(&r->a, result.list, text_value(v.dict->keys[i]));
	else if (v.kind != VALUE_UNDEFINED)
		template_fail(&r->a, "%s has no elements", template_kind_name(v));
	return result;
}
