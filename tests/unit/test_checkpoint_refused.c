/*
 * test_checkpoint_refused.c
 *	  Checkpoints with other values, tensors and metadata: what is refused, by its name, and what changes nothing.
 */
#include "checkpoint_sample.h"

static void
check_refusal(sample *s, const char *params, const char *config, const char *message)
{
	llm_error err = {0};
	checkpoint *c = make_checkpoint(s, params, config, &err);

	CHECK(c == NULL && err.code != LLM_OK);
	if (!CHECK(strstr(err.message, message) != NULL || strstr(err.detail, message) != NULL))
		fprintf(stderr, "not \"%s\" but: %s; %s\n", message, err.message, err.detail);
	checkpoint_free(c);
}

/* Files beside the configuration; key NULL: the file is not there. */
static void
test_refused_dense(void)
{
	static const struct
	{
		const char *file, *key, *json, *message;
	} cases[] = {
		{"3_Dense/config.json", NULL, NULL, "module Dense, 3_Dense/config.json, is missing"},
		{"3_Dense/config.json", "in_features", "16", "of 16, where 40 come in"},
		{"3_Dense/config.json", "in_features", NULL, "of 0, where 40 come in"},
		{"4_Dense/config.json", "out_features", "13", "another shape"},
		{"3_Dense/config.json", "out_features", "0", "\"out_features\" of the configuration is 0"},
		{"3_Dense/config.json", "bias", "false", "have no place"},
		{"2_Dense/config.json", "bias", "true", "tensor 2_Dense/linear.bias is missing"},
		{"3_Dense/config.json", "activation_function", "\"torch.nn.modules.activation.Mish\"", "activation.Mish"},
		{"3_Dense/config.json", "activation_function", "\"my.Tanh\"", "my.Tanh"},
		{"3_Dense/config.json", "activation_function", "7", "\"activation_function\" of the configuration is 7"},
		{"3_Dense/config.json", "use_residual", "true", "use_residual"},
		{"3_Dense/config.json", "module_input_name", "\"token_embeddings\"", "module_input_name"},
		{"3_Dense/config.json", "scale", "2", "\"scale\""},
		{"modules.json", "path", "\"../2_Dense\"", "which is no folder of the model"},
		{"modules.json", "path", "\"\"", "which is no folder of the model"},
		{"modules.json", "path", "\"2_Dense\"", "the same folder \"2_Dense\""},
		{"modules.json", "type", "\"models.Normalize\"",
		 "module Dense of the sentence transformer is not supported at"},
		{"modules.json", "type", "\"models.LSTM\"", "module LSTM"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		sample s;
		char *text;

		if (!open_sample("bert-dense", &s))
			continue;
		take_tensors(&s, NULL);
		text = change_file(&s, cases[i].file, cases[i].key, cases[i].json);
		s.changed_file = cases[i].file;
		s.changed = text;
		check_refusal(&s, NULL, NULL, cases[i].message);
		free(text);
		close_sample(&s);
	}
}

static void
test_refused_values(void)
{
	static const struct
	{
		const char *sample, *params, *key, *json, *message;
	} cases[] = {
		{"gpt2", NULL, "n_embd", NULL, "the configuration has no \"n_embd\""},
		{"gpt2", NULL, "n_embd", "-1", "\"n_embd\" of the configuration is -1, which is not supported"},
		{"gpt2", NULL, "n_embd", "\"16\"", "\"n_embd\" of the configuration is \"16\""},
		{"gpt2", NULL, "n_embd", "12", "another shape"},
		{"gpt2", NULL, "n_head", "3", "3 heads of the configuration do not divide its width 16"},
		{"gpt2", NULL, "n_head", "0", "no heads"},
		{"gpt2", NULL, "activation_function", "\"quick_gelu\"", "quick_gelu"},
		{"gpt2", NULL, "scale_attn_by_inverse_layer_idx", "true", "scale_attn_by_inverse_layer_idx"},
		{"gpt2", NULL, "model_type", "\"mamba\"", "a family that is not supported"},
		{"gpt2", NULL, "model_type", NULL, "missing, a family"},
		{"gpt2", NULL, "architectures", NULL, "does not say what the network is for"},
		{"gpt2", NULL, "architectures", "[\"GPT2DoubleHeads\"]", "GPT2DoubleHeads"},
		{"gpt2", NULL, "new_trick", "0.5", "\"new_trick\" of the configuration is not known for family gpt2"},
		{"gpt2", "{\"task\": \"masked_lm\"}", "vocab_size", "40", "has no task \"masked_lm\""},
		{"gpt2", "{\"context\": 81}", "vocab_size", "40", "parameter \"context\""},
		{"gpt2", NULL, "n_layer", "3", "h.2.ln_1.weight"},
		{"gpt2", NULL, "n_layer", "1", "have no place"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"longrope\", \"factor\": 4}", "\"rope_type\""},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": 0.5}", "incomplete"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"beta_fast\": 1}", "incomplete"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": \"4\"}", "\"factor\""},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"attention_factor\": 0}", "attention_factor"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"attention_factor\": 200}", "rope_attention"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"truncate\": 1}", "truncate"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"low_freq_factor\": 1}", "low_freq_factor"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"short_factor\": [1]}", "short_factor"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"llama3\", \"factor\": 4}", "incomplete"},
		{"llama3", NULL, "rope_parameters", "{\"mscale\": 1}", "\"mscale\""},
		{"llama3", NULL, "rope_parameters", "7", "rope_parameters"},
		{"llama3", NULL, "attention_bias", "true", "attention_bias"},
		{"llama3", NULL, "num_key_value_heads", "3", "kv_heads 3 does not divide heads 4"},
		{"llama3", NULL, "head_dim", "7", "heads of even width"},
		{"gemma2", NULL, "layer_types",
		 "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]", "layer_types"},
		{"gemma2", NULL, "layer_types", "[\"sliding_attention\"]", "layer_types"},
		{"gemma2", NULL, "layer_types", "7", "layer_types"},
		{"gemma2", NULL, "layer_types",
		 "[\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"chunked_attention\"]", "layer_types"},
		{"gemma2", NULL, "sliding_window", "null", "sliding_window"},
		{"gemma2", NULL, "attn_logit_softcapping", "-1", "attn_logit_softcapping"},
		{"gemma2", NULL, "final_logit_softcapping", "1e-9", "logit_cap"},
		{"gemma2", NULL, "query_pre_attn_scalar", "8.5", "query_pre_attn_scalar"},
		{"gemma3", NULL, "use_bidirectional_attention", "true", "use_bidirectional_attention"},
		{"gemma3", NULL, "rope_parameters", "{\"rope_theta\": 10000}", "rope_parameters"},
		{"gemma3", NULL, "rope_parameters",
		 "{\"full_attention\": {}, \"sliding_attention\": {\"rope_type\": \"linear\", \"factor\": 2}}", "rope_type"},
		{"gemma3", NULL, "rope_parameters",
		 "{\"full_attention\": {\"partial_rotary_factor\": 0.5}, \"sliding_attention\": {}}",
		 "partial_rotary_factor"},
		{"gemma3", NULL, "rope_parameters", "{\"full_attention\": {}, \"sliding_attention\": {\"rope_theta\": 0.5}}",
		 "rope_local_base_freq"},
		{"gemma3-images", NULL, "audio_config", "{\"layers\": 2}", "audio_config"},
		{"bert", NULL, "position_embedding_type", "\"relative_key\"", "relative_key"},
		{"bert", NULL, "is_decoder", "true", "is_decoder"},
		{"roberta", NULL, "hidden_act", "\"relu\"", "\"hidden_act\" of the configuration is \"relu\""},
		{"bert-classes", NULL, "problem_type", "\"multi_label_classification\"", "problem_type"},
		{"bert-classes", NULL, "id2label", "{\"0\": \"a\", \"2\": \"b\", \"1\": 7}", "id2label"},
		{"bert-classes", NULL, "id2label", "{\"0\": \"a\"}", "another shape"},
		{"bert-score", NULL, "sentence_transformers", "{\"activation_fn\": \"torch.nn.ReLU\"}", "activation_fn"},
		{"bert-score", NULL, "sbert_ce_default_activation_function", "\"torch.nn.ReLU\"", "activation_fn"},
		{"t5", NULL, "feed_forward_proj", "\"gated-mish\"", "feed_forward_proj"},
		{"bert-embedding", "{\"pool\": \"max\"}", "vocab_size", "40", "parameter \"pool\""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		sample s;
		char *config;

		if (!open_sample(cases[i].sample, &s))
			continue;
		take_tensors(&s, NULL);
		config = changed_config(&s, cases[i].key, cases[i].json);
		check_refusal(&s, cases[i].params, config, cases[i].message);
		free(config);
		close_sample(&s);
	}
}

/* Values that stand in many files and change nothing. */
static void
test_harmless_values(void)
{
	static const struct
	{
		const char *sample, *values;
	} cases[] = {
		{"gpt2",
		 "{\"n_ctx\": 80, \"task_specific_params\": {\"text-generation\": {\"do_sample\": true}}, \"n_special\": 0,"
		 " \"predict_special_tokens\": true, \"gradient_checkpointing\": false, \"_num_labels\": 1, "
		 "\"pruned_heads\": {}}"},
		{"bert", "{\"directionality\": \"bidi\", \"pooler_fc_size\": 768, \"pooler_type\": \"first_token_transform\","
				 " \"position_embedding_type\": \"absolute\", \"output_past\": true, \"classifier_dropout\": null}"},
		{"distilbert-classes",
		 "{\"finetuning_task\": \"sst-2\", \"tie_weights_\": true, \"sinusoidal_pos_embds\": true,"
		 " \"transformers_version\": \"4.10.0\"}"},
		{"llama3",
		 "{\"is_llama_config\": true, \"rope_interleaved\": false, \"pretraining_tp\": 1, \"rope_scaling\": null,"
		 " \"transformers.js_config\": {\"dtype\": \"q4\"}, \"sliding_window\": null}"},
		{"qwen2", "{\"use_mrope\": false, \"max_window_layers\": 21, \"torch_dtype\": \"bfloat16\"}"},
		{"gemma2",
		 "{\"hidden_act\": \"gelu_pytorch_tanh\", \"cache_implementation\": \"hybrid\", \"attention_bias\": false,"
		 " \"attention_dropout\": 0.0, \"rope_theta\": 10000.0, \"use_bidirectional_attention\": null}"},
		{"gemma3",
		 "{\"_sliding_window_pattern\": 6, \"use_bidirectional_attention\": false, \"rope_scaling\": null,"
		 " \"cache_implementation\": \"hybrid\", \"rope_local_base_freq\": 50.0, \"attention_bias\": false}"},
		{"gemma3-images",
		 "{\"initializer_range\": 0.02, \"transformers_version\": \"4.50.0\", \"boi_token_index\": 255999,"
		 " \"eoi_token_index\": 256000, \"eos_token_id\": [1, 106], \"torch_dtype\": \"bfloat16\"}"},
		{"t5", "{\"n_positions\": 512, \"output_past\": true, \"d_kv\": 6, \"initializer_factor\": 1.0}"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		llm_error err = {0};
		json_t *config, *values;
		checkpoint *c;
		char *text;
		sample s;

		if (!open_sample(cases[i].sample, &s))
			continue;
		take_tensors(&s, NULL);
		config = json_loads(safetensors_metadata(s.file, "config.json"), 0, NULL);
		values = json_loads(cases[i].values, 0, NULL);
		CHECK(values != NULL && json_object_update(config, values) == 0);
		text = json_dumps(config, 0);
		c = make_checkpoint(&s, NULL, text, &err);
		check_no_error(&err);
		checkpoint_free(c);
		free(text);
		json_decref(values);
		json_decref(config);
		close_sample(&s);
	}
}

/* The tensor of this name in a sample's source. */
static source_tensor *
tensor_named(sample *s, const char *name)
{
	const source_tensor *t = tensor_source_find(&s->tensors, name);

	CHECK(t != NULL);
	return &s->tensors.tensors[t - s->tensors.tensors];
}

static void
test_refused_metadata(void)
{
	static const struct
	{
		const char *key, *json, *message;
	} cases[] = {
		{"qwen2.rope.scaling.type", "\"longrope\"", "\"qwen2.rope.scaling.type\""},
		{"qwen2.rope.scaling.factor", "\"4\"", "\"qwen2.rope.scaling.factor\""},
		{"qwen2.rope.scaling.factor", "0.5", "incomplete"},
		{"qwen2.rope.scaling.attn_factor", "1.1", "\"qwen2.rope.scaling.attn_factor\""},
		{"qwen2.rope.scaling.yarn_ext_factor", "0", "\"qwen2.rope.scaling.yarn_ext_factor\""},
		{"qwen2.rope.scaling.yarn_log_multiplier", "0.1", "\"qwen2.rope.scaling.yarn_log_multiplier\""},
		{"qwen2.rope.scaling.original_context_length", "0", "original_max_position_embeddings"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		sample s;

		if (!open_sample("qwen2-yarn-gguf", &s))
			continue;
		take_tensors(&s, NULL);
		json_object_set_new(s.gguf, cases[i].key, json_loads(cases[i].json, JSON_DECODE_ANY, NULL));
		check_refusal(&s, NULL, NULL, cases[i].message);
		close_sample(&s);
	}
}

/* Of another task, what is behind the pool does not matter. */
static void
test_left_out(void)
{
	source_tensor extra = {.name = "2_Dense/linear.weight", .ndim = 1, .dims = {1}, .count = 1, .type_name = "F32"};
	llm_error err = {0};
	checkpoint *c;
	sample s;

	if (!open_sample("bert", &s))
		return;
	take_tensors(&s, NULL);
	CHECK(tensor_source_add(&s.tensors, &extra, &err) && tensor_source_sort(&s.tensors, &err));
	s.changed_file = "modules.json";
	s.changed = "[{\"type\": \"modules.Dense\", \"path\": \"2_Dense\"}]";
	c = make_checkpoint(&s, "{\"task\": \"masked_lm\"}", NULL, &err);
	check_no_error(&err);
	CHECK(c != NULL && c->config.dense_count == 0);
	checkpoint_free(c);
	s.changed = NULL;
	check_refusal(&s, "{\"task\": \"masked_lm\"}", NULL, "2_Dense/linear.weight");
	close_sample(&s);
}

static void
test_refused_tensors(void)
{
	source_tensor extra = {.name = "lm_head.extra", .ndim = 1, .dims = {1}, .count = 1, .type_name = "F32"};
	llm_error err = {0};
	checkpoint *c;
	sample s;

	if (!open_sample("gpt2", &s))
		return;
	take_tensors(&s, "h.1.mlp.c_proj.bias");
	check_refusal(&s, NULL, NULL, "tensor h.1.mlp.c_proj.bias is missing");
	tensor_source_clear(&s.tensors);
	s.tensors = (tensor_source) {0};
	take_tensors(&s, NULL);
	tensor_named(&s, "h.0.mlp.c_fc.weight")->dims[0] = 24; /* as if it were not turned */
	check_refusal(&s, NULL, NULL, "h.0.mlp.c_fc.weight");
	tensor_named(&s, "h.0.mlp.c_fc.weight")->dims[0] = 16;
	CHECK(tensor_source_add(&s.tensors, &extra, &err) && tensor_source_sort(&s.tensors, &err));
	check_refusal(&s, NULL, NULL, "lm_head.extra");
	c = make_checkpoint(&s, "{\"ignore\": [\"lm_head.*\"]}", NULL, &err);
	CHECK(c != NULL);
	checkpoint_free(c);
	close_sample(&s);
}

static bool
stop(void *arg)
{
	return true;
}

static void
test_cancelled(void)
{
	llm_error err = {0};
	checkpoint *c = NULL;
	sample s;

	if (open_sample("gpt2", &s))
	{
		take_tensors(&s, NULL);
		c = make_checkpoint(&s, NULL, NULL, &err);
	}
	if (CHECK(c != NULL))
	{
		float row[64];

		CHECK(!checkpoint_read(c, 0, 0, 1, row, stop, NULL, &err) && err.code == LLM_CANCELLED);
		err.code = LLM_OK;
		CHECK(!checkpoint_read(c, 0, 39, 2, row, NULL, NULL, &err) && err.code == LLM_INVALID);
	}
	checkpoint_free(c);
	close_sample(&s);
}

int
main(void)
{
	test_harmless_values();
	test_refused_values();
	test_refused_dense();
	test_refused_tensors();
	test_left_out();
	test_refused_metadata();
	test_cancelled();
	return test_summary();
}
