#!/usr/bin/env python3
"""Tiny random checkpoints of each family and what the transformers library makes of them, for test_checkpoint.c.

Needs PyTorch, transformers, sentence-transformers and gguf; the tests need none: tests/unit/golden/make_checkpoints.py makes the files in
checkpoints/ again. Each is a safetensors file of float32 with the files beside a checkpoint as its metadata
("config.json", ...), or with those of a GGUF file ("gguf", an object of key to value). Tensors that begin with
"golden." are no part of the checkpoint but texts and what belongs to them, in double precision before it is rounded:
  start (rows + 1) and tokens of texts, source_start and source of what an encoder reads
  logits (tokens, vocab or labels) of every token, outputs (rows, labels), embedding (rows, width)
  prompt and greedy, 64 tokens after it
"""
import json
import os
import numpy as np
import torch
import gguf
from safetensors.numpy import save
import transformers as t
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

torch.set_default_dtype(torch.float64)
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'checkpoints')
VOCAB, CONTEXT, SEPARATOR, STEPS = 40, 80, 3, 64
EAGER = {'attn_implementation': 'eager'}
SIZES = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=CONTEXT, **EAGER)
DISTIL = dict(vocab_size=VOCAB, dim=16, hidden_dim=24, n_layers=2, n_heads=4, max_position_embeddings=CONTEXT, **EAGER)
T5 = dict(vocab_size=VOCAB, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=2, relative_attention_num_buckets=8,
          relative_attention_max_distance=20, decoder_start_token_id=0)
LENGTHS = [9, 1, 16, 4]
random = np.random.default_rng(7)


def randomise(model):
    """Norms and biases away from 1 and 0; all as float32 has it."""
    model.eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p + 0.2 * torch.randn_like(p)).float().double())
    return model


def tensors_of(model):
    return {k: v.detach().float().numpy().copy() for k, v in model.state_dict().items() if v.is_floating_point()}


def texts(lengths=LENGTHS, pairs=False):
    rows = [random.integers(4, VOCAB, n).tolist() for n in lengths]
    if pairs:  # [CLS] a [SEP] b [SEP]
        rows = [[1, *r, SEPARATOR, *r[::-1][:5], SEPARATOR] for r in rows]
    return rows


def laid(golden, name, rows):
    golden[name + 'start'] = np.cumsum([0] + [len(r) for r in rows])
    golden[{'': 'tokens', 'source_': 'source'}[name]] = np.concatenate(rows)


def ids(row):
    return torch.tensor([row])


@torch.no_grad()
def greedy(golden, logits, prompt, steps=STEPS):
    text = list(prompt)
    for _ in range(steps):
        text.append(int(logits(text)[-1].argmax()))
    golden['prompt'], golden['greedy'] = np.array(prompt), np.array(text[len(prompt):])


@torch.no_grad()
def causal(model, write=True):
    golden, rows = {}, texts()
    laid(golden, '', rows)
    golden['logits'] = torch.cat([model(input_ids=ids(r)).logits[0] for r in rows]).numpy()
    golden['embedding'] = torch.stack([model.base_model(input_ids=ids(r)).last_hidden_state[0, -1] for r in rows]).numpy()
    greedy(golden, lambda text: model(input_ids=ids(text)).logits[0], rows[0][:5])
    return golden


@torch.no_grad()
def seq2seq(model):
    golden, rows, sources = {}, texts(), texts([3, 20, 1, 11])
    laid(golden, '', rows)
    laid(golden, 'source_', sources)
    golden['logits'] = torch.cat([model(input_ids=ids(s), decoder_input_ids=ids(r)).logits[0]
                                  for r, s in zip(rows, sources)]).numpy()
    greedy(golden, lambda text: model(input_ids=ids(sources[1]), decoder_input_ids=ids(text)).logits[0], [0])
    return golden


def types_of(row):
    return ids(np.minimum(np.cumsum([0] + [i == SEPARATOR for i in row])[:-1], 1).tolist())


@torch.no_grad()
def tokens(model):
    golden, rows = {}, texts()
    laid(golden, '', rows)
    golden['logits'] = torch.cat([model(input_ids=ids(r)).logits[0] for r in rows]).numpy()
    return golden


@torch.no_grad()
def outputs(model, pairs=False):
    golden, rows = {}, texts(pairs=pairs)
    laid(golden, '', rows)
    more = [{'token_type_ids': types_of(r)} if pairs else {} for r in rows]
    golden['outputs'] = torch.cat([model(input_ids=ids(r), **m).logits for r, m in zip(rows, more)]).numpy()
    return golden


@torch.no_grad()
def embedding(model, pool):
    golden, rows = {}, texts()
    laid(golden, '', rows)
    golden['embedding'] = torch.stack([pool(model(input_ids=ids(r)).last_hidden_state[0]) for r in rows]).numpy()
    return golden


def write(name, tensors, golden, files):
    out = {**tensors, **{'golden.' + k: np.asarray(v, np.float32) for k, v in golden.items()}}
    out = {k: np.ascontiguousarray(v) for k, v in out.items()}
    with open(os.path.join(FOLDER, name + '.safetensors'), 'wb') as file:
        file.write(save(out, {k: v if isinstance(v, str) else json.dumps(v) for k, v in files.items()}))


def config_of(model, **changes):
    config = {k: v for k, v in json.loads(model.config.to_json_string(use_diff=False)).items()}
    config.update(architectures=[type(model).__name__], **changes)
    for key in ('_name_or_path', 'output_attentions', 'output_hidden_states', 'return_dict'):
        config.pop(key, None)
    saved = json.loads(model.config.to_json_string())  # as save_pretrained() writes it
    return {k: v for k, v in config.items() if k in saved or k in changes or k == 'architectures'}


def old_style(config, **rope):
    """As version 4 of the library wrote it."""
    config = {k: v for k, v in config.items() if k not in ('rope_parameters', 'dtype')}
    return {**config, 'torch_dtype': 'float32', **rope}


def save_model(name, model, golden, changes={}, rename=lambda k: k, extra={}, files={}):
    tensors = {rename(k): v for k, v in tensors_of(model).items()}
    if model.config.tie_word_embeddings:  # kept once
        for k in ('lm_head.weight', 'encoder.embed_tokens.weight', 'decoder.embed_tokens.weight', 'lm_head.decoder.weight',
                  'lm_head.decoder.bias', 'cls.predictions.decoder.weight', 'cls.predictions.decoder.bias',
                  'vocab_projector.weight'):
            tensors.pop(k, None)
    write(name, {**tensors, **extra}, golden, {'config.json': changes if callable(changes) else
                                               config_of(model, **changes), **files})


# ---- GGUF, by the names of its own package ----

def permuted(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def save_gguf(name, arch, model, keys, change=lambda k, v: v, extra={}, base=''):
    """Tensors under the names that gguf-py gives them."""
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    prefix = gguf.MODEL_ARCH_NAMES[arch]
    tensors = {}
    for k, v in tensors_of(model).items():
        if k == 'lm_head.weight' and model.config.tie_word_embeddings or k.endswith(('embed_tokens.weight')) and 'coder' in k:
            continue
        new = names.get_name(k, try_suffixes=('.weight', '.bias'))
        assert new, k
        tensors[new] = change(k, v)
    metadata = {'general.architecture': prefix, **{f'{prefix}.{k}': v for k, v in keys.items()}}
    write(name + '-gguf', {**tensors, **extra}, {}, {'gguf': metadata})


def llama_divisors(rope, dim):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    config = t.LlamaConfig(**{**SIZES, 'head_dim': dim}, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS['llama3'](config, 'cpu')
    plain = 1.0 / (rope['rope_theta'] ** (np.arange(0, dim, 2) / dim))
    return (plain / scaled.double().numpy()).astype('float32')


def make_decoders():
    model = randomise(t.GPT2LMHeadModel(t.GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=4,
                                                     n_inner=24, **EAGER)))
    golden = causal(model)
    save_model('gpt2', model, golden, rename=lambda k: k.removeprefix('transformer.'),
               extra={'h.0.attn.bias': np.ones((1, 1, 2, 2), 'float32')})
    save_gguf('gpt2', gguf.MODEL_ARCH.GPT2, model,
              {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
               'attention.head_count': 4, 'attention.layer_norm_epsilon': 1e-5},
              lambda k, v: v.T if any(c in k for c in ('c_attn.w', 'c_proj.w', 'c_fc.w')) else v)

    for name, parallel in (('gpt_neox', True), ('gpt_neox-serial', False)):
        model = randomise(t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SIZES, rotary_pct=0.5, use_parallel_residual=parallel)))
        golden = causal(model)
        save_model(name, model, golden, rename=lambda k: 'embed_out.weight' if k == 'lm_head.weight' else k,
                   changes={} if parallel else {'rotary_pct': 0.5, 'rotary_emb_base': 10000, 'rope_parameters': None})
        if parallel:
            def by_kind(k, v):
                if 'query_key_value' not in k:
                    return v
                return v.reshape(4, 3, 4, -1).swapaxes(0, 1).reshape(v.shape)
            save_gguf(name, gguf.MODEL_ARCH.GPTNEOX, model,
                      {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
                       'attention.head_count': 4, 'attention.layer_norm_epsilon': 1e-5, 'rope.dimension_count': 2,
                       'use_parallel_residual': True}, by_kind)

    rope = dict(rope_type='llama3', rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64)
    model = randomise(t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=8, rope_parameters=rope)))
    save_model('llama3', model, causal(model), files={'generation_config.json': {'eos_token_id': [7, 9], 'bos_token_id': 1}})

    rope = dict(rope_type='llama3', rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=8192)
    model = randomise(t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=8, rope_parameters=rope,
                                                       tie_word_embeddings=True)))
    golden = causal(model)
    save_model('llama3-tied', model, golden)
    save_gguf('llama3-tied', gguf.MODEL_ARCH.LLAMA, model,
              {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
               'attention.head_count': 4, 'attention.head_count_kv': 2, 'attention.key_length': 8,
               'attention.value_length': 8, 'attention.layer_norm_rms_epsilon': 1e-6, 'rope.freq_base': 500000.0,
               'rope.dimension_count': 8},
              lambda k, v: permuted(v, 4) if 'q_proj' in k else permuted(v, 2) if 'k_proj' in k else v,
              {'rope_freqs.weight': llama_divisors(rope, 8)})

    rope = dict(rope_type='linear', rope_theta=100.0, factor=2.0)
    model = randomise(t.LlamaForCausalLM(t.LlamaConfig(**SIZES, rope_parameters=rope)))
    config = old_style(config_of(model), rope_theta=100.0, rope_scaling={'type': 'linear', 'factor': 2.0})
    write('llama-linear', {**tensors_of(model), 'model.layers.0.self_attn.rotary_emb.inv_freq': np.ones(2, 'float32')},
          causal(model), {'config.json': config})

    model = randomise(t.MistralForCausalLM(t.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=72)))
    write('mistral', tensors_of(model), causal(model), {'config.json': old_style(config_of(model), rope_theta=10000.0)})

    model = randomise(t.Qwen2ForCausalLM(t.Qwen2Config(**SIZES, num_key_value_heads=2, sliding_window=8)))
    save_model('qwen2', model, causal(model), changes={'sliding_window': 8})
    save_gguf('qwen2', gguf.MODEL_ARCH.QWEN2, model,
              {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
               'attention.head_count': 4, 'attention.head_count_kv': 2, 'attention.layer_norm_rms_epsilon': 1e-6,
               'rope.freq_base': 10000.0})

    model = randomise(t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True)))
    save_model('qwen3', model, causal(model))
    save_gguf('qwen3', gguf.MODEL_ARCH.QWEN3, model,
              {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
               'attention.head_count': 4, 'attention.head_count_kv': 2, 'attention.key_length': 8,
               'attention.value_length': 8, 'attention.layer_norm_rms_epsilon': 1e-6, 'rope.freq_base': 10000.0})

    model = randomise(t.GemmaForCausalLM(t.GemmaConfig(**SIZES, num_key_value_heads=1, head_dim=8)))
    save_model('gemma', model, causal(model))
    save_gguf('gemma', gguf.MODEL_ARCH.GEMMA, model,
              {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
               'attention.head_count': 4, 'attention.head_count_kv': 1, 'attention.key_length': 8,
               'attention.value_length': 8, 'attention.layer_norm_rms_epsilon': 1e-6},
              lambda k, v: v + 1 if k.endswith('norm.weight') else v)

    model = randomise(t.LlamaForSequenceClassification(t.LlamaConfig(**SIZES, num_labels=3, pad_token_id=0)))
    save_model('llama-classes', model, outputs(model))


def sentence_files(mode, *more):
    modules = [('0', 'Transformer'), ('1', 'Pooling'), *more]
    return {'modules.json': [{'idx': i, 'name': n, 'path': '', 'type': 'sentence_transformers.models.' + kind}
                             for i, (n, kind) in enumerate(modules)],
            '1_Pooling/config.json': {'word_embedding_dimension': 16, 'pooling_mode_mean_tokens': mode == 'mean_tokens',
                                      'pooling_mode_max_tokens': False, 'pooling_mode_cls_token': mode == 'cls_token'},
            'sentence_bert_config.json': {'max_seq_length': 32, 'do_lower_case': False}}


def make_encoders():
    def old_names(k):
        return k.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')

    bert = dict(**SIZES, pad_token_id=0)
    model = randomise(t.BertForMaskedLM(t.BertConfig(**bert)))
    table = model.bert.embeddings.word_embeddings.weight.detach().float().numpy()
    save_model('bert', model, tokens(model), rename=old_names,
               extra={'cls.seq_relationship.weight': np.ones((2, 16), 'float32'),
                      'cls.predictions.decoder.weight': table + 1,  # tied, so not read
                      'bert.pooler.dense.weight': np.ones((16, 16), 'float32')})
    model = randomise(t.BertModel(t.BertConfig(**bert)))
    golden = embedding(model, lambda x: torch.nn.functional.normalize(x.mean(0), dim=0))
    save_model('bert-embedding', model, golden, files=sentence_files('mean_tokens', ('2', 'Normalize')))
    tensors = {k: v for k, v in tensors_of(model).items() if 'pooler' not in k}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
    write('bert-embedding-gguf', {names.get_name(k, try_suffixes=('.weight', '.bias')): v for k, v in tensors.items()}, {},
          {'gguf': {'general.architecture': 'bert', 'bert.context_length': CONTEXT, 'bert.embedding_length': 16,
                    'bert.feed_forward_length': 24, 'bert.block_count': 2, 'bert.attention.head_count': 4,
                    'bert.attention.layer_norm_epsilon': 1e-12, 'bert.attention.causal': False, 'bert.pooling_type': 1}})
    model = randomise(t.BertForSequenceClassification(t.BertConfig(**bert, num_labels=3)))
    save_model('bert-classes', model, outputs(model, pairs=True))
    model = randomise(t.BertForSequenceClassification(t.BertConfig(**bert, num_labels=1)))
    save_model('bert-score', model, outputs(model, pairs=True))
    model = randomise(t.BertForTokenClassification(t.BertConfig(**bert, num_labels=5)))
    save_model('bert-labels', model, tokens(model))

    roberta = dict(**{**SIZES, 'max_position_embeddings': CONTEXT + 2}, pad_token_id=1, type_vocab_size=1)
    model = randomise(t.RobertaForMaskedLM(t.RobertaConfig(**roberta)))
    save_model('roberta', model, tokens(model))
    model = randomise(t.XLMRobertaModel(t.XLMRobertaConfig(**roberta), add_pooling_layer=False))
    save_model('xlm-roberta-embedding', model, embedding(model, lambda x: x[0]), files=sentence_files('cls_token'))
    model = randomise(t.RobertaForSequenceClassification(t.RobertaConfig(**roberta, num_labels=2)))
    save_model('roberta-classes', model, outputs(model),
               changes={'id2label': {'0': 'positive', '1': 'negative'}, 'label2id': {'positive': 0, 'negative': 1}})
    model = randomise(t.XLMRobertaForTokenClassification(t.XLMRobertaConfig(**roberta, num_labels=3)))
    save_model('xlm-roberta-labels', model, tokens(model))

    model = randomise(t.DistilBertForMaskedLM(t.DistilBertConfig(**DISTIL)))
    save_model('distilbert', model, tokens(model))
    model = randomise(t.DistilBertForSequenceClassification(t.DistilBertConfig(**DISTIL, num_labels=2)))
    save_model('distilbert-classes', model, outputs(model))
    model = randomise(t.DistilBertForTokenClassification(t.DistilBertConfig(**DISTIL, num_labels=3)))
    save_model('distilbert-labels', model, tokens(model))


def make_t5():
    keys = {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
            'attention.head_count': 2, 'attention.key_length': 6, 'attention.value_length': 6,
            'attention.layer_norm_epsilon': 1e-6, 'attention.layer_norm_rms_epsilon': 1e-6,
            'attention.relative_buckets_count': 8, 'decoder_start_token_id': 0}
    model = randomise(t.T5ForConditionalGeneration(t.T5Config(**T5)))
    save_model('t5', model, seq2seq(model))
    model = t.T5ForConditionalGeneration(t.T5Config(**T5, feed_forward_proj='gated-gelu', tie_word_embeddings=False))
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCAB, 16) / 4)
    model.config.tie_word_embeddings = False
    model = randomise(model)
    golden = seq2seq(model)
    tensors = {k: v for k, v in tensors_of(model).items() if 'embed_tokens' not in k}
    config = config_of(model, tie_word_embeddings=False)
    config.pop('scale_decoder_outputs')
    write('t5_1.1', tensors, golden, {'config.json': config})
    # its distance of the last bucket is 128 in all GGUF files, which do not say it
    model = randomise(t.T5ForConditionalGeneration(t.T5Config(**{**T5, 'relative_attention_max_distance': 128})))
    golden = seq2seq(model)
    save_model('t5-distant', model, golden)
    save_gguf('t5-distant', gguf.MODEL_ARCH.T5, model, keys)


def make_labels():
    model = randomise(t.GPT2ForTokenClassification(t.GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=16, n_layer=2,
                                                                n_head=4, n_inner=24, num_labels=3, **EAGER)))
    save_model('gpt2-labels', model, tokens(model))


def make_windows():
    model = randomise(t.MistralForCausalLM(t.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=3)))
    write('mistral-window', tensors_of(model), causal(model), {'config.json': config_of(model)})


def in_double(model):
    """Its norms are computed in single precision otherwise."""
    single, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
    try:
        return causal(model)
    finally:
        torch.Tensor.float = single


def make_gemmas():
    """Windows, caps and bases so small that they change much of a short text."""
    sizes = dict(**{**SIZES, 'num_hidden_layers': 4}, head_dim=8, sliding_window=6)
    keys = {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 4,
            'attention.head_count': 4, 'attention.key_length': 8, 'attention.value_length': 8,
            'attention.layer_norm_rms_epsilon': 1e-6, 'attention.sliding_window': 6}

    def plus_one(k, v):
        return v + 1 if k.endswith('norm.weight') else v

    model = randomise(t.Gemma2ForCausalLM(t.Gemma2Config(**sizes, num_key_value_heads=2, query_pre_attn_scalar=8,
                                                         attn_logit_softcapping=1.5, final_logit_softcapping=2.5)))
    save_model('gemma2', model, in_double(model))
    save_gguf('gemma2', gguf.MODEL_ARCH.GEMMA2, model,
              {**keys, 'attention.head_count_kv': 2, 'attn_logit_softcapping': 1.5, 'final_logit_softcapping': 2.5}, plus_one)

    def gemma3(**changes):
        full = dict(rope_type='linear', factor=4.0, rope_theta=1000.0)
        config = dict(**sizes, num_key_value_heads=1, sliding_window_pattern=3, query_pre_attn_scalar=8,
                      rope_parameters={'full_attention': full, 'sliding_attention': dict(rope_type='default', rope_theta=50.0)})
        return randomise(t.Gemma3ForCausalLM(t.Gemma3TextConfig(**{**config, **changes})))

    model = gemma3()
    save_model('gemma3', model, in_double(model))
    save_gguf('gemma3', gguf.MODEL_ARCH.GEMMA3, model,
              {**keys, 'attention.head_count_kv': 1, 'attention.sliding_window_pattern': 3, 'rope.freq_base': 1000.0,
               'rope.freq_base_swa': 50.0, 'rope.scaling.type': 'linear', 'rope.scaling.factor': 4.0}, plus_one)

    # the part of one that sees images, which leaves out what is usual, as version 4 of the library wrote it
    model = gemma3(num_attention_heads=8, num_key_value_heads=4, query_pre_attn_scalar=20)
    golden = in_double(model)
    text = old_style(config_of(model), rope_theta=1000.0, rope_local_base_freq=50.0, sliding_window_pattern=3,
                     rope_scaling={'rope_type': 'linear', 'factor': 4.0})
    for key in ('layer_types', 'num_attention_heads', 'num_key_value_heads', 'architectures', '_sliding_window_pattern'):
        text.pop(key, None)
    tensors = {'language_model.' + k: v for k, v in tensors_of(model).items() if k != 'lm_head.weight'}
    write('gemma3-images', {**tensors, 'vision_tower.vision_model.embeddings.patch_embedding.bias': np.ones(2, 'float32')},
          golden, {'config.json': {'model_type': 'gemma3', 'architectures': ['Gemma3ForConditionalGeneration'], 'text_config': text,
                                   'vision_config': {'hidden_size': 2}, 'mm_tokens_per_image': 4, 'image_token_index': 39}})


@torch.no_grad()
def sentences(model, modules):
    golden, rows = {}, texts()
    laid(golden, '', rows)
    made = []
    for r in rows:
        features = {'token_embeddings': model(input_ids=ids(r)).last_hidden_state, 'attention_mask': torch.ones(1, len(r))}
        for m in modules:
            features = m(features)
        made.append(features['sentence_embedding'][0])
    golden['embedding'] = torch.stack(made).numpy()
    return golden


def save_sentences(name, model, *layers):
    """With modules Dense behind the mean of tokens, whose tensors have the name of their folder before theirs."""
    layers = [randomise(layer) for layer in layers]
    golden = sentences(model, [Pooling(16, 'mean'), *layers, Normalize()])
    files = sentence_files('mean_tokens', *((str(i + 2), 'Dense') for i in range(len(layers))), ('9', 'Normalize'))
    extra = {}
    for i, module in enumerate(files['modules.json'][1:]):
        module['path'] = f'{i + 1}_' + module['type'].rpartition('.')[2]
    for i, layer in enumerate(layers):
        folder = f'{i + 2}_Dense'
        files[folder + '/config.json'] = layer.get_config_dict()
        extra.update({f'{folder}/{k}': v for k, v in tensors_of(layer).items()})
    save_model(name, model, golden, extra=extra, files=files)


def make_dense():
    global random
    random = np.random.default_rng(17)
    torch.manual_seed(17)
    save_sentences('bert-dense', randomise(t.BertModel(t.BertConfig(**SIZES, pad_token_id=0))),
                   Dense(16, 40, bias=False, activation_function=torch.nn.Identity()),
                   Dense(40, 12, activation_function=torch.nn.GELU()), Dense(12, 8))
    save_sentences('t5-dense', randomise(t.T5EncoderModel(t.T5Config(**T5))), Dense(16, 10, bias=False, activation_function=None))


def make_yarn():
    global random
    random = np.random.default_rng(23)
    torch.manual_seed(23)
    sizes = {**SIZES, 'num_attention_heads': 2, 'head_dim': 16, 'num_key_value_heads': 1}
    keys = {'context_length': CONTEXT, 'embedding_length': 16, 'feed_forward_length': 24, 'block_count': 2,
            'attention.head_count': 2, 'attention.head_count_kv': 1, 'attention.key_length': 16,
            'attention.value_length': 16, 'attention.layer_norm_rms_epsilon': 1e-6, 'rope.freq_base': 1000.0,
            'rope.scaling.type': 'yarn', 'rope.scaling.factor': 4.0, 'rope.scaling.original_context_length': 20}

    def named(name, model):
        golden = causal(model)
        save_model(name, model, golden)
        return golden

    rope = dict(rope_type='yarn', rope_theta=1000.0, factor=4.0, original_max_position_embeddings=20)
    model = randomise(t.Qwen2ForCausalLM(t.Qwen2Config(**sizes, rope_parameters=rope)))
    config = old_style(config_of(model), rope_theta=1000.0,
                       rope_scaling={'type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 20})
    write('qwen2-yarn', tensors_of(model), causal(model), {'config.json': config})
    save_gguf('qwen2-yarn', gguf.MODEL_ARCH.QWEN2, model, keys)

    rope = dict(rope_type='yarn', rope_theta=100.0, factor=2.5, original_max_position_embeddings=32, beta_fast=3.0,
                beta_slow=0.3, mscale=1.3, mscale_all_dim=0.7, truncate=False)
    named('qwen3-yarn', randomise(t.Qwen3ForCausalLM(t.Qwen3Config(**sizes, rope_parameters=rope))))

    rope = dict(rope_type='yarn', rope_theta=10000.0, factor=8.0, original_max_position_embeddings=10, beta_fast=16,
                attention_factor=0.8)
    named('llama-yarn', randomise(t.LlamaForCausalLM(t.LlamaConfig(**sizes, rope_parameters=rope))))



os.makedirs(FOLDER, exist_ok=True)
torch.manual_seed(3)
make_decoders()
make_encoders()
make_t5()
make_labels()
make_windows()
make_gemmas()
make_dense()
make_yarn()
