/*
 * test_transformer.c
 *	  Transformers: gradients of whole networks, learning, threads, checkpoints, and
 *	  configurations that are refused.
 */
#include "net_check.h"

#define VOCAB 61
#define CONTEXT 12

/* A small network of a family; sizes odd where they may be. */
static net_config
transformer_of(const char *family, int32_t kv_heads)
{
	net_config c = small_transformer(family, VOCAB, CONTEXT);

	c.text.kv_heads = kv_heads;
	return c;
}

/* <gradient, direction> against the loss on both sides, as check_gradient() does. */
static void
check_token_gradient(const net_config *config)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	net_plan p;
	run_args run = {.seed = 3, .step = 1, .simd = simd_best()};
	batch *b = batch_new(&config->shape, 5, &err);
	size_t floats = n ? net_weight_bytes(n) / sizeof(float) : 0;
	float *w = aligned_alloc(64, floats * sizeof(float)), *direction = calloc(floats, sizeof(float));
	float *moved = aligned_alloc(64, floats * sizeof(float));
	void *arena;
	double slope, difference, step = 1e-2;

	if (!CHECK(n && b && net_plan_new(&p, n, MODE_TRAIN, 5, &err)))
		return;
	arena = aligned_alloc(64, plan_arena_bytes(p.plan));
	fill_tokens(b, 5);
	random_weights(n, w, 0.2f);
	random_weights(n, direction, 0.05f);
	net_plan_bind(&p, b);
	net_rows(b, run.rows);
	plan_attach(p.plan, arena, w);
	CHECK(isfinite(token_loss(&p, &run, b, &err)));
	slope = slope_along(n, &p, direction);
	difference = token_loss_difference(&p, &run, b, arena, w, direction, moved, floats, step);
	/* rounding of a loss near 4 in float, over the step: 4 * 6e-8 * 8 / (12 * 0.01) = 2e-5 */
	CHECK(fabs(slope - difference) <= 1e-4 + 2e-3 * fabs(difference));
	net_plan_free(&p);
	batch_free(b);
	net_free(n);
	free(arena);
	free(w);
	free(moved);
	free(direction);
}

/* Losses of some steps; the state afterwards, to be freed, when wanted. */
static void
train(const net *n, const train_config *c, const batch *b, int steps, const void *from, double *losses, void **state)
{
	llm_error err = {0};
	trainer *t = trainer_new(n, c, b->capacity, &err);

	if (!CHECK(t != NULL))
		return;
	if (from)
		CHECK(trainer_restore(t, from, trainer_state_bytes(t), &err));
	for (int i = 0; i < steps; i++)
		CHECK(trainer_step(t, b, &losses[i], &err));
	if (state)
	{
		*state = malloc(trainer_state_bytes(t));
		trainer_save(t, *state);
	}
	trainer_free(t);
}

/* It learns the rule; two threads give the same bytes as one, and so does going on from a checkpoint. */
static void
test_training(const char *family)
{
	net_config config = transformer_of(family, 2);
	llm_error err = {0};
	net *n;
	batch *b = batch_new(&config.shape, 16, &err);
	train_config one = fast_training(1), two = fast_training(2);
	double losses[80], again[80];
	double sum = 0, weight = 0, correct = 0;
	void *middle = NULL;
	trainer *t;

	config.text.dropout = 0.1f;
	n = net_new(&config, &err);
	fill_tokens(b, 16);
	train(n, &one, b, 80, NULL, losses, NULL);
	CHECK(losses[0] > 3.5 && losses[79] < 1);
	train(n, &two, b, 40, NULL, again, &middle);
	train(n, &two, b, 40, middle, again + 40, NULL);
	for (int i = 0; i < 80; i++)
		CHECK(losses[i] == again[i]);
	t = trainer_new(n, &one, 16, &err);
	CHECK(trainer_score_tokens(t, b, &sum, &weight, &correct, &err));
	CHECK(weight > 0 && sum / weight > 3.5 && correct < weight / 2);
	trainer_free(t);
	free(middle);
	batch_free(b);
	net_free(n);
}

static void
test_gradients(void)
{
	net_config c = transformer_of("gpt", 4);

	check_token_gradient(&c);
	c.text.tied = false;
	check_token_gradient(&c);
	c = transformer_of("llama", 2);
	check_token_gradient(&c);
	c.text.qk_norm = c.text.qkv_bias = true;
	check_token_gradient(&c);
	c = transformer_of("bert", 4);
	check_token_gradient(&c);
	c.text.tied = c.text.bias = false;
	c.text.dropout = 0.1f;
	check_token_gradient(&c);
	c = transformer_of("t5", 2);
	c.text.activation = ACT_SILU; /* no kinks */
	check_token_gradient(&c);
	c.text.gated = c.text.bias = c.text.qkv_bias = c.text.post_norm = true;
	c.text.rms_norm = c.text.tied = false;
	check_token_gradient(&c);
	c = transformer_of("llama", 2);
	c.text.parallel = c.text.embed_scale = true;
	c.text.rotary_dim = 2;
	check_token_gradient(&c);
	c = transformer_of("llama", 2); /* as Gemma 2 and 3 */
	c.text.embed_scale = c.text.qk_norm = true;
	use_windows(&c, 3);
	check_token_gradient(&c);
	c = transformer_of("bert", 4);
	c.text.types = 3;
	c.text.separator = 7;
	check_token_gradient(&c);
	c.text.labels = c.shape.labels = VOCAB; /* as many as made-up targets */
	c.text.tied = c.text.head_transform = false;
	check_token_gradient(&c);
}

/* A transformer whose pooled tokens are one of the columns of a row. */
static net_config
row_network(const char *family, text_pool pool, const batch_shape *shape)
{
	net_config c = transformer_of(family, 4);

	c.shape = *shape;
	c.shape.vocab = VOCAB;
	c.shape.context = CONTEXT;
	c.text.headless = true;
	c.pool = pool;
	c.embed_dim = 3;
	c.loss = shape->class_target ? (shape->outputs > 1 ? LOSS_CROSS_ENTROPY : LOSS_BINARY) : LOSS_MSE;
	return c;
}

/* Text alone and beside numbers, embeddings and a bag; with and without a hidden layer. */
static void
test_rows(void)
{
	const batch_shape alone = {.outputs = 1, .class_target = true};
	const batch_shape beside = {.dense = 5,
								.embed_columns = 2,
								.embed_rows = 7,
								.bag_rows = 11,
								.bag_max = 4,
								.outputs = 3,
								.class_target = true};
	const batch_shape number = {.dense = 2, .outputs = 2};
	net_config c = row_network("gpt", POOL_MEAN, &alone);

	check_gradient(&c, 6);
	c = row_network("llama", POOL_LAST, &beside);
	c.text_dropout = 0.5f;
	check_gradient(&c, 6);
	c = row_network("bert", POOL_FIRST, &alone);
	check_gradient(&c, 6);
	c = row_network("gpt", POOL_FIRST, &number);
	c.hidden_count = 1;
	c.hidden[0] = 9;
	c.text.tied = false;
	c.text.dropout = 0.1f;
	check_gradient(&c, 6);
}

/* A transformer whose pooled tokens are compared by pairs. */
static net_config
pair_network(const char *family, text_pool pool)
{
	const batch_shape shape = {.outputs = 1};
	net_config c = row_network(family, pool, &shape);

	c.loss = LOSS_CONTRASTIVE;
	return c;
}

/* Both texts of a pair begin with the same token, which no other pair has there. */
static void
fill_pairs(batch *b, int64_t rows)
{
	fill_batch(b, rows);
	for (int64_t i = 0; i < rows; i++)
	{
		b->token[b->token_start[i]] = (int32_t) (i / 2);
		b->weight[i] = 1;
	}
}

/* Layers behind the pool, with and without bias and activation. */
static net_config
dense_network(void)
{
	net_config c = pair_network("bert", POOL_MEAN);

	c.dense_count = 2;
	c.dense[0] = (net_dense) {11, true, ACT_TANH};
	c.dense[1] = (net_dense) {7, false, ACT_IDENTITY};
	return c;
}

static void
test_pairs(net_config config)
{
	train_config training = fast_training(2);
	llm_error err = {0};
	net *n = net_new(&config, &err);
	trainer *t = trainer_new(n, &training, 16, &err);
	batch *b = batch_new(&config.shape, 16, &err);
	double loss = 0, sum = 0, weight = 0, correct = 0;

	check_gradient(&config, 6);
	fill_pairs(b, 16);
	for (int i = 0; i < 60; i++)
		CHECK(trainer_step(t, b, &loss, &err));
	CHECK(trainer_score_tokens(t, b, &sum, &weight, &correct, &err));
	CHECK(weight == 16 && sum / weight < 0.2 && correct > 14);
	check_no_error(&err);
	b->rows = 15;
	CHECK(!trainer_step(t, b, &loss, &err) && strstr(err.message, "without its partner") != NULL);
	check_predicts_no_rows(n, t, b);
	trainer_free(t);
	batch_free(b);
	net_free(n);
}

/* Predictions do not depend on what else is in the batch, and those of the trainer are those of a predictor. */
static void
test_row_predictions(void)
{
	const batch_shape shape = {.dense = 3, .outputs = 3, .class_target = true};
	net_config config = row_network("llama", POOL_MEAN, &shape);
	train_config training = fast_training(2);
	llm_error err = {0};
	net *n = net_new(&config, &err);
	trainer *t = trainer_new(n, &training, 8, &err);
	batch *b = batch_new(&config.shape, 8, &err);
	predictor *p = predictor_new(n, trainer_weights(t), 1, NULL, &err);
	float out[8 * 3];
	double first = 0, last = 0;

	fill_batch(b, 8);
	for (int i = 0; i < 60; i++)
		CHECK(trainer_step(t, b, i == 0 ? &first : &last, &err));
	CHECK(last < 0.2 * first);
	CHECK(trainer_predict(t, b, out, NULL, NULL, &err));
	for (int i = 0; i < 8; i++)
	{
		batch *one = predictor_batch(p);
		const float *alone;

		one->rows = 1;
		one->token_start[1] = b->token_start[i + 1] - b->token_start[i];
		memcpy(one->token, b->token + b->token_start[i], one->token_start[1] * sizeof(int32_t));
		memcpy(one->dense, b->dense + i * 3, sizeof(float) * 3);
		alone = predictor_run(p, &err);
		for (int k = 0; alone && k < 3; k++)
			CHECK_NEAR(alone[k], out[i * 3 + k], 1e-5); /* other blocks of the products: rounding */
	}
	check_no_error(&err);
	predictor_free(p);
	trainer_free(t);
	batch_free(b);
	net_free(n);
}

static void
check_refused(net_config c, const char *message)
{
	llm_error err = {0};
	net *n = net_new(&c, &err);

	CHECK(n == NULL);
	CHECK(strstr(err.message, message) != NULL);
	net_free(n);
}

static void
test_refused(void)
{
	net_config c = transformer_of("llama", 3);

	check_refused(c, "kv_heads 3 does not divide heads 4");
	c = transformer_of("llama", 4);
	c.text.head_dim = 5;
	check_refused(c, "heads of even width");
	c = transformer_of("gpt", 4);
	c.text.width = 0;
	check_refused(c, "embed_dim is 0");
	c = transformer_of("gpt", 4);
	c.text.depth = TRANSFORMER_MAX_DEPTH + 1;
	check_refused(c, "layers is 129");
	c = transformer_of("gpt", 4);
	c.shape.context = 5;
	check_refused(c, "reads other tokens than its rows have");
	c = transformer_of("gpt", 4);
	c.shape.dense = 1;
	check_refused(c, "reads and predicts tokens, nothing else");
	c = pair_network("bert", POOL_MEAN);
	c.shape.bag_rows = c.shape.bag_max = 3;
	check_refused(c, "reads and predicts tokens, nothing else");
	c = pair_network("bert", POOL_MEAN);
	c.shape.outputs = 2;
	check_refused(c, "that embeds texts");
	c = (net_config) {.shape = {.dense = 3, .outputs = 1}, .loss = LOSS_CONTRASTIVE};
	check_refused(c, "nothing else");
	c.shape.dense = 0;
	check_refused(c, "that embeds texts");
	c = dense_network();
	c.dense[1].width = 0;
	check_refused(c, "width 0 of dense layer 2");
	c.dense[1] = (net_dense) {7, false, (net_activation) 99};
	check_refused(c, "activation of dense layer 2");
	c.dense_count = NET_MAX_DENSE + 1;
	check_refused(c, "up to 8 dense layers");
	c = transformer_of("gpt", 4);
	c.dense_count = 1;
	c.dense[0].width = 4;
	check_refused(c, "others have none");
	c = transformer_of("gpt", 4);
	c.text.dropout = 1;
	check_refused(c, "out of range");
	c = transformer_of("llama", 4);
	c.text.window_theta = 100;
	check_refused(c, "without a window");
	c.text.window = 3;
	c.text.window_theta = 0.5f;
	check_refused(c, "window_theta");
	c = transformer_of("t5", 4);
	c.text.score_cap = 10;
	check_refused(c, "neither a cap nor a scale");
	c = transformer_of("gpt", 4);
	c.text.logit_cap = 1e-9f;
	check_refused(c, "score_cap or logit_cap");
	c = transformer_of("bert", 4);
	c.text.added_norm = true;
	check_refused(c, "norms of what they add");
	c = transformer_of("gpt", 4);
	c.text.head_transform = true;
	check_refused(c, "a head for masked tokens");
	c = transformer_of("t5", 4);
	c.text.buckets = 2;
	check_refused(c, "no 2 buckets");
	c.text.buckets = 8;
	c.text.distance = 4;
	check_refused(c, "up to distance 4");
	c.text.buckets = 0;
	check_refused(c, "needs relative positions");
	c = transformer_of("t5", 4);
	c.shape.source_context = 0;
	check_refused(c, "reads other tokens");
	c.text.source_context = 0;
	check_refused(c, "source_context is 0");
	c.text.encoder_depth = TRANSFORMER_MAX_DEPTH + 1;
	check_refused(c, "encoder_layers is 129");
	c = transformer_of("gpt", 4);
	c.text.source_context = 5;
	check_refused(c, "source_context is 5");
	c = transformer_of("llama", 4);
	c.text.rotary_dim = 3;
	check_refused(c, "rotary_dim 3 is not even");
	c.text.rotary_dim = c.text.head_dim + 2;
	check_refused(c, "and between 0 and head_dim");
	c.text.rotary_dim = 0;
	c.text.rope_theta = 0.5f;
	check_refused(c, "rope_theta");
	c.text.rope_theta = 100;
	c.text.rope_factor = 0.5f;
	check_refused(c, "rope_factor");
	c.text.rope_factor = 2;
	c.text.rope_low = 1;
	check_refused(c, "rope_low");
	c = transformer_of("gpt", 4);
	c.text.types = 2;
	check_refused(c, "only a bidirectional network has types");
	c = transformer_of("bert", 4);
	c.text.types = 65;
	check_refused(c, "types is 65");
	c.text.types = 2;
	c.text.separator = VOCAB;
	check_refused(c, "separator is 61");
	c.text.separator = 0;
	c.text.parallel = true;
	check_refused(c, "parallel layers");
	c = transformer_of("bert", 4);
	c.text.labels = c.shape.labels = 3;
	check_refused(c, "a head for labels of tokens");
	c.text.tied = c.text.head_transform = false;
	c.shape.labels = 0;
	check_refused(c, "reads other tokens");
	c = transformer_of("gpt", 4);
	c.text.vocab = c.shape.vocab = 1 << 20;
	c.text.width = 65536;
	c.text.ffn = 1 << 18;
	c.text.depth = 128;
	c.text.heads = c.text.kv_heads = 65536;
	c.text.head_dim = 256;
	check_refused(c, "too large");
}

static void
test_tokens_out_of_range(void)
{
	net_config config = transformer_of("gpt", 4);
	llm_error err = {0};
	net *n = net_new(&config, &err);
	train_config c = fast_training(1);
	trainer *t = trainer_new(n, &c, 4, &err);
	batch *b = batch_new(&config.shape, 4, &err);
	double loss;

	fill_tokens(b, 4);
	b->token[1] = VOCAB;
	CHECK(!trainer_step(t, b, &loss, &err) && strstr(err.message, "token out of range") != NULL);
	fill_tokens(b, 4);
	b->token_target[0] = -1;
	CHECK(!trainer_step(t, b, &loss, &err));
	fill_tokens(b, 4);
	b->token_start[2] = b->token_start[1];
	err.code = LLM_OK;
	CHECK(!trainer_step(t, b, &loss, &err) && strstr(err.message, "without tokens") != NULL);
	check_predicts_no_rows(n, t, b);
	batch_free(b);
	trainer_free(t);
	net_free(n);
}

static void
test_sources_out_of_range(void)
{
	net_config config = transformer_of("t5", 4);
	llm_error err = {0};
	net *n = net_new(&config, &err);
	train_config c = fast_training(1);
	trainer *t = trainer_new(n, &c, 4, &err);
	batch *b = batch_new(&config.shape, 4, &err);
	double loss;

	fill_tokens(b, 4);
	CHECK(trainer_step(t, b, &loss, &err));
	b->source[2] = VOCAB;
	CHECK(!trainer_step(t, b, &loss, &err) && strstr(err.message, "token out of range") != NULL);
	err.code = LLM_OK;
	fill_tokens(b, 4);
	b->source_start[2] = b->source_start[1];
	CHECK(!trainer_step(t, b, &loss, &err) && strstr(err.message, "with more than 15") != NULL);
	batch_free(b);
	trainer_free(t);
	net_free(n);
	config.shape.source_context = -1;
	err.code = LLM_OK;
	CHECK(batch_new(&config.shape, 4, &err) == NULL && err.code == LLM_INVALID);
	config.shape.source_context = INT32_MAX;
	err.code = LLM_OK;
	CHECK(batch_new(&config.shape, 4, &err) == NULL && err.code == LLM_MEMORY);
}

int
main(void)
{
	test_gradients();
	test_training("gpt");
	test_training("llama");
	test_training("bert");
	test_training("t5");
	test_rows();
	test_pairs(pair_network("gpt", POOL_LAST));
	test_pairs(pair_network("llama", POOL_MEAN));
	test_pairs(pair_network("bert", POOL_MEAN));
	test_pairs(dense_network());
	test_row_predictions();
	test_refused();
	test_tokens_out_of_range();
	test_sources_out_of_range();
	return test_summary();
}
