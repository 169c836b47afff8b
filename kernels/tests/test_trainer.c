/*
 * test_trainer.c
 *	  Trainings on the device beside the same ones on the CPU: losses, weights, predictions, checkpoints of
 *	  either continued on the other, memory, and what is refused.
 *
 * Without arguments the device is the emulator; with the path of llmapp_cuda.so it is the GPU.
 */
#include "../../src/engine/cuda.h"
#include "../../tests/unit/net_check.h"
#include "on_gpu.h"

extern void emulate_hurry(int others) __attribute__((weak));

#define ROWS 9
#define STEPS 4
#define LIMIT 1e-10 /* of normalised squared errors */

typedef struct training
{
	const char *name;
	net_config config;
	train_config how;
} training;

/* ---- networks ---- */

/*
 * Some gradients are 0 but for rounding, as those of the biases of keys; an epsilon above that keeps AdamW from
 * making them steps of full length.
 */
static train_config
steady_training(void)
{
	train_config c = small_training(1);

	c.epsilon = 1e-4;
	return c;
}

static training
columns_training(net_loss loss, train_optimizer optimizer, int32_t bag_rows)
{
	training t = {"columns", small_config(loss), steady_training()};

	t.config.shape.bag_rows = bag_rows;
	t.config.layer_norm = true;
	t.config.dropout = 0.2f;
	t.how.optimizer = optimizer;
	t.how.ema_decay = optimizer == OPT_ADAMW ? 0.9 : 0;
	return t;
}

/* With batch norm, whose running statistics are averaged, too. */
static training
image_training(void)
{
	training t = {"image", small_config(LOSS_CROSS_ENTROPY), steady_training()};

	memcpy(t.config.image, (int32_t[]) {2, 7, 6}, sizeof(t.config.image));
	t.config.hidden_count = 0;
	t.config.shape.dense = 2 * 7 * 6 + 3;
	t.config.augment.shift = 1;
	t.config.dropout = 0.1f;
	net_default_cnn(&t.config);
	return t;
}

static training
language_training(const char *family)
{
	training t = {family, small_transformer(family, 53, 11), steady_training()};

	t.config.text.dropout = 0.1f;
	return t;
}

/* A transformer that classifies rows. */
static training
text_training(const char *family)
{
	training t = language_training(family);

	t.config.shape = (batch_shape) {.outputs = 3, .class_target = true, .vocab = 53, .context = 11};
	t.config.text.headless = true;
	t.config.loss = LOSS_CROSS_ENTROPY;
	return t;
}

static batch *
fill(const training *t, int64_t rows)
{
	llm_error err = {0};
	batch *b = batch_new(&t->config.shape, ROWS, &err);

	if (t->config.shape.token_target)
		fill_tokens(b, rows);
	else
		fill_batch(b, rows);
	return b;
}

static trainer *
make(const training *t, const net *n, bool gpu)
{
	train_config c = t->how;
	llm_error err = {0};
	trainer *made;

	c.gpu = gpu;
	c.device = gpu ? device : NULL;
	made = trainer_new(n, &c, ROWS, &err);
	check_no_error(&err);
	return made;
}

/* ---- comparisons ---- */

static double
error_of(const float *got, const float *expected, size_t count)
{
	double error = 0, norm = 0;

	for (size_t i = 0; i < count; i++)
	{
		error += ((double) got[i] - expected[i]) * ((double) got[i] - expected[i]);
		norm += (double) expected[i] * expected[i];
	}
	return norm > 0 ? error / norm : error;
}

static void
check_error(const training *t, const char *what, double error)
{
	char text[128];

	snprintf(text, sizeof(text), "%s, %s: error %.2g", t->name, what, error);
	test_check(error <= LIMIT, text, __FILE__, __LINE__);
}

static void *
saved(trainer *t)
{
	void *state = malloc(trainer_state_bytes(t));
	llm_error err = {0};

	CHECK(trainer_fetch(t, &err));
	trainer_save(t, state);
	return state;
}

/* Behind the header, which is the same. */
#define HEADER 72

static void
compare_states(const training *t, trainer *cpu, trainer *gpu)
{
	char *expected = saved(cpu), *got = saved(gpu);
	size_t floats = (trainer_state_bytes(cpu) - HEADER) / sizeof(float);

	CHECK(trainer_state_bytes(cpu) == trainer_state_bytes(gpu));
	check_error(t, "state", error_of((float *) (got + HEADER), (float *) (expected + HEADER), floats));
	free(expected);
	free(got);
}

/* The batch becomes that of the next pass, as learn.c does it. */
static bool
next_pass(const training *t, trainer *it, batch *part, const batch *b, int64_t begin, llm_error *err)
{
	copy_rows(part, b, begin, t->how.micro_rows > 0 ? t->how.micro_rows : b->rows);
	return trainer_stage(it, part, err);
}

/* One step, in passes where it is to have several; part has the first, and gets that of the next step. */
static bool
make_step(const training *t, trainer *it, batch *part, const batch *b, const batch *next, double *loss,
		  llm_error *err)
{
	int64_t begin = 0;
	bool ok;

	do
	{
		ok = trainer_accumulate(it, part, err);
		begin += part->rows;
		ok = ok && (begin == b->rows || next_pass(t, it, part, b, begin, err));
	} while (ok && begin < b->rows);
	return ok && (!next || next_pass(t, it, part, next, 0, err)) && trainer_update(it, loss, err);
}

static void
compare_steps(const training *t, trainer *cpu, trainer *gpu, int steps)
{
	llm_error err = {0};
	batch *part[2] = {batch_new(&t->config.shape, ROWS, &err), batch_new(&t->config.shape, ROWS, &err)};
	batch *b = fill(t, ROWS - 4);

	CHECK(next_pass(t, cpu, part[0], b, 0, &err) && next_pass(t, gpu, part[1], b, 0, &err));
	for (int i = 0; i < steps; i++)
	{
		batch *next = i + 1 < steps ? fill(t, i % 2 ? ROWS - 4 : ROWS) : NULL;
		double loss[2], norm[2];

		CHECK(make_step(t, cpu, part[0], b, next, &loss[0], &err) &&
			  make_step(t, gpu, part[1], b, next, &loss[1], &err));
		check_no_error(&err);
		norm[0] = trainer_gradient_norm(cpu);
		norm[1] = trainer_gradient_norm(gpu);
		check_error(t, "loss", pow((loss[1] - loss[0]) / loss[0], 2));
		check_error(t, "norm", pow((norm[1] - norm[0]) / norm[0], 2));
		batch_free(b);
		b = next;
	}
	for (int i = 0; i < 2; i++)
		batch_free(part[i]);
}

static void
compare_scores(const training *t, const net *n, trainer *cpu, trainer *gpu)
{
	int64_t rows = t->how.micro_rows > 0 ? t->how.micro_rows : ROWS; /* those of a pass */
	batch *b = fill(t, rows);
	float out[2][ROWS * 8];
	double loss[2] = {0}, weight[2] = {0}, right[2] = {0};
	trainer *both[2] = {cpu, gpu};
	llm_error err = {0};

	CHECK(trainer_stage(gpu, b, &err)); /* for a pass that does not come */
	for (int i = 0; i < 2; i++)
		if (t->config.shape.token_target)
			CHECK(trainer_score_tokens(both[i], b, &loss[i], &weight[i], &right[i], &err));
		else
			CHECK(trainer_predict(both[i], b, out[i], &loss[i], &weight[i], &err));
	check_no_error(&err);
	check_error(t, "score", pow((loss[1] - loss[0]) / loss[0], 2));
	CHECK(weight[0] == weight[1] && right[0] == right[1]);
	for (int with_loss = 1; with_loss >= 0 && !t->config.shape.token_target; with_loss--)
	{
		check_error(t, "prediction", error_of(out[1], out[0], rows * t->config.shape.outputs));
		for (int i = 0; i < 2; i++)
			CHECK(trainer_predict(both[i], b, out[i], NULL, NULL, &err));
	}
	CHECK(trainer_fetch(gpu, &err));
	check_error(t, "weights", error_of(trainer_weights(gpu), trainer_weights(cpu), net_weight_bytes(n) / 4));
	batch_free(b);
}

/* A checkpoint of one goes on at the other as it would have at home. */
static void
exchange(const training *t, const net *n, trainer *cpu, trainer *gpu)
{
	trainer *other[2] = {make(t, n, false), make(t, n, true)};
	void *state[2] = {saved(gpu), saved(cpu)};
	llm_error err = {0};

	for (int i = 0; i < 2; i++)
		CHECK(trainer_restore(other[i], state[i], trainer_state_bytes(cpu), &err));
	check_no_error(&err);
	fixture_counter = 500;
	compare_steps(t, other[0], other[1], 2);
	compare_states(t, other[0], other[1]);
	fixture_counter = 500;
	compare_steps(t, cpu, gpu, 2);
	compare_states(t, cpu, other[0]);
	compare_states(t, cpu, other[1]);
	for (int i = 0; i < 2; i++)
	{
		trainer_free(other[i]);
		free(state[i]);
	}
}

static void
test_training(training t)
{
	llm_error err = {0};
	net *n = net_new(&t.config, &err);
	trainer *cpu, *gpu;
	float *start;

	check_no_error(&err);
	cpu = make(&t, n, false);
	gpu = make(&t, n, true);
	if (!cpu || !gpu)
		return;
	start = memcpy(malloc(net_weight_bytes(n)), trainer_weights(cpu), net_weight_bytes(n));
	fixture_counter = 100;
	compare_steps(&t, cpu, gpu, STEPS);
	compare_scores(&t, n, cpu, gpu);
	compare_states(&t, cpu, gpu);
	exchange(&t, n, cpu, gpu);
	/* weights from outside, with the moments that are there */
	if (!t.how.lora_rank && !t.how.train_layers)
	{
		trainer_set_weights(cpu, start);
		trainer_set_weights(gpu, start);
		compare_steps(&t, cpu, gpu, 1);
		compare_scores(&t, n, cpu, gpu);
	}
	compare_states(&t, cpu, gpu);
	free(start);
	trainer_free(cpu);
	trainer_free(gpu);
	net_free(n);
}

static void
test_trainings(void)
{
	training t;

	test_training(columns_training(LOSS_CROSS_ENTROPY, OPT_ADAMW, 11));
	test_training(columns_training(LOSS_MSE, OPT_SGD, 11));
	test_training(columns_training(LOSS_BINARY, OPT_ADAMW, COMPACT_TABLE_ROWS + 5)); /* used rows */
	test_training(image_training());
	test_training(language_training("gpt"));
	t = language_training("llama");
	t.config.text.kv_heads = 2;
	t.how.recompute = true;
	test_training(t);
	test_training(language_training("t5"));
	test_training(text_training("bert"));
	t = language_training("gpt");
	t.name = "last layer of gpt";
	t.how.train_layers = 1;
	test_training(t);
	t = text_training("llama");
	t.name = "adapters of llama";
	t.how.lora_rank = 4;
	t.how.lora_alpha = 6;
	t.how.lora_targets = LORA_ALL;
	test_training(t);
}

/* Steps of several passes; used rows of a table differ from pass to pass. */
static void
test_passes(void)
{
	training t = columns_training(LOSS_CROSS_ENTROPY, OPT_ADAMW, COMPACT_TABLE_ROWS + 5);

	t.name = "columns in passes";
	t.how.micro_rows = 2;
	test_training(t);
	t = columns_training(LOSS_MSE, OPT_SGD, 11);
	t.name = "numbers in passes";
	t.how.micro_rows = 4;
	test_training(t);
	t = language_training("llama");
	t.name = "llama in passes";
	t.config.text.kv_heads = 2;
	t.how.micro_rows = 3;
	t.how.recompute = true;
	test_training(t);
	t = text_training("bert");
	t.name = "adapters of bert in passes";
	t.how.micro_rows = 4;
	t.how.lora_rank = 4;
	t.how.lora_alpha = 6;
	t.how.lora_targets = LORA_ALL;
	test_training(t);
}

/* Elsewhere copies of inputs wait until a run wants them; here each is made as early as it may be. */
static void
test_early_copies(void)
{
	training t = columns_training(LOSS_CROSS_ENTROPY, OPT_ADAMW, 11);

	if (emulate_hurry)
		emulate_hurry(1);
	t.name = "early copies";
	test_training(t);
	t.name = "early copies in passes";
	t.how.micro_rows = 2;
	test_training(t);
	if (emulate_hurry)
		emulate_hurry(0);
}

/* ---- memory, stops, and what is refused ---- */

static bool
stop(void *arg)
{
	return *(bool *) arg;
}

static void
test_limits(void)
{
	training t = language_training("gpt");
	llm_error err = {0};
	net *n = net_new(&t.config, &err);
	trainer *gpu = make(&t, n, true);
	batch *b = fill(&t, ROWS);
	size_t host, bytes, on_cpu, split;
	bool stopped = true;
	double loss;

	t.how.gpu = true;
	CHECK(trainer_memory(n, &t.how, ROWS, &host, &err) && trainer_device_memory(n, &t.how, ROWS, &bytes, &err));
	CHECK(bytes <= trainer_device_bytes(gpu) && trainer_device_bytes(gpu) < 100 * bytes);
	t.how.gpu = false;
	CHECK(trainer_memory(n, &t.how, ROWS, &on_cpu, &err) && host < on_cpu && on_cpu < host + bytes);
	trainer_set_poll(gpu, stop, &stopped);
	CHECK(!trainer_step(gpu, b, &loss, &err) && err.code == LLM_CANCELLED);
	stopped = false;
	err.code = LLM_OK;
	CHECK(trainer_step(gpu, b, &loss, &err) && trainer_steps_done(gpu) == 1);
	CHECK(trainer_stage(gpu, b, &err)); /* and it is freed before a pass takes it */
	b->token[0] = t.config.shape.vocab;
	CHECK(!trainer_stage(gpu, b, &err) && err.code == LLM_INVALID);
	err.code = LLM_OK;
	t.how.gpu = true;
	CHECK(!trainer_new(n, &t.how, ROWS, &err) && err.code == LLM_UNAVAILABLE);
	err.code = LLM_OK;
	t.how.micro_rows = 2;
	CHECK(trainer_device_memory(n, &t.how, ROWS, &split, &err) && split < bytes);
	batch_free(b);
	trainer_free(gpu);
	net_free(n);
}

static void
test_opening(const char *path, const llmapp_cuda_device *info)
{
	llm_error err = {0};

	CHECK(!cuda_open("no/llmapp_cuda.so", 0, info, &err) && err.code == LLM_UNAVAILABLE && strstr(err.detail, "no/"));
	err.code = LLM_OK;
	CHECK(!cuda_open(path, 99, info, &err) && err.code == LLM_UNAVAILABLE && strstr(err.message, "cuda:99"));
}

static void
run_tests(const char *path, const llmapp_cuda_device *info)
{
	test_opening(path, info);
	test_trainings();
	test_passes();
	test_early_copies();
	test_limits();
}

int
main(int argc, char **argv)
{
	return test_on_gpu(argc, argv, run_tests);
}
