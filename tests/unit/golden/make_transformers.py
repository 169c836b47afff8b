#!/usr/bin/env python3
"""Golden numbers of tiny random transformers, in double precision, for test_transformer_golden.c.

Needs PyTorch and transformers; the tests need neither: tests/unit/golden/make_transformers.py makes the
files beside it again. A file holds, in the machine's byte order (little-endian):
  13 int32: rotary, vocab, context, width, depth, heads, kv_heads, head_dim, ffn, qkv_bias, qk_norm, tied, rows
  int32 start (rows + 1), token (tokens), target (tokens)
  float64 loss (tokens); float32 weights, then gradients of the mean loss, tensors in the engine's order
  float64 losses of ten steps of AdamW: rate 1e-3, betas .9 .99, epsilon 1e-8, decay .1 of matrices
"""
import os
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

torch.set_default_dtype(torch.float64)
LENGTHS = [9, 1, 16, 4]
VOCAB, CONTEXT, DEPTH = 43, 16, 2


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


def gradients(tensors, model):
    """The same tensors with gradients in place of parameters."""
    values = {p: p.data.clone() for p in model.parameters()}
    for p in model.parameters():
        p.data = p.grad.clone()
    result = [t.detach().clone() for t in tensors(model)]
    for p, v in values.items():
        p.data = v
    return result


def token_losses(model, rows):
    return [torch.nn.functional.cross_entropy(model(torch.tensor([ids])).logits[0], torch.tensor(targets),
                                              reduction='none') for ids, targets in rows]


def flat(tensors, kind):
    return np.concatenate([t.detach().numpy().reshape(-1) for t in tensors]).astype(kind).tobytes()


def write(name, model, tensors, numbers):
    generator = np.random.default_rng(7)
    rows = [(generator.integers(0, VOCAB, n).tolist(), generator.integers(0, VOCAB, n).tolist()) for n in LENGTHS]
    with torch.no_grad():
        for p in model.parameters():  # as they will be read; norms and biases away from 1 and 0
            p.copy_((p + 0.1 * torch.randn_like(p)).float().double())
    start = np.cumsum([0] + LENGTHS)
    losses = token_losses(model, rows)
    torch.cat(losses).mean().backward()
    out = np.array(numbers + [len(rows)], 'int32').tobytes() + start.astype('int32').tobytes()
    out += np.array(sum((r[0] for r in rows), []), 'int32').tobytes()
    out += np.array(sum((r[1] for r in rows), []), 'int32').tobytes()
    out += flat(losses, 'float64') + flat(list(tensors(model)), 'float32')
    out += flat(gradients(tensors, model), 'float32')
    groups = [{'params': [p for p in model.parameters() if p.dim() > 1], 'weight_decay': 0.1},
              {'params': [p for p in model.parameters() if p.dim() < 2], 'weight_decay': 0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    steps = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = torch.cat(token_losses(model, rows)).mean()
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


main()
