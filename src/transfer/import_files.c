/*
 * import_files.c
 *	  What the files of a checkpoint hold, by their names.
 *
 * A folder has config.json, tensors in safetensors files and a tokenizer, as Hugging Face's libraries
 * write them, and of sentence-transformers what says how a text becomes one vector.  A single file
 * is GGUF and has it all, or is the first part of it, which may be found in a folder, too, or ONNX and
 * has a network on columns.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "../common.h"
#include "../format/checkpoint_index.h"
#include "../format/gguf_split.h"
#include "../format/onnx.h"
#include "../format/safetensors.h"
#include "../model/model.h"
#include "../text/tokenizer_gguf.h"
#include "import_files.h"

#define CONFIG_BYTES ((Size) 16 << 20)
#define TOKENIZER_BYTES ((Size) 256 << 20)
#define WEIGHTS "model.safetensors"
#define INDEX "model.safetensors.index.json"

/* An error of a reader, with the name of the file. */
pg_noreturn static void
ThrowFileError(const char *file, llm_error *err)
{
	if (strstr(err->message, file) == NULL)
	{
		char message[sizeof(err->message)];

		strlcpy(message, err->message, sizeof(message));
		snprintf(err->message, sizeof(err->message), "%s: %s", file, message);
	}
	ThrowError(err);
}

static checkpoint_text
JsonFile(ImportFiles *f, const char *name)
{
	Size size;
	char *text = ReadServerFile(f->files, name, CONFIG_BYTES, &size);

	return (checkpoint_text) {text, size};
}

/* ---- tensors ---- */

static void
AddSafetensors(ImportFiles *f, int32 file)
{
	llm_error err = {0};
	safetensors *header =
		safetensors_open_header(ReadServerBytes, f->weights, file, ServerFileBytes(f->weights, file), &err);

	if (header == NULL)
		ThrowFileError(ServerFileName(f->weights, file), &err);
	OWN(header, safetensors_close);
	if (!safetensors_source(header, file, &f->source, &err))
		ThrowFileError(ServerFileName(f->weights, file), &err);
}

pg_noreturn static void
ThrowNoWeights(ImportFiles *f)
{
	bool pickled = FindServerFile(f->files, "pytorch_model.bin") >= 0 ||
				   FindServerFile(f->files, "pytorch_model.bin.index.json") >= 0;

	ereport(
		ERROR,
		(errcode(ERRCODE_UNDEFINED_FILE), errmsg("the folder has neither %s nor %s", WEIGHTS, INDEX),
		 pickled ? errdetail("It has weights in Python's pickle format, which can run any code and is not read.") : 0,
		 pickled ? errhint("Write them as safetensors: in Python, model.save_pretrained(folder, "
						   "safe_serialization=True).")
				 : errhint("Name the folder that the model was saved to.")));
}

/* Files get the numbers that they have in the index. */
static void
AddShards(ImportFiles *f, const char *text, Size bytes)
{
	llm_error err = {0};
	checkpoint_index *index = checkpoint_index_parse(text, bytes, &err);

	if (index == NULL)
		ThrowFileError(INDEX, &err);
	OWN(index, checkpoint_index_free);
	for (int32 i = 0; i < checkpoint_index_count(index); i++)
	{
		const char *name = checkpoint_index_file(index, i);

		if (FindServerFile(f->weights, name) < 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("the folder lacks file \"%s\"", name),
							errdetail("%s names it.", INDEX)));
		AddSafetensors(f, i);
	}
	if (!tensor_source_sort(&f->source, &err) || !checkpoint_index_check(index, &f->source, &err))
		ThrowFileError(INDEX, &err);
}

static void
OpenTensors(ImportFiles *f)
{
	Size bytes;
	char *text = ReadServerFile(f->files, INDEX, CONFIG_BYTES, &bytes);
	llm_error err = {0};

	if (text != NULL)
		AddShards(f, text, bytes);
	else if (FindServerFile(f->weights, WEIGHTS) < 0)
		ThrowNoWeights(f);
	else
	{
		AddSafetensors(f, 0);
		if (!tensor_source_sort(&f->source, &err))
			ThrowFileError(WEIGHTS, &err);
	}
}

/* ---- dense layers of an embedding ---- */

pg_noreturn static void
ThrowNoDenseWeights(ImportFiles *f, const char *folder)
{
	bool pickled = FindServerFile(f->files, psprintf("%s/pytorch_model.bin", folder)) >= 0;

	ereport(
		ERROR,
		(errcode(ERRCODE_UNDEFINED_FILE), errmsg("the folder lacks file \"%s/%s\"", folder, WEIGHTS),
		 pickled ? errdetail("It has weights in Python's pickle format, which can run any code and is not read.")
				 : errdetail("modules.json names the folder of a module Dense."),
		 pickled ? errhint("Write them as safetensors: in Python, SentenceTransformer(folder).save(other).") : 0));
}

/* Tensors of the file in a folder, by names that begin with that of the folder. */
static void
AddDense(ImportFiles *f, const char *folder)
{
	char *path = psprintf("%s/%s", folder, WEIGHTS);
	int32 file = FindServerFile(f->weights, path);
	tensor_source *own = palloc0(sizeof(tensor_source));
	llm_error err = {0};
	safetensors *header;
	bool ok;

	if (file < 0)
		ThrowNoDenseWeights(f, folder);
	header = safetensors_open_header(ReadServerBytes, f->weights, file, ServerFileBytes(f->weights, file), &err);
	if (header == NULL)
		ThrowFileError(path, &err);
	OWN(header, safetensors_close);
	OWN(own, tensor_source_clear);
	ok = safetensors_source(header, file, own, &err);
	for (int32 i = 0; ok && i < own->count; i++)
	{
		source_tensor t = own->tensors[i];

		t.name = psprintf("%s/%s", folder, own->tensors[i].name);
		ok = tensor_source_add(&f->source, &t, &err);
	}
	if (!ok)
		ThrowFileError(path, &err);
}

/* And their configurations. */
static void
OpenDense(ImportFiles *f, checkpoint_files *files)
{
	checkpoint_folders folders;
	llm_error err = {0};

	if (!checkpoint_dense_folders(&files->modules, &folders, &err))
		ThrowError(&err);
	for (int32 i = 0; i < folders.count; i++)
	{
		files->dense[i] = JsonFile(f, psprintf("%s/config.json", folders.name[i]));
		AddDense(f, folders.name[i]);
	}
	if (!tensor_source_sort(&f->source, &err))
		ThrowError(&err);
}

/* ---- the tokenizer ---- */

static file_bytes
TokenizerFile(ImportFiles *f, const char *name)
{
	Size size;
	char *bytes = ReadServerFile(f->files, name, TOKENIZER_BYTES, &size);

	return (file_bytes) {bytes, size};
}

static file_bytes
SentencePieceFile(ImportFiles *f)
{
	static const char *const names[] = {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"};
	file_bytes file = {NULL};

	for (int i = 0; i < (int) lengthof(names) && file.bytes == NULL; i++)
		file = TokenizerFile(f, names[i]);
	return file;
}

/* Take over what tokenizer_from_files() made. */
static void
UseTokenizer(ImportFiles *f, void *block, size_t bytes)
{
	OWN(block, free);
	f->tokenizer_block = block;
	f->tokenizer_size = bytes;
	f->tokenizer = OpenTokenizer(block, bytes, InterruptRequested);
}

static void
OpenTokenizerFiles(ImportFiles *f)
{
	tokenizer_files files = {
		.tokenizer_json = TokenizerFile(f, "tokenizer.json"),
		.tokenizer_model = SentencePieceFile(f),
		.vocab_txt = TokenizerFile(f, "vocab.txt"),
		.vocab_json = TokenizerFile(f, "vocab.json"),
		.merges_txt = TokenizerFile(f, "merges.txt"),
		.tokenizer_config_json = TokenizerFile(f, "tokenizer_config.json"),
		.special_tokens_map_json = TokenizerFile(f, "special_tokens_map.json"),
		.added_tokens_json = TokenizerFile(f, "added_tokens.json"),
		.chat_template = TokenizerFile(f, "chat_template.jinja"),
		.sentence_bert_config_json = TokenizerFile(f, "sentence_bert_config.json"),
	};
	tokenizer_file_info info = {0};
	llm_error err = {0};
	size_t bytes;
	void *block;

	if (!files.tokenizer_json.bytes && !files.tokenizer_model.bytes && !files.vocab_txt.bytes &&
		!files.vocab_json.bytes)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("the folder has no tokenizer"),
						errdetail("Looked for are tokenizer.json, tokenizer.model, spiece.model, "
								  "sentencepiece.bpe.model, vocab.txt and vocab.json.")));
	block = tokenizer_from_files(&files, &info, &bytes, &err);
	if (block == NULL)
		ThrowError(&err);
	UseTokenizer(f, block, bytes);
	if (info.chat_template != NULL)
		f->chat_template = pstrdup(info.chat_template);
	tokenizer_file_info_free(&info);
}

/* ---- the network ---- */

static void
OpenFolder(ImportFiles *f, const json_t *params)
{
	checkpoint_files files = {
		.config = JsonFile(f, "config.json"),
		.generation_config = JsonFile(f, "generation_config.json"),
		.modules = JsonFile(f, "modules.json"),
		.pooling = JsonFile(f, "1_Pooling/config.json"),
		.sentence_config = JsonFile(f, "sentence_bert_config.json"),
		.settings = JsonFile(f, "config_sentence_transformers.json"),
	};
	llm_error err = {0};

	if (files.config.text == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("the folder lacks config.json"),
						errhint("Name the folder that the model was saved to.")));
	OpenTensors(f);
	OpenDense(f, &files);
	OpenTokenizerFiles(f);
	files.separator = tokenizer_special(f->tokenizer, SPECIAL_SEPARATOR);
	f->checkpoint = checkpoint_new(&files, &f->source, params, &err);
	if (f->checkpoint == NULL)
		ThrowError(&err);
}

/* ---- a file that has it all ---- */

static bool
GgufNumber(void *arg, const char *key, double *out)
{
	llm_error err = {0};
	bool flag;

	if (gguf_has(arg, key) && gguf_read_bool(arg, key, &flag, &err))
	{
		*out = flag;
		return true;
	}
	return gguf_has(arg, key) && gguf_read_number(arg, key, -1e30, 1e30, out, &err);
}

/* NULL where a zero byte is part of it, too. */
static const char *
GgufString(void *arg, const char *key)
{
	llm_error err = {0};
	const char *text;
	size_t length;

	return gguf_has(arg, key) && gguf_read_string(arg, key, &text, &length, &err) && strlen(text) == length ? text
																											: NULL;
}

static bool
GgufHas(void *arg, const char *key)
{
	return gguf_has(arg, key);
}

/* The file's tensors, too; file is its number among the weights. */
static gguf *
OpenPart(ImportFiles *f, int32 file, gguf_split *split)
{
	llm_error err = {0};
	gguf *g = gguf_open(ReadServerBytes, f->weights, file, ServerFileBytes(f->weights, file), &err);

	if (g == NULL)
		ThrowFileError(ServerFileName(f->weights, file), &err);
	OWN(g, gguf_close);
	if (!gguf_source(g, &f->source, &err) || !gguf_read_split(g, split, &err))
		ThrowFileError(ServerFileName(f->weights, file), &err);
	return g;
}

static char *
PartName(const char *name, int32 number, int32 count)
{
	llm_error err = {0};
	char *made = gguf_part_name(name, number, count, &err), *copy;

	if (made == NULL)
		ThrowFileError(name, &err);
	copy = pstrdup(made);
	free(made);
	return copy;
}

/* Parts behind the first one. */
static void
AddParts(ImportFiles *f, const char *name, const gguf_split *first)
{
	if (first->number > 0)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("file \"%s\" is part %d of the %d of a model", name, first->number + 1, first->count),
						errhint("Import the first one, \"%s\"; the others are found beside it.",
								PartName(name, 0, first->count))));
	for (int32 i = 1; i < first->count; i++)
	{
		const char *next = PartName(name, i, first->count);
		int32 file = FindServerFile(f->weights, next);
		gguf_split split;

		if (file < 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FILE), errmsg("the folder lacks file \"%s\"", next),
					 errdetail("It is part %d of the %d that \"%s\" is the first of.", i + 1, first->count, name)));
		(void) OpenPart(f, file, &split);
		if (split.number != i || split.count != first->count)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("file \"%s\" says that it is part %d of %d, not %d of %d", next, split.number + 1,
								   split.count, i + 1, first->count)));
	}
	if (first->tensors >= 0 && first->tensors != f->source.count)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the %d parts of the model have %d tensors, \"%s\" says that there are " INT64_FORMAT,
							   first->count, f->source.count, name, (int64) first->tensors)));
}

static void
OpenGguf(ImportFiles *f, const char *name, const json_t *params)
{
	llm_error err = {0};
	tokenizer_file_info info = {0};
	gguf_split split;
	gguf *g = OpenPart(f, FindServerFile(f->weights, name), &split);
	size_t bytes;
	void *block;

	AddParts(f, name, &split);
	if (!tensor_source_sort(&f->source, &err))
		ThrowFileError(name, &err);
	block = tokenizer_from_gguf(g, &info, &bytes, &err);
	if (block == NULL)
		ThrowFileError(name, &err);
	UseTokenizer(f, block, bytes);
	if (info.chat_template != NULL)
		f->chat_template = pstrdup(info.chat_template);
	tokenizer_file_info_free(&info);
	f->checkpoint = checkpoint_new_gguf(&(checkpoint_metadata) {GgufNumber, GgufString, GgufHas, g}, &f->source,
										tokenizer_special(f->tokenizer, SPECIAL_SEPARATOR), params, &err);
	if (f->checkpoint == NULL)
		ThrowFileError(name, &err);
}

/* The first part of a model in a folder without configuration; NULL: there is none. */
static const char *
FirstPart(ImportFiles *f)
{
	const char *found = NULL;
	ListCell *cell;

	if (FindServerFile(f->files, "config.json") >= 0)
		return NULL;
	foreach(cell, ServerFileNames(f->files))
	{
		if (!gguf_names_first_part(lfirst(cell)))
			continue;
		if (found != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
					 errmsg("the folder has more than one model: \"%s\" and \"%s\"", found, (char *) lfirst(cell)),
					 errhint("Name the file that is the first part of the one to import.")));
		found = lfirst(cell);
	}
	return found;
}

/* By its name, or by how it begins. */
static bool
IsOnnx(ImportFiles *f, const char *name)
{
	uint8 head[ONNX_HEAD_BYTES];
	Size length = strlen(name);
	llm_error err = {0};

	if (length > 5 && pg_strcasecmp(name + length - 5, ".onnx") == 0)
		return true;
	if (ServerFileBytes(f->weights, 0) < sizeof(head))
		return false;
	if (!ReadServerBytes(f->weights, 0, 0, head, sizeof(head), &err))
		ThrowFileError(name, &err);
	return onnx_begins(head);
}

static void
OpenOnnx(ImportFiles *f, const char *name)
{
	llm_error err = {0};

	f->graph = json_object();
	OWN(f->graph, json_decref);
	if (!onnx_source(&f->source, 0, ServerFileBytes(f->weights, 0), f->graph, &err) ||
		!tensor_source_sort(&f->source, &err))
		ThrowFileError(name, &err);
}

/* ---- all ---- */

json_t *
ImportFilesJson(const ImportFiles *f)
{
	json_t *files = ServerFilesJson(f->weights), *others;

	if (SingleFile(f->files) == NULL)
	{
		others = ServerFilesJson(f->files);
		json_array_extend(others, files);
		json_decref(files);
		files = others;
	}
	return files;
}

ImportFiles *
OpenImportFiles(const char *path, const json_t *params)
{
	ImportFiles *f = palloc0(sizeof(ImportFiles));
	const char *file;

	f->files = OpenServerPath(path, "llm_import()");
	f->weights = OpenServerPath(path, "llm_import()");
	f->source.read = ReadServerBytes;
	f->source.arg = f->weights;
	OWN(&f->source, tensor_source_clear);
	file = SingleFile(f->files) ? SingleFile(f->files) : FirstPart(f);
	if (file != NULL && SingleFile(f->files) && IsOnnx(f, file))
	{
		OpenOnnx(f, file);
		return f;
	}
	if (file != NULL)
		OpenGguf(f, file, params);
	else
		OpenFolder(f, params);
	OWN(f->checkpoint, checkpoint_free);
	return f;
}
