/*
 * test_layers.c
 *	  Layers as JSON: read, written and read again; each mistake named.
 */
#include "../../src/format/layers.h"
#include "../../src/manifest/manifest.h"
#include "fixture.h"

static net_config
image_config(void)
{
	net_config c = {
		.shape = {.dense = 3 * 32 * 32, .outputs = 10, .class_target = true},
		.image = {3, 32, 32},
		.augment = {.shift = 2, .flip = true, .crop = 0.25f},
		.loss = LOSS_CROSS_ENTROPY,
		.huber_delta = 1,
	};

	return c;
}

static bool
read_text(const char *text, net_config *c, llm_error *err)
{
	json_t *json = json_parse(text, strlen(text), err);
	bool ok = json != NULL && layers_from_json(json, c, err);

	json_decref(json);
	return ok;
}

static const char *const everything =
	"[{\"type\":\"conv2d\",\"name\":\"stem\",\"channels\":8,\"kernel\":[5,3],\"bias\":false},"
	"{\"type\":\"batch_norm\"},"
	"{\"type\":\"activation\",\"function\":\"relu\"},"
	"{\"type\":\"conv2d\",\"channels\":8,\"kernel\":3,\"stride\":1,\"padding\":1},"
	"{\"type\":\"group_norm\",\"groups\":4},"
	"{\"type\":\"add\",\"inputs\":[5,\"stem\"]},"
	"{\"type\":\"max_pool\"},"
	"{\"type\":\"avg_pool\",\"kernel\":3,\"stride\":2,\"padding\":[1,1]},"
	"{\"type\":\"layer_norm\"},"
	"{\"type\":\"flatten\",\"name\":\"flat\"},"
	"{\"type\":\"global_avg_pool\",\"input\":3},"
	"{\"type\":\"concat\",\"inputs\":[\"flat\",11]},"
	"{\"type\":\"dropout\",\"rate\":0.5},"
	"{\"type\":\"linear\",\"width\":64}]";

static void
test_read(void)
{
	llm_error err = {0};
	net_config c = image_config();
	net *n;

	CHECK(read_text(everything, &c, &err));
	CHECK_STR(err.message, "");
	CHECK_INT(c.layer_count, 14);
	CHECK_INT(c.layers[0].from[0], FROM_IMAGE);
	CHECK_INT(c.layers[0].padding[0], 2);
	CHECK_INT(c.layers[0].padding[1], 1);
	CHECK(!c.layers[0].bias && c.layers[3].bias);
	CHECK_INT(c.layers[5].from[0], 4);
	CHECK_INT(c.layers[5].from[1], 0);
	CHECK_INT(c.layers[6].stride[1], 2);
	CHECK_INT(c.layers[10].from[0], 2);
	CHECK(c.layers[12].rate == 0.5f);
	n = net_new(&c, &err);
	CHECK_STR(err.message, "");
	CHECK_STR(net_tensor(n, 0)->name, "stem.weight");
	CHECK_STR(net_tensor(n, 1)->name, "layer.2.weight");
	net_free(n);
}

/* What is written reads back as the same network. */
static void
check_round_trip(const net_config *c)
{
	llm_error err = {0};
	net_config again;
	json_t *json = network_json(c);
	json_t *second;
	char *a = json_text(json), *b;

	CHECK(network_from_json(json, &again, &err));
	CHECK_STR(err.message, "");
	CHECK_INT(again.layer_count, c->layer_count);
	CHECK_BYTES(again.layers, c->layers, c->layer_count * sizeof(net_layer));
	CHECK_BYTES(again.image, c->image, sizeof(c->image));
	CHECK_INT(again.augment.shift, c->augment.shift);
	CHECK_INT(again.augment.flip, c->augment.flip);
	CHECK(again.augment.crop == c->augment.crop);
	second = network_json(&again);
	b = json_text(second);
	CHECK_STR(a, b);
	free(a);
	free(b);
	json_decref(json);
	json_decref(second);
}

static void
test_round_trips(void)
{
	llm_error err = {0};
	net_config c = image_config();

	read_text(everything, &c, &err);
	check_round_trip(&c);
	c.dropout = 0.25f;
	net_default_cnn(&c);
	check_round_trip(&c);
	memset(c.image, 0, sizeof(c.image));
	memset(&c.augment, 0, sizeof(c.augment));
	read_text("[{\"type\":\"linear\",\"width\":8}]", &c, &err);
	CHECK_INT(c.layers[0].from[0], FROM_COLUMNS);
	check_round_trip(&c);
}

static const struct
{
	const char *text;
	const char *message;
} wrong[] = {
	{"{}", "\"layers\" is not an array of 1 to 96 layers"},
	{"[]", "\"layers\" is not an array of 1 to 96 layers"},
	{"[7]", "layer 1 is not an object"},
	{"[{}]", "layer 1 has no \"type\""},
	{"[{\"type\":3}]", "layer 1: \"type\" is not a string"},
	{"[{\"type\":\"dense\"}]", "layer 1 has unknown type \"dense\""},
	{"[{\"type\":\"linear\"}]", "layer 1 (linear): \"width\" is missing"},
	{"[{\"type\":\"linear\",\"widht\":3}]", "layer 1 (linear): unknown key \"widht\""},
	{"[{\"type\":\"linear\",\"wid\":3}]", "layer 1 (linear): unknown key \"wid\""},
	{"[{\"type\":\"linear\",\"\":3}]", "layer 1 (linear): unknown key \"\""},
	{"[{\"type\":\"linear\",\"width\":3.0}]", "layer 1 (linear): \"width\" is not a whole number from 1 to 65536"},
	{"[{\"type\":\"linear\",\"width\":0}]", "layer 1 (linear): \"width\" is not a whole number from 1 to 65536"},
	{"[{\"type\":\"linear\",\"width\":65537}]", "layer 1 (linear): \"width\" is not a whole number from 1 to 65536"},
	{"[{\"type\":\"linear\",\"width\":2,\"bias\":1}]", "layer 1 (linear): \"bias\" is not true or false"},
	{"[{\"type\":\"conv2d\",\"channels\":2}]", "layer 1 (conv2d): \"kernel\" is missing"},
	{"[{\"type\":\"conv2d\",\"kernel\":2}]", "layer 1 (conv2d): \"channels\" is missing"},
	{"[{\"type\":\"conv2d\",\"channels\":2,\"kernel\":[3]}]",
	 "layer 1 (conv2d): \"kernel\" is not a whole number from 1 "
	 "to 1024, or two of them for height and width"},
	{"[{\"type\":\"max_pool\",\"stride\":0}]",
	 "layer 1 (max_pool): \"stride\" is not a whole number from 1 to 1024, or "
	 "two of them for height and width"},
	{"[{\"type\":\"max_pool\",\"padding\":-1}]",
	 "layer 1 (max_pool): \"padding\" is not a whole number from 0 to 1024, or "
	 "two of them for height and width"},
	{"[{\"type\":\"batch_norm\",\"groups\":1}]", "layer 1 (batch_norm): unknown key \"groups\""},
	{"[{\"type\":\"group_norm\"}]", "layer 1 (group_norm): \"groups\" is missing"},
	{"[{\"type\":\"activation\"}]",
	 "layer 1 (activation): \"function\" is not one of identity, relu, gelu, gelu_tanh, "
	 "silu, tanh, sigmoid"},
	{"[{\"type\":\"dropout\",\"rate\":1}]",
	 "layer 1 (dropout): \"rate\" is not a number, at least 0 and less than 1"},
	{"[{\"type\":\"dropout\",\"rate\":0.99999999999}]",
	 "layer 1 (dropout): \"rate\" is not a number, at least 0 and less than 1"},
	{"[{\"type\":\"dropout\"}]", "layer 1 (dropout): \"rate\" is not a number, at least 0 and less than 1"},
	{"[{\"type\":\"flatten\",\"name\":\"A\"}]",
	 "layer 1 (flatten): \"name\" is not 1 to 31 lower case letters, digits and "
	 "underscores, a letter first"},
	{"[{\"type\":\"flatten\",\"name\":\"output\"}]",
	 "layer 1 (flatten): \"name\" \"output\" has a meaning of its own"},
	{"[{\"type\":\"flatten\",\"name\":\"a\"},{\"type\":\"flatten\",\"name\":\"a\"}]",
	 "layer 2 (flatten): \"name\" \"a\" is "
	 "the name of layer 1, too"},
	{"[{\"type\":\"flatten\",\"input\":1}]",
	 "layer 1 (flatten): \"input\" is layer 1, which does not come before it"},
	{"[{\"type\":\"flatten\",\"input\":true}]", "layer 1 (flatten): \"input\" is not the name or number of a layer, "
												"\"image\" or \"columns\""},
	{"[{\"type\":\"flatten\",\"input\":\"x\"}]",
	 "layer 1 (flatten): \"input\" is \"x\", which names no layer before it"},
	{"[{\"type\":\"flatten\"},{\"type\":\"flatten\",\"input\":\"\"}]",
	 "layer 2 (flatten): \"input\" is \"\", which names no "
	 "layer before it"},
	{"[{\"type\":\"add\",\"inputs\":[\"image\"]}]", "layer 1 (add): \"inputs\" is not an array of two layers"},
	{"[{\"type\":\"add\"}]", "layer 1 (add): \"inputs\" is not an array of two layers"},
	{"[{\"type\":\"add\",\"input\":1}]", "layer 1 (add): unknown key \"input\""},
	{"[{\"type\":\"add\",\"inputs\":[\"image\",\"imagine\"]}]",
	 "layer 1 (add): \"inputs\" is \"imagine\", which names no "
	 "layer before it"},
};

static void
test_wrong(void)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		llm_error err = {0};
		net_config c = image_config();

		CHECK(!read_text(wrong[i].text, &c, &err));
		CHECK(err.code == LLM_INVALID || err.code == LLM_CORRUPT);
		CHECK_STR(err.message, wrong[i].message);
	}
}

static void
test_details(void)
{
	llm_error err = {0};
	net_config c = image_config();

	read_text("[{\"type\":\"linear\",\"widht\":3}]", &c, &err);
	CHECK_STR(err.detail, "Keys of linear are type, name, input, width, bias.");
	err = (llm_error) {0};
	read_text("[{\"type\":\"dense\"}]", &c, &err);
	CHECK_STR(err.detail, "Types are linear, conv2d, max_pool, avg_pool, global_avg_pool, batch_norm, group_norm, "
						  "layer_norm, activation, dropout, flatten, add, concat.");
}

/* More layers than fit. */
static void
test_many(void)
{
	llm_error err = {0};
	net_config c = image_config();
	json_t *json = json_array();

	for (int i = 0; i <= NET_MAX_LAYERS; i++)
		json_array_append_new(json, json_pack("{s:s}", "type", "flatten"));
	CHECK(!layers_from_json(json, &c, &err));
	CHECK_INT(c.layer_count, 0);
	json_array_remove(json, 0);
	err = (llm_error) {0};
	CHECK(layers_from_json(json, &c, &err));
	CHECK_INT(c.layer_count, NET_MAX_LAYERS);
	json_decref(json);
}

/* The same mistakes in a manifest are damage. */
static void
test_damaged(void)
{
	static const char *const damage[][3] = {
		{"layers", "[{\"type\":\"x\"}]", "\"network\": layer 1 has unknown type \"x\""},
		{"layers", "7", "\"network\": \"layers\" is not an array of 1 to 96 layers"},
		{"image", "[1,2]", "\"image\" is not an array of channels, height and width"},
		{"image", "[1,2,0]", "\"image\" is not an array of channels, height and width"},
		{"image", "[1,2,3,4]", "array \"image\" has 4 elements, at most 3 are allowed"},
		{"image_shift", "-1", "\"image_shift\" is -1, outside 0 to 2147483647"},
		{"image_flip", "1", "key \"image_flip\" is not true or false"},
		{"image_crop", "-1", "\"image_crop\" is -1, outside 0 to 1"},
	};

	for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++)
	{
		llm_error err = {0};
		net_config c = image_config();
		json_t *json;

		net_default_cnn(&c);
		json = network_json(&c);
		json_object_set_new(json, damage[i][0], json_parse(damage[i][1], strlen(damage[i][1]), &err));
		CHECK(!network_from_json(json, &c, &err));
		CHECK_INT(err.code, LLM_CORRUPT);
		CHECK_STR(err.message, damage[i][2]);
		json_decref(json);
	}
}

int
main(void)
{
	test_read();
	test_round_trips();
	test_wrong();
	test_details();
	test_many();
	test_damaged();
	return test_summary();
}
