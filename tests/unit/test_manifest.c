/*
 * test_manifest.c
 *	  A manifest that was built is read back; one that contradicts itself is refused.
 */
#include "../../src/manifest/manifest.h"
#include "../../src/manifest/transformer_json.h"
#include "feature_sample.h"

static const char *const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const char *const other = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/* The sample's network: one hidden layer, three classes. */
static net_config
sample_config(const sample *s)
{
	net_config config = {.embed_dim = 4,
						 .hidden_count = 1,
						 .hidden = {8},
						 .activation = ACT_RELU,
						 .dropout = 0.1f,
						 .loss = LOSS_CROSS_ENTROPY,
						 .huber_delta = 1};

	encoder_shape(s->encoder, &config.shape);
	target_shape(s->target, &config.shape);
	return config;
}

static json_t *
build(const sample *s, const net *n)
{
	return manifest_build("mlp", "classification", n, s->encoder, s->target, 0, digest, json_object(), json_object(),
						  json_array(), json_object());
}

static manifest *
parse(const json_t *json, llm_error *err)
{
	char *text = json_text(json);
	manifest *m = manifest_parse(text, strlen(text), err);

	free(text);
	return m;
}

/* ---- language models ---- */

/* A manifest of a small one, with a tokenizer of 128 bytes. */
static json_t *
build_language(const char *family, llm_error *err)
{
	net_config config = {.loss = LOSS_CROSS_ENTROPY,
						 .shape = {.outputs = 1, .token_target = true, .vocab = 30, .context = 8}};
	column body = {.name = "body", .sql_type = "text", .kind = COLUMN_TEXT};
	target_fitter *fitter = target_fitter_new(TARGET_TEXT, &body, 1, err);
	encoder *e = encoder_none(err);
	json_t *json = NULL;
	target *t;
	net *n;

	CHECK(transformer_family(family, &config.text));
	config.text.vocab = 30;
	config.text.context = config.text.width = 8;
	config.text.depth = config.text.heads = config.text.kv_heads = 1;
	config.text.head_dim = config.text.ffn = 8;
	if (config.text.buckets > 0)
	{
		config.text.encoder_depth = 1;
		config.text.source_context = config.shape.source_context = 9;
	}
	n = net_new(&config, err);
	CHECK(fitter != NULL && target_fitter_add(fitter, NULL, err));
	t = target_fitter_finish(fitter, err);
	if (CHECK(n != NULL && t != NULL && e != NULL))
		json = manifest_build(family, "generation", n, e, t, 128, digest, json_object(), json_object(), json_array(),
							  json_object());
	net_free(n);
	target_free(t);
	encoder_free(e);
	return json;
}

static void
check_language_refused(const char *path, const char *key, json_t *value)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build_language("llama", &err), *at = json;
	manifest *m;

	if (path)
		at = json_object_get(json, path);
	if (path && strcmp(path, "network") == 0)
		at = json_object_get(at, "transformer");
	json_object_set_new(at, key, value);
	m = parse(json, &err);
	CHECK(m == NULL);
	CHECK_INT(err.code, LLM_CORRUPT);
	manifest_free(m);
	json_decref(json);
}

/* One tensor of 8 by 8 is adapted, one of 8 its own: what is stored is smaller than the weights. */
static void
test_adapter(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build_language("gpt", &err);
	manifest *m = parse(json, &err);

	CHECK_INT(manifest_stored_bytes(m), m->weight_bytes);
	CHECK_STR(manifest_stored_sha256(m), digest);
	manifest_free(m);
	json_object_set_new(json, "adapter",
						json_pack("{s:s, s:i, s:s, s:i, s:f, s:[s], s:[s], s:i, s:s}", "base", "base", "version", 1,
								  "base_sha256", digest, "rank", 2, "alpha", 16.0, "adapted",
								  "layers.0.attn.out.weight", "own", "norm.bias", "bytes", 192, "sha256", other));
	m = parse(json, &err);
	CHECK_STR(err.message, "");
	if (CHECK(m != NULL && m->adapter != NULL))
	{
		CHECK_INT(manifest_stored_bytes(m), 192);
		CHECK_STR(manifest_stored_sha256(m), other);
		CHECK_STR(m->sha256, digest);
		CHECK_STR(m->adapter->base, "base");
	}
	manifest_free(m);
	json_decref(json);
}

/* Types of tensors: legal for matrices of whole blocks, with places that follow from them. */
static void
test_kept(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build_language("llama", &err), *config = json_object_get(json, "network"), *tensors;
	net_config wide;
	manifest *m;
	net *n;

	json_object_set_new(json_object_get(config, "transformer"), "width", json_integer(32));
	CHECK(network_from_json(config, &wide, &err));
	n = net_new(&wide, &err);
	if (!CHECK(n != NULL))
		return;
	net_keep_all(n, WEIGHT_Q4_0);
	manifest_keep(json, n, 128, digest);
	m = parse(json, &err);
	CHECK_STR(err.message, "");
	if (CHECK(m != NULL))
	{
		CHECK_INT(net_kept_type(m->net), WEIGHT_Q4_0);
		CHECK_INT(m->weight_bytes, net_kept_bytes(n) + 128);
	}
	manifest_free(m);
	tensors = json_object_get(json, "tensors");
	json_object_set_new(json_array_get(tensors, 0), "dtype", json_string("q8_0")); /* others lie elsewhere then */
	CHECK(parse(json, &err) == NULL && strstr(err.message, "element 1 of \"tensors\"") != NULL);
	err = (llm_error) {.code = LLM_OK};
	json_object_set_new(json_array_get(tensors, 1), "dtype", json_string("f16")); /* a norm */
	CHECK(parse(json, &err) == NULL && strstr(err.message, "cannot have \"dtype\" \"f16\"") != NULL);
	net_free(n);
	json_decref(json);
}

/* An embedding with layers behind its pool. */
static void
test_dense(void)
{
	static const struct
	{
		const char *dense, *message;
	} cases[] = {
		{"[{\"width\": 5, \"bias\": true, \"activation\": \"tanh\"}, {\"width\": 3, \"bias\": false, "
		 "\"activation\": \"identity\"}]",
		 NULL},
		{"7", "\"dense\""},
		{"[7]", "element 0 of \"dense\" is not an object"},
		{"[{\"width\": 0, \"bias\": true, \"activation\": \"tanh\"}]", "\"width\""},
		{"[{\"width\": 5, \"activation\": \"tanh\"}]", "\"bias\""},
		{"[{\"width\": 5, \"bias\": true, \"activation\": \"mish\"}]", "\"mish\""},
		{"[1, 2, 3, 4, 5, 6, 7, 8, 9]", "at most 8"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		llm_error err = {.code = LLM_OK};
		json_t *json = build_language("llama", &err), *network = json_object_get(json, "network"), *again;
		net_config config;
		net *n;

		json_object_set_new(network, "pool", json_integer(POOL_MEAN));
		json_object_set_new(network, "loss", json_string("contrastive"));
		json_object_set_new(network, "dense", json_loads(cases[i].dense, JSON_DECODE_ANY, NULL));
		CHECK(network_from_json(network, &config, &err) == (cases[i].message == NULL));
		if (cases[i].message)
			CHECK(err.code == LLM_CORRUPT && strstr(err.message, cases[i].message) != NULL);
		else
		{
			n = net_new(&config, &err);
			again = network_json(&config);
			CHECK(n != NULL && net_embedding_width(&config) == 3 && json_equal(again, network));
			net_free(n);
			json_decref(again);
		}
		json_decref(json);
	}
}

static void
test_language(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build_language("llama", &err);
	manifest *m = parse(json, &err);

	CHECK_STR(err.message, "");
	if (CHECK(m != NULL))
	{
		CHECK_INT(m->target->kind, TARGET_TEXT);
		CHECK_STR(m->target->names[0], "body");
		CHECK_INT(m->tokenizer_bytes, 128);
		CHECK_INT(m->weight_bytes, net_weight_bytes(m->net) + 128);
		CHECK(net_get_config(m->net)->text.rotary && net_get_config(m->net)->text.gated);
		CHECK_INT(net_get_config(m->net)->shape.context, 8);
	}
	manifest_free(m);
	json_decref(json);
	check_language_refused(NULL, "adapter", json_true());
	check_language_refused(NULL, "adapter", json_object());
	check_language_refused("network", "vocab", json_integer(0));
	check_language_refused("network", "vocab", json_integer(31));
	check_language_refused("network", "depth", json_integer(100000));
	check_language_refused("network", "rope_theta", json_real(0));
	check_language_refused("network", "activation", json_string("magic"));
	check_language_refused("network", "gated", json_integer(1));
	check_language_refused("network", "bidirectional", json_null());
	check_language_refused("network", "post_norm", json_true());
	check_language_refused("network", "head_transform", json_true());
	check_language_refused("network", "head_transform", json_string("true"));
	check_language_refused("network", "encoder_depth", json_integer(1));
	check_language_refused("network", "encoder_depth", json_integer(-1));
	check_language_refused("network", "source_context", json_integer(1 << 30));
	check_language_refused("network", "buckets", json_integer(3));
	check_language_refused("network", "distance", json_real(1.5));
	check_language_refused("network", "head_scale", json_null());
	check_language_refused("weights", "tokenizer", json_integer(0));
	check_language_refused("weights", "tokenizer", json_integer(-1));
	check_language_refused("weights", "bytes", json_integer(64));
	check_language_refused("target", "kind", json_string("number"));
	check_language_refused(NULL, "task", json_string("classification"));
	check_language_refused(NULL, "architecture", json_string("mlp"));
}

static void
test_chat_template(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build_language("gpt", &err);
	manifest *m;

	json_object_set_new(json, "chat_template", json_string("{{ messages[0].content }}"));
	m = parse(json, &err);
	if (CHECK(m != NULL))
		CHECK_STR(m->chat_template, "{{ messages[0].content }}");
	manifest_free(m);
	json_decref(json);
	check_language_refused(NULL, "chat_template", json_true());
	/* only one number has a score */
	check_language_refused(NULL, "score", json_string("sigmoid"));
	check_language_refused(NULL, "score", json_string("softmax"));
	check_language_refused("network", "window", json_integer(-1));
}

/* Encoders, whose flags are read whatever the architecture is called. */
static void
test_encoders(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build_language("bert", &err);
	manifest *m = parse(json, &err);
	const transformer_config *c;

	if (CHECK(m != NULL))
	{
		c = &net_get_config(m->net)->text;
		CHECK(c->bidirectional && c->post_norm && c->head_transform && c->norm_epsilon == 1e-12f);
	}
	manifest_free(m);
	json_decref(json);
	json = build_language("t5", &err);
	m = parse(json, &err);
	if (CHECK(m != NULL))
	{
		c = &net_get_config(m->net)->text;
		CHECK(c->encoder_depth == 1 && c->source_context == 9 && c->buckets == 32 && c->distance == 128);
		CHECK(c->head_scale && net_get_config(m->net)->shape.source_context == 9);
	}
	manifest_free(m);
	json_decref(json);
}

/* Members that are written where they are not 0. */
static void
test_members(void)
{
	transformer_config all = {.vocab = 30,
							  .activation = ACT_SILU,
							  .rotary_dim = 4,
							  .rope_factor = 8,
							  .rope_low = 1,
							  .rope_high = 4,
							  .rope_context = 8192,
							  .parallel = true,
							  .embed_scale = true,
							  .types = 2,
							  .separator = 5,
							  .window = 6,
							  .window_period = 3,
							  .window_theta = 1e4f,
							  .query_dim = 168,
							  .score_cap = 50,
							  .logit_cap = 30,
							  .added_norm = true,
							  .labels = 7};
	transformer_config none = {.vocab = 30}, again = {0};
	llm_error err = {.code = LLM_OK};
	json_t *json = transformer_json(&all);

	CHECK(transformer_from_json(json, &again, &err));
	CHECK_BYTES(&all, &again, sizeof(all));
	json_object_set_new(json, "labels", json_real(1));
	CHECK(!transformer_from_json(json, &again, &err) && err.code == LLM_CORRUPT);
	json_decref(json);
	err.code = LLM_OK;
	json = transformer_json(&none);
	CHECK(json_object_get(json, "labels") == NULL && json_object_get(json, "rope_factor") == NULL);
	again = (transformer_config) {0};
	CHECK(transformer_from_json(json, &again, &err) && again.labels == 0 && !again.parallel);
	json_decref(json);
}

static void
test_round_trip(const sample *s, const net *n)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build(s, n);
	manifest *m = parse(json, &err);
	json_t *again;
	char *a, *b;

	CHECK_STR(err.message, "");
	if (!CHECK(m != NULL))
		return;
	CHECK_STR(m->architecture, "mlp");
	CHECK_STR(m->task, "classification");
	CHECK_STR(m->sha256, digest);
	CHECK_INT(m->weight_bytes, net_weight_bytes(n));
	CHECK_INT(m->target->class_count, 3);
	CHECK(net_get_config(m->net)->dropout == 0.1f);
	CHECK_INT(net_tensor_count(m->net), net_tensor_count(n));
	again = manifest_build("mlp", "classification", m->net, m->encoder, m->target, 0, m->sha256, json_object(),
						   json_object(), json_array(), json_object());
	a = json_text(json);
	b = json_text(again);
	CHECK_STR(a, b);
	free(a);
	free(b);
	json_decref(json);
	json_decref(again);
	manifest_free(m);
}

/* Where a member is: keys and, for arrays, indexes, separated by '.'. */
static json_t *
walk(json_t *json, const char *path, char *last)
{
	char buffer[64];
	char *key = buffer;
	char *dot;

	snprintf(buffer, sizeof(buffer), "%s", path);
	while ((dot = strchr(key, '.')) != NULL)
	{
		*dot = '\0';
		json = json_is_array(json) ? json_array_get(json, strtoul(key, NULL, 10)) : json_object_get(json, key);
		key = dot + 1;
	}
	strcpy(last, key);
	return json;
}

static const struct
{
	const char *path; /* set to text, or removed */
	const char *text;
	const char *message; /* part of it */
} wrong[] = {
	{"format", NULL, "\"format\" is missing"},
	{"format", "0", "\"format\" is 0"},
	{"format", "2", "\"format\" 2"},
	{"architecture", "\"rnn\"", "\"architecture\" is \"rnn\""},
	{"architecture", "\"gpt\"", "\"network\" does not fit \"architecture\" \"gpt\""},
	{"architecture", "\"cnn\"", "\"network\" does not fit \"architecture\" \"cnn\""},
	{"network.layers", "[{\"type\":\"linear\",\"width\":8}]", "\"network\" does not fit \"architecture\" \"mlp\""},
	{"network.image", "[1,1,1]", "\"image_shift\""},
	{"architecture", NULL, "\"architecture\""},
	{"task", "\"regression\"", "does not fit \"task\""},
	{"task", "\"dance\"", "\"task\" is \"dance\""},
	{"columns", NULL, "\"columns\""},
	{"columns", "[]", "\"columns\""},
	{"columns.columns", "[]", "\"network\" reads other rows"},
	{"target", NULL, "\"target\""},
	{"target.class_rows", "[1,2]", "\"class_rows\""},
	{"network", NULL, "\"network\""},
	{"network.dense", "1", "other rows"},
	{"network.dense", "-1", "\"dense\""},
	{"network.bag_rows", "1", "other rows"},
	{"network.bag_max", "1", "other rows"},
	{"network.embed_rows", "99999999999", "\"embed_rows\""},
	{"network.outputs", "4", "other rows"},
	{"network.class_target", "false", "other rows"},
	{"network.class_target", "0", "\"class_target\""},
	{"network.embed_dim", "0", "\"network\""},
	{"network.embed_dim", "8", "\"tensors\""},
	{"network.hidden", "[0]", "\"hidden\""},
	{"network.hidden", "[65537]", "\"hidden\""},
	{"network.hidden", "[9]", "\"tensors\""},
	{"network.hidden", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "\"hidden\""},
	{"network.activation", "\"sine\"", "\"activation\" is \"sine\""},
	{"network.loss", "\"mse\"", "\"loss\""},
	{"network.loss", "\"x\"", "\"loss\" is \"x\""},
	{"network.dropout", "1", "\"network\""},
	{"network.dropout", "2", "\"dropout\""},
	{"network.layer_norm", NULL, "\"layer_norm\""},
	{"tensors", "[]", "\"tensors\" has 0"},
	{"tensors", "{}", "\"tensors\""},
	{"tensors.0", "7", "element 0 of \"tensors\""},
	{"tensors.0.name", "\"other\"", "element 0 of \"tensors\""},
	{"tensors.0.dtype", "\"f16\"", "element 0 of \"tensors\""},
	{"tensors.0.shape", "[]", "element 0 of \"tensors\""},
	{"tensors.0.shape", "[1,1]", "element 0 of \"tensors\""},
	{"tensors.0.shape", "[1,1,1,1,1]", "\"shape\""},
	{"tensors.1.offset", "0", "element 1 of \"tensors\""},
	{"tensors.1.offset", "-64", "\"offset\""},
	{"weights", NULL, "\"weights\""},
	{"weights.bytes", "64", "\"bytes\" of \"weights\" is 64"},
	{"weights.sha256", "\"00\"", "\"sha256\""},
	{"weights.sha256", "\"0G112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"", "\"sha256\""},
	{"settings", NULL, "\"settings\""},
	{"metrics", "[]", "\"metrics\""},
	{"findings", "{}", "\"findings\""},
	{"lineage", NULL, "\"lineage\""},
};

static void
test_wrong(const sample *s, const net *n)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		llm_error err = {.code = LLM_OK};
		json_t *json = build(s, n);
		char key[64];
		json_t *holder = walk(json, wrong[i].path, key);
		json_t *value = wrong[i].text ? json_parse(wrong[i].text, strlen(wrong[i].text), &err) : NULL;

		if (json_is_array(holder))
			json_array_set_new(holder, strtoul(key, NULL, 10), value);
		else if (value != NULL)
			json_object_set_new(holder, key, value);
		else
			json_object_del(holder, key);
		CHECK(parse(json, &err) == NULL);
		if (!CHECK(err.code == LLM_CORRUPT && strstr(err.message, wrong[i].message) != NULL))
			fprintf(stderr, "  %s = %s: %s\n", wrong[i].path, wrong[i].text ? wrong[i].text : "(none)", err.message);
		json_decref(json);
	}
}

static void
test_newer_format(const sample *s, const net *n)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = build(s, n);

	json_object_set_new(json, "format", json_integer(MANIFEST_FORMAT + 1));
	CHECK(parse(json, &err) == NULL);
	CHECK_STR(err.detail, "A newer llmapp wrote it.");
	CHECK(err.hint[0] != '\0');
	json_decref(json);
	err.code = LLM_OK;
	CHECK(manifest_parse("[]", 2, &err) == NULL);
	CHECK_STR(err.message, "the manifest is not an object");
}

int
main(void)
{
	sample *s = sample_new(false);
	net_config config = sample_config(s);
	llm_error err = {.code = LLM_OK};
	net *n = net_new(&config, &err);

	CHECK_STR(err.message, "");
	test_language();
	test_kept();
	test_dense();
	test_adapter();
	test_chat_template();
	test_encoders();
	test_members();
	test_round_trip(s, n);
	test_wrong(s, n);
	test_newer_format(s, n);
	net_free(n);
	sample_free(s);
	return test_summary();
}
