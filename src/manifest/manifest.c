/*
 * manifest.c
 *	  Build manifests, and read them without believing them.
 *
 * A manifest is believed only where it agrees with itself: the network laid out from "network"
 * must read rows of the shape that "columns" and "target" make, and "tensors" and "weights" must be
 * exactly that layout.  Whatever then reads the weights needs no further check of sizes.
 */
#include "manifest.h"

#include <stdlib.h>
#include <string.h>

#include "../format/architecture.h"
#include "../format/layers.h"
#include "transformer_json.h"

#define MANIFEST_BYTES_MAX (256 << 20)
#define HIDDEN_WIDTH_MAX 65536
#define SHA256_BYTES 32
#define TOKENIZER_BYTES_MAX (256 << 20)

/* ---- the network ---- */

static json_t *
columns_network_json(const net_config *config)
{
	const batch_shape *s = &config->shape;
	json_t *hidden = json_array();
	json_t *json;

	for (int32_t i = 0; i < config->hidden_count; i++)
		json_array_append_new(hidden, json_integer(config->hidden[i]));
	json =
		json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:o, s:s, s:b, s:b, s:f, s:s, s:f, s:f, s:i}", "dense",
				  s->dense, "embed_columns", s->embed_columns, "embed_rows", s->embed_rows, "bag_rows", s->bag_rows,
				  "bag_max", s->bag_max, "outputs", s->outputs, "class_target", s->class_target, "embed_dim",
				  config->embed_dim, "hidden", hidden, "activation", net_activation_name(config->activation),
				  "layer_norm", config->layer_norm, "residual", config->residual, "dropout", (double) config->dropout,
				  "loss", net_loss_name(config->loss), "huber_delta", (double) config->huber_delta, "label_smoothing",
				  (double) config->label_smoothing, "members", config->members);
	if (config->image[0] > 0)
	{
		json_object_set_new(json, "image",
							json_pack("[i, i, i]", config->image[0], config->image[1], config->image[2]));
		json_object_set_new(json, "image_shift", json_integer(config->augment.shift));
		json_object_set_new(json, "image_flip", json_boolean(config->augment.flip));
		json_object_set_new(json, "image_crop", json_real(config->augment.crop));
	}
	if (config->layer_count > 0)
		json_object_set_new(json, "layers", layers_json(config));
	if (config->text.vocab > 0)
	{
		json_object_set_new(json, "transformer", transformer_json(&config->text));
		json_object_set_new(json, "pool", json_integer(config->pool));
	}
	return json;
}

static json_t *
dense_json(const net_config *config)
{
	json_t *layers = json_array();

	for (int32_t i = 0; i < config->dense_count; i++)
		json_array_append_new(layers, json_pack("{s:i, s:b, s:s}", "width", config->dense[i].width, "bias",
												config->dense[i].bias, "activation",
												net_activation_name(config->dense[i].activation)));
	return layers;
}

static json_t *
embedding_network_json(const net_config *config)
{
	json_t *json = json_pack("{s:o, s:i, s:s}", "transformer", transformer_json(&config->text), "pool",
							 (int) config->pool, "loss", net_loss_name(config->loss));

	if (config->dense_count > 0)
		json_object_set_new(json, "dense", dense_json(config));
	return json;
}

json_t *
network_json(const net_config *config)
{
	if (config->shape.token_target)
		return json_pack("{s:o}", "transformer", transformer_json(&config->text));
	if (config->loss == LOSS_CONTRASTIVE)
		return embedding_network_json(config);
	return columns_network_json(config);
}

static bool
read_int32(const json_t *o, const char *key, int32_t low, int32_t *out, llm_error *err)
{
	int64_t number;

	if (!json_read_int(o, key, low, INT32_MAX, &number, err))
		return false;
	*out = (int32_t) number;
	return true;
}

static bool
read_float(const json_t *o, const char *key, double low, double high, float *out, llm_error *err)
{
	double number;

	if (!json_read_number(o, key, low, high, &number, err))
		return false;
	*out = (float) number;
	return true;
}

static bool
read_shape(const json_t *o, batch_shape *s, llm_error *err)
{
	return read_int32(o, "dense", 0, &s->dense, err) && read_int32(o, "embed_columns", 0, &s->embed_columns, err) &&
		   read_int32(o, "embed_rows", 0, &s->embed_rows, err) && read_int32(o, "bag_rows", 0, &s->bag_rows, err) &&
		   read_int32(o, "bag_max", 0, &s->bag_max, err) && read_int32(o, "outputs", 1, &s->outputs, err) &&
		   json_read_bool(o, "class_target", &s->class_target, err);
}

static bool
read_hidden(const json_t *o, net_config *config, llm_error *err)
{
	const json_t *hidden;

	if (!json_read_array(o, "hidden", NET_MAX_HIDDEN, &hidden, err))
		return false;
	config->hidden_count = (int32_t) json_array_size(hidden);
	for (int32_t i = 0; i < config->hidden_count; i++)
	{
		const json_t *width = json_array_get(hidden, i);

		if (!json_is_integer(width) || json_integer_value(width) < 1 || json_integer_value(width) > HIDDEN_WIDTH_MAX)
			return llm_fail(err, LLM_CORRUPT, "element %d of \"hidden\" is not a width from 1 to %d", i,
							HIDDEN_WIDTH_MAX);
		config->hidden[i] = (int32_t) json_integer_value(width);
	}
	return true;
}

static bool
read_activation(const json_t *o, net_activation *out, llm_error *err)
{
	const char *name;

	if (!json_read_string(o, "activation", &name, err))
		return false;
	return net_activation_parse(name, out) ||
		   llm_fail(err, LLM_CORRUPT, "\"activation\" is \"%.32s\", which this version does not know", name);
}

/* Activation and loss by name. */
static bool
read_choices(const json_t *o, net_config *config, llm_error *err)
{
	const char *loss;

	if (!read_activation(o, &config->activation, err) || !json_read_string(o, "loss", &loss, err))
		return false;
	if (!net_loss_parse(loss, &config->loss))
		return llm_fail(err, LLM_CORRUPT, "\"loss\" is \"%.32s\", which this version does not know", loss);
	return true;
}

/* Channels, height and width; net_new() says whether rows have so many numbers. */
static bool
read_image(const json_t *o, net_config *config, llm_error *err)
{
	const json_t *image;

	if (json_object_get(o, "image") == NULL)
		return true;
	if (!json_read_array(o, "image", 3, &image, err) ||
		!read_int32(o, "image_shift", 0, &config->augment.shift, err) ||
		!json_read_bool(o, "image_flip", &config->augment.flip, err) ||
		!read_float(o, "image_crop", 0, 1, &config->augment.crop, err))
		return false;
	for (int i = 0; i < 3; i++)
	{
		const json_t *size = json_array_get(image, i);

		if (!json_is_integer(size) || json_integer_value(size) < 1 || json_integer_value(size) > INT32_MAX)
			return llm_fail(err, LLM_CORRUPT, "\"image\" is not an array of channels, height and width");
		config->image[i] = (int32_t) json_integer_value(size);
	}
	return true;
}

/* What would be a wrong setting of a user is a damaged file here. */
static bool
as_corrupt(const llm_error *why, llm_error *err)
{
	return llm_fail(err, why->code == LLM_MEMORY ? LLM_MEMORY : LLM_CORRUPT, "\"network\": %.200s", why->message);
}

static bool
read_layers(const json_t *o, net_config *config, llm_error *err)
{
	const json_t *layers = json_object_get(o, "layers");
	llm_error why = {.code = LLM_OK};

	return layers == NULL || layers_from_json(layers, config, &why) || as_corrupt(&why, err);
}

/* Of a network on rows. */
static bool
read_text(const json_t *o, net_config *config, llm_error *err)
{
	const json_t *transformer;
	int32_t pool;

	if (json_object_get(o, "transformer") == NULL)
		return true;
	if (!json_read_object(o, "transformer", &transformer, err) ||
		!transformer_from_json(transformer, &config->text, err) || !read_int32(o, "pool", 0, &pool, err))
		return false;
	config->pool = (text_pool) pool;
	config->text.headless = true;
	config->shape.vocab = config->text.vocab;
	config->shape.context = config->text.context;
	return true;
}

/* Layers behind the pool; net_new() says whether they can be. */
static bool
read_dense(const json_t *json, net_config *config, llm_error *err)
{
	const json_t *layers;

	if (json_object_get(json, "dense") == NULL)
		return true;
	if (!json_read_array(json, "dense", NET_MAX_DENSE, &layers, err))
		return false;
	config->dense_count = (int32_t) json_array_size(layers);
	for (int32_t i = 0; i < config->dense_count; i++)
	{
		const json_t *layer = json_array_get(layers, i);
		net_dense *d = &config->dense[i];

		if (!json_is_object(layer))
			return llm_fail(err, LLM_CORRUPT, "element %d of \"dense\" is not an object", i);
		if (!read_int32(layer, "width", 1, &d->width, err) || !json_read_bool(layer, "bias", &d->bias, err) ||
			!read_activation(layer, &d->activation, err))
			return false;
	}
	return true;
}

/* What makes a transformer alone one that embeds texts, if it does. */
static bool
read_embedding(const json_t *json, net_config *config, llm_error *err)
{
	const char *loss;
	int32_t pool;

	if (json_object_get(json, "loss") == NULL)
		return true;
	if (!json_read_string(json, "loss", &loss, err) || !read_int32(json, "pool", 0, &pool, err))
		return false;
	if (!net_loss_parse(loss, &config->loss) || config->loss != LOSS_CONTRASTIVE)
		return llm_fail(err, LLM_CORRUPT, "\"loss\" \"%.32s\" does not fit a transformer alone", loss);
	config->pool = (text_pool) pool;
	config->text.headless = true;
	config->shape.token_target = false;
	return read_dense(json, config, err);
}

/* A language model, whose rows are tokens, which are also what it predicts; or a network that embeds them. */
static bool
read_language(const json_t *json, net_config *config, llm_error *err)
{
	const json_t *transformer;

	if (!json_read_object(json, "transformer", &transformer, err) ||
		!transformer_from_json(transformer, &config->text, err))
		return false;
	config->loss = LOSS_CROSS_ENTROPY;
	config->shape = (batch_shape) {.outputs = 1,
								   .token_target = true,
								   .vocab = config->text.vocab,
								   .context = config->text.context,
								   .source_context = config->text.source_context,
								   .labels = config->text.labels};
	return read_embedding(json, config, err);
}

bool
network_from_json(const json_t *json, net_config *config, llm_error *err)
{
	memset(config, 0, sizeof(net_config));
	if (json_object_get(json, "transformer") != NULL && json_object_get(json, "outputs") == NULL)
		return read_language(json, config, err);
	return read_shape(json, &config->shape, err) && read_int32(json, "embed_dim", 0, &config->embed_dim, err) &&
		   read_hidden(json, config, err) && read_choices(json, config, err) &&
		   json_read_bool(json, "layer_norm", &config->layer_norm, err) &&
		   json_read_bool(json, "residual", &config->residual, err) &&
		   read_float(json, "dropout", 0, 1, &config->dropout, err) &&
		   read_float(json, "huber_delta", 0, 1e9, &config->huber_delta, err) &&
		   read_float(json, "label_smoothing", 0, 1, &config->label_smoothing, err) &&
		   read_int32(json, "members", 0, &config->members, err) && read_image(json, config, err) &&
		   read_layers(json, config, err) && read_text(json, config, err);
}

/* ---- writing ---- */

static json_t *
tensor_json(const net_tensor_info *info)
{
	json_t *shape = json_array();

	for (int32_t i = 0; i < info->ndim; i++)
		json_array_append_new(shape, json_integer(info->dims[i]));
	return json_pack("{s:s, s:s, s:o, s:I}", "name", info->name, "dtype", weight_type_name(info->type), "shape",
					 shape, "offset", (json_int_t) info->place);
}

static json_t *
tensors_json(const net *n)
{
	json_t *array = json_array();

	for (int32_t i = 0; i < net_tensor_count(n); i++)
		json_array_append_new(array, tensor_json(net_tensor(n, i)));
	return array;
}

static json_t *
weights_json(const net *n, size_t tokenizer_bytes, const char *sha256)
{
	return json_pack("{s:I, s:I, s:s}", "bytes", (json_int_t) (net_kept_bytes(n) + tokenizer_bytes), "tokenizer",
					 (json_int_t) tokenizer_bytes, "sha256", sha256);
}

json_t *
manifest_build(const char *architecture, const char *task, const net *n, const encoder *e, const target *t,
			   size_t tokenizer_bytes, const char *sha256, json_t *settings, json_t *metrics, json_t *findings,
			   json_t *lineage)
{
	return json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "format", MANIFEST_FORMAT,
					 "architecture", architecture, "task", task, "network", network_json(net_get_config(n)),
					 "columns", encoder_json(e), "target", target_json(t), "tensors", tensors_json(n), "weights",
					 weights_json(n, tokenizer_bytes, sha256), "settings", settings, "metrics", metrics, "findings",
					 findings, "lineage", lineage);
}

void
manifest_keep(json_t *manifest, const net *n, size_t tokenizer_bytes, const char *sha256)
{
	json_object_set_new(manifest, "tensors", tensors_json(n));
	json_object_set_new(manifest, "weights", weights_json(n, tokenizer_bytes, sha256));
	json_object_del(manifest, "adapter");
}

/* ---- reading ---- */

static bool
check_format(const json_t *json, llm_error *err)
{
	int64_t format;

	if (!json_is_object(json))
		return llm_fail(err, LLM_CORRUPT, "the manifest is not an object");
	if (!json_read_int(json, "format", 1, INT64_MAX, &format, err))
		return false;
	if (format <= MANIFEST_FORMAT)
		return true;
	llm_fail(err, LLM_CORRUPT, "the manifest has \"format\" %lld, this version of llmapp reads up to %d",
			 (long long) format, MANIFEST_FORMAT);
	llm_detail(err, "A newer llmapp wrote it.");
	return llm_hint(err, "Install the newer llmapp and run ALTER EXTENSION llmapp UPDATE.");
}

static bool
embeds(const char *task)
{
	return strcmp(task, "embedding") == 0;
}

static bool
labels_tokens(const char *task)
{
	return strcmp(task, "token_classification") == 0;
}

static bool
is_text_task(const char *task)
{
	return strcmp(task, "generation") == 0 || strcmp(task, "masked_lm") == 0 || labels_tokens(task) || embeds(task);
}

static bool
read_names(manifest *m, llm_error *err)
{
	if (!json_read_string(m->json, "architecture", &m->architecture, err) ||
		!json_read_string(m->json, "task", &m->task, err))
		return false;
	if (architecture_find(m->architecture) == NULL)
		return llm_fail(err, LLM_CORRUPT, "\"architecture\" is \"%.32s\", which this version does not know",
						m->architecture);
	if (strcmp(m->task, "classification") != 0 && strcmp(m->task, "regression") != 0 && !is_text_task(m->task))
		return llm_fail(err, LLM_CORRUPT, "\"task\" is \"%.32s\", which this version does not know", m->task);
	return true;
}

static bool
read_features(manifest *m, llm_error *err)
{
	const json_t *columns, *label;

	if (!json_read_object(m->json, "columns", &columns, err) || !json_read_object(m->json, "target", &label, err))
		return false;
	m->encoder = encoder_from_json(columns, err);
	if (m->encoder == NULL)
		return false;
	m->target = target_from_json(label, err);
	if (m->target == NULL)
		return false;
	if ((m->target->kind == TARGET_CLASS) != (strcmp(m->task, "classification") == 0) ||
		(m->target->kind == TARGET_TEXT) != is_text_task(m->task))
		return llm_fail(err, LLM_CORRUPT, "\"target\" does not fit \"task\" \"%s\"", m->task);
	return true;
}

/* The rows that inputs and target make must be those the network reads. */
static bool
check_shape(const manifest *m, const batch_shape *s, llm_error *err)
{
	batch_shape own = {0};

	encoder_shape(m->encoder, &own);
	target_shape(m->target, &own);
	own.token_target &= !embeds(m->task);
	if (own.dense == s->dense && own.embed_columns == s->embed_columns && own.embed_rows == s->embed_rows &&
		own.bag_rows == s->bag_rows && own.bag_max == s->bag_max && own.outputs == s->outputs &&
		own.class_target == s->class_target && own.token_target == s->token_target &&
		(m->target->kind == TARGET_TEXT || (own.vocab == s->vocab && own.context == s->context)))
		return true;
	return llm_fail(err, LLM_CORRUPT, "\"network\" reads other rows than \"columns\" and \"target\" make");
}

static bool
check_image(const manifest *m, const int32_t image[3], llm_error *err)
{
	int32_t own[3];

	encoder_image(m->encoder, own);
	return memcmp(own, image, sizeof(own)) == 0 ||
		   llm_fail(err, LLM_CORRUPT, "\"image\" of \"network\" is not the image of \"columns\"");
}

static bool
check_loss(const manifest *m, const net_config *config, llm_error *err)
{
	bool class_loss = config->loss == LOSS_CROSS_ENTROPY || config->loss == LOSS_BINARY;

	return ((config->loss == LOSS_CONTRASTIVE) == embeds(m->task) &&
			(embeds(m->task) || class_loss == (m->target->kind != TARGET_NUMBER))) ||
		   llm_fail(err, LLM_CORRUPT, "\"loss\" \"%s\" does not fit \"target\"", net_loss_name(config->loss));
}

static bool
read_network(manifest *m, llm_error *err)
{
	const json_t *network;
	net_config config;
	llm_error why = {.code = LLM_OK};

	if (!json_read_object(m->json, "network", &network, err) || !network_from_json(network, &config, err) ||
		!check_shape(m, &config.shape, err) || !check_image(m, config.image, err) || !check_loss(m, &config, err))
		return false;
	if ((config.text.vocab > 0) != ((architecture_find(m->architecture)->bit & ARCH_TEXT) != 0) ||
		(config.text.vocab == 0 && (config.layer_count == 0) != (architecture_find(m->architecture)->bit ==
																 ARCH_MLP))) /* widths instead of layers */
		return llm_fail(err, LLM_CORRUPT, "\"network\" does not fit \"architecture\" \"%s\"", m->architecture);
	m->net = net_new(&config, &why);
	if (m->net != NULL)
		return true;
	return as_corrupt(&why, err);
}

/* The type that a tensor is kept in, which decides where the next ones lie. */
static bool
read_type(const json_t *o, int32_t i, net *n, llm_error *err)
{
	const char *dtype;
	weight_type type;

	if (!json_is_object(o))
		return llm_fail(err, LLM_CORRUPT, "element %d of \"tensors\" is not an object", i);
	if (!json_read_string(o, "dtype", &dtype, err))
		return false;
	if (!weight_type_parse(dtype, &type) || !net_can_keep(n, i, type))
		return llm_fail(err, LLM_CORRUPT, "element %d of \"tensors\" cannot have \"dtype\" \"%.32s\"", i, dtype);
	if (type != WEIGHT_F32)
		net_keep(n, i, type);
	return true;
}

static bool
check_tensor(const json_t *o, int32_t i, const net_tensor_info *info, llm_error *err)
{
	const char *name;
	const json_t *shape;
	int64_t offset;
	bool same;

	if (!json_read_string(o, "name", &name, err) || !json_read_array(o, "shape", 4, &shape, err) ||
		!json_read_int(o, "offset", 0, INT64_MAX, &offset, err))
		return false;
	same = strcmp(name, info->name) == 0 && json_array_size(shape) == (size_t) info->ndim &&
		   (uint64_t) offset == info->place;
	for (int32_t d = 0; same && d < info->ndim; d++)
	{
		const json_t *dim = json_array_get(shape, d);

		same = json_is_integer(dim) && json_integer_value(dim) == info->dims[d];
	}
	return same ||
		   llm_fail(err, LLM_CORRUPT, "element %d of \"tensors\" is not \"%s\" of \"network\"", i, info->name);
}

static bool
check_tensors(const manifest *m, llm_error *err)
{
	const json_t *tensors;
	int32_t count = net_tensor_count(m->net);

	if (!json_read_array(m->json, "tensors", count, &tensors, err))
		return false;
	if (json_array_size(tensors) != (size_t) count)
		return llm_fail(err, LLM_CORRUPT, "array \"tensors\" has %zu elements, \"network\" has %d",
						json_array_size(tensors), count);
	for (int32_t i = 0; i < count; i++)
		if (!read_type(json_array_get(tensors, i), i, m->net, err))
			return false;
	for (int32_t i = 0; i < count; i++)
		if (!check_tensor(json_array_get(tensors, i), i, net_tensor(m->net, i), err))
			return false;
	return true;
}

static bool
read_weights(manifest *m, llm_error *err)
{
	const json_t *weights;
	const char *sha256;
	int64_t bytes, tokenizer = 0;
	unsigned char digest[SHA256_BYTES];

	if (!json_read_object(m->json, "weights", &weights, err) ||
		!json_read_int(weights, "bytes", 0, INT64_MAX, &bytes, err) ||
		!json_read_string(weights, "sha256", &sha256, err))
		return false;
	if (json_object_get(weights, "tokenizer") != NULL &&
		!json_read_int(weights, "tokenizer", 0, TOKENIZER_BYTES_MAX, &tokenizer, err))
		return false;
	if ((tokenizer > 0) != (net_get_config(m->net)->text.vocab > 0))
		return llm_fail(err, LLM_CORRUPT, "\"tokenizer\" of \"weights\" is %lld for a network of another kind",
						(long long) tokenizer);
	m->tokenizer_bytes = (size_t) tokenizer;
	m->weight_bytes = net_kept_bytes(m->net) + m->tokenizer_bytes;
	if ((uint64_t) bytes != m->weight_bytes)
		return llm_fail(err, LLM_CORRUPT, "\"bytes\" of \"weights\" is %lld, \"network\" has %zu", (long long) bytes,
						m->weight_bytes);
	if (strlen(sha256) != 2 * SHA256_BYTES || !json_unhex(sha256, digest, SHA256_BYTES))
		return llm_fail(err, LLM_CORRUPT, "\"sha256\" is not %d hexadecimal digits", 2 * SHA256_BYTES);
	memcpy(m->sha256, sha256, 2 * SHA256_BYTES + 1);
	return true;
}

static bool
read_adapter(manifest *m, llm_error *err)
{
	const json_t *json;

	if (json_object_get(m->json, "adapter") == NULL)
		return true;
	if (!json_read_object(m->json, "adapter", &json, err))
		return false;
	if (net_kept_type(m->net) != WEIGHT_F32)
		return llm_fail(err, LLM_CORRUPT, "\"adapter\" makes float32, \"tensors\" are kept in another type");
	m->adapter = adapter_from_json(json, m->net, err);
	return m->adapter != NULL;
}

static bool
read_chat_template(manifest *m, llm_error *err)
{
	return json_object_get(m->json, "chat_template") == NULL ||
		   json_read_string(m->json, "chat_template", &m->chat_template, err);
}

static bool
read_ends(manifest *m, const json_t *tokens, llm_error *err)
{
	const json_t *ends;

	if (json_object_get(tokens, "ends") == NULL)
		return true;
	if (!json_read_array(tokens, "ends", MANIFEST_ENDS_MAX, &ends, err))
		return false;
	for (; m->end_count < (int32_t) json_array_size(ends); m->end_count++)
	{
		const json_t *id = json_array_get(ends, m->end_count);

		if (!json_is_integer(id) || json_integer_value(id) < 0 ||
			json_integer_value(id) >= net_get_config(m->net)->text.vocab)
			return llm_fail(err, LLM_CORRUPT, "element %d of \"ends\" is no token of \"network\"", m->end_count);
		m->ends[m->end_count] = (int32_t) json_integer_value(id);
	}
	return true;
}

/* As many as the network has. */
static bool
read_labels(manifest *m, const json_t *tokens, llm_error *err)
{
	int32_t count = net_get_config(m->net)->text.labels;

	if (!json_read_array(tokens, "labels", (size_t) count, &m->labels, err))
		return false;
	for (int32_t i = 0; i < count; i++)
		if (json_string_length(json_array_get(m->labels, i)) == 0)
			return llm_fail(err, LLM_CORRUPT, "\"labels\" has no name for label %d of the %d of \"network\"", i,
							count);
	return true;
}

static bool
read_tokens(manifest *m, llm_error *err)
{
	const json_t *tokens;
	int64_t start = -1;

	if ((net_get_config(m->net)->text.labels > 0) != labels_tokens(m->task))
		return llm_fail(err, LLM_CORRUPT, "\"task\" \"%s\" does not fit \"network\"", m->task);
	if (json_object_get(m->json, "tokens") != NULL || labels_tokens(m->task))
	{
		if (!json_read_object(m->json, "tokens", &tokens, err) || !read_ends(m, tokens, err) ||
			(labels_tokens(m->task) && !read_labels(m, tokens, err)))
			return false;
		if (json_object_get(tokens, "start") != NULL &&
			!json_read_int(tokens, "start", 0, (int64_t) net_get_config(m->net)->text.vocab - 1, &start, err))
			return false;
	}
	m->start = (int32_t) start;
	return true;
}

static bool
read_score(manifest *m, llm_error *err)
{
	const char *score;

	if (json_object_get(m->json, "score") == NULL)
		return true;
	if (!json_read_string(m->json, "score", &score, err))
		return false;
	m->sigmoid = strcmp(score, "sigmoid") == 0;
	if (!m->sigmoid)
		return llm_fail(err, LLM_CORRUPT, "\"score\" is \"%.32s\", which this version does not know", score);
	return (m->target->kind == TARGET_NUMBER && m->target->outputs == 1) ||
		   llm_fail(err, LLM_CORRUPT, "\"score\" does not fit \"target\"");
}

/* What views and reports read: only its types matter here. */
static bool
check_rest(const json_t *json, llm_error *err)
{
	const json_t *ignored;

	return json_read_object(json, "settings", &ignored, err) && json_read_object(json, "metrics", &ignored, err) &&
		   json_read_array(json, "findings", SIZE_MAX, &ignored, err) &&
		   json_read_object(json, "lineage", &ignored, err);
}

manifest *
manifest_parse(const char *text, size_t length, llm_error *err)
{
	manifest *m;

	if (length > MANIFEST_BYTES_MAX)
	{
		llm_fail(err, LLM_CORRUPT, "the manifest has %zu bytes, at most %d are allowed", length, MANIFEST_BYTES_MAX);
		return NULL;
	}
	m = calloc(1, sizeof(manifest));
	if (m == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for a manifest");
		return NULL;
	}
	m->json = json_parse(text, length, err);
	if (m->json != NULL && check_format(m->json, err) && read_names(m, err) && read_features(m, err) &&
		read_network(m, err) && check_tensors(m, err) && read_weights(m, err) && read_adapter(m, err) &&
		read_chat_template(m, err) && read_tokens(m, err) && read_score(m, err) && check_rest(m->json, err))
		return m;
	manifest_free(m);
	return NULL;
}

void
manifest_free(manifest *m)
{
	if (m == NULL)
		return;
	adapter_free(m->adapter);
	net_free(m->net);
	encoder_free(m->encoder);
	target_free(m->target);
	json_decref(m->json);
	free(m);
}

size_t
manifest_stored_bytes(const manifest *m)
{
	return m->adapter ? m->adapter->bytes : m->weight_bytes;
}

const char *
manifest_stored_sha256(const manifest *m)
{
	return m->adapter ? m->adapter->sha256 : m->sha256;
}
