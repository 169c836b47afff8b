/*
 * test_cnn.c
 *	  Networks given by layers: gradients, running statistics, threads, checkpoints, inputs
 *	  beside an image, learning, and what is refused.
 */
#include "net_check.h"

/* Images of 2 x 7 x 6, and with `mixed` numbers, embeddings and a bag beside them. */
static net_config
image_config(bool mixed)
{
	net_config c = small_config(LOSS_CROSS_ENTROPY);

	memcpy(c.image, (int32_t[]) {2, 7, 6}, sizeof(c.image));
	c.hidden_count = 0;
	c.shape.dense = 2 * 7 * 6 + (mixed ? 3 : 0);
	if (!mixed)
		c.shape.embed_columns = c.shape.embed_rows = c.shape.bag_rows = c.shape.bag_max = 0;
	return c;
}

static net_layer *
add_layer(net_config *c, layer_kind kind)
{
	net_layer *l = &c->layers[c->layer_count];

	*l = (net_layer) {.kind = kind, .from = {c->layer_count ? c->layer_count - 1 : FROM_IMAGE}};
	c->layer_count++;
	return l;
}

static net_layer *
add_window(net_config *c, layer_kind kind, int32_t size, int32_t stride, int32_t padding, int32_t width)
{
	net_layer *l = add_layer(c, kind);

	l->width = width;
	for (int i = 0; i < 2; i++)
	{
		l->kernel[i] = size;
		l->stride[i] = stride;
		l->padding[i] = padding;
	}
	return l;
}

/* A residual block, group norm, all kinds of pools, a branch joined to columns. */
static net_config
branching_config(void)
{
	net_config c = image_config(true);

	add_window(&c, LAYER_CONV2D, 3, 1, 1, 6)->bias = true; /* 1 */
	add_layer(&c, LAYER_BATCH_NORM);
	add_layer(&c, LAYER_ACTIVATION)->activation = ACT_SILU;
	add_window(&c, LAYER_CONV2D, 3, 1, 1, 6); /* 4 */
	add_layer(&c, LAYER_GROUP_NORM)->width = 2;
	add_layer(&c, LAYER_ADD)->from[1] = 2; /* 6 = 5 + 3 */
	add_layer(&c, LAYER_ACTIVATION)->activation = ACT_TANH;
	add_window(&c, LAYER_AVG_POOL, 2, 2, 0, 0); /* 8 */
	add_window(&c, LAYER_CONV2D, 3, 2, 1, 5);
	add_layer(&c, LAYER_GLOBAL_AVG_POOL);                    /* 10 */
	add_window(&c, LAYER_MAX_POOL, 3, 2, 1, 0)->from[0] = 6; /* 11 */
	add_layer(&c, LAYER_LAYER_NORM);
	add_layer(&c, LAYER_FLATTEN);
	add_layer(&c, LAYER_CONCAT)->from[1] = 9; /* 14 = 13 and 10 */
	add_layer(&c, LAYER_CONCAT)->from[1] = FROM_COLUMNS;
	add_layer(&c, LAYER_DROPOUT)->rate = 0.2f;
	c.layers[15].from[0] = 14;
	add_layer(&c, LAYER_LINEAR)->width = 9;
	c.layers[16].from[0] = 14; /* not the dropout's output: it has its own reader */
	c.layers[16].bias = true;
	add_layer(&c, LAYER_CONCAT)->from[1] = 15;
	add_layer(&c, LAYER_BATCH_NORM); /* of a vector */
	return c;
}

/* Without kinks, which a difference of losses would step over. */
static void
check_smooth(net_config c, int64_t rows)
{
	for (int32_t i = 0; i < c.layer_count; i++)
	{
		if (c.layers[i].kind == LAYER_MAX_POOL)
			c.layers[i].kind = LAYER_AVG_POOL;
		if (c.layers[i].activation == ACT_RELU)
			c.layers[i].activation = ACT_SILU;
	}
	check_gradient(&c, rows);
}

static void
test_gradients(void)
{
	net_config c = branching_config();

	check_smooth(c, 12);
	c.augment.shift = 2;
	check_smooth(c, 3);
	c = image_config(false);
	c.dropout = 0.1f;
	net_default_cnn(&c);
	check_smooth(c, 9);
	c = image_config(true);
	net_default_cnn(&c);
	check_smooth(c, 9);
	c.shape.dense = 2 * 7 * 6;
	c.shape.embed_columns = c.shape.embed_rows = 0; /* a bag alone beside the image */
	check_smooth(c, 9);
}

/* An mlp and the list of layers it stands for are the same network. */
static void
test_mlp_layers(void)
{
	llm_error err = {0};
	net_config mlp = small_config(LOSS_MSE), list = mlp;
	train_config tc = small_training(1);
	net *a, *b;
	trainer *t, *u;
	batch *batches[4];

	mlp.dropout = 0.2f;
	mlp.layer_norm = true;
	for (int i = 0; i < 2; i++)
	{
		add_layer(&list, LAYER_LINEAR)->width = 12;
		list.layers[list.layer_count - 1].bias = true;
		add_layer(&list, LAYER_LAYER_NORM);
		add_layer(&list, LAYER_ACTIVATION)->activation = ACT_GELU;
		add_layer(&list, LAYER_DROPOUT)->rate = 0.2f;
	}
	list.layers[0].from[0] = FROM_COLUMNS;
	a = net_new(&mlp, &err);
	b = net_new(&list, &err);
	check_no_error(&err);
	CHECK_INT(net_tensor_count(a), net_tensor_count(b));
	CHECK_STR(net_tensor(a, 1)->name, "hidden.0.weight");
	CHECK_STR(net_tensor(b, 1)->name, "layer.1.weight");
	make_batches(a, batches);
	t = train_some(a, &tc, batches, 0, 5, NULL);
	u = train_some(b, &tc, batches, 0, 5, NULL);
	CHECK_INT(net_weight_bytes(a), net_weight_bytes(b));
	CHECK_BYTES(trainer_weights(t), trainer_weights(u), net_weight_bytes(a));
	CHECK_NEAR(net_multiplications(a), 12 * (7 + 6 + 3) + 12 * 12 + 2 * 12, 0);
	trainer_free(t);
	trainer_free(u);
	free_batches(batches);
	net_free(a);
	net_free(b);
}

static int32_t
find_tensor(const net *n, const char *name)
{
	for (int32_t i = 0; i < net_tensor_count(n); i++)
		if (strcmp(net_tensor(n, i)->name, name) == 0)
			return i;
	CHECK(!"tensor is there");
	return 0;
}

/* Batch norm first of all, so that its statistics are those of the inputs. */
static void
test_running_statistics(void)
{
	llm_error err = {0};
	net_config c = image_config(false);
	train_config tc = small_training(2);
	net *n;
	trainer *t;
	batch *batches[4];
	int32_t at;
	double mean = 0, variance = 0;

	tc.ema_decay = 0;
	add_layer(&c, LAYER_BATCH_NORM);
	n = net_new(&c, &err);
	check_no_error(&err);
	make_batches(n, batches);
	t = train_some(n, &tc, batches, 0, 2, NULL);
	at = find_tensor(n, "layer.1.running_mean");
	CHECK_STR(net_tensor(n, at + 1)->name, "layer.1.running_variance");
	for (int i = 0; i < 2; i++)
	{
		int rows = (int) batches[i]->rows, count = rows * 42;
		double share = (double) rows / 40 / (i + 1); /* the second batch is not full */
		double sum = 0, squares = 0;

		for (int r = 0; r < rows; r++)
			for (int j = 0; j < 42; j++)
				sum += batches[i]->dense[r * 84 + 42 + j] / count; /* the second channel */
		for (int r = 0; r < rows; r++)
			for (int j = 0; j < 42; j++)
				squares += pow(batches[i]->dense[r * 84 + 42 + j] - sum, 2) / (count - 1);
		mean += share * (sum - mean);
		variance += share * (squares - variance);
	}
	CHECK_NEAR(trainer_weights(t)[net_tensor(n, at)->offset + 1], mean, 1e-6);
	CHECK_NEAR(trainer_weights(t)[net_tensor(n, at + 1)->offset + 1], variance, 1e-6);
	trainer_free(t);
	free_batches(batches);
	net_free(n);
}

static void
test_threads_and_checkpoint(void)
{
	llm_error err = {0};
	net_config c = branching_config();
	net *n;
	train_config tc = small_training(1);
	batch *batches[4];
	trainer *t;
	void *state[4];
	size_t bytes = 0;

	c.augment.shift = 1;
	c.layers[0].width = c.layers[3].width = 24; /* work for several tiles */
	n = net_new(&c, &err);
	check_no_error(&err);
	make_batches(n, batches);
	for (int i = 0; i < 4; i++)
	{
		tc.threads = i < 3 ? i + 1 : 2;
		t = train_some(n, &tc, batches, 0, i < 3 ? 6 : 3, NULL);
		bytes = trainer_state_bytes(t);
		state[i] = malloc(bytes);
		trainer_save(t, state[i]);
		trainer_free(t);
	}
	CHECK_BYTES(state[0], state[1], bytes);
	CHECK_BYTES(state[0], state[2], bytes);
	t = trainer_new(n, &tc, 40, &err);
	CHECK(trainer_restore(t, state[3], bytes, &err));
	train_some(n, &tc, batches, 3, 6, t);
	trainer_save(t, state[3]);
	CHECK_BYTES(state[0], state[3], bytes);
	trainer_free(t);
	for (int i = 0; i < 4; i++)
		free(state[i]);
	free_batches(batches);
	net_free(n);
}

/* A bright column somewhere tells the class; predictor and trainer agree, whatever else is in the batch. */
static void
test_learning(void)
{
	enum
	{
		ROWS = 60
	};
	llm_error err = {0};
	net_config c = image_config(false);
	train_config tc = small_training(2);
	net *n;
	trainer *t;
	predictor *p;
	batch *b;
	float out[ROWS * 5];
	double loss, sum = 0, weight = 0, want[5];
	int right = 0;

	net_default_cnn(&c);
	n = net_new(&c, &err);
	b = batch_new(&c.shape, ROWS, &err);
	t = n ? trainer_new(n, &tc, ROWS, &err) : NULL;
	check_no_error(&err);
	for (int i = 0; i < 100; i++)
	{
		fill_batch(b, ROWS);
		for (int r = 0; r < ROWS; r++)
			for (int h = 0; h < 7; h++)
				b->dense[r * 84 + h * 6 + b->target_class[r]] += 2;
		CHECK(trainer_step(t, b, &loss, &err));
	}
	CHECK(trainer_predict(t, b, out, &sum, &weight, &err));
	CHECK(sum / weight < 0.3);
	p = predictor_new(n, trainer_weights(t), 1, NULL, &err);
	predictor_batch(p)->rows = 1;
	for (int r = 0; r < ROWS; r++)
	{
		const float *got;

		memcpy(predictor_batch(p)->dense, b->dense + r * 84, 84 * sizeof(float));
		got = predictor_run(p, &err);
		for (int i = 0; i < 5; i++)
			want[i] = out[r * 5 + i];
		CHECK_CLOSE(got, want, 5, 1e-10);
		right += got[b->target_class[r]] > 0.5f;
	}
	CHECK(right > ROWS * 0.9);
	check_no_error(&err);
	predictor_free(p);
	trainer_free(t);
	batch_free(b);
	net_free(n);
}

/* Sizes from one pixel on give a network. */
static void
test_default_sizes(void)
{
	for (int side = 1; side <= 300; side += side < 10 ? 1 : 97)
	{
		llm_error err = {0};
		net_config c = {.shape = {.dense = 3 * side * (side + 1), .outputs = 4, .class_target = true},
						.image = {3, side, side + 1},
						.loss = LOSS_CROSS_ENTROPY};
		net *n;

		net_default_cnn(&c);
		n = net_new(&c, &err);
		check_no_error(&err);
		CHECK(n && net_multiplications(n) > 0);
		net_free(n);
	}
}

/* An ensemble's members have running statistics of their own. */
static void
test_ensemble(void)
{
	llm_error err = {0};
	net_config c = image_config(false);
	net *one, *two;

	net_default_cnn(&c);
	one = net_new(&c, &err);
	c.members = 2;
	two = net_new(&c, &err);
	check_no_error(&err);
	CHECK_INT(net_weight_bytes(two), 2 * net_weight_bytes(one));
	CHECK_STR(net_tensor(two, net_tensor_count(one) + 3)->name, "member.1.layer.2.running_mean");
	net_free(one);
	net_free(two);
}

static void
refused(net_config c, llm_code code, const char *message)
{
	llm_error err = {0};
	net *n = net_new(&c, &err);

	CHECK(n == NULL);
	CHECK_INT(err.code, code);
	CHECK_STR(err.message, message);
	net_free(n);
}

#define REFUSED(mixed, code, message, ...) \
	do \
	{ \
		net_config c = image_config(mixed); \
		__VA_ARGS__; \
		refused(c, code, message); \
	} while (0)

static void
test_refused(void)
{
	REFUSED(false, LLM_INVALID, "layer 1 (linear) reads columns, but there are none beside the image",
			add_layer(&c, LAYER_LINEAR)->from[0] = FROM_COLUMNS);
	REFUSED(false, LLM_INVALID, "layer 2 (conv2d) reads 42 numbers, not an image of height x width x channels",
			add_layer(&c, LAYER_LINEAR)->width = 42;
			add_window(&c, LAYER_CONV2D, 3, 1, 1, 4));
	REFUSED(false, LLM_INVALID, "layer 1 (max_pool) has a window of 8 x 8, larger than its input of 7 x 6 x 2",
			add_window(&c, LAYER_MAX_POOL, 8, 1, 0, 0));
	REFUSED(false, LLM_INVALID,
			"layer 1 (conv2d) has kernel 3, stride 1 and padding 3; kernel and stride are from 1 to 1024, "
			"padding is less than the kernel",
			add_window(&c, LAYER_CONV2D, 3, 1, 3, 4));
	REFUSED(false, LLM_INVALID, "layer 1 (conv2d) has 0 channels, not 1 to 65536",
			add_window(&c, LAYER_CONV2D, 3, 1, 1, 0));
	REFUSED(false, LLM_INVALID, "layer 2 (group_norm) has 3 groups, which do not divide 4 channels",
			add_window(&c, LAYER_CONV2D, 3, 1, 1, 4);
			add_layer(&c, LAYER_GROUP_NORM)->width = 3);
	REFUSED(false, LLM_INVALID, "layer 2 (add) reads shapes 7 x 6 x 4 and 7 x 6 x 2, which do not fit",
			add_window(&c, LAYER_CONV2D, 3, 1, 1, 4);
			add_layer(&c, LAYER_ADD)->from[1] = FROM_IMAGE);
	REFUSED(true, LLM_INVALID, "layer 1 (concat) reads shapes 7 x 6 x 2 and 9, which do not fit",
			add_layer(&c, LAYER_CONCAT)->from[1] = FROM_COLUMNS);
	REFUSED(false, LLM_INVALID, "layer 1 (add) reads layer 1, which does not come before it",
			add_layer(&c, LAYER_ADD));
	REFUSED(false, LLM_INVALID, "layer 1 (flatten) is read by no other layer", add_layer(&c, LAYER_FLATTEN);
			add_layer(&c, LAYER_FLATTEN)->from[0] = FROM_IMAGE);
	REFUSED(true, LLM_INVALID, "no layer reads the columns beside the image", add_layer(&c, LAYER_FLATTEN));
	REFUSED(true, LLM_INVALID, "no layer reads the image", add_layer(&c, LAYER_FLATTEN)->from[0] = FROM_COLUMNS);
	REFUSED(true, LLM_INVALID, "no linear layer reads the columns that are categories or text",
			add_layer(&c, LAYER_FLATTEN);
			add_layer(&c, LAYER_ACTIVATION)->from[0] = FROM_COLUMNS; add_layer(&c, LAYER_CONCAT)->from[1] = 0;
			add_layer(&c, LAYER_FLATTEN));
	REFUSED(false, LLM_INVALID, "layer 1 (dropout) has rate 1, not at least 0 and less than 1",
			add_layer(&c, LAYER_DROPOUT)->rate = 1);
	REFUSED(false, LLM_INVALID, "layer 1 is of unknown type", add_layer(&c, (layer_kind) 77));
	REFUSED(false, LLM_INVALID, "layer 1 (activation) has unknown function 99",
			add_layer(&c, LAYER_ACTIVATION)->activation = (net_activation) 99);
	REFUSED(false, LLM_INVALID, "layer 1 (flatten) reads layer 9, which does not come before it",
			add_layer(&c, LAYER_FLATTEN)->from[0] = 8);
	REFUSED(false, LLM_INVALID, "layer 1 (flatten) reads layer -2, which does not come before it",
			add_layer(&c, LAYER_FLATTEN)->from[0] = -3);
	REFUSED(false, LLM_INVALID, "number of layers 97 is not between 1 and 96", c.layer_count = NET_MAX_LAYERS + 1);
	REFUSED(false, LLM_INVALID, "image has 105 numbers, rows have 84", c.image[2] = 6; c.image[0] = 5; c.image[1] = 7;
			c.image[2] = 3);
	REFUSED(false, LLM_INVALID, "image of 2 channels, height 0 and width 6 is not possible", c.image[1] = 0);
	REFUSED(false, LLM_INVALID, "image_shift -1 is not between 0 and 256", c.augment.shift = -1);
	REFUSED(false, LLM_MEMORY, "layer 1 (conv2d) is too large: it makes 70 x 69 x 65536 of each row",
			add_window(&c, LAYER_CONV2D, 64, 1, 63, 65536));
}

int
main(void)
{
	test_gradients();
	test_mlp_layers();
	test_running_statistics();
	test_threads_and_checkpoint();
	test_learning();
	test_default_sizes();
	test_ensemble();
	test_refused();
	return test_summary();
}
