#!/usr/bin/env python3
"""Golden numbers of tiny random transformers, in double precision, for test_transformer_golden.c.

Needs PyTorch and transformers; the tests need neither: tests/unit/golden/make_transformers.py makes the
files beside it again. A file holds, in the machine's byte order (little-endian):
  17 int32: family (0 gpt, 1 llama, 2 bert, 3 t5), vocab, context, width, depth, heads, kv_heads, head_dim, ffn,
  qkv_bias, qk_norm, tied, encoder_depth, source_context, buckets, distance, rows
  int32 start (rows + 1), token (tokens), target (tokens); float32 weight of the target (tokens)
  int32 start (rows + 1), token (tokens) of the sources where there is an encoder
  float64 weight times loss (tokens); float32 parameters, then gradients of the weighted mean loss, tensors in the
  engine's order
  float64 losses of ten steps of AdamW: rate 1e-3, betas .9 .99, epsilon 1e-8, decay .1 of matrices
"""
import os
import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers import T5Config, T5ForConditionalGeneration

torch.set_default_dtype(torch.float64)
LENGTHS = [9, 1, 16, 4]
SOURCE_LENGTHS = [3, 20, 1, 11]
VOCAB, CONTEXT, DEPTH, SOURCE_CONTEXT = 43, 16, 2, 20


def gpt2_tensors(model):
    t = model.transformer
    yield t.wte.weight
    yield t.wpe.weight
    for b in t.h:  # Conv1D holds (in, out)
        yield from (b.ln_1.weight, b.ln_1.bias, b.attn.c_attn.weight.T, b.attn.c_attn.bias, b.attn.c_proj.weight.T,
                    b.attn.c_proj.bias, b.ln_2.weight, b.ln_2.bias, b.mlp.c_fc.weight.T, b.mlp.c_fc.bias,
                    b.mlp.c_proj.weight.T, b.mlp.c_proj.bias)
    yield from (t.ln_f.weight, t.ln_f.bias)


def llama_tensors(model):
    m = model.model
    yield m.embed_tokens.weight
    for b in m.layers:
        a = b.self_attn
        yield b.input_layernorm.weight
        yield torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])
        if a.q_proj.bias is not None:
            yield torch.cat([a.q_proj.bias, a.k_proj.bias, a.v_proj.bias])
        if hasattr(a, 'q_norm'):
            yield from (a.q_norm.weight, a.k_norm.weight)
        yield from (a.o_proj.weight, b.post_attention_layernorm.weight,
                    torch.cat([b.mlp.gate_proj.weight, b.mlp.up_proj.weight]), b.mlp.down_proj.weight)
    yield m.norm.weight
    if not model.config.tie_word_embeddings:
        yield model.lm_head.weight


def bert_tensors(model):
    m, head = model.bert, model.cls.predictions
    yield m.embeddings.word_embeddings.weight
    yield m.embeddings.position_embeddings.weight
    for b in m.encoder.layer:
        a, out = b.attention.self, b.attention.output
        yield from (out.LayerNorm.weight, out.LayerNorm.bias,
                    torch.cat([a.query.weight, a.key.weight, a.value.weight]),
                    torch.cat([a.query.bias, a.key.bias, a.value.bias]), out.dense.weight, out.dense.bias,
                    b.output.LayerNorm.weight, b.output.LayerNorm.bias, b.intermediate.dense.weight,
                    b.intermediate.dense.bias, b.output.dense.weight, b.output.dense.bias)
    yield from (m.embeddings.LayerNorm.weight, m.embeddings.LayerNorm.bias, head.transform.dense.weight,
                head.transform.dense.bias, head.transform.LayerNorm.weight, head.transform.LayerNorm.bias, head.bias)


def bert(config):
    """Without types of tokens, which the engine leaves out."""
    model = BertForMaskedLM(config)
    types = model.bert.embeddings.token_type_embeddings.weight
    types.requires_grad_(False).zero_()
    return model


def t5_tensors(model):
    yield model.shared.weight
    for stack in (model.encoder, model.decoder):
        for b in stack.block:
            a, f = b.layer[0], b.layer[-1]
            yield from (a.layer_norm.weight,
                        torch.cat([a.SelfAttention.q.weight, a.SelfAttention.k.weight, a.SelfAttention.v.weight]),
                        a.SelfAttention.o.weight)
            if stack.is_decoder:
                a = b.layer[1]
                yield from (a.layer_norm.weight, a.EncDecAttention.q.weight,
                            torch.cat([a.EncDecAttention.k.weight, a.EncDecAttention.v.weight]),
                            a.EncDecAttention.o.weight)
            d = f.DenseReluDense
            yield from (f.layer_norm.weight,
                        torch.cat([d.wi_0.weight, d.wi_1.weight]) if hasattr(d, 'wi_0') else d.wi.weight, d.wo.weight)
        yield from (stack.final_layer_norm.weight, stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight)
    if model.lm_head.weight is not model.shared.weight:
        yield model.lm_head.weight


def t5(config, tied):
    """The configuration no longer says whether a head of its own is there."""
    model = T5ForConditionalGeneration(config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCAB, config.d_model) / 4)
    return model


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def gradients(tensors, model):
    """The same tensors with gradients in place of parameters."""
    values = {p: p.data.clone() for p in trained(model)}
    for p in trained(model):
        p.data = p.grad.clone()
    result = [t.detach().clone() for t in tensors(model)]
    for p, v in values.items():
        p.data = v
    return result


def token_losses(model, rows, weights):
    """Weight times loss of every token."""
    losses = []
    for ids, targets, source in rows:
        inputs = {'input_ids': source, 'decoder_input_ids': ids} if source else {'input_ids': ids}
        logits = model(**{name: torch.tensor([tokens]) for name, tokens in inputs.items()}).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction='none'))
    return torch.cat(losses) * torch.tensor(weights)


def flat(tensors, kind):
    return np.concatenate([t.detach().numpy().reshape(-1) for t in tensors]).astype(kind).tobytes()


def texts(rows):
    """Where each begins, and all tokens."""
    start = np.cumsum([0] + [len(row) for row in rows])
    return start.astype('int32').tobytes() + np.array(sum(rows, []), 'int32').tobytes()


def write(name, model, tensors, numbers, masked=False, encoder=(0, 0, 0, 0)):
    generator = np.random.default_rng(7)
    pairs = [[generator.integers(0, VOCAB, n).tolist() for _ in range(2)] for n in LENGTHS]
    sources = [generator.integers(0, VOCAB, n).tolist() if encoder[0] > 0 else None for n in SOURCE_LENGTHS]
    rows = [(*pair, source) for pair, source in zip(pairs, sources)]
    weights = generator.choice([0, 0, 1, 2], sum(LENGTHS)) if masked else np.ones(sum(LENGTHS))
    with torch.no_grad():
        for p in trained(model):  # as they will be read; norms and biases away from 1 and 0
            p.copy_((p + 0.1 * torch.randn_like(p)).float().double())
    losses = token_losses(model, rows, weights)
    (losses.sum() / weights.sum()).backward()
    out = np.array([*numbers, *encoder, len(rows)], 'int32').tobytes() + texts([r[0] for r in rows])
    out += np.array(sum((r[1] for r in rows), []), 'int32').tobytes() + weights.astype('float32').tobytes()
    if encoder[0] > 0:
        out += texts(sources)
    out += flat([losses], 'float64') + flat(list(tensors(model)), 'float32')
    out += flat(gradients(tensors, model), 'float32')
    groups = [{'params': [p for p in trained(model) if p.dim() > 1], 'weight_decay': 0.1},
              {'params': [p for p in trained(model) if p.dim() < 2], 'weight_decay': 0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    steps = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = token_losses(model, rows, weights).sum() / weights.sum()
        steps.append(loss.item())
        loss.backward()
        optimizer.step()
    out += np.array(steps, 'float64').tobytes()
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + '.bin'), 'wb') as file:
        file.write(out)


def main():
    torch.manual_seed(3)
    eager = {'attn_implementation': 'eager'}
    write('gpt2', GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=16, n_layer=DEPTH, n_head=4,
                                             resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **eager)),
          gpt2_tensors, [0, VOCAB, CONTEXT, 16, DEPTH, 4, 4, 4, 64, 1, 0, 1])
    sizes = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=16, intermediate_size=24,
                 num_hidden_layers=DEPTH, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, **eager)
    write('llama', LlamaForCausalLM(LlamaConfig(tie_word_embeddings=False, **sizes)), llama_tensors,
          [1, VOCAB, CONTEXT, 16, DEPTH, 4, 2, 4, 24, 0, 0, 0])
    write('qwen2', Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **sizes)), llama_tensors,
          [1, VOCAB, CONTEXT, 16, DEPTH, 4, 2, 4, 24, 1, 0, 1])
    write('qwen3', Qwen3ForCausalLM(Qwen3Config(tie_word_embeddings=True, head_dim=6, **sizes)), llama_tensors,
          [1, VOCAB, CONTEXT, 16, DEPTH, 4, 2, 6, 24, 0, 1, 1])
    write('bert', bert(BertConfig(vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=16, intermediate_size=24,
                                  num_hidden_layers=DEPTH, num_attention_heads=4, pad_token_id=None,
                                  hidden_dropout_prob=0, attention_probs_dropout_prob=0, **eager)),
          bert_tensors, [2, VOCAB, CONTEXT, 16, DEPTH, 4, 4, 4, 24, 1, 0, 1], masked=True)
    sizes = dict(vocab_size=VOCAB, d_model=16, d_kv=6, d_ff=24, num_layers=3, num_decoder_layers=DEPTH, num_heads=4,
                 relative_attention_num_buckets=8, relative_attention_max_distance=10, dropout_rate=0, **eager)
    encoder = (3, SOURCE_CONTEXT, 8, 10)
    write('t5', t5(T5Config(**sizes), True), t5_tensors, [3, VOCAB, CONTEXT, 16, DEPTH, 4, 4, 6, 24, 0, 0, 1],
          encoder=encoder)
    write('t5_1.1', t5(T5Config(feed_forward_proj='gated-gelu', tie_word_embeddings=False, **sizes), False), t5_tensors,
          [3, VOCAB, CONTEXT, 16, DEPTH, 4, 4, 6, 24, 0, 0, 0], encoder=encoder)


main()
