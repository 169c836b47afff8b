/*
 * bench_cnn.c
 *	  How fast the default convolutional network trains and predicts on images of 28 x 28.
 *
 * Usage: bench_cnn [threads [batch]]		prints "step SECONDS" and "predict.1", "predict.64" for one row
 */
#include "bench.h"

#define SIDE 28

int
main(int argc, char **argv)
{
	static net_config c = {
		.shape = {.dense = SIDE * SIDE, .outputs = 10, .class_target = true},
		.image = {1, SIDE, SIDE},
		.augment = {.shift = 2},
		.dropout = 0.25f,
		.loss = LOSS_CROSS_ENTROPY,
	};
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	llm_error err = {0};
	net *n;

	blas_open();
	net_default_cnn(&c);
	n = net_new(&c, &err);
	check(&err);
	printf("step %.4g\n", step_time(n, argc > 2 ? atoi(argv[2]) : 128, threads));
	if (threads == 1)
		printf("predict.1 %.4g\npredict.64 %.4g\n", predict_time(n, 1), predict_time(n, 64) / 64);
	net_free(n);
	return 0;
}
