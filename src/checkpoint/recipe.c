/*
 * recipe.c
 *	  Which tensor of the checkpoint makes which of the network, row by row.
 *
 * Every tensor of the network has its pieces with the right shape, and every tensor of the checkpoint is
 * read or known to be of no use, before a number is read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

#define NAME_ROOM 256
#define PREFIX_ROOM 64
#define LISTED 5 /* names in a message */

/* One tensor of the network while its pieces are made. */
typedef struct target
{
	const net_tensor_info *info;
	const tensor_name *name;
	int32_t layer;    /* for the * of names */
	const char *kind; /* ".weight" or ".bias", or "" where the name is a whole one */
	int64_t rows, columns;
	checkpoint_recipe *recipe;
} target;

/* What is found out about the checkpoint. */
typedef struct state
{
	builder *b;
	char prefix[PREFIX_ROOM];
	const tensor_name *lists[2]; /* of the family and of the task; either may be NULL */
	bool *used;                  /* (tensors) */
} state;

/* ---- names ---- */

static int32_t
layer_of(const char *name)
{
	const char *at = strstr(name, "layers.");

	return at ? atoi(at + strlen("layers.")) : 0;
}

/* Part [from, end) of names with its number, prefix and kind, in text. */
static void
their_name(const state *s, const target *t, const char *from, const char *end, char text[NAME_ROOM])
{
	const char *prefix = s->prefix;
	const char *star;

	if (*from == '^')
	{
		prefix = "";
		from++;
	}
	star = memchr(from, '*', end - from);
	if (star)
		snprintf(text, NAME_ROOM, "%s%.*s%d%.*s%s", prefix, (int) (star - from), from, t->layer,
				 (int) (end - star - 1), star + 1, t->kind);
	else
		snprintf(text, NAME_ROOM, "%s%.*s%s", prefix, (int) (end - from), from, t->kind);
}

/* Norms of the first BERTs have gamma and beta. */
static const source_tensor *
find_tensor(const state *s, char text[NAME_ROOM])
{
	const source_tensor *found = tensor_source_find(s->b->tensors, text);
	char old[NAME_ROOM];
	char *dot = strrchr(text, '.');

	if (found != NULL || dot == NULL)
		return found;
	snprintf(old, sizeof(old), "%.*s%s", (int) (dot - text), text, strcmp(dot, ".bias") == 0 ? ".beta" : ".gamma");
	return tensor_source_find(s->b->tensors, old);
}

/* The first alternative whose first part is there, or the first one. */
static const char *
choose(const state *s, const target *t)
{
	const char *from = t->name->theirs;

	while (from != NULL)
	{
		const char *end = from + strcspn(from, "+|");
		char text[NAME_ROOM];

		their_name(s, t, from, end, text);
		if (find_tensor(s, text) != NULL)
			return from;
		from = strchr(from, '|');
		from = from ? from + 1 : NULL;
	}
	return t->name->theirs;
}

/* Those of the task count before those of the family, and a whole name before one without its last part. */
static bool
find_name(const state *s, target *t)
{
	const char *name = t->info->name, *dot = strrchr(name, '.');
	char base[sizeof(t->info->name)];

	t->layer = layer_of(name);
	snprintf(base, sizeof(base), "%.*s", (int) (dot - name), name);
	for (int i = 1; i >= 0; i--)
		for (int whole = 1; whole >= 0; whole--)
			for (const tensor_name *n = s->lists[i]; n && n->ours; n++)
				if (pattern_matches(n->ours, whole ? name : base))
				{
					t->name = n;
					t->kind = whole ? "" : dot;
					return true;
				}
	return llm_fail(s->b->err, LLM_INVALID, "a network of family %s has no tensor %s", s->b->family->model_type,
					name);
}

/* ---- shapes ---- */

static bool
has_shape(const source_tensor *t, int32_t ndim, int64_t rows, int64_t columns)
{
	return t->ndim == ndim && t->dims[0] == rows && (ndim == 1 || t->dims[1] == columns);
}

static bool
misshapen(const state *s, const source_tensor *t, int32_t ndim, int64_t rows, int64_t columns)
{
	llm_fail(s->b->err, LLM_CORRUPT, "tensor %s of the checkpoint has another shape than its configuration says",
			 SOURCE_TEXT(t));
	if (ndim == 1)
		return llm_detail(s->b->err, "It must be (%lld).", (long long) rows);
	return llm_detail(s->b->err, "It must be (%lld, %lld).", (long long) rows, (long long) columns);
}

static bool
missing(const state *s, const char *name)
{
	llm_fail(s->b->err, LLM_INVALID, "tensor %s is missing in the checkpoint", SHOWN(name));
	return llm_detail(s->b->err, "A network of family %s for task %s is made of it.", s->b->family->model_type,
					  s->b->c->task);
}

/* Rows of part i of `parts`, which follow each other in the tensor of ours. */
static int64_t
rows_of_part(const state *s, const target *t, int i, int parts)
{
	const transformer_config *c = &s->b->c->config.text;

	if (parts == 3)
		return (int64_t) (i == 0 ? c->heads : c->kv_heads) * c->head_dim;
	return t->rows / parts;
}

/* ---- pieces ---- */

static checkpoint_piece *
add_piece(const state *s, const target *t, const source_tensor *from, int64_t to, int64_t rows)
{
	checkpoint_recipe *r = t->recipe;
	checkpoint_piece *grown;

	if (r->count == 0 || (r->count & (r->count - 1)) == 0) /* room is the next power of two */
	{
		grown = realloc(r->pieces, (r->count ? 2 * (size_t) r->count : 1) * sizeof(checkpoint_piece));
		if (grown == NULL)
		{
			llm_fail(s->b->err, LLM_MEMORY, "out of memory for an import");
			return NULL;
		}
		r->pieces = grown;
	}
	s->used[from - s->b->tensors->tensors] = true;
	r->pieces[r->count] = (checkpoint_piece) {
		.source = (int32_t) (from - s->b->tensors->tensors), .step = 1, .to = to, .rows = rows, .factor = 1};
	return &r->pieces[r->count++];
}

/* Heads of queries, keys or values that lie between those of the others: (heads, 3, head_dim). */
static bool
add_by_head(const state *s, const target *t, const source_tensor *from)
{
	const transformer_config *c = &s->b->c->config.text;

	for (int part = 0; part < 3; part++)
		for (int32_t head = 0; head < c->heads; head++)
		{
			int64_t to = ((int64_t) part * c->heads + head) * c->head_dim;
			checkpoint_piece *p = add_piece(s, t, from, to, c->head_dim);

			if (p == NULL)
				return false;
			p->from = ((int64_t) head * 3 + part) * c->head_dim;
		}
	return true;
}

/* Rows 2 i and 2 i + 1 of a head become i and i + head_dim / 2. */
static bool
add_neighbours(const state *s, const target *t, const source_tensor *from, int64_t to, int64_t rows)
{
	int64_t d = s->b->c->config.text.head_dim, half = d / 2;

	for (int64_t head = 0; head < rows / d; head++)
		for (int odd = 0; odd < 2; odd++)
		{
			checkpoint_piece *p = add_piece(s, t, from, to + head * d + odd * half, half);

			if (p == NULL)
				return false;
			p->from = head * d + odd;
			p->step = 2;
		}
	return true;
}

/* Rows of a larger table: positions behind the first ones of the checkpoint, types of a pair's texts. */
static bool
add_rows(const state *s, const target *t, const source_tensor *from, int64_t first, int64_t all)
{
	checkpoint_piece *p;

	if (!has_shape(from, 2, all, t->columns))
		return misshapen(s, from, 2, all, t->columns);
	p = add_piece(s, t, from, 0, t->rows);
	if (p != NULL)
		p->from = first;
	return p != NULL;
}

static bool
is_norm(const target *t)
{
	return strstr(t->info->name, "norm.weight") != NULL;
}

static bool
add_part(const state *s, const target *t, const source_tensor *from, int i, int parts, int64_t to)
{
	int64_t rows = rows_of_part(s, t, i, parts);
	int32_t ndim = t->info->ndim;
	bool turned = (t->name->flags & NAME_TRANSPOSED) && ndim == 2;
	checkpoint_piece *p;

	if (!has_shape(from, ndim, turned ? t->columns : rows, turned ? rows : t->columns))
		return misshapen(s, from, ndim, turned ? t->columns : rows, turned ? rows : t->columns);
	if (t->name->flags & NAME_BY_HEAD)
		return add_by_head(s, t, from);
	if ((t->name->flags & NAME_NEIGHBOURS) && parts == 3 && i < 2)
		return add_neighbours(s, t, from, to, rows);
	p = add_piece(s, t, from, to, rows);
	if (p == NULL)
		return false;
	p->transpose = turned;
	p->shift = s->b->family->norms_plus_one && !s->b->gguf && is_norm(t) ? 1 : 0;
	return true;
}

static int
count_parts(const char *from)
{
	int parts = 1;

	for (; *from && *from != '|'; from++)
		parts += *from == '+';
	return parts;
}

static bool
add_parts(const state *s, const target *t)
{
	const char *from = choose(s, t);
	int parts = count_parts(from);
	int64_t to = 0;

	for (int i = 0; i < parts; i++)
	{
		const char *end = from + strcspn(from, "+|");
		char text[NAME_ROOM];
		const source_tensor *found;

		their_name(s, t, from, end, text);
		found = find_tensor(s, text);
		if (found == NULL && (t->name->flags & NAME_FREE_BIAS) && strcmp(t->kind, ".bias") == 0)
			return true;
		if (found == NULL)
			return missing(s, text);
		if (!add_part(s, t, found, i, parts, to))
			return false;
		to += rows_of_part(s, t, i, parts);
		from = end + 1;
	}
	return true;
}

/* ---- tables of positions and types ---- */

static const source_tensor *
find_ours(const state *s, const char *ours, const tensor_name **name)
{
	target t = {.kind = ".weight"};

	for (const tensor_name *n = s->lists[0]; n->ours; n++)
		if (strcmp(n->ours, ours) == 0)
		{
			char text[NAME_ROOM];

			t.name = *name = n;
			their_name(s, &t, n->theirs, n->theirs + strlen(n->theirs), text);
			return find_tensor(s, text);
		}
	return NULL;
}

/* The type of a single text, which every token has, is part of all positions. */
static bool
fold_type(const state *s, const target *t)
{
	const tensor_name *name = NULL;
	const source_tensor *types = find_ours(s, "types", &name);
	checkpoint_piece *p;

	if (types == NULL)
		return s->b->type_rows == 0 || missing(s, name ? name->theirs : "of types of tokens");
	if (!has_shape(types, 2, s->b->type_rows, t->columns))
		return misshapen(s, types, 2, s->b->type_rows, t->columns);
	p = add_piece(s, t, types, 0, t->rows);
	if (p == NULL)
		return false;
	p->step = 0;
	p->add = true;
	return true;
}

static bool
add_positions(const state *s, const target *t)
{
	const tensor_name *name = NULL;
	const source_tensor *table = find_ours(s, "position", &name);

	if (table == NULL)
		return missing(s, name ? name->theirs : t->info->name);
	if (!add_rows(s, t, table, s->b->first_position, s->b->positions))
		return false;
	return s->b->c->config.text.types > 0 || fold_type(s, t);
}

static bool
add_types(const state *s, const target *t)
{
	const tensor_name *name = NULL;
	const source_tensor *table = find_ours(s, "types", &name);

	return table ? add_rows(s, t, table, 0, s->b->type_rows) : missing(s, name ? name->theirs : t->info->name);
}

/* ---- dense layers of an embedding, which have files of their own ---- */

static int32_t
dense_of(const net_tensor_info *info)
{
	return strncmp(info->name, "dense.", 6) == 0 ? atoi(info->name + 6) : -1;
}

static bool
add_dense(const state *s, const target *t)
{
	const source_tensor *from;
	char name[NAME_ROOM];

	if (!dense_tensor(s->b, dense_of(t->info), strrchr(t->info->name, '.'), name, sizeof(name)))
		return missing(s, t->info->name);
	from = tensor_source_find(s->b->tensors, name);
	if (from == NULL)
		return missing(s, name);
	if (!has_shape(from, t->info->ndim, t->rows, t->columns))
		return misshapen(s, from, t->info->ndim, t->rows, t->columns);
	return add_piece(s, t, from, 0, t->rows) != NULL;
}

/* ---- a classifier's outputs ---- */

/* Of two labels the network has the difference: minus the first one, plus the second. */
static void
set_output(const checkpoint *c, checkpoint_piece *p, int32_t i, int32_t label)
{
	bool pair = c->label_count == 2;

	p->from = label;
	p->to = pair ? 0 : i;
	p->add = pair && i > 0;
	p->factor = pair && i == 0 ? -1 : 1;
}

static bool
add_outputs(const state *s, const target *t)
{
	const checkpoint *c = s->b->c;
	checkpoint_recipe whole = {0};
	target file = *t;
	bool ok;

	file.recipe = &whole;
	file.rows = c->label_count;
	ok = add_parts(s, &file);
	for (int32_t i = 0; ok && whole.count == 1 && i < c->label_count; i++)
	{
		checkpoint_piece *p = add_piece(s, t, &c->source->tensors[whole.pieces[0].source], 0, 1);

		ok = p != NULL;
		if (ok)
			set_output(c, p, i, i);
	}
	free(whole.pieces);
	return ok;
}

void
checkpoint_set_classes(checkpoint *c, const int32_t *order)
{
	int32_t count = net_tensor_count(c->net);

	for (int32_t i = count - 2; i < count; i++)
		for (int32_t k = 0; k < c->recipes[i].count; k++)
			set_output(c, &c->recipes[i].pieces[k], k, order[k]);
}

/* ---- all tensors ---- */

static bool
make_recipe(const state *s, int32_t i)
{
	checkpoint *c = s->b->c;
	target t = {.info = net_tensor(c->net, i), .recipe = &c->recipes[i]};
	bool classes = c->label_count > 0 && !c->config.shape.token_target;

	t.rows = t.info->dims[0];
	t.columns = t.info->ndim == 2 ? t.info->dims[1] : 1;
	if (strcmp(t.info->name, "position.weight") == 0)
		return add_positions(s, &t);
	if (strcmp(t.info->name, "types.weight") == 0)
		return add_types(s, &t);
	if (dense_of(t.info) >= 0)
		return add_dense(s, &t);
	if (!find_name(s, &t))
		return false;
	return classes && strncmp(t.info->name, "output.", 7) == 0 ? add_outputs(s, &t) : add_parts(s, &t);
}

static bool
is_ignored(const state *s, const char *name)
{
	size_t prefix = strlen(s->b->family->prefix);
	const char *rest = strncmp(name, s->b->family->prefix, prefix) == 0 ? name + prefix : name;

	for (const char *const *pattern = s->b->family->ignored; *pattern; pattern++)
		if (pattern_matches(*pattern, name) || pattern_matches(*pattern, rest))
			return true;
	if (strcmp(s->b->c->task, "embedding") != 0 && dense_is_tensor(s->b, name))
		return true;
	return ignored_by_user(s->b, name);
}

/* Names all that are left over, so that the user can say once that they do not matter. */
static bool
check_all_used(const state *s)
{
	const tensor_source *from = s->b->tensors;
	int32_t left = 0;
	char text[400] = "";

	for (int32_t i = 0; i < from->count; i++)
	{
		size_t length = strlen(text);

		if (s->used[i] || is_ignored(s, from->tensors[i].name))
			continue;
		if (left++ < LISTED)
			snprintf(text + length, sizeof(text) - length, "%s%s", length ? ", " : "", SHOWN(from->tensors[i].name));
	}
	if (left == 0)
		return true;
	llm_fail(s->b->err, LLM_INVALID, "%d tensors of the checkpoint have no place in a network of family %s", left,
			 s->b->family->model_type);
	llm_detail(s->b->err, "%s%s.", text, left > LISTED ? ", ..." : "");
	return llm_hint(s->b->err, "If the network does without them, import with {\"ignore\": [names]}, where * stands "
							   "for any part.");
}

/* Base models are kept without the prefix of the class that has a head. */
static void
find_prefix(state *s)
{
	const tensor_name *embed = s->lists[0];

	for (const char *from = s->b->family->prefix; from; from = strchr(from, '|') ? strchr(from, '|') + 1 : NULL)
	{
		char text[NAME_ROOM];

		snprintf(s->prefix, sizeof(s->prefix), "%.*s", (int) strcspn(from, "|"), from);
		snprintf(text, sizeof(text), "%s%s.weight", s->prefix, embed->theirs);
		if (tensor_source_find(s->b->tensors, text))
			return;
	}
	s->prefix[0] = '\0';
}

static const tensor_name *
names_of_task(const builder *b)
{
	const char *task = b->c->task;

	return strcmp(task, "masked_lm") == 0                                 ? b->family->masked.names
		   : strcmp(task, "token_classification") == 0                    ? b->family->labels.names
		   : b->c->config.text.headless && strcmp(task, "embedding") != 0 ? b->family->classes.names
																		  : NULL;
}

/* ---- the way back ---- */

/* A tensor of so many rows, whose rows are columns there where it is turned. */
static bool
add_named(const state *s, const target *t, char *name, int64_t rows, bool turned, tensor_source *out)
{
	source_tensor tensor = {.name = name, .type = SOURCE_F32, .ndim = t->info->ndim, .type_name = "F32"};

	tensor.dims[0] = turned ? t->columns : rows;
	tensor.dims[1] = t->info->ndim == 1 ? 0 : turned ? rows : t->columns;
	tensor.count = (size_t) rows * t->columns;
	tensor.bytes = tensor.count * sizeof(float);
	return tensor_source_add(out, &tensor, s->b->err);
}

static bool
add_name(const state *s, target *t, const char *from, const char *end, int64_t rows, tensor_source *out)
{
	bool turned = (t->name->flags & NAME_TRANSPOSED) && t->info->ndim == 2;
	char text[NAME_ROOM];

	their_name(s, t, from, end, text);
	return add_named(s, t, text, rows, turned, out);
}

static bool
ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), wanted = strlen(end);

	return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

/*
 * Parts of a tensor of ours in files of the family: a gate beside what it lets pass, and queries, keys and values
 * as its classes have them, in GGUF files, too.
 */
static int
wanted_parts(const state *s, const target *t)
{
	if (ends_with(t->name->ours, "ffn.up"))
		return s->b->c->config.text.gated ? 2 : 1;
	for (const tensor_name *n = s->b->family->names; n->ours; n++)
		if (strcmp(n->ours, t->name->ours) == 0)
			return count_parts(n->theirs);
	return 1;
}

static bool
add_names(const state *s, target *t, tensor_source *out)
{
	const char *from = t->name->theirs;
	int parts = wanted_parts(s, t);

	if ((t->name->flags & NAME_FREE_BIAS) && strcmp(t->kind, ".bias") == 0)
		return true;
	while (count_parts(from) != parts && strchr(from, '|') != NULL)
		from = strchr(from, '|') + 1;
	for (int i = 0; i < parts; i++)
	{
		const char *end = from + strcspn(from, "+|");

		if (!add_name(s, t, from, end, rows_of_part(s, t, i, parts), out))
			return false;
		from = end + 1;
	}
	return true;
}

/* Outputs of a classifier are as many as labels, where the network has one for two. */
static bool
name_tensor(const state *s, const net_tensor_info *info, tensor_source *out)
{
	target t = {.info = info, .rows = info->dims[0], .columns = info->ndim == 2 ? info->dims[1] : 1};
	int32_t dense = dense_of(info);
	char name[NAME_ROOM];

	if (dense >= 0)
		return dense_tensor(s->b, dense, strrchr(info->name, '.'), name, sizeof(name)) &&
			   add_named(s, &t, name, t.rows, false, out);
	if (!find_name(s, &t))
		return false;
	if (strncmp(info->name, "output.", 7) == 0 && s->b->c->label_count > 0)
		t.rows = s->b->c->label_count;
	return add_names(s, &t, out);
}

/* Types of tokens that the network has as part of its positions: the first one, and one that is not used. */
static bool
name_types(const state *s, tensor_source *out)
{
	const transformer_config *text = &s->b->c->config.text;
	net_tensor_info info = {.name = "types.weight", .ndim = 2, .dims = {s->b->type_rows, text->width}};

	for (const config_key *key = s->b->family->keys; key->name; key++)
		if (key->offset == offsetof(transformer_config, types) && key->kind == KEY_INTEGER && text->types == 0)
			return name_tensor(s, &info, out);
	return true;
}

bool
recipe_names(builder *b, const net *n, tensor_source *out)
{
	state s = {.b = b, .lists = {b->gguf ? b->family->gguf_names : b->family->names, names_of_task(b)}};

	if (!b->gguf && strcmp(b->c->task, "embedding") != 0)
		snprintf(s.prefix, sizeof(s.prefix), "%s", b->family->prefix);
	for (int32_t i = 0; i < net_tensor_count(n); i++)
		if (!name_tensor(&s, net_tensor(n, i), out))
			return false;
	return name_types(&s, out) && tensor_source_sort(out, b->err);
}

/* ---- all ---- */

bool
recipe_make(builder *b)
{
	state s = {.b = b, .lists = {b->gguf ? b->family->gguf_names : b->family->names, names_of_task(b)}};
	checkpoint *c = b->c;
	bool ok = true;

	c->recipes = calloc(net_tensor_count(c->net), sizeof(checkpoint_recipe));
	s.used = calloc(b->tensors->count + 1, sizeof(bool));
	if (c->recipes == NULL || s.used == NULL)
		ok = llm_fail(b->err, LLM_MEMORY, "out of memory for an import");
	if (ok && !b->gguf)
		find_prefix(&s);
	for (int32_t i = 0; ok && i < net_tensor_count(c->net); i++)
		ok = make_recipe(&s, i);
	ok = ok && check_all_used(&s);
	free(s.used);
	return ok;
}
