/*
 * export_files.c
 *	  llm_export(model, path, format): a model that reads texts as a checkpoint in files of the server.
 *
 * What the files say is read back and compared with the model before a file is made (checkpoint/export.h).
 * Numbers are written in pieces; a matrix that the version keeps in fewer bits is written so where the format
 * has its type, and as float32 otherwise.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "../checkpoint/export.h"
#include "../common.h"
#include "../format/safetensors.h"
#include "../model/model.h"
#include "../text/tokenizer_write.h"
#include "output_files.h"
#include "server_files.h"

PG_FUNCTION_INFO_V1(llm_export_path);

#define FUNCTION "llm_export()"
#define PIECE_FLOATS ((int64) 1 << 20)

typedef struct Export
{
	Oid relid;
	const Model *model;
	const net *net;
	tokenizer *tokenizer;
	bool whole; /* texts are read as a whole */
	export_request request;
	checkpoint_export *e;
	OutputFiles *files;
} Export;

/* ---- which family ---- */

/* Without members that do not change what a network computes: of relative positions the longest text is one. */
static json_t *
ComparableJson(const net_config *config)
{
	json_t *json = network_json(config), *text = json_object_get(json, "transformer");

	OWN(json, json_decref);
	json_object_del(text, "dropout");
	json_object_del(json, "dropout");
	json_object_del(json, "label_smoothing");
	json_object_del(json, "huber_delta");
	if (config->hidden_count == 0)
		json_object_del(json, "activation");
	if (config->text.headless)
	{
		json_object_del(text, "tied");
		json_object_del(text, "head_scale");
		json_object_del(text, "head_transform");
	}
	if (config->text.buckets > 0)
	{
		json_object_del(text, "context");
		json_object_del(text, "source_context");
	}
	return json;
}

/* A member that the networks do not have in common, as text; NULL: they are the same. */
static const char *
Difference(const json_t *ours, const json_t *theirs)
{
	const json_t *object[] = {ours, theirs};

	for (int i = 0; i < 2; i++)
	{
		const char *key;
		json_t *value;

		json_object_foreach((json_t *) object[i], key, value)
		{
			const json_t *mine = json_object_get(ours, key), *other = json_object_get(theirs, key);

			if (json_equal(mine, other))
				continue;
			if (json_is_object(mine) && json_is_object(other))
				return Difference(mine, other);
			return psprintf("\"%s\"", key);
		}
	}
	return NULL;
}

/*
 * The first family whose checkpoints hold the network; ERROR with what stands against the first one that has all its
 * tensors, or against the first one.
 */
static void
ChooseFamily(Export *x)
{
	llm_error first = {0};
	bool fits = false;

	for (int32 n = 0;; n++)
	{
		llm_error err = {0};
		const char *difference = NULL;

		x->e = checkpoint_export_new(&x->request, n, &err);
		if (x->e == NULL && err.code == LLM_OK)
			break;
		if (x->e != NULL)
		{
			OWN(x->e, checkpoint_export_free);
			difference =
				Difference(ComparableJson(net_get_config(x->net)), ComparableJson(&x->e->checkpoint->config));
			if (difference == NULL && strcmp(x->e->checkpoint->task, x->request.task) == 0)
				return;
			llm_fail(&err, LLM_INVALID, "a checkpoint of family %s cannot say %s of the network", x->e->family,
					 difference ? difference : "the task");
		}
		if (first.code == LLM_OK || (x->e != NULL && !fits))
			first = err;
		fits |= x->e != NULL;
	}
	if (first.code == LLM_OK)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("model \"%s\" is no transformer", get_rel_name(x->relid)),
						errhint("SELECT llm_export(%s);",
								quote_literal_cstr(quote_qualified_identifier(
									get_namespace_name(get_rel_namespace(x->relid)), get_rel_name(x->relid))))));
	ThrowError(&first);
}

/* ---- numbers ---- */

static void
ReadNumbers(void *arg, int32_t tensor, size_t begin, size_t count, float *out)
{
	const Export *x = arg;

	net_decode_tensor(x->net, tensor, begin, count, x->model->weights, out);
}

/* Tensors of the network that the files do not have, as the bias of a layer that has none there. */
static void
RequireZeros(const Export *x)
{
	for (int32 i = 0; i < net_tensor_count(x->net); i++)
	{
		const net_tensor_info *info = net_tensor(x->net, i);

		for (Size k = 0; !checkpoint_export_has(x->e, i) && k < info->count; k += QUANT_BLOCK)
		{
			float numbers[QUANT_BLOCK];
			Size count = Min(QUANT_BLOCK, info->count - k);

			net_decode_tensor(x->net, i, k, count, x->model->weights, numbers);
			for (Size j = 0; j < count; j++)
				if (numbers[j] != 0)
					ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
									errmsg("a checkpoint of family %s has no tensor for %s of the network",
										   x->e->family, info->name)));
		}
	}
}

typedef void (*TakeNumbers)(Export *x, source_type type, const float *numbers, Size count, void *arg);

/* All numbers of a tensor of the checkpoint, in pieces. */
static void
EachPiece(Export *x, int32 i, source_type type, TakeNumbers take, void *arg)
{
	const source_tensor *t = &x->e->source.tensors[i];
	int64 width = t->ndim == 2 ? t->dims[1] : 1;
	int64 step = Max(PIECE_FLOATS / Max(width, 1) / QUANT_BLOCK, 1) * QUANT_BLOCK;
	float *piece = MemoryContextAllocHuge(CurrentMemoryContext, Min(step, t->dims[0]) * width * sizeof(float));

	for (int64 row = 0; row < t->dims[0]; row += step)
	{
		int64 rows = Min(step, t->dims[0] - row);

		CHECK_FOR_INTERRUPTS();
		checkpoint_export_read(x->e, i, row, rows, ReadNumbers, x, piece);
		take(x, type, piece, rows * width, arg);
	}
	pfree(piece);
}

/* How a tensor is kept, of matrices whose rows are rows of the checkpoint's; others are float32. */
static weight_type
KeptType(const Export *x, int32 i)
{
	int32 owner = x->e->owner[i];

	return owner >= 0 && x->e->source.tensors[i].ndim == 2 ? net_tensor(x->net, owner)->type : WEIGHT_F32;
}

/* ---- a folder ---- */

static void
WriteText(Export *x, const char *name, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	if (json != NULL)
		OWN(json, json_decref);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory while writing %s", name)));
	OWN(text, free);
	OpenOutput(x->files, name);
	WriteOutput(x->files, text, strlen(text), NULL);
	CloseOutput(x->files);
}

static void
PutNumbers(Export *x, source_type type, const float *numbers, Size count, void *arg)
{
	uint8 *bytes = arg;

	safetensors_put(type, numbers, count, bytes);
	WriteOutput(x->files, bytes, count * (type == SOURCE_F32 ? 4 : 2), NULL);
}

/* Bytes of the largest piece. */
static Size
PieceBytes(const Export *x)
{
	Size most = 0;

	for (int32 i = 0; i < x->e->source.count; i++)
	{
		const source_tensor *t = &x->e->source.tensors[i];
		Size row = (t->ndim == 2 ? t->dims[1] : 1) * sizeof(float);

		most = Max(most, Min(t->count * sizeof(float), Max(PIECE_FLOATS * sizeof(float), row * QUANT_BLOCK)));
	}
	return most;
}

/* The name of a tensor in the file of a folder, "" for that of the model; NULL: it is in another one. */
static const char *
NameIn(const char *folder, const char *name)
{
	if (folder[0] == '\0')
		return strchr(name, '/') == NULL ? name : NULL;
	return checkpoint_name_in(folder, name);
}

static void
WriteSafetensors(Export *x, const char *folder)
{
	int32 count = 0;
	safetensors_entry *entries = palloc0(x->e->source.count * sizeof(safetensors_entry));
	json_t *metadata = json_pack("{s:s}", "format", "pt");
	size_t header_bytes, file_bytes;
	llm_error err = {0};
	uint8 *header, *bytes;

	OWN(metadata, json_decref);
	for (int32 i = 0; i < x->e->source.count; i++)
	{
		const source_tensor *t = &x->e->source.tensors[i];
		const char *name = NameIn(folder, t->name);
		weight_type kept = KeptType(x, i);

		if (name == NULL)
			continue;
		entries[count] =
			(safetensors_entry) {.name = name, .ndim = t->ndim, .dims = {t->dims[0], t->dims[1]}, .id = i};
		entries[count++].type = kept == WEIGHT_F16 ? SOURCE_F16 : kept == WEIGHT_BF16 ? SOURCE_BF16 : SOURCE_F32;
	}
	header = safetensors_header(entries, count, metadata, &header_bytes, &file_bytes, &err);
	if (header == NULL)
		ThrowError(&err);
	OWN(header, free);
	bytes = MemoryContextAllocHuge(CurrentMemoryContext, PieceBytes(x));
	OpenOutput(x->files, psprintf("%s%smodel.safetensors", folder, folder[0] ? "/" : ""));
	WriteOutput(x->files, header, header_bytes, NULL);
	for (int32 i = 0; i < count; i++)
		EachPiece(x, entries[i].id, entries[i].type, PutNumbers, bytes);
	CloseOutput(x->files);
}

static void
WriteTokenizer(Export *x)
{
	llm_error err = {0};
	json_t *json = tokenizer_to_json(x->tokenizer, x->whole, &err);
	json_t *config;

	if (json == NULL)
		ThrowError(&err);
	WriteText(x, "tokenizer.json", json);
	config = tokenizer_to_config(x->tokenizer, net_get_config(x->net)->text.context,
								 x->model->manifest->chat_template, &err);
	if (config == NULL)
		ThrowError(&err);
	WriteText(x, "tokenizer_config.json", config);
}

static json_t *
GenerationJson(const Export *x)
{
	static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"};
	json_t *json = json_object();

	for (int i = 0; i < (int) lengthof(keys); i++)
		if (json_object_get(x->e->config, keys[i]) != NULL && !json_is_null(json_object_get(x->e->config, keys[i])))
			json_object_set(json, keys[i], json_object_get(x->e->config, keys[i]));
	return json;
}

/* A module of sentence-transformers behind the network. */
static void
WriteDense(Export *x, int32 i)
{
	const char *folder = x->e->folders.name[i];

	MakeOutputFolder(x->files, folder);
	WriteText(x, psprintf("%s/config.json", folder), json_incref(x->e->dense[i]));
	WriteSafetensors(x, folder);
}

static void
WriteFolder(Export *x)
{
	MakeOutputFolder(x->files, NULL);
	WriteText(x, "config.json", json_incref(x->e->config));
	WriteTokenizer(x);
	if (strcmp(x->request.task, "generation") == 0)
		WriteText(x, "generation_config.json", GenerationJson(x));
	if (x->e->modules != NULL)
	{
		WriteText(x, "modules.json", json_incref(x->e->modules));
		MakeOutputFolder(x->files, "1_Pooling");
		WriteText(x, "1_Pooling/config.json", json_incref(x->e->pooling));
		WriteText(
			x, "sentence_bert_config.json",
			json_pack("{s:i, s:b}", "max_seq_length", net_get_config(x->net)->text.context, "do_lower_case", false));
	}
	for (int32 i = 0; i < x->e->folders.count; i++)
		WriteDense(x, i);
	WriteSafetensors(x, "");
}

/* ---- a file ---- */

static source_type
SourceType(weight_type kept)
{
	static const source_type types[WEIGHT_TYPES] = {
		[WEIGHT_F32] = SOURCE_F32,   [WEIGHT_F16] = SOURCE_F16,   [WEIGHT_BF16] = SOURCE_BF16,
		[WEIGHT_Q8_0] = SOURCE_Q8_0, [WEIGHT_Q4_0] = SOURCE_Q4_0,
	};

	return types[kept];
}

static void
PutKeys(const Export *x, gguf_writer *w)
{
	const char *key, *name = get_rel_name(x->relid);
	const char *template = x->model->manifest->chat_template;
	llm_error err = {0};
	json_t *value;

	name = pg_server_to_any(name, strlen(name), PG_UTF8);
	gguf_writer_string(w, "general.name", name, strlen(name));
	json_object_foreach(x->e->config, key, value)
	{
		if (json_is_string(value))
			gguf_writer_string(w, key, json_string_value(value), json_string_length(value));
		else if (json_is_integer(value))
			gguf_writer_u32(w, key, (uint32) json_integer_value(value));
		else if (json_is_boolean(value))
			gguf_writer_bool(w, key, json_is_true(value));
		else
			gguf_writer_f32(w, key, (float) json_number_value(value));
	}
	if (template != NULL)
		gguf_writer_string(w, "tokenizer.chat_template", template, strlen(template));
	if (!tokenizer_to_gguf(x->tokenizer, x->whole, net_get_config(x->net)->text.vocab, w, &err))
		ThrowError(&err);
}

static void
PutGguf(Export *x, source_type type, const float *numbers, Size count, void *arg)
{
	llm_error err = {0};

	if (!gguf_writer_numbers(arg, numbers, count, &err))
		ThrowError(&err);
}

/* Rows as they are kept, so that no number is rounded twice. */
static void
PutKept(Export *x, int32 i, gguf_writer *w)
{
	const source_tensor *t = &x->e->source.tensors[i];
	const net_tensor_info *info = net_tensor(x->net, x->e->owner[i]);
	Size row_bytes = weight_bytes(info->type, t->dims[1]);
	llm_error err = {0};

	for (int64 row = 0; row < t->dims[0]; row++)
	{
		const checkpoint_piece *piece;
		int64 ours = checkpoint_export_row(x->e, i, row, &piece);

		if (!gguf_writer_blocks(w, (const char *) x->model->weights + info->place + ours * row_bytes,
								t->dims[1] / QUANT_BLOCK, &err))
			ThrowError(&err);
	}
}

static void
WriteGguf(Export *x)
{
	llm_error err = {0};
	gguf_writer *w = gguf_writer_new(&err);
	uint64_t bytes;

	if (w == NULL)
		ThrowError(&err);
	OWN(w, gguf_writer_free);
	PutKeys(x, w);
	for (int32 i = 0; i < x->e->source.count; i++)
	{
		const source_tensor *t = &x->e->source.tensors[i];

		if (!gguf_writer_tensor(w, t->name, SourceType(KeptType(x, i)), t->ndim, t->dims, &err))
			ThrowError(&err);
	}
	OpenOutput(x->files, NULL);
	if (!gguf_writer_begin(w, WriteOutput, x->files, &bytes, &err))
		ThrowError(&err);
	for (int32 i = 0; i < x->e->source.count; i++)
		if (KeptType(x, i) == WEIGHT_Q8_0 || KeptType(x, i) == WEIGHT_Q4_0)
			PutKept(x, i, w);
		else
			EachPiece(x, i, SOURCE_F32, PutGguf, w);
	CloseOutput(x->files);
}

/* ---- the call ---- */

static const struct
{
	const char *name;
	bool gguf;
	void (*write)(Export *x);
} formats[] = {{"safetensors", false, WriteFolder}, {"gguf", true, WriteGguf}};

static int
FindFormat(const char *name)
{
	for (int i = 0; i < (int) lengthof(formats); i++)
		if (strcmp(formats[i].name, name) == 0)
			return i;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("format \"%s\" is not known", name),
					errhint("Use safetensors or gguf.")));
}

/* A classifier's one input is the text, and a number is as the network gives it. */
static void
RequireTextAlone(const Export *x)
{
	const manifest *m = x->model->manifest;
	bool plain = true;

	if (!net_predicts_rows(net_get_config(x->net)))
		return;
	for (int32 i = 0; i < m->target->outputs && m->target->kind == TARGET_NUMBER; i++)
		plain &= m->target->mean[i] == 0 && m->target->scale[i] == 1;
	if (encoder_column_count(m->encoder) != 1 || !encoder_has_tokens(m->encoder) || !plain)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("model \"%s\" is not one of a text alone", get_rel_name(x->relid)),
						errdetail("A checkpoint holds a transformer and its tokenizer, and neither other columns nor "
								  "the scale of a number."),
						errhint("Move it as a table with pg_dump.")));
}

/* Names of classes, or of what tokens are. */
static void
TakeLabels(Export *x, const manifest *m)
{
	Size count = json_array_size(m->labels);
	const char **labels = palloc0(Max(count, 1) * sizeof(char *));

	for (Size i = 0; i < count; i++)
		labels[i] = json_string_value(json_array_get(m->labels, i));
	x->request.labels = labels;
	x->request.label_count = (int32) count;
	if (m->target->kind != TARGET_CLASS)
		return;
	x->request.labels = (const char *const *) m->target->classes;
	x->request.label_count = m->target->class_count;
}

static int32
Special(const Export *x, special_token name)
{
	return x->tokenizer ? tokenizer_special(x->tokenizer, name) : -1;
}

/* As generating takes them: what the manifest does not say, the tokenizer does. */
static void
TakeTokens(Export *x, const manifest *m)
{
	export_request *r = &x->request;

	r->separator = Special(x, SPECIAL_SEPARATOR);
	r->begin = Special(x, SPECIAL_BEGIN);
	r->end = Special(x, SPECIAL_END);
	r->pad = Special(x, SPECIAL_PADDING);
	r->ends = m->end_count > 0 ? m->ends : &r->end;
	r->end_count = m->end_count > 0 ? m->end_count : r->end >= 0 ? 1 : 0;
	r->start = m->start;
	if (r->start < 0 && net_get_config(m->net)->text.encoder_depth > 0)
		r->start = r->end;
}

static void
OpenExport(Export *x)
{
	const manifest *m;
	Size size;
	const void *block;

	RequireModelTable(x->relid);
	RequireWeightsPrivilege(x->relid);
	x->model = OpenModel(x->relid, 0, CurrentMemoryContext);
	m = x->model->manifest;
	x->net = m->net;
	block = ModelTokenizer(x->model, &size);
	if (size > 0)
		x->tokenizer = OpenTokenizer(block, size, InterruptRequested);
	x->request.net = m->net;
	x->request.architecture = size > 0 ? m->architecture : "";
	x->request.task = m->task;
	x->request.sigmoid = m->sigmoid;
	TakeLabels(x, m);
	TakeTokens(x, m);
	x->whole = strcmp(m->task, "generation") != 0 && strcmp(m->task, "masked_lm") != 0;
}

/* All files, or none.  Not inlined: nothing of the caller lives in a register that an error would lose. */
static pg_noinline int64
WriteFiles(Export *x, const char *path, void (*write)(Export *x))
{
	volatile int64 bytes = 0;

	x->files = BeginOutput(path);
	PG_TRY();
	{
		write(x);
		bytes = EndOutput(x->files);
	}
	PG_CATCH();
	{
		RemoveOutput(x->files);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return bytes;
}

/* llm_export(model, path, format) */
Datum
llm_export_path(PG_FUNCTION_ARGS)
{
	Export x = {.relid = PG_GETARG_OID(0)};
	char *path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int format = FindFormat(text_to_cstring(PG_GETARG_TEXT_PP(2)));

	RequireWriter(path, FUNCTION);
	x.request.gguf = formats[format].gguf;
	OpenExport(&x);
	ChooseFamily(&x);
	RequireTextAlone(&x);
	RequireZeros(&x);
	PG_RETURN_INT64(WriteFiles(&x, path, formats[format].write));
}
