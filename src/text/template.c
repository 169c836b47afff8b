/*
 * template.c
 *	  Render a chat template: walk its tree, with names in scopes and one text that grows.
 */
#include "template.h"

#include <stdlib.h>
#include <string.h>

#include "template_eval.h"
#include "tokenizer_block.h"

#define PARSE_MEMORY ((size_t) 64 << 20)
#define RENDER_MEMORY ((size_t) 256 << 20)
#define EVAL_DEPTH_MAX 400

struct chat_template
{
	arena a;
	template_node *tree;
};

static template_value eval(rendering *r, const template_node *node);
static void render(rendering *r, const template_node *node);

/* ---- parsing ---- */

/* The source with newlines of one form. */
static char *
copy_source(arena *a, const char *source, size_t *length)
{
	char *copy = arena_take(a, *length + 1);
	size_t n = 0;

	for (size_t i = 0; copy != NULL && i < *length; i++)
		if (source[i] != '\r' || i + 1 == *length || source[i + 1] != '\n')
			copy[n++] = source[i];
	*length = n;
	return copy;
}

chat_template *
template_parse(const char *source, size_t length, llm_error *err)
{
	chat_template *t;
	char *copy;

	if (length > TEMPLATE_BYTES_MAX)
	{
		llm_fail(err, LLM_INVALID, "a chat template has %zu bytes, at most %zu are allowed", length,
				 TEMPLATE_BYTES_MAX);
		return NULL;
	}
	t = calloc(1, sizeof(chat_template));
	if (t == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for a chat template");
		return NULL;
	}
	t->a.limit = PARSE_MEMORY;
	copy = copy_source(&t->a, source, &length);
	if (copy != NULL)
		t->tree = template_tree(&t->a, copy, length);
	if (!template_failed(&t->a))
		return t;
	*err = t->a.err;
	template_free(t);
	return NULL;
}

void
template_free(chat_template *t)
{
	if (t == NULL)
		return;
	arena_free(&t->a);
	free(t);
}

/* ---- limits, scopes ---- */

/* One level deeper; false: that is too deep. */
static bool
descend(rendering *r)
{
	return ++r->depth <= EVAL_DEPTH_MAX
			   ? template_charge(r, 1)
			   : template_fail(&r->a, "more than %d steps within each other", EVAL_DEPTH_MAX);
}

static template_value
look_up(rendering *r, piece name)
{
	for (const scope *s = r->scope; s != NULL && template_charge(r, s->names.count); s = s->up)
	{
		const template_value *found = template_dict_find(&s->names, name);

		if (found != NULL)
			return *found;
	}
	if (is_function(name))
		return (template_value) {.kind = VALUE_FUNCTION, .text = name};
	return undefined_value(name);
}

static void
set_name(rendering *r, piece name, template_value value)
{
	template_dict_set(&r->a, &r->scope->names, name, value);
}

/* ---- attributes and items ---- */

static template_value
loop_attribute(const template_loop *loop, piece name)
{
	int64_t index = (int64_t) loop->index, count = (int64_t) loop->list->count;

	if (piece_is(name, "index"))
		return integer_value(index + 1);
	if (piece_is(name, "index0"))
		return integer_value(index);
	if (piece_is(name, "revindex"))
		return integer_value(count - index);
	if (piece_is(name, "revindex0"))
		return integer_value(count - index - 1);
	if (piece_is(name, "length"))
		return integer_value(count);
	if (piece_is(name, "first"))
		return boolean_value(index == 0);
	if (piece_is(name, "last"))
		return boolean_value(index == count - 1);
	if (piece_is(name, "previtem") && index > 0)
		return loop->list->items[index - 1];
	if (piece_is(name, "nextitem") && index < count - 1)
		return loop->list->items[index + 1];
	return undefined_value(name);
}

static template_value
get_attribute(rendering *r, template_value of, piece name)
{
	template_value *self;

	if (!has_parts(r, of))
		return none_value();
	if (is_method(of, name))
	{
		self = arena_take(&r->a, sizeof(template_value));
		if (self == NULL)
			return none_value();
		*self = of;
		return (template_value) {.kind = VALUE_METHOD, .text = name, .self = self};
	}
	if (of.kind == VALUE_LOOP)
		return loop_attribute(of.loop, name);
	return get_item(r, of, text_value(name));
}

/* A bound of a slice as Python takes it. */
static int64_t
slice_bound(rendering *r, const template_node *node, int64_t count, int64_t fallback, bool backwards)
{
	template_value v = node->kind == NODE_NOTHING ? none_value() : eval(r, node);
	int64_t low = backwards ? -1 : 0, high = backwards ? count - 1 : count, at;

	if (v.kind == VALUE_NONE)
		return fallback;
	if (v.kind != VALUE_INTEGER)
	{
		template_fail(&r->a, "a bound of a slice is %s", template_kind_name(v));
		return 0;
	}
	at = v.integer < 0 ? (v.integer < -count ? -1 : v.integer + count) : v.integer;
	return at < low ? low : at > high ? high : at;
}

static template_value
eval_slice(rendering *r, const template_node *node)
{
	template_value of = eval(r, node->a), list, result;
	const template_node *start = node->list, *stop = start->next, *stride = stop->next;
	template_value step_value = stride->kind == NODE_NOTHING ? integer_value(1) : eval(r, stride);
	int64_t step = step_value.kind == VALUE_INTEGER ? step_value.integer : 1, count, from, to;

	list = elements_of(r, of);
	result = list_value(&r->a);
	if (step == 0 || step < -INT32_MAX || step > INT32_MAX)
		template_fail(&r->a, "a slice has a step of %lld", (long long) step);
	if (template_failed(&r->a))
		return none_value();
	count = (int64_t) list.list->count;
	from = slice_bound(r, start, count, step > 0 ? 0 : count - 1, step < 0);
	to = slice_bound(r, stop, count, step > 0 ? count : -1, step < 0);
	for (int64_t i = from; (step > 0 ? i < to : i > to) && template_charge(r, 1); i += step)
		template_list_add(&r->a, result.list, list.list->items[i]);
	if (of.kind == VALUE_TEXT)
	{
		piece_builder text = {.a = &r->a};

		for (size_t i = 0; !template_failed(&r->a) && i < result.list->count; i++)
			build_add(&text, result.list->items[i].text);
		return text_value(build_finish(&text));
	}
	return result;
}

/* ---- operations ---- */

static template_value
eval_binary(rendering *r, const template_node *node)
{
	template_value x = eval(r, node->a), y = eval(r, node->b);

	return template_failed(&r->a) ? none_value() : operate(r, node->operation, x, y);
}

static template_value
eval_comparison(rendering *r, const template_node *node)
{
	template_value x = eval(r, node->a);
	bool all = true;

	for (const template_node *c = node->list; c != NULL && all && !template_failed(&r->a); c = c->next)
	{
		template_value y = eval(r, c->a);

		all = relation_holds(r, c->operation, x, y);
		x = y;
	}
	return boolean_value(all);
}

/* ---- calls ---- */

static void
eval_arguments(rendering *r, const template_node *list, arguments *args)
{
	args->count = args->plain = 0;
	for (const template_node *n = list; n != NULL && !template_failed(&r->a); n = n->next)
	{
		bool named = n->kind == NODE_ARGUMENT;

		if (args->count == ARGUMENTS_MAX || (!named && args->count > args->plain))
		{
			template_fail(&r->a, args->count == ARGUMENTS_MAX
									 ? "a call has too many arguments"
									 : "an argument without a name stands behind one with it");
			return;
		}
		args->values[args->count] = eval(r, named ? n->a : n);
		args->names[args->count] = named ? n->text : piece_of("");
		args->count++;
		args->plain += !named;
	}
}

/* Run statements with a text of their own, and give it. */
static piece
render_apart(rendering *r, const template_node *list)
{
	piece_builder text = {.a = &r->a}, *out = r->out;

	r->out = &text;
	render(r, list);
	r->out = out;
	return build_finish(&text);
}

static scope *
push_scope(rendering *r, scope *up)
{
	scope *made = arena_take(&r->a, sizeof(scope));

	if (made == NULL)
		return r->scope;
	made->up = up;
	return r->scope = made;
}

static template_value
call_macro(rendering *r, const template_node *macro, const arguments *args)
{
	scope *caller = r->scope;
	int position = 0;
	piece text;

	push_scope(r, r->outermost);
	for (const template_node *n = macro->names; n != NULL && !template_failed(&r->a); n = n->next, position++)
	{
		template_value value = undefined_value(n->text);
		bool given = position < args->plain;

		if (given)
			value = args->values[position];
		for (int i = args->plain; i < args->count; i++)
			if (piece_equal(args->names[i], n->text))
			{
				value = args->values[i];
				given = true;
			}
		set_name(r, n->text, !given && n->a ? eval(r, n->a) : value);
	}
	text = render_apart(r, macro->list);
	r->flow = FLOW_ON;
	r->scope = caller;
	return text_value(text);
}

static template_value
eval_call(rendering *r, const template_node *node)
{
	template_value of = eval(r, node->a);
	arguments args;

	eval_arguments(r, node->list, &args);
	if (template_failed(&r->a))
		return none_value();
	r->a.line = node->line;
	switch (of.kind)
	{
		case VALUE_METHOD: return call_method(r, of.text, *of.self, &args);
		case VALUE_FUNCTION: return call_function(r, of.text, &args);
		case VALUE_MACRO: return call_macro(r, of.macro, &args);
		case VALUE_UNDEFINED:
			template_fail(&r->a, "\"%.*s\" is not supported, or undefined",
						  (int) (of.text.size < 60 ? of.text.size : 60), of.text.bytes);
			return none_value();
		default: template_fail(&r->a, "%s cannot be called", template_kind_name(of)); return none_value();
	}
}

static template_value
eval_filter(rendering *r, const template_node *node)
{
	template_value self = eval(r, node->a);
	arguments args;

	eval_arguments(r, node->list, &args);
	r->a.line = node->line;
	return template_failed(&r->a) ? none_value() : call_filter(r, node->text, self, &args);
}

static template_value
eval_test(rendering *r, const template_node *node)
{
	template_value self = eval(r, node->a);
	arguments args;

	eval_arguments(r, node->list, &args);
	r->a.line = node->line;
	return boolean_value(!template_failed(&r->a) && call_test(r, node->text, self, &args));
}

/* ---- expressions ---- */

static template_value
eval_list(rendering *r, const template_node *node)
{
	template_value result = list_value(&r->a);

	for (const template_node *n = node->list; n != NULL && !template_failed(&r->a); n = n->next)
		template_list_add(&r->a, result.list, eval(r, n));
	return result;
}

static template_value
eval_dict(rendering *r, const template_node *node)
{
	template_value result = dict_value(&r->a, VALUE_DICT);

	for (const template_node *n = node->list; n != NULL && !template_failed(&r->a); n = n->next->next)
	{
		template_value key = eval(r, n), value = eval(r, n->next);

		if (key.kind != VALUE_TEXT)
			template_fail(&r->a, "a key is %s, but must be a string", template_kind_name(key));
		template_dict_set(&r->a, result.dict, key.text, value);
	}
	return result;
}

static template_value
eval_node(rendering *r, const template_node *node)
{
	template_value v;

	switch (node->kind)
	{
		case NODE_VALUE: return node->value;
		case NODE_NAME: return look_up(r, node->text);
		case NODE_LIST: return eval_list(r, node);
		case NODE_DICT: return eval_dict(r, node);
		case NODE_ATTRIBUTE: return get_attribute(r, eval(r, node->a), node->text);
		case NODE_INDEX: v = eval(r, node->a); return get_item(r, v, eval(r, node->b));
		case NODE_SLICE: return eval_slice(r, node);
		case NODE_CALL: return eval_call(r, node);
		case NODE_FILTER: return eval_filter(r, node);
		case NODE_TEST: return eval_test(r, node);
		case NODE_NOT: return boolean_value(!template_true(eval(r, node->a)));
		case NODE_MINUS: return negate(r, eval(r, node->a));
		case NODE_AND: v = eval(r, node->a); return template_true(v) ? eval(r, node->b) : v;
		case NODE_OR: v = eval(r, node->a); return template_true(v) ? v : eval(r, node->b);
		case NODE_BINARY: return eval_binary(r, node);
		case NODE_COMPARE: return eval_comparison(r, node);
		case NODE_CONDITION:
			if (template_true(eval(r, node->a)))
				return eval(r, node->b);
			return node->c ? eval(r, node->c) : undefined_value(piece_of("a condition without else"));
		default: return none_value();
	}
}

static template_value
eval(rendering *r, const template_node *node)
{
	template_value result = none_value();

	if (descend(r))
	{
		r->a.line = node->line;
		result = eval_node(r, node);
	}
	r->depth--;
	return template_failed(&r->a) ? none_value() : result;
}

/* ---- statements ---- */

static void
assign_one(rendering *r, const template_node *target, template_value value)
{
	template_value of;

	if (target->kind == NODE_NAME)
	{
		set_name(r, target->text, value);
		return;
	}
	of = eval(r, target->a);
	if (of.kind != VALUE_NAMESPACE)
		template_fail(&r->a, "only a namespace's members can be set");
	else
		template_dict_set(&r->a, of.dict, target->text, value);
}

/* One value to one target, or the elements of a list to several. */
static void
assign(rendering *r, const template_node *targets, template_value value)
{
	size_t at = 0;

	if (targets->next == NULL)
	{
		assign_one(r, targets, value);
		return;
	}
	for (const template_node *t = targets; t != NULL; t = t->next, at++)
	{
		if (value.kind != VALUE_LIST || at >= value.list->count || (t->next == NULL && at + 1 < value.list->count))
		{
			template_fail(&r->a, "%s does not have as many elements as there are names", template_kind_name(value));
			return;
		}
		assign_one(r, t, value.list->items[at]);
	}
}

/* The elements for which the condition of the loop holds. */
static template_value
loop_elements(rendering *r, const template_node *node)
{
	template_value all = elements_of(r, eval(r, node->a)), some;
	scope *around = r->scope;

	if (node->b == NULL || template_failed(&r->a))
		return all;
	some = list_value(&r->a);
	for (size_t i = 0; i < all.list->count && template_charge(r, 1); i++)
	{
		push_scope(r, around);
		assign(r, node->names, all.list->items[i]);
		if (template_true(eval(r, node->b)))
			template_list_add(&r->a, some.list, all.list->items[i]);
		r->scope = around;
	}
	return some;
}

static void
render_for(rendering *r, const template_node *node)
{
	template_value elements = loop_elements(r, node);
	scope *around = r->scope;

	if (template_failed(&r->a))
		return;
	if (elements.list->count == 0)
		render(r, node->other);
	for (size_t i = 0; i < elements.list->count && template_charge(r, 1) && r->flow != FLOW_BREAK; i++)
	{
		template_loop *loop = arena_take(&r->a, sizeof(template_loop));

		if (loop == NULL)
			return;
		*loop = (template_loop) {.list = elements.list, .index = i};
		push_scope(r, around);
		set_name(r, piece_of("loop"), (template_value) {.kind = VALUE_LOOP, .loop = loop});
		assign(r, node->names, elements.list->items[i]);
		r->flow = FLOW_ON;
		render(r, node->list);
		r->scope = around;
	}
	if (elements.list->count > 0)
		r->flow = FLOW_ON;
}

static void
render_node(rendering *r, const template_node *node)
{
	switch (node->kind)
	{
		case NODE_TEXT: build_add(r->out, node->text); break;
		case NODE_PRINT: build_add(r->out, printed_text(&r->a, eval(r, node->a))); break;
		case NODE_IF: render(r, template_true(eval(r, node->a)) ? node->list : node->other); break;
		case NODE_FOR: render_for(r, node); break;
		case NODE_SET: assign(r, node->names, eval(r, node->a)); break;
		case NODE_SET_TEXT: assign(r, node->names, text_value(render_apart(r, node->list))); break;
		case NODE_MACRO: set_name(r, node->text, (template_value) {.kind = VALUE_MACRO, .macro = node}); break;
		case NODE_BLOCK: render(r, node->list); break;
		case NODE_BREAK: r->flow = FLOW_BREAK; break;
		case NODE_CONTINUE: r->flow = FLOW_CONTINUE; break;
		default: break;
	}
}

/* Statements one after the other, until one breaks off. */
static void
render(rendering *r, const template_node *node)
{
	if (descend(r))
		for (; node != NULL && r->flow == FLOW_ON && template_charge(r, 1); node = node->next)
		{
			r->a.line = node->line;
			render_node(r, node);
		}
	r->depth--;
}

/* ---- the whole ---- */

static void
set_variables(rendering *r, const json_t *object, bool mark)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) object, key, value)
	{
		set_name(r, piece_of(key), template_from_json(&r->a, value, mark));
	}
}

/* What was written, into the caller's buffers. */
static bool
hand_out(const piece_builder *out, text_buffer *text, text_buffer *marks, llm_error *err)
{
	return text_buffer_add(text, out->bytes, out->size, err) && text_buffer_add(marks, out->marks, out->size, err);
}

bool
template_render(const chat_template *t, const json_t *given, const json_t *own, const struct tm *now,
				text_buffer *text, text_buffer *marks, llm_error *err)
{
	rendering r = {.a = {.limit = RENDER_MEMORY, .line = 1}, .now = now, .steps = TEMPLATE_STEPS_MAX};
	piece_builder out = {.a = &r.a};
	bool ok;

	r.out = &out;
	r.outermost = push_scope(&r, NULL);
	if (r.outermost != NULL)
	{
		set_variables(&r, given, true);
		set_variables(&r, own, false);
		render(&r, t->tree);
	}
	ok = !template_failed(&r.a);
	if (!ok)
		*err = r.a.err;
	ok = ok && hand_out(&out, text, marks, err);
	arena_free(&r.a);
	return ok;
}
