/*
 * test_net.c
 *	  Whole networks: gradients, threads, checkpoints, cancelling, what is refused.
 */
#include "net_check.h"

/* ---- gradients ---- */

static void
test_gradients(void)
{
	for (int loss = LOSS_CROSS_ENTROPY; loss <= LOSS_HUBER; loss++)
		for (int act = ACT_IDENTITY; act <= ACT_SIGMOID; act++)
			for (int variant = 0; variant < 4; variant++)
			{
				net_config c = small_config(loss);

				c.activation = act;
				c.layer_norm = variant & 1;
				c.residual = variant & 2;
				c.dropout = variant == 3 ? 0.3f : 0;
				c.label_smoothing = variant == 2 ? 0.1f : 0;
				check_gradient(&c, 5 + 9 * (variant & 1));
			}
}

/* Each input alone, no hidden layer, one wide layer, a table large enough for a compact gradient. */
static void
test_shapes(void)
{
	net_config c = small_config(LOSS_BINARY);

	c.hidden_count = 0;
	check_gradient(&c, 20);
	c.shape.dense = c.shape.embed_columns = c.shape.embed_rows = 0;
	check_gradient(&c, 20);
	c.shape.bag_rows = 2 * COMPACT_TABLE_ROWS;
	c.hidden_count = 1;
	check_gradient(&c, 20);
	c = small_config(LOSS_MSE);
	c.shape.bag_rows = c.shape.bag_max = 0;
	c.shape.embed_rows = COMPACT_TABLE_ROWS + 1;
	check_gradient(&c, 20);
	c.shape.embed_columns = c.shape.embed_rows = 0;
	c.hidden_count = 3;
	c.hidden[2] = 150;
	check_gradient(&c, 70);
}

/* ---- training ---- */

static net *
training_net(net_loss loss)
{
	llm_error err = {0};
	net_config c = small_config(loss);

	c.dropout = 0.2f;
	c.layer_norm = c.residual = true;
	c.hidden[0] = c.hidden[1] = 300;
	c.shape.bag_rows = COMPACT_TABLE_ROWS + 5;
	return net_new(&c, &err);
}

static void
test_threads_and_checkpoint(train_optimizer optimizer)
{
	net *n = training_net(LOSS_CROSS_ENTROPY);
	train_config c = small_training(1);
	batch *batches[4];
	trainer *t[3], *resumed;
	void *state[3], *middle;
	llm_error err = {0};
	size_t bytes;

	c.optimizer = optimizer;
	make_batches(n, batches);
	for (int i = 0; i < 3; i++)
	{
		c.threads = i + 1;
		t[i] = train_some(n, &c, batches, 0, 6, NULL);
		bytes = trainer_state_bytes(t[i]);
		state[i] = malloc(bytes);
		trainer_save(t[i], state[i]);
	}
	CHECK_BYTES(state[0], state[1], bytes);
	CHECK_BYTES(state[0], state[2], bytes);

	/* two steps, save, restore elsewhere, four more */
	middle = malloc(bytes);
	resumed = train_some(n, &c, batches, 0, 2, NULL);
	trainer_save(resumed, middle);
	trainer_free(resumed);
	resumed = trainer_new(n, &c, 40, &err);
	CHECK(trainer_restore(resumed, middle, bytes, &err));
	CHECK_INT(trainer_steps_done(resumed), 2);
	train_some(n, &c, batches, 2, 6, resumed);
	trainer_save(resumed, middle);
	CHECK_BYTES(state[0], middle, bytes);

	CHECK(!trainer_restore(resumed, middle, bytes - 1, &err));
	CHECK_INT(err.code, LLM_CORRUPT);
	err.code = LLM_OK;
	*(char *) middle ^= 1;
	CHECK(!trainer_restore(resumed, middle, bytes, &err));
	CHECK_INT(err.code, LLM_CORRUPT);
	trainer_free(resumed);
	free(middle);
	for (int i = 0; i < 3; i++)
	{
		trainer_free(t[i]);
		free(state[i]);
	}
	free_batches(batches);
	net_free(n);
}

/* Stop at every possible poll; afterwards the step gives what it would have given. */
static void
test_cancel(void)
{
	net *n = training_net(LOSS_BINARY);
	train_config c = small_training(2);
	batch *batches[4];
	trainer *t, *undisturbed;
	void *before, *after;
	double loss;
	int stops;
	bool done = false;

	make_batches(n, batches);
	t = train_some(n, &c, batches, 0, 1, NULL);
	undisturbed = train_some(n, &c, batches, 0, 2, NULL);
	before = malloc(trainer_state_bytes(t));
	after = malloc(trainer_state_bytes(t));
	trainer_save(t, before);
	trainer_set_poll(t, poll_countdown, NULL);
	for (stops = 0; !done && stops < 1000; stops++)
	{
		llm_error err = {0};

		polls_left = stops;
		done = trainer_step(t, batches[1], &loss, &err);
		if (!done)
		{
			trainer_save(t, after);
			if (err.code != LLM_CANCELLED || memcmp(before, after, trainer_state_bytes(t)) != 0)
				CHECK(!"a cancelled step changed the state");
		}
	}
	CHECK(done && stops > 20);
	trainer_save(t, after);
	trainer_save(undisturbed, before);
	CHECK_BYTES(before, after, trainer_state_bytes(t));
	trainer_free(t);
	trainer_free(undisturbed);
	free(before);
	free(after);
	free_batches(batches);
	net_free(n);
}

/* A trainer that is stopped while it is made is none; initial weights do not depend on threads. */
static void
test_cancelled_start(void)
{
	net *n = training_net(LOSS_BINARY);
	train_config c = small_training(1);
	trainer *t[2] = {NULL, NULL};
	llm_error err = {0};
	int stops;

	c.poll = poll_countdown;
	for (stops = 0; !t[0] && stops < 1000; stops++)
	{
		err = (llm_error) {0};
		polls_left = stops;
		t[0] = trainer_new(n, &c, 8, &err);
		if (!t[0] && err.code != LLM_CANCELLED)
			CHECK(!"a stopped start has another error");
	}
	CHECK(t[0] != NULL && stops > 2);
	c.poll = NULL;
	c.threads = 3;
	t[1] = trainer_new(n, &c, 8, &err);
	CHECK_BYTES(trainer_weights(t[0]), trainer_weights(t[1]), net_weight_bytes(n));
	trainer_free(t[0]);
	trainer_free(t[1]);
	net_free(n);
}

/* A network learns a rule it can express, and predictor and trainer agree. */
static void
test_learning(net_loss loss)
{
	llm_error err = {0};
	net_config c = small_config(loss);
	net *n = net_new(&c, &err);
	train_config tc = small_training(2);
	batch *b = batch_new(&c.shape, 64, &err);
	trainer *t;
	predictor *p;
	double first = 0, last = 0, sum = 0, weight = 0;
	float *out = malloc(64 * c.shape.outputs * sizeof(float));
	double expected[64 * 8];
	const float *got;

	tc.total_steps = 300;
	t = trainer_new(n, &tc, 64, &err);
	for (int i = 0; i < 300; i++)
	{
		fill_batch(b, 64);
		for (int r = 0; r < 64; r++)
		{
			float *x = b->dense + r * c.shape.dense;

			if (c.shape.class_target)
				b->target_class[r] = loss == LOSS_BINARY ? x[0] + x[1] > 0 : x[0] > 0.3f ? 2 : x[1] > 0 ? 1 : 0;
			else
				for (int j = 0; j < c.shape.outputs; j++)
					b->target_number[r * c.shape.outputs + j] = x[j] - 0.5f * x[2];
		}
		CHECK(trainer_step(t, b, &last, &err));
		if (i == 0)
			first = last;
	}
	CHECK(last < 0.5 * first);
	CHECK(trainer_predict(t, b, out, &sum, &weight, &err));
	CHECK_NEAR(sum / weight, last, 0.2);

	p = predictor_new(n, trainer_weights(t), 64, NULL, &err);
	for (int rows = 1; rows <= 64; rows += rows < 9 ? 1 : 55)
	{
		batch *mine = predictor_batch(p);

		mine->rows = rows;
		memcpy(mine->dense, b->dense, rows * c.shape.dense * sizeof(float));
		memcpy(mine->embed, b->embed, rows * c.shape.embed_columns * sizeof(int32_t));
		memcpy(mine->bag_start, b->bag_start, (rows + 1) * sizeof(int32_t));
		memcpy(mine->bag_index, b->bag_index, b->bag_start[rows] * sizeof(int32_t));
		memcpy(mine->bag_value, b->bag_value, b->bag_start[rows] * sizeof(float));
		got = predictor_run(p, &err);
		for (int i = 0; i < rows * c.shape.outputs; i++)
			expected[i] = out[i];
		CHECK(got != NULL);
		if (got)
			CHECK_CLOSE(got, expected, rows * c.shape.outputs, 1e-11);
	}
	if (loss == LOSS_CROSS_ENTROPY)
		CHECK_NEAR(out[0] + out[1] + out[2] + out[3] + out[4], 1, 1e-5);
	predictor_batch(p)->embed[0] = -1;
	CHECK(predictor_run(p, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	predictor_free(p);
	trainer_free(t);
	batch_free(b);
	net_free(n);
	free(out);
}

/* An ensemble predicts the mean of its members, whose weights lie end to end. */
static void
test_ensemble(net_loss loss)
{
	enum
	{
		ROWS = 12,
		MEMBERS = 3
	};
	llm_error err = {0};
	net_config c = small_config(loss);
	int outputs = c.shape.outputs;
	net *one = net_new(&c, &err);
	size_t bytes = net_weight_bytes(one);
	char *weights = aligned_alloc(64, MEMBERS * bytes);
	double mean[ROWS * 8] = {0};
	train_config tc = small_training(1);
	net *all;
	predictor *p;

	for (int m = 0; m < MEMBERS; m++)
	{
		memset(weights + m * bytes, 0, bytes);
		net_initialise(one, 10 + m, (float *) (weights + m * bytes), NULL, NULL, NULL);
		p = predictor_new(one, (float *) (weights + m * bytes), ROWS, NULL, &err);
		fixture_counter = 0;
		fill_batch(predictor_batch(p), ROWS);
		predictor_run(p, &err);
		for (int i = 0; i < ROWS * outputs; i++)
			mean[i] += predictor_run(p, &err)[i] / MEMBERS;
		predictor_free(p);
	}
	c.members = MEMBERS;
	all = net_new(&c, &err);
	CHECK_INT(net_weight_bytes(all), MEMBERS * bytes);
	CHECK_STR(net_tensor(all, net_tensor_count(all) - 1)->name, "member.2.output.bias");
	p = predictor_new(all, (float *) weights, ROWS, NULL, &err);
	fixture_counter = 0;
	fill_batch(predictor_batch(p), ROWS);
	CHECK_CLOSE(predictor_run(p, &err), mean, ROWS * outputs, 1e-12);
	check_no_error(&err);
	CHECK(!trainer_new(all, &tc, ROWS, &err));
	CHECK_INT(err.code, LLM_INVALID);
	predictor_free(p);
	net_free(all);
	net_free(one);
	free(weights);
}

/* Deviations of initial values, and the biases given by the caller. */
static void
test_initial_values(void)
{
	llm_error err = {0};
	net_config c = small_config(LOSS_CROSS_ENTROPY);
	float bias[5] = {1, 2, 3, 4, 5};
	train_config tc = small_training(1);
	net *n;
	trainer *t;

	c.hidden[0] = c.hidden[1] = 200;
	n = net_new(&c, &err);
	t = trainer_new(n, &tc, 4, &err);
	for (int i = 0; i < net_tensor_count(n); i++)
	{
		const net_tensor_info *info = net_tensor(n, i);
		const float *w = trainer_weights(t) + info->offset;
		double squares = 0;

		for (size_t j = 0; j < info->count; j++)
			squares += w[j] * w[j] / info->count;
		if (strcmp(info->name, "hidden.0.weight") == 0 || strcmp(info->name, "hidden.0.bag") == 0)
			CHECK_NEAR(squares, 2.0 / (7 + 6 + 11), 0.008);
		if (strcmp(info->name, "hidden.1.weight") == 0)
			CHECK_NEAR(squares, 2.0 / 200, 0.0005);
		if (strcmp(info->name, "output.weight") == 0)
			CHECK_NEAR(squares, 0.01 / 200, 0.00001);
		if (info->ndim == 1)
			CHECK(squares == 0);
	}
	trainer_set_output_bias(t, bias);
	CHECK_BYTES(trainer_weights(t) + net_tensor(n, net_tensor_count(n) - 1)->offset, bias, sizeof(bias));
	trainer_free(t);
	net_free(n);
}

/* ---- what is refused ---- */

#define REFUSED(change, expected_code) \
	do \
	{ \
		net_config c = small_config(LOSS_CROSS_ENTROPY); \
		llm_error err = {0}; \
		net *n; \
		change; \
		n = net_new(&c, &err); \
		CHECK(n == NULL); \
		CHECK_INT(err.code, expected_code); \
		net_free(n); \
	} while (0)

static void
test_refused(void)
{
	REFUSED(c.shape.dense = -1, LLM_INVALID);
	REFUSED(c.shape.dense = INT32_MAX, LLM_INVALID);
	REFUSED(c.shape.bag_max = 0, LLM_INVALID);
	REFUSED(c.shape.embed_rows = 0, LLM_INVALID);
	REFUSED(c.embed_dim = 0, LLM_INVALID);
	REFUSED(c.embed_dim = 1 << 20, LLM_INVALID);
	REFUSED(c.hidden_count = NET_MAX_HIDDEN + 1, LLM_INVALID);
	REFUSED(c.hidden_count = -1, LLM_INVALID);
	REFUSED(c.hidden[1] = 0, LLM_INVALID);
	REFUSED(c.hidden[1] = 65537, LLM_INVALID);
	REFUSED(c.activation = (net_activation) 99, LLM_INVALID);
	REFUSED(c.loss = (net_loss) 99, LLM_INVALID);
	REFUSED(c.loss = LOSS_BINARY, LLM_INVALID);
	REFUSED(c.shape.class_target = false, LLM_INVALID);
	REFUSED(c.shape.outputs = 0, LLM_INVALID);
	REFUSED(c.members = NET_MAX_MEMBERS + 1, LLM_INVALID);
	REFUSED(c.dropout = 1, LLM_INVALID);
	REFUSED(c.dropout = NAN, LLM_INVALID);
	REFUSED(c.text_dropout = 1, LLM_INVALID);
	REFUSED(c.label_smoothing = -0.1f, LLM_INVALID);
	REFUSED((c.loss = LOSS_HUBER, c.shape.class_target = false, c.huber_delta = 0), LLM_INVALID);
	REFUSED((c.shape.dense = c.shape.embed_columns = c.shape.embed_rows = c.shape.bag_rows = c.shape.bag_max = 0),
			LLM_INVALID);
	REFUSED((c.shape.bag_rows = INT32_MAX, c.hidden[0] = 65536), LLM_MEMORY);
}

static void
test_training_refused(void)
{
	net_config c = small_config(LOSS_MSE);
	llm_error err = {0};
	net *n = net_new(&c, &err);
	train_config tc = small_training(1);
	size_t bytes = 0;
	batch *b = batch_new(&c.shape, 4, &err);
	trainer *t;
	double loss;

	CHECK(trainer_memory(n, &tc, 4, &bytes, &err) && bytes > 4 * net_weight_bytes(n));
	tc.learning_rate = -1;
	CHECK(!trainer_new(n, &tc, 4, &err));
	CHECK_INT(err.code, LLM_INVALID);
	err.code = LLM_OK;
	tc = small_training(0);
	CHECK(!trainer_new(n, &tc, 4, &err));
	err.code = LLM_OK;
	tc = small_training(1);
	CHECK(!trainer_memory(n, &tc, (int64_t) 1 << 40, &bytes, &err));
	err.code = LLM_OK;
	t = trainer_new(n, &tc, 4, &err);
	fill_batch(b, 4);
	b->bag_index[0] = c.shape.bag_rows;
	CHECK(!trainer_step(t, b, &loss, &err));
	CHECK_INT(err.code, LLM_INVALID);
	err.code = LLM_OK;
	memcpy(b->bag_start, (int32_t[]) {0, 0, 0, 0, c.shape.bag_max + 1}, 5 * sizeof(int32_t));
	CHECK(!trainer_step(t, b, &loss, &err));
	CHECK_INT(err.code, LLM_INVALID);
	err.code = LLM_OK;
	memcpy(b->bag_start, (int32_t[]) {0, 1, 0, 1, 1}, 5 * sizeof(int32_t));
	CHECK(!trainer_step(t, b, &loss, &err));
	err.code = LLM_OK;
	memset(b->bag_start, 0, 5 * sizeof(int32_t));
	fill_batch(b, 4);
	b->dense[0] = NAN;
	CHECK(!trainer_step(t, b, &loss, &err));
	CHECK_INT(err.code, LLM_INVALID);
	CHECK_INT(trainer_steps_done(t), 0);
	err.code = LLM_OK;
	fill_batch(b, 0);
	CHECK(!trainer_step(t, b, &loss, &err));
	trainer_free(t);
	batch_free(b);
	err.code = LLM_OK;
	c.shape.bag_max = INT32_MAX / 2;
	CHECK(batch_new(&c.shape, 3, &err) == NULL);
	CHECK_INT(err.code, LLM_MEMORY);
	net_free(n);
}

static void
test_names(void)
{
	net_activation a;
	net_loss l;

	for (int i = ACT_IDENTITY; i <= ACT_SIGMOID; i++)
		CHECK(net_activation_parse(net_activation_name(i), &a) && a == (net_activation) i);
	for (int i = LOSS_CROSS_ENTROPY; i <= LOSS_HUBER; i++)
		CHECK(net_loss_parse(net_loss_name(i), &l) && l == (net_loss) i);
	CHECK(!net_activation_parse("swish", &a));
	CHECK(!net_loss_parse("", &l));
}

int
main(void)
{
	test_names();
	test_refused();
	test_training_refused();
	test_gradients();
	test_shapes();
	test_threads_and_checkpoint(OPT_ADAMW);
	test_threads_and_checkpoint(OPT_SGD);
	test_cancel();
	test_cancelled_start();
	for (int loss = LOSS_CROSS_ENTROPY; loss <= LOSS_HUBER; loss++)
		test_learning(loss);
	test_ensemble(LOSS_CROSS_ENTROPY);
	test_ensemble(LOSS_BINARY);
	test_ensemble(LOSS_HUBER);
	test_initial_values();
	return test_summary();
}
