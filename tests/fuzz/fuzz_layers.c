/*
 * fuzz_layers.c
 *	  Any bytes as the layers of a network: an error that says why, or a network that works.
 *
 * The first eight bytes are the inputs that the network gets and how large the image is.  What is
 * accepted must write JSON that reads as the same layers; small networks learn one step and predict.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/format/layers.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 8
#define ROWS 2
/* Larger networks are possible, but take too long here. */
#define MAX_WORK 200000
#define MAX_BYTES (16 << 20)

static void
read_inputs(const uint8_t *head, net_config *c)
{
	int32_t channels = head[0] % 5;

	memset(c, 0, sizeof(*c));
	if (channels > 0)
	{
		c->image[0] = channels;
		c->image[1] = 1 + head[1] % 40;
		c->image[2] = 1 + head[2] % 40;
		c->augment = (image_augment) {.shift = head[3] % 4, .flip = head[3] & 4, .crop = (float) (head[3] / 16) / 20};
	}
	c->shape.dense = c->image[0] * c->image[1] * c->image[2] + head[4] % 4;
	c->shape.embed_columns = head[5] % 3;
	c->shape.embed_rows = c->shape.embed_columns * 5;
	c->embed_dim = 1 + head[5] / 64;
	c->shape.bag_rows = head[6] % 4 == 0 ? 9 : 0;
	c->shape.bag_max = head[6] % 4 == 0 ? 3 : 0;
	c->shape.outputs = 1 + head[7] % 3;
	c->shape.class_target = c->shape.outputs > 1;
	c->loss = c->shape.class_target ? LOSS_CROSS_ENTROPY : LOSS_MSE;
	c->huber_delta = 1;
	c->members = 1;
}

/* Written layers are complete, so they read as the same. */
static void
write_and_read(const net_config *c)
{
	llm_error err = {.code = LLM_OK};
	net_config again = *c;
	json_t *json = layers_json(c);

	memset(again.layers, 0xff, sizeof(again.layers));
	REQUIRE(json != NULL && layers_from_json(json, &again, &err));
	REQUIRE(again.layer_count == c->layer_count);
	REQUIRE(memcmp(again.layers, c->layers, c->layer_count * sizeof(net_layer)) == 0);
	json_decref(json);
}

static void
fill(batch *b)
{
	const batch_shape *s = &b->shape;

	b->rows = ROWS;
	for (int64_t i = 0; i < ROWS * s->dense; i++)
		b->dense[i] = (float) (i % 7 - 3) / 4;
	for (int64_t i = 0; i < ROWS * s->embed_columns; i++)
		b->embed[i] = (int32_t) (i * 3 % s->embed_rows);
	for (int64_t i = 0; i <= ROWS; i++)
		b->bag_start[i] = (int32_t) i * s->bag_max;
	for (int64_t i = 0; i < ROWS * s->bag_max; i++)
	{
		b->bag_index[i] = (int32_t) (i % s->bag_rows);
		b->bag_value[i] = 1;
	}
	for (int64_t i = 0; i < ROWS; i++)
	{
		b->weight[i] = 1;
		if (s->class_target)
			b->target_class[i] = (int32_t) i % s->outputs;
	}
	for (int64_t i = 0; !s->class_target && i < ROWS * s->outputs; i++)
		b->target_number[i] = (float) i;
}

static void
predict(const net *n, const float *weights)
{
	llm_error err = {.code = LLM_OK};
	predictor *p = predictor_new(n, weights, ROWS, NULL, &err);

	if (p == NULL)
	{
		REQUIRE(err.code == LLM_MEMORY);
		return;
	}
	fill(predictor_batch(p));
	REQUIRE(predictor_run(p, &err) != NULL);
	predictor_free(p);
}

/* What the reader lets in, trains and predicts without an error. */
static void
use(const net *n)
{
	train_config config = {.optimizer = OPT_SGD, .learning_rate = 0.01, .total_steps = 1, .seed = 1, .threads = 1};
	llm_error err = {.code = LLM_OK};
	size_t bytes;
	trainer *t;
	batch *b;
	double loss;

	if (net_multiplications(n) > MAX_WORK || !trainer_memory(n, &config, ROWS, &bytes, &err) || bytes > MAX_BYTES)
		return;
	t = trainer_new(n, &config, ROWS, &err);
	b = batch_new(&net_get_config(n)->shape, ROWS, &err);
	REQUIRE(t != NULL && b != NULL);
	fill(b);
	REQUIRE(trainer_step(t, b, &loss, &err));
	predict(n, trainer_weights(t));
	batch_free(b);
	trainer_free(t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	net_config config;
	json_t *json;
	net *n;

	if (size < HEAD)
		return 0;
	read_inputs(data, &config);
	json = json_parse((const char *) data + HEAD, size - HEAD, &err);
	if (json == NULL)
		return 0;
	if (!layers_from_json(json, &config, &err))
		REQUIRE(err.code == LLM_INVALID && err.message[0] != '\0' && config.layer_count == 0);
	else
	{
		write_and_read(&config);
		n = net_new(&config, &err);
		REQUIRE((n == NULL) == (err.code != LLM_OK));
		if (n != NULL)
			use(n);
		net_free(n);
	}
	json_decref(json);
	return 0;
}
