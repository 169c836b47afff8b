"""Write tokenizers of make_tokenizers.py as GGUF files, NAME/tokenizer.gguf beside what they are made of.

usage: python3 make_gguf_tokenizers.py DIRECTORY
Needs gguf and sentencepiece.  Keys are written as the converters of llama.cpp write them; ids of texts are those of
NAME/ids.bin.
"""
import json
import sys

import gguf
from gguf import TokenType
from sentencepiece import sentencepiece_model_pb2

SPACE = "\u2581"


def write(folder, name, arch, model, tokens, types, scores=None, keys=()):
    writer = gguf.GGUFWriter(f"{folder}/{name}/tokenizer.gguf", arch)
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    for add, value in keys:
        getattr(writer, add)(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def of_json(folder, name, arch, model, change, keys):
    with open(f"{folder}/{name}/tokenizer.json", encoding="utf-8") as file:
        data = json.load(file)
    special = {t["id"]: t for t in data["added_tokens"]}
    vocab = {**data["model"]["vocab"], **{t["content"]: t["id"] for t in data["added_tokens"]}}
    tokens = sorted(vocab, key=vocab.get)
    types = [TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(tokens))]
    merges = data["model"].get("merges")
    if merges:
        keys = [*keys, ("add_token_merges", [m if isinstance(m, str) else " ".join(m) for m in merges])]
    write(folder, name, arch, model, [change(t, k) for t, k in zip(tokens, types)], types, None, keys)


def phantom(token, kind):
    """Words with a mark in front, what goes on with one without."""
    return token if kind == TokenType.CONTROL else token[2:] if token.startswith("##") else SPACE + token


def of_sentencepiece(folder, name, arch, model, extra, keys):
    pieces = sentencepiece_model_pb2.ModelProto()
    with open(f"{folder}/{name}/tokenizer.model", "rb") as file:
        pieces.ParseFromString(file.read())
    spec = pieces.normalizer_spec
    keys = [*keys, ("add_add_space_prefix", spec.add_dummy_prefix), ("add_remove_extra_whitespaces", spec.remove_extra_whitespaces)]
    if spec.precompiled_charsmap:
        keys.append(("add_precompiled_charsmap", spec.precompiled_charsmap))
    write(folder, name, arch, model, [p.piece for p in pieces.pieces] + extra, [p.type for p in pieces.pieces] + [TokenType.CONTROL] * len(extra),
          [p.score for p in pieces.pieces] + [-1000.0] * len(extra), keys)


def main():
    folder = sys.argv[1]
    same = lambda token, kind: token
    of_json(folder, "gpt2", "gpt2", "gpt2", same, [("add_tokenizer_pre", "gpt-2"), ("add_bos_token_id", 0), ("add_eos_token_id", 0)])
    of_json(folder, "llama3", "llama", "gpt2", same, [("add_tokenizer_pre", "llama-bpe"), ("add_bos_token_id", 0), ("add_eos_token_id", 1)])
    of_json(folder, "bert", "bert", "bert", phantom, [("add_unk_token_id", 1), ("add_sep_token_id", 3), ("add_pad_token_id", 0), ("add_bos_token_id", 2),
                                                      ("add_mask_token_id", 4), ("add_chat_template", "{{ messages }}")])
    of_sentencepiece(folder, "t5_model", "t5", "t5", [f"<extra_id_{i}>" for i in (2, 1, 0)], [
        ("add_pad_token_id", 0), ("add_eos_token_id", 1), ("add_unk_token_id", 2), ("add_add_bos_token", False), ("add_add_eos_token", True)])
    of_sentencepiece(folder, "llama_model", "llama", "llama", [], [("add_bos_token_id", 1), ("add_eos_token_id", 2), ("add_unk_token_id", 0)])


main()
