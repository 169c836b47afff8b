/*
 * import_files.c
 *	  What the files of a checkpoint hold, by their names.
 *
 * A folder has config.json, tensors in safetensors files and a tokenizer, as Hugging Face's libraries
 * write them, and of sentence-transformers what says how a text becomes one vector.  A single file
 * is GGUF and has it all, or ONNX and has a network on columns.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "../common.h"
#include "../format/checkpoint_index.h"
#include "../format/gguf.h"
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

static checkpoint_text
JsonFile(ImportFiles *f, const char *name)
{
	Size size;
	char *text = ReadServerFile(f->files, name, CONFIG_BYTES, &size);

	return (checkpoint_text) {text, size};
}

static void
OpenFolder(ImportFiles *f, const json_t *params)
{
	checkpoint_files files = {
		.config = JsonFile(f, "config.json"),
		.generation_config = JsonFile(f, "generation_config.json"),
		.modules = JsonFile(f, "modules.json"),
		.pooling = JsonFile(f, "1_Pooling/config.json"),
		.sentence_config = JsonFile(f, "sentence_bert_config.json"),
	};
	llm_error err = {0};

	if (files.config.text == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("the folder lacks config.json"),
						errhint("Name the folder that the model was saved to.")));
	OpenTensors(f);
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

static void
OpenGguf(ImportFiles *f, const char *name, const json_t *params)
{
	llm_error err = {0};
	gguf *g = gguf_open(ReadServerBytes, f->weights, 0, ServerFileBytes(f->weights, 0), &err);
	tokenizer_file_info info = {0};
	size_t bytes;
	void *block;

	if (g == NULL)
		ThrowFileError(name, &err);
	OWN(g, gguf_close);
	if (!gguf_source(g, &f->source, &err) || !tensor_source_sort(&f->source, &err))
		ThrowFileError(name, &err);
	block = tokenizer_from_gguf(g, &info, &bytes, &err);
	if (block == NULL)
		ThrowFileError(name, &err);
	UseTokenizer(f, block, bytes);
	if (info.chat_template != NULL)
		f->chat_template = pstrdup(info.chat_template);
	tokenizer_file_info_free(&info);
	f->checkpoint = checkpoint_new_gguf(&(checkpoint_metadata) {GgufNumber, GgufString, g}, &f->source,
										tokenizer_special(f->tokenizer, SPECIAL_SEPARATOR), params, &err);
	if (f->checkpoint == NULL)
		ThrowFileError(name, &err);
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

	f->files = OpenServerPath(path, "llm_import()");
	f->weights = OpenServerPath(path, "llm_import()");
	f->source.read = ReadServerBytes;
	f->source.arg = f->weights;
	OWN(&f->source, tensor_source_clear);
	if (SingleFile(f->files) != NULL && IsOnnx(f, SingleFile(f->files)))
	{
		OpenOnnx(f, SingleFile(f->files));
		return f;
	}
	if (SingleFile(f->files) != NULL)
		OpenGguf(f, SingleFile(f->files), params);
	else
		OpenFolder(f, params);
	OWN(f->checkpoint, checkpoint_free);
	return f;
}
