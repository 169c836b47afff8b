/*
 * test_finetune.c
 *	  Training of a transformer's last layers, and of adapters of low rank beside it: gradients,
 *	  what stays as it was, merged weights, what is stored without them, checkpoints, memory, learning.
 */
#include "../../src/manifest/adapter.h"
#include "net_check.h"

#define VOCAB 53
#define CONTEXT 10
#define ROWS 12

static net_config
config_of(const char *family)
{
	net_config c = small_transformer(family, VOCAB, CONTEXT);

	c.text.depth = 3;
	c.text.kv_heads = 2;
	return c;
}

static train_config
last_layers(int32_t layers)
{
	train_config c = fast_training(1);

	c.train_layers = layers;
	return c;
}

static train_config
adapters_of(uint32_t targets)
{
	train_config c = fast_training(1);

	c.lora_rank = 4;
	c.lora_alpha = 6;
	c.lora_targets = targets;
	return c;
}

static batch *
token_batch(const net_config *config)
{
	llm_error err = {0};
	batch *b = batch_new(&config->shape, ROWS, &err);

	fill_tokens(b, ROWS);
	return b;
}

/* ---- gradients ---- */

/* <gradient, direction> over what is trained; *count: of how many parameters. */
static double
tuned_slope(const net_tuning *tuning, const net_plan *p, const float *direction, size_t *count)
{
	const graph *g = plan_graph(p->plan);
	double slope = 0;

	*count = 0;
	for (int32_t i = 0; i < g->tensor_count; i++)
	{
		const tensor *t = &g->tensors[i];
		const float *gradient = plan_address(p->plan, t->gradient);
		int64_t size = t->dims[0] * tensor_columns(t);

		if (t->role != ROLE_PARAM || t->gradient == TENSOR_NONE)
			continue;
		CHECK(t->needs_gradient);
		for (int64_t j = 0; j < size; j++)
			slope += (double) gradient[j] * direction[tuning_offset(tuning, t->slot) + j];
		*count += size;
	}
	return slope;
}

/* Of trained tensors, adapters included. */
static size_t
trained_numbers(const net *n, const net_tuning *tuning)
{
	const net *adapters = tuning_adapters(tuning);
	size_t count = 0;

	for (int32_t i = 0; i < net_tensor_count(n); i++)
		count += tuning_trains(tuning, i) ? net_tensor(n, i)->count : 0;
	for (int32_t i = 0; adapters && i < net_tensor_count(adapters); i++)
		count += net_tensor(adapters, i)->count;
	return count;
}

static void
check_tuned_gradient(const net_config *config, const train_config *c)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	net_tuning *tuning = tuning_new(n, c, &err);
	net_plan p;
	run_args run = {.seed = 3, .step = 1, .simd = simd_best()};
	batch *b = token_batch(config);
	size_t floats, trained;
	float *w, *direction, *moved;
	void *arena;
	double slope, difference, step = 1e-2;

	if (!CHECK(tuning && net_plan_tuned(&p, n, tuning, PRECISION_F32, false, MODE_TRAIN, ROWS, &err)))
		return;
	floats = tuning_end(tuning);
	w = malloc(floats * sizeof(float));
	direction = malloc(floats * sizeof(float));
	moved = malloc(floats * sizeof(float));
	arena = backend_cpu.allocate(plan_arena_bytes(p.plan));
	memset(arena, 0xff, plan_arena_bytes(p.plan)); /* NaN: nothing may be read before it is written */
	for (size_t i = 0; i < floats; i++)
	{
		w[i] = 0.4f * next_normal();
		direction[i] = i < tuning_begin(tuning) ? 0 : 0.2f * next_normal();
	}
	net_plan_bind(&p, b);
	net_rows(b, run.rows);
	plan_attach(p.plan, arena, w);
	CHECK(isfinite(token_loss(&p, &run, b, &err)));
	slope = tuned_slope(tuning, &p, direction, &trained);
	CHECK_INT(trained, trained_numbers(n, tuning));
	difference = token_loss_difference(&p, &run, b, arena, w, direction, moved, floats, step);
	CHECK(fabs(difference) > 2e-3); /* or it shows nothing */
	CHECK_NEAR(slope, difference, 1e-4 + 2e-3 * fabs(difference));
	net_plan_free(&p);
	tuning_free(tuning);
	batch_free(b);
	net_free(n);
	backend_cpu.release(arena);
	free(w);
	free(direction);
	free(moved);
}

static void
test_gradients(const char *family)
{
	net_config config = config_of(family);
	train_config c;

	for (int32_t layers = 0; layers <= 3; layers++)
	{
		c = last_layers(layers);
		config.text.tied = layers % 2;
		config.text.qk_norm = layers > 1;
		check_tuned_gradient(&config, &c);
	}
	for (uint32_t target = LORA_QKV; target <= LORA_DOWN; target *= 2)
	{
		c = adapters_of(target);
		check_tuned_gradient(&config, &c);
	}
	c = adapters_of(LORA_ALL);
	config.text.dropout = 0.1f;
	check_tuned_gradient(&config, &c);
}

/* ---- steps ---- */

/* What is frozen keeps its bytes, what is trained does not. */
static void
check_frozen(const net *n, const train_config *c, trainer *t, const float *before)
{
	llm_error err = {0};
	net_tuning *tuning = tuning_new(n, c, &err);

	for (int32_t i = 0; i < net_tensor_count(n); i++)
	{
		const net_tensor_info *info = net_tensor(n, i);
		bool same =
			memcmp(trainer_weights(t) + info->offset, before + info->offset, info->count * sizeof(float)) == 0;
		bool adapted = c->lora_targets == LORA_ALL && strstr(info->name, "layers.") &&
					   strstr(info->name, ".weight") && !strstr(info->name, "norm");

		CHECK_INT(!same, adapted || (c->lora_rank == 0 && tuning_trains(tuning, i)));
	}
	tuning_free(tuning);
}

/*
 * From the weights of a network that has learned, the first loss is that of plain training; then it
 * learns another rule, and leaves frozen weights alone; a checkpoint goes on to the bit with another number of threads.
 */
static void
check_training(const char *family, train_config c)
{
	net_config config = config_of(family);
	llm_error err = {0};
	net *n = net_new(&config, &err);
	batch *b = token_batch(&config);
	train_config plain = fast_training(1);
	trainer *t = trainer_new(n, &c, ROWS, &err), *resumed, *whole = trainer_new(n, &plain, ROWS, &err);
	float *before = malloc(net_weight_bytes(n));
	void *state[2];
	double first, loss = 0;
	size_t bytes = trainer_state_bytes(t);

	for (int i = 0; i < 60; i++)
		CHECK(trainer_step(whole, b, &loss, &err));
	memcpy(before, trainer_weights(whole), net_weight_bytes(n));
	trainer_set_weights(t, before);
	CHECK_BYTES(trainer_weights(t), before, net_weight_bytes(n));
	for (int i = 0; i < b->token_start[ROWS]; i++)
		b->token_target[i] = (b->token_target[i] + 1) % VOCAB;
	CHECK(trainer_step(whole, b, &first, &err));
	for (int i = 0; i < 250; i++)
	{
		CHECK(trainer_step(t, b, &loss, &err));
		if (i == 0)
			CHECK(loss == first);
	}
	CHECK(first > 5 && loss < first / 3);
	check_frozen(n, &c, t, before);
	CHECK(bytes < trainer_state_bytes(whole));

	state[0] = malloc(bytes);
	state[1] = malloc(bytes);
	trainer_save(t, state[0]);
	c.threads = 2;
	resumed = trainer_new(n, &c, ROWS, &err);
	CHECK(!trainer_restore(resumed, state[0], bytes, &err) && strstr(err.message, "other frozen weights"));
	err.code = LLM_OK;
	trainer_set_weights(resumed, before);
	CHECK(trainer_restore(resumed, state[0], bytes, &err));
	CHECK_BYTES(trainer_weights(resumed), trainer_weights(t), net_weight_bytes(n));
	for (int i = 0; i < 5; i++)
		CHECK(trainer_step(t, b, &first, &err) && trainer_step(resumed, b, &loss, &err) && loss == first);
	trainer_save(t, state[0]);
	trainer_save(resumed, state[1]);
	CHECK_BYTES(state[0], state[1], bytes);
	check_no_error(&err);
	free(state[0]);
	free(state[1]);
	free(before);
	trainer_free(t);
	trainer_free(resumed);
	trainer_free(whole);
	batch_free(b);
	net_free(n);
}

static void
test_training(const char *family)
{
	train_config c = last_layers(1);

	check_training(family, c);
	c.ema_decay = 0.5;
	check_training(family, c);
	c = adapters_of(LORA_ALL);
	check_training(family, c);
	c.ema_decay = 0.5;
	c.optimizer = OPT_SGD;
	c.momentum = 0.9;
	c.learning_rate = 0.5;
	check_training(family, c);
}

/* ---- merged weights ---- */

/* Losses of tokens by the training plan with adapters, and by a plain network of merged weights. */
static void
test_merged(const char *family)
{
	net_config config = config_of(family);
	llm_error err = {0};
	train_config c = adapters_of(LORA_ALL);
	net *n = net_new(&config, &err);
	net_tuning *tuning = tuning_new(n, &c, &err);
	batch *b = token_batch(&config);
	run_args run = {.simd = simd_best()};
	net_plan plans[2];
	void *arenas[2];
	int64_t tokens = b->token_start[ROWS];
	size_t floats = tuning_end(tuning), own = net_weight_bytes(n) / sizeof(float);
	float *w = malloc(floats * sizeof(float));
	double *expected = malloc(tokens * sizeof(double));

	CHECK(net_plan_tuned(&plans[0], n, tuning, PRECISION_F32, false, MODE_TRAIN, ROWS, &err));
	CHECK(net_plan_new(&plans[1], n, MODE_SCORE, ROWS, &err));
	for (size_t i = 0; i < floats; i++)
		w[i] = 0.2f * next_normal();
	net_rows(b, run.rows);
	for (int i = 0; i < 2; i++)
	{
		const float *loss;

		arenas[i] = backend_cpu.allocate(plan_arena_bytes(plans[i].plan));
		plan_attach(plans[i].plan, arenas[i], w);
		net_plan_bind(&plans[i], b);
		CHECK(plan_run(plans[i].plan, &run, &err));
		loss = plan_address(plans[i].plan, plans[i].loss);
		for (int64_t j = 0; i == 0 && j < tokens; j++)
			expected[j] = loss[j];
		if (i == 0)
			tuning_merge(tuning, w + own, w, run.simd, NULL);
		else
			CHECK_CLOSE(loss, expected, tokens, 1e-12);
	}
	for (int i = 0; i < 2; i++)
	{
		net_plan_free(&plans[i]);
		backend_cpu.release(arenas[i]);
	}
	free(w);
	free(expected);
	tuning_free(tuning);
	batch_free(b);
	net_free(n);
}

/* Names, shapes and numbers of adapters: they make the published weights of the base. */
static void
test_adapters(void)
{
	net_config config = config_of("llama");
	llm_error err = {0};
	train_config c = adapters_of(LORA_QKV | LORA_DOWN);
	net *n = net_new(&config, &err);
	batch *b = token_batch(&config);
	trainer *t = trainer_new(n, &c, ROWS, &err);
	const float *data, *merged;
	const net *adapters = trainer_adapters(t, &data);
	const net_tensor_info *down = net_tensor(adapters, 0), *up = net_tensor(adapters, 1), *w = net_tensor(n, 2);
	float *base = malloc(net_weight_bytes(n));
	double loss, *expected;

	CHECK_INT(net_tensor_count(adapters), 2 * 2 * 3);
	CHECK_STR(down->name, "layers.0.attn.qkv.lora_A.weight");
	CHECK_STR(up->name, "layers.0.attn.qkv.lora_B.weight");
	CHECK_STR(net_tensor(adapters, 3)->name, "layers.0.ffn.down.lora_B.weight");
	CHECK_STR(w->name, "layers.0.attn.qkv.weight");
	CHECK_INT(down->dims[0], 4);
	CHECK_INT(down->dims[1], 24);
	CHECK_INT(up->dims[0], 48);
	CHECK_INT(up->dims[1], 4);
	memcpy(base, trainer_weights(t), net_weight_bytes(n));
	for (int i = 0; i < 5; i++)
		CHECK(trainer_step(t, b, &loss, &err));
	merged = trainer_weights(t);
	CHECK(merged == trainer_weights(t));
	expected = malloc(w->count * sizeof(double));
	for (int64_t i = 0; i < w->dims[0]; i++)
		for (int64_t j = 0; j < w->dims[1]; j++)
		{
			double sum = 0;

			for (int64_t k = 0; k < 4; k++)
				sum += (double) data[up->offset + i * 4 + k] * data[down->offset + k * 24 + j];
			expected[i * w->dims[1] + j] = base[w->offset + i * w->dims[1] + j] + 6.0 / 4 * sum;
		}
	CHECK_CLOSE(merged + w->offset, expected, w->count, 1e-12);
	CHECK(memcmp(merged + w->offset, base + w->offset, w->count * sizeof(float)) != 0);

	/* put back as the network's weights, they stay what they are */
	memcpy(base, merged, net_weight_bytes(n));
	trainer_set_weights(t, trainer_weights(t));
	CHECK_BYTES(trainer_weights(t), base, net_weight_bytes(n));
	trainer_free(t);
	c = fast_training(1);
	t = trainer_new(n, &c, ROWS, &err);
	CHECK(trainer_adapters(t, &data) == NULL);
	trainer_free(t);
	free(base);
	free(expected);
	batch_free(b);
	net_free(n);
}

/* ---- kept apart from the base ---- */

static const char *const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/* Read in pieces that end anywhere, the network's weights are those of trainer_weights(), to the bit. */
static void
check_together(const adapter *a, const float *stored, const net *base, const float *base_weights, const float *merged)
{
	llm_error err = {0};
	adapter_view *v = adapter_open(a, stored, base, base_weights, &err);
	size_t floats = net_weight_bytes(a->n) / sizeof(float), pieces[] = {1, 7, 1000, floats};
	float *read = malloc(net_weight_bytes(a->n));

	for (int i = 0; i < 4 && CHECK(v != NULL); i++)
	{
		for (size_t done = 0, length; done < floats; done += length)
		{
			length = pieces[i] < floats - done ? pieces[i] : floats - done;
			adapter_read(v, done, length, read + done);
		}
		CHECK_BYTES(read, merged, net_weight_bytes(a->n));
	}
	adapter_close(v);
	free(read);
}

/* Its description as JSON is read back; one that contradicts itself is refused. */
static adapter *
described_again(const adapter *a)
{
	llm_error err = {0};
	json_t *json = adapter_json(a);
	adapter *again = adapter_from_json(json, a->n, &err);
	const struct
	{
		const char *key;
		json_t *value;
	} wrong[] = {
		{"bytes", json_integer((json_int_t) a->bytes + 64)},
		{"rank", json_integer(1025)},
		{"rank", json_integer(-1)},
		{"alpha", json_string("16")},
		{"version", json_integer(0)},
		{"sha256", json_string("00")},
		{"base_sha256", json_null()},
		{"base", json_true()},
		{"adapted", json_pack("[s]", "layers.9.attn.qkv.weight")},
		{"adapted", json_pack("[s]", "layers.0.attn.qkv.bias")},
		{"own", json_pack("[s, s]", "layers.0.ffn.up.weight", "layers.0.attn.qkv.weight")},
		{"own", json_pack("[i]", 1)},
		{"own", json_object()},
	};

	CHECK(again != NULL);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		json_t *copy = json_copy(json);

		err = (llm_error) {0};
		json_object_set_new(copy, wrong[i].key, wrong[i].value);
		CHECK(adapter_from_json(copy, a->n, &err) == NULL && err.code == LLM_CORRUPT);
		json_decref(copy);
	}
	json_decref(json);
	return again;
}

/* A network with a head of its own, trained from another one. */
static void
test_apart(const char *family, double ema_decay)
{
	net_config config = config_of(family);
	llm_error err = {0};
	train_config c = adapters_of(LORA_ALL);
	net *n = net_new(&config, &err), *shallow;
	batch *b = token_batch(&config);
	trainer *t;
	float *base = malloc(net_weight_bytes(n)), *stored;
	const float *numbers;
	const net *matrices;
	adapter *a, *again;
	double loss;

	c.ema_decay = ema_decay;
	t = trainer_new(n, &c, ROWS, &err);
	memcpy(base, trainer_weights(t), net_weight_bytes(n));
	for (int i = 0; i < 5; i++)
		CHECK(trainer_step(t, b, &loss, &err));
	matrices = trainer_adapters(t, &numbers);
	base[net_tensor(n, 0)->offset] += 1; /* as if it was trained, too */
	a = adapter_new(n, trainer_weights(t), n, base, matrices, c.lora_rank, c.lora_alpha, &err);
	if (CHECK(a != NULL && adapter_set_base(a, "base", 3, digest, &err)))
	{
		strcpy(a->sha256, digest);
		CHECK_INT(a->bytes, net_weight_bytes(matrices) + (net_tensor(n, 0)->count + 15) / 16 * 16 * sizeof(float));
		stored = malloc(a->bytes);
		adapter_store(a, trainer_weights(t), matrices, numbers, stored);
		check_together(a, stored, n, base, trainer_weights(t));
		again = described_again(a);
		CHECK_STR(again->base, "base");
		CHECK_INT(again->version, 3);
		check_together(again, stored, n, base, trainer_weights(t));
		config.text.depth = 2;
		shallow = net_new(&config, &err);
		CHECK(adapter_open(a, stored, shallow, base, &err) == NULL && err.code == LLM_CORRUPT);
		net_free(shallow);
		free(stored);
		adapter_free(again);
	}
	adapter_free(a);
	trainer_free(t);
	batch_free(b);
	net_free(n);
	free(base);
}

/* ---- memory, and what is refused ---- */

static size_t
memory_of(const net_config *config, const train_config *c, size_t *state)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	trainer *t = trainer_new(n, c, 2, &err);
	size_t bytes = 0;

	CHECK(t && trainer_memory(n, c, 2, &bytes, &err));
	*state = trainer_state_bytes(t);
	trainer_free(t);
	net_free(n);
	return bytes;
}

/*
 * Plain training holds weights, two moments and gradients; adapters the weights twice, and little else; the
 * last of 8 layers the weights and 3/8 of them.
 */
static void
test_memory(void)
{
	net_config config = config_of("gpt");
	train_config plain = fast_training(1), lora = adapters_of(LORA_ALL), last = last_layers(1), two = last_layers(2);
	size_t state[4], all, by_lora, by_last, by_two;

	config.text.width = 96;
	config.text.ffn = 384;
	config.text.depth = 8;
	all = memory_of(&config, &plain, &state[0]);
	by_lora = memory_of(&config, &lora, &state[1]);
	by_last = memory_of(&config, &last, &state[2]);
	by_two = memory_of(&config, &two, &state[3]);
	CHECK(state[1] < state[0] / 4 && state[2] < state[0] / 4);
	CHECK(by_lora < 2 * all / 3 && by_last < all / 2);
	CHECK(by_last < by_two && state[2] < state[3]);
}

static void
check_refused(const net_config *config, train_config c, const char *message)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	size_t bytes;

	CHECK(trainer_new(n, &c, ROWS, &err) == NULL && err.code == LLM_INVALID && strstr(err.message, message));
	err = (llm_error) {0};
	CHECK(!trainer_memory(n, &c, ROWS, &bytes, &err) && strstr(err.message, message));
	net_free(n);
}

static void
test_refused(void)
{
	net_config config = config_of("gpt"), mlp = small_config(LOSS_BINARY);
	train_config c = adapters_of(LORA_ALL);

	check_refused(&mlp, c, "only a transformer");
	check_refused(&mlp, last_layers(1), "only a transformer");
	check_refused(&config, last_layers(-1), "train_layers -1 is not between 0 and the network's 3 layers");
	check_refused(&config, last_layers(4), "train_layers 4 is not");
	check_refused(&config, adapters_of(0), "lora_targets");
	check_refused(&config, adapters_of(16), "lora_targets");
	c.lora_alpha = NAN;
	check_refused(&config, c, "lora_alpha");
	c.lora_rank = 1025;
	check_refused(&config, c, "lora_rank 1025");
	c.train_layers = 1;
	check_refused(&config, c, "exclude each other");
}

int
main(void)
{
	const char *families[] = {"gpt", "llama"};

	for (int i = 0; i < 2; i++)
	{
		test_gradients(families[i]);
		test_training(families[i]);
		test_merged(families[i]);
		test_apart(families[i], 0.5 * i);
	}
	test_adapters();
	test_memory();
	test_refused();
	return test_summary();
}
