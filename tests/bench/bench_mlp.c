/*
 * bench_mlp.c
 *	  How fast an MLP predicts and trains in the engine alone.
 *
 * Usage: bench_mlp [threads]		prints "NETWORK.step SECONDS" for batches of 256 rows and, on one thread,
 *									"NETWORK.predict.1" and "NETWORK.predict.256" for one row
 */
#include "bench.h"

typedef struct network
{
	const char *name;
	batch_shape shape;
	int32_t hidden[2];
} network;

static const network networks[] = {
	{"small", {.dense = 32, .outputs = 1, .class_target = true}, {128, 64}},
	{"wide", {.dense = 256, .outputs = 1, .class_target = true}, {512, 256}},
	/* numbers and one-hot categories of the adult data set */
	{"adult", {.dense = 6, .bag_rows = 102, .bag_max = 8, .outputs = 1, .class_target = true}, {128, 64}},
};

static net *
make_net(const network *of)
{
	net_config c = {.shape = of->shape, .hidden_count = 2, .activation = ACT_RELU, .loss = LOSS_BINARY};
	llm_error err = {0};
	net *n;

	memcpy(c.hidden, of->hidden, sizeof(of->hidden));
	n = net_new(&c, &err);
	check(&err);
	return n;
}

int
main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;

	blas_open();
	for (const network *i = networks; i < networks + sizeof(networks) / sizeof(*networks); i++)
	{
		net *n = make_net(i);

		printf("%s.step %.4g\n", i->name, step_time(n, 256, threads));
		if (threads == 1)
			printf("%s.predict.1 %.4g\n%s.predict.256 %.4g\n", i->name, predict_time(n, 1), i->name,
				   predict_time(n, 256) / 256);
		net_free(n);
	}
	return 0;
}
