/*
 * test_accumulate.c
 *	  Steps of several passes: equal to those of one, for any number of threads, when a
 *	  pass is cancelled, and what is refused.
 */
#include "net_check.h"

#define ROWS 40
#define PASS 16 /* the last of three is short */

/* One step on b in passes. */
static void
step_in_passes(trainer *t, const batch *b, double *loss)
{
	llm_error err = {0};
	batch *part = batch_new(&b->shape, PASS, &err);

	for (int64_t begin = 0; begin < b->rows; begin += PASS)
	{
		copy_rows(part, b, begin, PASS);
		CHECK(trainer_accumulate(t, part, &err));
	}
	CHECK(trainer_update(t, loss, &err));
	check_no_error(&err);
	batch_free(part);
}

/* Of what b has become from `start` on against what a has. */
static double
nmse(const float *start, const float *a, const float *b, size_t count)
{
	double error = 0, all = 0;

	for (size_t i = 0; i < count; i++)
	{
		error += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
		all += ((double) a[i] - start[i]) * ((double) a[i] - start[i]);
	}
	return error / all;
}

static batch *
make_batch(const net_config *c)
{
	llm_error err = {0};
	batch *b = batch_new(&c->shape, ROWS, &err);

	if (c->shape.token_target)
		fill_tokens(b, ROWS);
	else
		fill_batch(b, ROWS);
	return b;
}

/* Large steps, so that changes are far above the rounding of weights. */
static train_config
training(train_optimizer optimizer, int32_t threads, int64_t micro_rows)
{
	train_config c = small_training(threads);

	c.optimizer = optimizer;
	c.learning_rate = optimizer == OPT_SGD ? 0.5 : 0.02;
	c.epsilon = 1e-2; /* the sign of a gradient that is none but for rounding must not matter */
	c.schedule = SCHEDULE_CONSTANT;
	c.warmup_steps = 0;
	c.ema_decay = 0;
	c.micro_rows = micro_rows;
	return c;
}

static void
test_equal(const net_config *config, train_optimizer optimizer)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	train_config whole = training(optimizer, 1, 0), parts[2];
	size_t floats = net_weight_bytes(n) / sizeof(float);
	float *start = malloc(net_weight_bytes(n));
	trainer *one = trainer_new(n, &whole, ROWS, &err), *several[2];
	batch *b[3];
	double loss, losses[2];

	check_no_error(&err);
	memcpy(start, trainer_weights(one), net_weight_bytes(n));
	for (int i = 0; i < 2; i++)
	{
		parts[i] = training(optimizer, 1 + i, PASS);
		several[i] = trainer_new(n, &parts[i], ROWS, &err);
	}
	for (int i = 0; i < 3; i++)
	{
		b[i] = make_batch(config);
		CHECK(trainer_step(one, b[i], &loss, &err));
		for (int k = 0; k < 2; k++)
			step_in_passes(several[k], b[i], &losses[k]);
		CHECK(losses[0] == losses[1]);
		CHECK_NEAR(losses[0], loss, 1e-5 * loss);
		CHECK_NEAR(trainer_gradient_norm(several[0]), trainer_gradient_norm(one), 1e-4 * trainer_gradient_norm(one));
	}
	CHECK(nmse(start, trainer_weights(one), trainer_weights(several[0]), floats) <= 1e-10);
	CHECK_BYTES(trainer_weights(several[0]), trainer_weights(several[1]), net_weight_bytes(n));
	CHECK_INT(trainer_steps_done(several[0]), 3);
	for (int i = 0; i < 3; i++)
		batch_free(b[i]);
	for (int i = 0; i < 2; i++)
		trainer_free(several[i]);
	trainer_free(one);
	free(start);
	net_free(n);
}

/* Bags and embeddings of a table so large that its gradient has used rows only. */
static net_config
columns_config(void)
{
	net_config c = small_config(LOSS_BINARY);

	c.shape.bag_rows = COMPACT_TABLE_ROWS + 5;
	c.shape.embed_rows = COMPACT_TABLE_ROWS + 1;
	return c;
}

/* Stop the second pass at every poll: nothing changes, and run again it gives what it would have given. */
static void
test_cancel(void)
{
	net_config config = columns_config();
	llm_error err = {0};
	net *n = net_new(&config, &err);
	train_config c = training(OPT_ADAMW, 2, PASS);
	trainer *t = trainer_new(n, &c, ROWS, &err), *undisturbed = trainer_new(n, &c, ROWS, &err);
	batch *b = make_batch(&config), *part = batch_new(&config.shape, PASS, &err);
	size_t bytes = trainer_state_bytes(t);
	void *before = malloc(bytes), *after = malloc(bytes);
	double loss, expected;
	bool done = false;
	int stops;

	trainer_save(t, before);
	copy_rows(part, b, 0, PASS);
	CHECK(trainer_accumulate(t, part, &err));
	copy_rows(part, b, PASS, PASS);
	trainer_set_poll(t, poll_countdown, NULL);
	for (stops = 0; !done && stops < 1000; stops++)
	{
		polls_left = stops;
		err = (llm_error) {0};
		done = trainer_accumulate(t, part, &err);
		if (!done)
			CHECK_INT(err.code, LLM_CANCELLED);
	}
	CHECK(done && stops > 20);
	trainer_set_poll(t, NULL, NULL);
	trainer_save(t, after);
	CHECK_BYTES(before, after, bytes);
	copy_rows(part, b, 2 * PASS, PASS);
	CHECK(trainer_accumulate(t, part, &err));
	CHECK(trainer_update(t, &loss, &err));
	step_in_passes(undisturbed, b, &expected);
	CHECK(loss == expected);
	CHECK_BYTES(trainer_weights(t), trainer_weights(undisturbed), net_weight_bytes(n));

	/* a step that was begun is forgotten when state is restored */
	trainer_save(t, before);
	CHECK(trainer_accumulate(t, part, &err));
	CHECK(trainer_restore(t, before, bytes, &err));
	step_in_passes(t, b, &loss);
	step_in_passes(undisturbed, b, &expected);
	CHECK_BYTES(trainer_weights(t), trainer_weights(undisturbed), net_weight_bytes(n));
	trainer_free(t);
	trainer_free(undisturbed);
	batch_free(b);
	batch_free(part);
	free(before);
	free(after);
	net_free(n);
}

/* Passes of one row take less than those of a whole step; with all rows in one, nothing more. */
static void
test_memory(void)
{
	net_config config = small_transformer("gpt", 61, 12);
	llm_error err = {0};
	net *n = net_new(&config, &err);
	train_config whole = training(OPT_ADAMW, 1, 0), parts = training(OPT_ADAMW, 1, 1),
				 all = training(OPT_ADAMW, 1, 99);
	size_t bytes[3];

	CHECK(trainer_memory(n, &whole, 256, &bytes[0], &err));
	CHECK(trainer_memory(n, &parts, 256, &bytes[1], &err));
	CHECK(trainer_memory(n, &all, 99, &bytes[2], &err));
	CHECK(bytes[1] < bytes[0] / 4);
	CHECK(trainer_memory(n, &whole, 99, &bytes[0], &err));
	CHECK_INT(bytes[0], bytes[2]);
	check_no_error(&err);
	net_free(n);
}

static void
check_refused(bool ok, llm_error *err, const char *message)
{
	CHECK(!ok && err->code == LLM_INVALID && strstr(err->message, message));
	*err = (llm_error) {0};
}

static void
test_refused(void)
{
	net_config config = columns_config();
	llm_error err = {0};
	net *n = net_new(&config, &err);
	train_config c = training(OPT_SGD, 1, PASS), whole = training(OPT_SGD, 1, 0);
	trainer *t = trainer_new(n, &c, ROWS, &err), *one = trainer_new(n, &whole, PASS, &err);
	batch *b = make_batch(&config), *part = batch_new(&config.shape, PASS, &err);
	double loss;

	copy_rows(part, b, 0, PASS);
	check_refused(trainer_update(t, &loss, &err), &err, "step has no rows");
	check_refused(trainer_accumulate(t, b, &err), &err, "rows");
	CHECK(trainer_accumulate(t, part, &err) && trainer_accumulate(t, part, &err));
	check_refused(trainer_accumulate(t, part, &err), &err, "step has more than 40 rows");
	CHECK(trainer_accumulate(one, part, &err));
	check_refused(trainer_accumulate(one, part, &err), &err, "step has more than 16 rows");
	trainer_free(one);
	trainer_free(t);
	c.micro_rows = -1;
	check_refused(trainer_new(n, &c, ROWS, &err) != NULL, &err, "must not be negative");
	net_free(n);

	config = (net_config) {.shape = {.dense = 2 * 6 * 6, .outputs = 2}, .image = {2, 6, 6}, .loss = LOSS_MSE};
	net_default_cnn(&config);
	n = net_new(&config, &err);
	check_no_error(&err);
	c.micro_rows = PASS;
	check_refused(trainer_new(n, &c, ROWS, &err) != NULL, &err, "batch_norm");
	net_free(n);
	batch_free(b);
	batch_free(part);
}

int
main(void)
{
	net_config columns = columns_config(), text = small_transformer("gpt", 61, 12),
			   large = small_transformer("gpt", COMPACT_TABLE_ROWS + 3, 12);

	for (train_optimizer o = OPT_ADAMW; o <= OPT_SGD; o++)
	{
		test_equal(&columns, o);
		test_equal(&text, o);
		test_equal(&large, o);
	}
	test_cancel();
	test_memory();
	test_refused();
	return test_summary();
}
