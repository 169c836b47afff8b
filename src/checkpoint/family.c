/*
 * family.c
 *	  The tables of families.
 *
 * Keys and their defaults are those of the configuration classes of the transformers library, names those
 * of its modules; for GGUF those of the tables of its gguf-py package.
 */
#include "family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* ---- values of configurations ---- */

#define AT(member) offsetof(transformer_config, member)
#define INTEGER(name, member, fallback) \
	{ \
		name, KEY_INTEGER, AT(member), fallback, NULL \
	}
#define NUMBER(name, member, fallback) \
	{ \
		name, KEY_NUMBER, AT(member), fallback, NULL \
	}
#define CAP(name, member, fallback) \
	{ \
		name, KEY_CAP, AT(member), fallback, NULL \
	}
#define FLAG(name, member, fallback) \
	{ \
		name, KEY_FLAG, AT(member), fallback, NULL \
	}
#define ACTIVATION(name, fallback) \
	{ \
		name, KEY_ACTIVATION, AT(activation), fallback, NULL \
	}
#define ONLY(name, value) \
	{ \
		name, KEY_ONLY, 0, 0, value \
	}
#define SPECIAL(name) \
	{ \
		name, KEY_SPECIAL, 0, 0, NULL \
	}
#define REQUIRED NAN

static const config_key gpt2_keys[] = {
	INTEGER("vocab_size", vocab, REQUIRED),
	INTEGER("n_positions", context, REQUIRED),
	INTEGER("n_embd", width, REQUIRED),
	INTEGER("n_layer", depth, REQUIRED),
	INTEGER("n_head", heads, REQUIRED),
	INTEGER("n_inner", ffn, 0),
	NUMBER("layer_norm_epsilon", norm_epsilon, 1e-5),
	ACTIVATION("activation_function", ACT_GELU_TANH),
	ONLY("scale_attn_weights", "true"),
	ONLY("scale_attn_by_inverse_layer_idx", "false"),
	ONLY("add_cross_attention", "false"),
	{NULL},
};

static const config_key bert_keys[] = {
	INTEGER("vocab_size", vocab, REQUIRED),
	INTEGER("max_position_embeddings", context, REQUIRED),
	INTEGER("hidden_size", width, REQUIRED),
	INTEGER("num_hidden_layers", depth, REQUIRED),
	INTEGER("num_attention_heads", heads, REQUIRED),
	INTEGER("intermediate_size", ffn, REQUIRED),
	INTEGER("type_vocab_size", types, 2),
	NUMBER("layer_norm_eps", norm_epsilon, 1e-12),
	ACTIVATION("hidden_act", ACT_GELU),
	ONLY("position_embedding_type", "\"absolute\""),
	ONLY("is_decoder", "false"),
	ONLY("add_cross_attention", "false"),
	{NULL},
};

static const config_key distilbert_keys[] = {
	INTEGER("vocab_size", vocab, REQUIRED),
	INTEGER("max_position_embeddings", context, REQUIRED),
	INTEGER("dim", width, REQUIRED),
	INTEGER("n_layers", depth, REQUIRED),
	INTEGER("n_heads", heads, REQUIRED),
	INTEGER("hidden_dim", ffn, REQUIRED),
	NUMBER("layer_norm_eps", norm_epsilon, 1e-12), /* no key of its class, but always this value */
	ACTIVATION("activation", ACT_GELU),
	{NULL},
};

#define ROTARY_SIZES(vocab_, context_, width_, depth_, heads_, kv_heads_, ffn_) \
	INTEGER("vocab_size", vocab, vocab_), INTEGER("max_position_embeddings", context, context_), \
		INTEGER("hidden_size", width, width_), INTEGER("num_hidden_layers", depth, depth_), \
		INTEGER("num_attention_heads", heads, heads_), INTEGER("num_key_value_heads", kv_heads, kv_heads_), \
		INTEGER("intermediate_size", ffn, ffn_), SPECIAL("rope_theta"), SPECIAL("rope_scaling"), \
		SPECIAL("rope_parameters")

#define LLAMA_SIZES ROTARY_SIZES(REQUIRED, REQUIRED, REQUIRED, REQUIRED, REQUIRED, 0, REQUIRED)

static const config_key llama_keys[] = {
	LLAMA_SIZES,
	INTEGER("head_dim", head_dim, 0),
	NUMBER("rms_norm_eps", norm_epsilon, 1e-6),
	ACTIVATION("hidden_act", ACT_SILU),
	ONLY("attention_bias", "false"),
	ONLY("mlp_bias", "false"),
	ONLY("rope_interleaved", "false"),
	SPECIAL("sliding_window"),
	{NULL},
};

static const config_key qwen2_keys[] = {
	LLAMA_SIZES,
	INTEGER("head_dim", head_dim, 0),
	NUMBER("rms_norm_eps", norm_epsilon, 1e-6),
	ACTIVATION("hidden_act", ACT_SILU),
	SPECIAL("sliding_window"),
	SPECIAL("use_sliding_window"),
	SPECIAL("layer_types"),
	ONLY("use_mrope", "false"),
	{NULL},
};

static const config_key qwen3_keys[] = {
	LLAMA_SIZES,
	INTEGER("head_dim", head_dim, 128),
	NUMBER("rms_norm_eps", norm_epsilon, 1e-6),
	ACTIVATION("hidden_act", ACT_SILU),
	ONLY("attention_bias", "false"),
	SPECIAL("sliding_window"),
	SPECIAL("use_sliding_window"),
	SPECIAL("layer_types"),
	{NULL},
};

static const config_key gemma_keys[] = {
	LLAMA_SIZES,
	INTEGER("head_dim", head_dim, 256),
	NUMBER("rms_norm_eps", norm_epsilon, 1e-6),
	SPECIAL("hidden_act"), /* those of the first files say gelu and mean its tanh form, as the library knows */
	SPECIAL("hidden_activation"),
	ONLY("attention_bias", "false"),
	ONLY("use_bidirectional_attention", "false"),
	{NULL},
};

#define GEMMA_LAYERS \
	NUMBER("rms_norm_eps", norm_epsilon, 1e-6), INTEGER("query_pre_attn_scalar", query_dim, 256), \
		SPECIAL("hidden_act"), SPECIAL("hidden_activation"), SPECIAL("sliding_window"), SPECIAL("layer_types"), \
		SPECIAL("sliding_window_pattern"), SPECIAL("_sliding_window_pattern"), ONLY("attention_bias", "false"), \
		ONLY("use_bidirectional_attention", "false")

static const config_key gemma2_keys[] = {
	ROTARY_SIZES(REQUIRED, REQUIRED, REQUIRED, REQUIRED, REQUIRED, 4, REQUIRED),
	INTEGER("head_dim", head_dim, 256),
	GEMMA_LAYERS,
	CAP("attn_logit_softcapping", score_cap, 50),
	CAP("final_logit_softcapping", logit_cap, 30),
	{NULL},
};

static const config_key gemma3_keys[] = {
	ROTARY_SIZES(262208, 131072, 2304, 26, 8, 4, 9216), /* what files with images, too, leave out */
	INTEGER("head_dim", head_dim, 256),
	GEMMA_LAYERS,
	SPECIAL("rope_local_base_freq"),
	CAP("attn_logit_softcapping", score_cap, 0),
	CAP("final_logit_softcapping", logit_cap, 0),
	{NULL},
};

static const config_key neox_keys[] = {
	INTEGER("vocab_size", vocab, REQUIRED),
	INTEGER("max_position_embeddings", context, REQUIRED),
	INTEGER("hidden_size", width, REQUIRED),
	INTEGER("num_hidden_layers", depth, REQUIRED),
	INTEGER("num_attention_heads", heads, REQUIRED),
	INTEGER("intermediate_size", ffn, REQUIRED),
	NUMBER("layer_norm_eps", norm_epsilon, 1e-5),
	ACTIVATION("hidden_act", ACT_GELU),
	FLAG("use_parallel_residual", parallel, true),
	ONLY("attention_bias", "true"),
	ONLY("is_decoder", "false"),
	SPECIAL("rotary_pct"),
	SPECIAL("rotary_emb_base"),
	SPECIAL("rope_theta"),
	SPECIAL("rope_scaling"),
	SPECIAL("rope_parameters"),
	SPECIAL("partial_rotary_factor"),
	{NULL},
};

/* Of n_positions: the texts it was trained with; the network has no limit. */
#define T5_SIZES \
	INTEGER("vocab_size", vocab, REQUIRED), INTEGER("n_positions", context, 512), \
		INTEGER("d_model", width, REQUIRED), INTEGER("num_heads", heads, REQUIRED), \
		INTEGER("d_kv", head_dim, REQUIRED), INTEGER("d_ff", ffn, REQUIRED), \
		INTEGER("relative_attention_num_buckets", buckets, 32), \
		INTEGER("relative_attention_max_distance", distance, 128), NUMBER("layer_norm_epsilon", norm_epsilon, 1e-6), \
		ONLY("is_decoder", "false"), SPECIAL("feed_forward_proj"), SPECIAL("dense_act_fn"), \
		SPECIAL("is_gated_act"), /* these two follow from the one before */ \
		SPECIAL("scale_decoder_outputs")

static const config_key t5_keys[] = {
	T5_SIZES,
	INTEGER("num_layers", encoder_depth, REQUIRED),
	INTEGER("num_decoder_layers", depth, 0),
	{NULL},
};

static const config_key t5_encoder_keys[] = {
	T5_SIZES,
	INTEGER("num_layers", depth, REQUIRED),
	SPECIAL("num_decoder_layers"),
	{NULL},
};

const char *const family_harmless[] = {
	"*dropout*",
	"*_drop",
	"*pdrop",
	"initializer_*",
	"transformers_version",
	"torch_dtype",
	"dtype",
	"use_cache",
	"_name_or_path",
	"architectures",
	"model_type",
	"id2label",
	"label2id",
	"num_labels",
	"_num_labels",
	"*_token_id",
	"gradient_checkpointing",
	"task_specific_params",
	"finetuning_task",
	"problem_type",
	"output_attentions",
	"output_hidden_states",
	"output_scores",
	"output_past",
	"return_dict*",
	"summary_*",
	"n_ctx",
	"n_special",
	"predict_special_tokens",
	"pooler_*", /* of the first BERTs, never read */
	"directionality",
	"language",
	"name",
	"prefix",
	"model_max_length",
	"transformers.js_config",
	"tie_word_embeddings", /* read by the names of tensors */
	"tie_encoder_decoder",
	"tie_weights_",
	"sinusoidal_pos_embds", /* how positions were first filled */
	"is_encoder_decoder",
	"chunk_size_feed_forward", /* memory */
	"cross_attention_hidden_size",
	"reorder_and_upcast_attn", /* rounding */
	"pretraining_tp",
	"max_window_layers",
	"cache_implementation",
	"_attn_implementation*",
	"attn_implementation",
	"tf_legacy_loss",
	"torchscript",
	"use_bfloat16",
	"sentence_transformers",
	"sbert_ce_default_activation_function",
	"temperature", /* settings of generation, which old files keep here */
	"top_k",
	"top_p",
	"typical_p",
	"do_sample",
	"max_length",
	"min_length",
	"early_stopping",
	"num_beams",
	"num_beam_groups",
	"num_return_sequences",
	"diversity_penalty",
	"repetition_penalty",
	"length_penalty",
	"exponential_decay_length_penalty",
	"*no_repeat_ngram_size",
	"bad_words_ids",
	"*suppress_tokens",
	"remove_invalid_values",
	"is_llama_config",
	"unsloth_*",
	NULL,
};

/* ---- names of tensors ---- */

static const tensor_name gpt2_names[] = {
	{"embed", "wte"},
	{"position", "wpe"},
	{"layers.*.attn.norm", "h.*.ln_1"},
	{"layers.*.attn.qkv", "h.*.attn.c_attn", NAME_TRANSPOSED},
	{"layers.*.attn.out", "h.*.attn.c_proj", NAME_TRANSPOSED},
	{"layers.*.ffn.norm", "h.*.ln_2"},
	{"layers.*.ffn.up", "h.*.mlp.c_fc", NAME_TRANSPOSED},
	{"layers.*.ffn.down", "h.*.mlp.c_proj", NAME_TRANSPOSED},
	{"norm", "ln_f"},
	{"head.weight", "^lm_head.weight"},
	{NULL},
};

static const tensor_name neox_names[] = {
	{"embed", "embed_in"},
	{"layers.*.attn.norm", "layers.*.input_layernorm"},
	{"layers.*.attn.qkv", "layers.*.attention.query_key_value", NAME_BY_HEAD},
	{"layers.*.attn.out", "layers.*.attention.dense"},
	{"layers.*.ffn.norm", "layers.*.post_attention_layernorm"},
	{"layers.*.ffn.up", "layers.*.mlp.dense_h_to_4h"},
	{"layers.*.ffn.down", "layers.*.mlp.dense_4h_to_h"},
	{"norm", "final_layer_norm"},
	{"head.weight", "^embed_out.weight|^lm_head.weight"},
	{NULL},
};

static const tensor_name llama_names[] = {
	{"embed", "embed_tokens"},
	{"layers.*.attn.norm", "layers.*.input_layernorm"},
	{"layers.*.attn.qkv", "layers.*.self_attn.q_proj+layers.*.self_attn.k_proj+layers.*.self_attn.v_proj"},
	{"layers.*.attn.q_norm", "layers.*.self_attn.q_norm"},
	{"layers.*.attn.k_norm", "layers.*.self_attn.k_norm"},
	{"layers.*.attn.out", "layers.*.self_attn.o_proj"},
	{"layers.*.ffn.norm", "layers.*.post_attention_layernorm"},
	{"layers.*.ffn.up", "layers.*.mlp.gate_proj+layers.*.mlp.up_proj"},
	{"layers.*.ffn.down", "layers.*.mlp.down_proj"},
	{"norm", "norm"},
	{"head.weight", "^lm_head.weight"},
	{NULL},
};

static const tensor_name gemma2_names[] = {
	{"embed", "embed_tokens"},
	{"layers.*.attn.norm", "layers.*.input_layernorm"},
	{"layers.*.attn.qkv", "layers.*.self_attn.q_proj+layers.*.self_attn.k_proj+layers.*.self_attn.v_proj"},
	{"layers.*.attn.q_norm", "layers.*.self_attn.q_norm"},
	{"layers.*.attn.k_norm", "layers.*.self_attn.k_norm"},
	{"layers.*.attn.out", "layers.*.self_attn.o_proj"},
	{"layers.*.attn.added_norm", "layers.*.post_attention_layernorm"},
	{"layers.*.ffn.norm", "layers.*.pre_feedforward_layernorm"},
	{"layers.*.ffn.up", "layers.*.mlp.gate_proj+layers.*.mlp.up_proj"},
	{"layers.*.ffn.down", "layers.*.mlp.down_proj"},
	{"layers.*.ffn.added_norm", "layers.*.post_feedforward_layernorm"},
	{"norm", "norm"},
	{"head.weight", "^lm_head.weight|^language_model.lm_head.weight"},
	{NULL},
};

#define BERT_ATTENTION "encoder.layer.*.attention."

static const tensor_name bert_names[] = {
	{"embed", "embeddings.word_embeddings"},
	{"position", "embeddings.position_embeddings"},
	{"types", "embeddings.token_type_embeddings"},
	{"embed.norm", "embeddings.LayerNorm"},
	{"layers.*.attn.qkv", BERT_ATTENTION "self.query+" BERT_ATTENTION "self.key+" BERT_ATTENTION "self.value"},
	{"layers.*.attn.out", BERT_ATTENTION "output.dense"},
	{"layers.*.attn.norm", BERT_ATTENTION "output.LayerNorm"},
	{"layers.*.ffn.up", "encoder.layer.*.intermediate.dense"},
	{"layers.*.ffn.down", "encoder.layer.*.output.dense"},
	{"layers.*.ffn.norm", "encoder.layer.*.output.LayerNorm"},
	{NULL},
};

#define DISTILBERT_ATTENTION "transformer.layer.*.attention."

static const tensor_name distilbert_names[] = {
	{"embed", "embeddings.word_embeddings"},
	{"position", "embeddings.position_embeddings"},
	{"embed.norm", "embeddings.LayerNorm"},
	{"layers.*.attn.qkv", DISTILBERT_ATTENTION "q_lin+" DISTILBERT_ATTENTION "k_lin+" DISTILBERT_ATTENTION "v_lin"},
	{"layers.*.attn.out", DISTILBERT_ATTENTION "out_lin"},
	{"layers.*.attn.norm", "transformer.layer.*.sa_layer_norm"},
	{"layers.*.ffn.up", "transformer.layer.*.ffn.lin1"},
	{"layers.*.ffn.down", "transformer.layer.*.ffn.lin2"},
	{"layers.*.ffn.norm", "transformer.layer.*.output_layer_norm"},
	{NULL},
};

#define T5_ENCODER "encoder.block.*.layer."
#define T5_DECODER "decoder.block.*.layer."
#define T5_RELATIVE ".block.0.layer.0.SelfAttention.relative_attention_bias"

/* Of the stack that is called so. */
#define T5_ENCODER_NAMES(ours) \
	{ours "layers.*.attn.norm", T5_ENCODER "0.layer_norm"}, \
		{ours "layers.*.attn.qkv", \
		 T5_ENCODER "0.SelfAttention.q+" T5_ENCODER "0.SelfAttention.k+" T5_ENCODER "0.SelfAttention.v"}, \
		{ours "layers.*.attn.out", T5_ENCODER "0.SelfAttention.o"}, \
		{ours "layers.*.ffn.norm", T5_ENCODER "1.layer_norm"}, \
		{ours "layers.*.ffn.up", \
		 T5_ENCODER "1.DenseReluDense.wi_0+" T5_ENCODER "1.DenseReluDense.wi_1|" T5_ENCODER "1.DenseReluDense.wi"}, \
		{ours "layers.*.ffn.down", T5_ENCODER "1.DenseReluDense.wo"}, {ours "norm", "encoder.final_layer_norm"}, \
	{ \
		ours "relative", "encoder" T5_RELATIVE \
	}

static const tensor_name t5_names[] = {
	{"embed", "shared|encoder.embed_tokens|decoder.embed_tokens"},
	T5_ENCODER_NAMES("encoder."),
	{"layers.*.attn.norm", T5_DECODER "0.layer_norm"},
	{"layers.*.attn.qkv",
	 T5_DECODER "0.SelfAttention.q+" T5_DECODER "0.SelfAttention.k+" T5_DECODER "0.SelfAttention.v"},
	{"layers.*.attn.out", T5_DECODER "0.SelfAttention.o"},
	{"layers.*.cross.norm", T5_DECODER "1.layer_norm"},
	{"layers.*.cross.q", T5_DECODER "1.EncDecAttention.q"},
	{"layers.*.cross.kv", T5_DECODER "1.EncDecAttention.k+" T5_DECODER "1.EncDecAttention.v"},
	{"layers.*.cross.out", T5_DECODER "1.EncDecAttention.o"},
	{"layers.*.ffn.norm", T5_DECODER "2.layer_norm"},
	{"layers.*.ffn.up",
	 T5_DECODER "2.DenseReluDense.wi_0+" T5_DECODER "2.DenseReluDense.wi_1|" T5_DECODER "2.DenseReluDense.wi"},
	{"layers.*.ffn.down", T5_DECODER "2.DenseReluDense.wo"},
	{"norm", "decoder.final_layer_norm"},
	{"relative", "decoder" T5_RELATIVE},
	{"head.weight", "lm_head.weight"},
	{NULL},
};

static const tensor_name t5_encoder_names[] = {
	{"embed", "shared|encoder.embed_tokens"}, T5_ENCODER_NAMES(""), {NULL}};

/* ---- those of GGUF files ---- */

#define GGUF_DECODER(flags) \
	{"embed", "token_embd"}, {"position", "position_embd"}, {"layers.*.attn.norm", "blk.*.attn_norm"}, \
		{"layers.*.attn.qkv", "blk.*.attn_q+blk.*.attn_k+blk.*.attn_v|blk.*.attn_qkv", flags}, \
		{"layers.*.attn.q_norm", "blk.*.attn_q_norm"}, {"layers.*.attn.k_norm", "blk.*.attn_k_norm"}, \
		{"layers.*.attn.out", "blk.*.attn_output"}, {"layers.*.attn.added_norm", "blk.*.post_attention_norm"}, \
		{"layers.*.ffn.norm", "blk.*.ffn_norm"}, {"layers.*.ffn.up", "blk.*.ffn_gate+blk.*.ffn_up|blk.*.ffn_up"}, \
		{"layers.*.ffn.down", "blk.*.ffn_down"}, {"layers.*.ffn.added_norm", "blk.*.post_ffw_norm"}, \
		{"norm", "output_norm"}, \
	{ \
		"head.weight", "output.weight" \
	}

static const tensor_name gguf_names[] = {GGUF_DECODER(0), {NULL}};
static const tensor_name gguf_llama_names[] = {GGUF_DECODER(NAME_NEIGHBOURS), {NULL}};

static const tensor_name gguf_bert_names[] = {
	{"embed", "token_embd"},
	{"position", "position_embd"},
	{"types", "token_types"},
	{"embed.norm", "token_embd_norm"},
	{"layers.*.attn.qkv", "blk.*.attn_q+blk.*.attn_k+blk.*.attn_v|blk.*.attn_qkv"},
	{"layers.*.attn.out", "blk.*.attn_output"},
	{"layers.*.attn.norm", "blk.*.attn_output_norm"},
	{"layers.*.ffn.up", "blk.*.ffn_up"},
	{"layers.*.ffn.down", "blk.*.ffn_down"},
	{"layers.*.ffn.norm", "blk.*.layer_output_norm"},
	{NULL},
};

static const tensor_name gguf_t5_names[] = {
	{"embed", "token_embd"},
	{"encoder.layers.*.attn.norm", "enc.blk.*.attn_norm"},
	{"encoder.layers.*.attn.qkv", "enc.blk.*.attn_q+enc.blk.*.attn_k+enc.blk.*.attn_v"},
	{"encoder.layers.*.attn.out", "enc.blk.*.attn_o"},
	{"encoder.layers.*.ffn.norm", "enc.blk.*.ffn_norm"},
	{"encoder.layers.*.ffn.up", "enc.blk.*.ffn_gate+enc.blk.*.ffn_up|enc.blk.*.ffn_up"},
	{"encoder.layers.*.ffn.down", "enc.blk.*.ffn_down"},
	{"encoder.norm", "enc.output_norm"},
	{"encoder.relative", "enc.blk.0.attn_rel_b"},
	{"layers.*.attn.norm", "dec.blk.*.attn_norm"},
	{"layers.*.attn.qkv", "dec.blk.*.attn_q+dec.blk.*.attn_k+dec.blk.*.attn_v"},
	{"layers.*.attn.out", "dec.blk.*.attn_o"},
	{"layers.*.cross.norm", "dec.blk.*.cross_attn_norm"},
	{"layers.*.cross.q", "dec.blk.*.cross_attn_q"},
	{"layers.*.cross.kv", "dec.blk.*.cross_attn_k+dec.blk.*.cross_attn_v"},
	{"layers.*.cross.out", "dec.blk.*.cross_attn_o"},
	{"layers.*.ffn.norm", "dec.blk.*.ffn_norm"},
	{"layers.*.ffn.up", "dec.blk.*.ffn_gate+dec.blk.*.ffn_up|dec.blk.*.ffn_up"},
	{"layers.*.ffn.down", "dec.blk.*.ffn_down"},
	{"norm", "dec.output_norm"},
	{"relative", "dec.blk.0.attn_rel_b"},
	{"head.weight", "output.weight"},
	{NULL},
};

/* ---- heads ---- */

static const tensor_name bert_masked[] = {
	{"head.transform", "^cls.predictions.transform.dense"},
	{"head.norm", "^cls.predictions.transform.LayerNorm"},
	{"head.bias", "^cls.predictions.bias|^cls.predictions.decoder.bias"},
	{"head.weight", "^cls.predictions.decoder.weight"},
	{NULL},
};

static const tensor_name roberta_masked[] = {
	{"head.transform", "^lm_head.dense"},
	{"head.norm", "^lm_head.layer_norm"},
	{"head.bias", "^lm_head.bias|^lm_head.decoder.bias"},
	{"head.weight", "^lm_head.decoder.weight"},
	{NULL},
};

static const tensor_name distilbert_masked[] = {
	{"head.transform", "^vocab_transform"},
	{"head.norm", "^vocab_layer_norm"},
	{"head", "^vocab_projector"},
	{NULL},
};

static const tensor_name bert_classes[] = {{"hidden.0", "pooler.dense"}, {"output", "^classifier"}, {NULL}};
static const tensor_name roberta_classes[] = {
	{"hidden.0", "^classifier.dense"}, {"output", "^classifier.out_proj"}, {NULL}};
static const tensor_name distilbert_classes[] = {{"hidden.0", "^pre_classifier"}, {"output", "^classifier"}, {NULL}};
static const tensor_name score_classes[] = {{"output", "^score", NAME_FREE_BIAS}, {NULL}};

static const tensor_name bert_labels[] = {{"head", "^classifier"}, {NULL}};
static const tensor_name score_labels[] = {{"head", "^score"}, {NULL}};

static const char *const decoder_ignored[] = {
	"rope_freqs.weight",
	"*.attn.bias",
	"*.attn.masked_bias",
	"*.attention.bias",
	"*.attention.masked_bias",
	"*rotary_emb.inv_freq",
	"lm_head.weight",
	"score.*",
	"embed_out.weight",
	"classifier.*",
	NULL,
};
static const char *const gemma3_ignored[] = {
	"*vision_tower.*",
	"*multi_modal_projector.*",
	"*lm_head.weight",
	NULL,
};
static const char *const encoder_ignored[] = {
	"*embeddings.position_ids",
	"*embeddings.token_type_ids",
	"*pooler.dense.*",
	"cls.*",
	"lm_head.*",
	"classifier.*",
	"pre_classifier.*",
	"vocab_*",
	"qa_outputs.*",
	"dropout.*",
	NULL,
};
static const char *const t5_ignored[] = {
	"encoder.embed_tokens.weight",
	"decoder.embed_tokens.weight",
	"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", /* never read */
	NULL,
};

static const char *const t5_encoder_ignored[] = {"encoder.embed_tokens.weight", "decoder.*", "lm_head.weight", NULL};

/* ---- families ---- */

#define LANGUAGE "ForCausalLM"

#define BERT(type, prefix_, masked_, classes_, ...) \
	{ \
		.model_type = type, .architecture = "bert", .keys = bert_keys, .prefix = prefix_, .names = bert_names, \
		.gguf_names = gguf_bert_names, .masked = {masked_}, .classes = {classes_, 1, ACT_TANH}, \
		.labels = {bert_labels}, .ignored = encoder_ignored, .tied = true, .pool = POOL_FIRST, __VA_ARGS__ \
	}

#define DECODER(type, prefix_, names_, ignored_, ...) \
	{ \
		.model_type = type, .architecture = "llama", .prefix = prefix_, .names = names_, .classes = {score_classes}, \
		.labels = {score_labels}, .ignored = ignored_, .rotary = true, .pool = POOL_LAST, __VA_ARGS__ \
	}

#define LLAMA(type, ...) DECODER(type, "model.", llama_names, decoder_ignored, .language = LANGUAGE, __VA_ARGS__)

#define GEMMA(type, prefix_, names_, ignored_, ...) \
	DECODER(type, prefix_, names_, ignored_, .gguf_names = gguf_names, .tied = true, .norms_plus_one = true, \
			.embed_scale = true, __VA_ARGS__)

#define GEMMA3(type, prefix_, ignored_, ...) \
	GEMMA(type, prefix_, gemma2_names, ignored_, .keys = gemma3_keys, .qk_norm = true, .added_norm = true, \
		  .window_period = 6, .rope_theta = 1e6f, .window_theta = 1e4f, .wide_depth = 62, __VA_ARGS__)

#define T5(class_, keys_, names_, ignored_, ...) \
	{ \
		.model_type = "t5", .architecture = "t5", .class_name = class_, .keys = keys_, .prefix = "", \
		.names = names_, .ignored = ignored_, .tied = true, __VA_ARGS__ \
	}

static const family families[] = {
	{.model_type = "gpt2",
	 .architecture = "gpt",
	 .gguf = "gpt2",
	 .class_name = "GPT2",
	 .language = "LMHeadModel",
	 .keys = gpt2_keys,
	 .prefix = "transformer.",
	 .names = gpt2_names,
	 .gguf_names = gguf_names,
	 .classes = {score_classes},
	 .labels = {bert_labels},
	 .ignored = decoder_ignored,
	 .tied = true,
	 .pool = POOL_LAST},
	{.model_type = "gpt_neox",
	 .architecture = "gpt",
	 .gguf = "gptneox",
	 .class_name = "GPTNeoX",
	 .language = LANGUAGE,
	 .keys = neox_keys,
	 .prefix = "gpt_neox.",
	 .names = neox_names,
	 .gguf_names = gguf_names,
	 .classes = {score_classes},
	 .labels = {bert_labels},
	 .ignored = decoder_ignored,
	 .rotary = true,
	 .pool = POOL_LAST},
	LLAMA("llama", .class_name = "Llama", .keys = llama_keys, .gguf = "llama", .gguf_names = gguf_llama_names),
	LLAMA("mistral", .class_name = "Mistral", .keys = llama_keys),
	LLAMA("qwen2", .class_name = "Qwen2", .keys = qwen2_keys, .gguf = "qwen2", .gguf_names = gguf_names,
		  .qkv_bias = true),
	LLAMA("qwen3", .class_name = "Qwen3", .keys = qwen3_keys, .gguf = "qwen3", .gguf_names = gguf_names,
		  .qk_norm = true),
	GEMMA("gemma", "model.", llama_names, decoder_ignored, .language = LANGUAGE, .class_name = "Gemma",
		  .keys = gemma_keys, .gguf = "gemma"),
	GEMMA("gemma2", "model.", gemma2_names, decoder_ignored, .language = LANGUAGE, .class_name = "Gemma2",
		  .keys = gemma2_keys, .gguf = "gemma2", .added_norm = true, .window_period = 2, .wide_depth = 46),
	GEMMA3("gemma3_text", "model.", decoder_ignored, .language = "^Gemma3ForCausalLM", .class_name = "Gemma3Text",
		   .gguf = "gemma3"),
	GEMMA3("gemma3", "language_model.model.|model.language_model.", gemma3_ignored, .inner = "text_config"),
	BERT("bert", "bert.", bert_masked, bert_classes, .class_name = "Bert", .gguf = "bert"),
	BERT("roberta", "roberta.", roberta_masked, roberta_classes, .pad_positions = true),
	BERT("xlm-roberta", "roberta.", roberta_masked, roberta_classes, .pad_positions = true),
	{.model_type = "distilbert",
	 .class_name = "DistilBert",
	 .architecture = "bert",
	 .keys = distilbert_keys,
	 .prefix = "distilbert.",
	 .names = distilbert_names,
	 .masked = {distilbert_masked},
	 .classes = {distilbert_classes, 1, ACT_RELU},
	 .labels = {bert_labels},
	 .ignored = encoder_ignored,
	 .tied = true,
	 .pool = POOL_FIRST},
	T5("T5", t5_keys, t5_names, t5_ignored, .language = "ForConditionalGeneration", .gguf = "t5",
	   .gguf_names = gguf_t5_names),
	T5("T5Encoder", t5_encoder_keys, t5_encoder_names, t5_encoder_ignored, .encoder_alone = true),
};

static const family *
find_family(const char *model_type, bool encoder_alone)
{
	for (int i = 0; i < COUNT(families); i++)
		if (strcmp(families[i].model_type, model_type) == 0 && families[i].encoder_alone == encoder_alone)
			return &families[i];
	return NULL;
}

const family *
family_find(const char *model_type)
{
	return find_family(model_type, false);
}

const family *
family_find_encoder(const char *model_type)
{
	return find_family(model_type, true);
}

const family *
family_find_gguf(const char *architecture)
{
	for (int i = 0; i < COUNT(families); i++)
		if (families[i].gguf && strcmp(families[i].gguf, architecture) == 0)
			return &families[i];
	return NULL;
}

const family *
family_next(const char *architecture, const family *last)
{
	for (const family *f = last ? last + 1 : families; f < families + COUNT(families); f++)
		if (strcmp(f->architecture, architecture) == 0)
			return f;
	return NULL;
}

const char *
family_list(char *text, size_t size)
{
	size_t at = 0;

	for (int i = 0; i < COUNT(families) && at < size; i++)
		if (!families[i].encoder_alone)
			at += snprintf(text + at, size - at, "%s%s", i > 0 ? ", " : "", families[i].model_type);
	return text;
}

bool
pattern_matches(const char *pattern, const char *text)
{
	const char *star = NULL, *again = NULL;

	while (*text)
	{
		if (*pattern == '*')
		{
			star = pattern++;
			again = text;
		}
		else if (*pattern == *text)
		{
			pattern++;
			text++;
		}
		else if (star)
		{
			pattern = star + 1;
			text = ++again;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}
