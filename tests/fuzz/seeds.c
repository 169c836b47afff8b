/*
 * seeds.c
 *	  Writes the first inputs of a fuzz target: seeds NAME DIRECTORY.
 */
#include "../../src/format/manifest.h"
#include "feature_sample.h"

static bool
write_seed(const char *directory, const char *name, const void *bytes, size_t size)
{
	char		path[512];
	FILE	   *file;
	bool		ok;

	snprintf(path, sizeof(path), "%s/seed-%s", directory, name);
	file = fopen(path, "wb");
	if (file == NULL)
		return false;
	ok = fwrite(bytes, 1, size, file) == size;
	return fclose(file) == 0 && ok;
}

static bool
write_json(const char *directory, const char *name, json_t *json)
{
	char	   *text = json_text(json);
	bool		ok = write_seed(directory, name, text, strlen(text));

	free(text);
	json_decref(json);
	return ok;
}

/* A whole manifest, and its parts. */
static bool
manifest_seeds(const sample *s, const char *directory)
{
	net_config	config = {.embed_dim = 2,.hidden_count = 1,.hidden = {4},.loss = LOSS_CROSS_ENTROPY,.huber_delta = 1};
	llm_error	err = {.code = LLM_OK};
	net		   *n;
	bool		ok;

	encoder_shape(s->encoder, &config.shape);
	target_shape(s->target, &config.shape);
	n = net_new(&config, &err);
	if (n == NULL)
		return false;
	ok = write_json(directory, "manifest",
					manifest_build("mlp", "classification", n, s->encoder, s->target,
								   "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", json_object(),
								   json_object(), json_array(), json_object())) &&
		write_json(directory, "encoder", encoder_json(s->encoder)) &&
		write_json(directory, "target", target_json(s->target)) &&
		write_json(directory, "network", network_json(&config));
	net_free(n);
	return ok;
}

static bool
record_seeds(const sample *s, const char *directory)
{
	static uint8_t buffer[1 << 16];
	llm_error	err = {.code = LLM_OK};
	bool		ok = true;

	for (int r = 0; ok && r < 4; r++)
	{
		const value *row = s->rows + r * SAMPLE_COLUMNS;
		char		name[32];

		snprintf(name, sizeof(name), "values-%d", r);
		ok = write_seed(directory, name, buffer, value_pack(row, SAMPLE_COLUMNS, buffer, sizeof(buffer)));
		snprintf(name, sizeof(name), "record-%d", r);
		ok = ok && write_seed(directory, name, buffer,
							  encoder_record(s->encoder, s->target, row, &s->label[r], 1, buffer, sizeof(buffer), &err));
	}
	return ok;
}

int
main(int argc, char **argv)
{
	sample	   *s = sample_new();
	bool		ok = true;

	if (argc == 3 && strcmp(argv[1], "manifest") == 0)
		ok = manifest_seeds(s, argv[2]);
	else if (argc == 3 && strcmp(argv[1], "record") == 0)
		ok = record_seeds(s, argv[2]);
	sample_free(s);
	return ok ? 0 : 1;
}
