"""Write small tokenizers of every family that can be imported, and what their own libraries make of texts.

usage: python3 make_tokenizers.py DIRECTORY [TEXTS [SEED]]
Needs tokenizers and sentencepiece.  Everything is made here: the words that the tokenizers are trained on, the rules of
characters, the texts.  texts.bin holds the texts, each behind its length as uint16; NAME/ids.bin has for each of them
the hash of its ids (see digest()) as uint32, then for the first FRAMED texts the hash of the ids and types within the
frame of one text, and of two texts cut to MOST tokens.
"""
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import unicodedata

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FRAMED = 100
MOST = 24
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2003", "\u200b", "\u0085", "\u2028", " \n ", "\u1680"]
SPECIALS = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "<|endoftext|>", "<|eot|>",
            "<extra_id_0>", "<bos>", "[new]", "Wort", "<start>", "\u2581\u2581", "<0x41>", "\u2581"]
MARKS = [chr(c) for c in range(0x300, 0x340)] + ["\u0323", "\u05b0", "\u064e", "\u093f", "\u0e33", "\u200d", "\ufe0f", "\u20dd"]


def digest(numbers):
    """FNV-1a of 32 bits over numbers as bytes, little end first."""
    value = 0x811C9DC5
    for number in numbers:
        for byte in struct.pack("<i", number):
            value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


# ---- texts ----

class Writer:
    """Words, sentences and stranger texts, the same for one seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        syllables = ["ka", "to", "mi", "re", "sun", "el", "bra", "th", "ing", "er", "qu", "lo", "ent", "st", "u", "a", "na\u00efve",
                     "\u00fcber", "\u00e9", "\u00e7a", "\u0448\u043a\u043e", "\u043b\u0430", "\u03b1\u03b2", "\u5b66", "\u6821\u751f",
                     "\u3072\u3089", "\ud55c\uad6d", "\u0915\u093f", "\u0627\u0644"]
        self.words = []
        for i in range(400):
            word = "".join(self.random.choice(syllables[:16] if i % 3 else syllables) for _ in range(self.random.randint(1, 4)))
            self.words.append(word.capitalize() if i % 7 == 0 else word)

    def word(self):
        return self.words[min(int(self.random.paretovariate(0.7)) - 1, 10 ** 6) % len(self.words)]

    def sentence(self):
        words = [self.word() for _ in range(self.random.randint(3, 14))]
        if self.random.random() < 0.3:
            words.insert(1, str(self.random.randint(0, 99999)))
        if self.random.random() < 0.2:
            words[-1] += self.random.choice(["'s", "n't", "'ll", "'RE"])
        return " ".join(words) + self.random.choice([".", "!", "?", "...", ";", " :)", "", ")"])

    def character(self):
        low, high = self.random.choice([(0x20, 0x7F), (0xA0, 0x250), (0x250, 0x600), (0x600, 0x1100), (0x1100, 0x2000),
                                        (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4),
                                        (0xF900, 0x10000), (0x10000, 0x11000), (0x1F000, 0x1FA00), (0, 0x20)])
        while True:
            c = chr(self.random.randrange(low, high))
            if unicodedata.category(c) not in ("Cn", "Cs"):
                return c

    def part(self):
        kind = self.random.randrange(14)
        if kind < 4:
            return self.word()
        if kind == 4:
            return self.random.choice(SPACES) * self.random.choice([1, 1, 2, 5])
        if kind == 5:
            return self.random.choice(SPECIALS)
        if kind == 6:
            return unicodedata.normalize("NFD", self.word()) + self.random.choice(MARKS) * self.random.randint(0, 2)
        if kind == 7:
            return str(self.random.randrange(10 ** self.random.randint(1, 9)))
        if kind == 8:
            return self.random.choice(["'s", "'T", "'Ve", "'ll", "\u017f", "'\u017f", "\u0130", "\u00df", "\ufb01", "\uff21", "\u2122", "\u00bd", "\u2460"])
        if kind == 9:
            return self.random.choice(["\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\u2764\ufe0f", "\U0001F1E9\U0001F1EA", "\U0001F44D\U0001F3FD"])
        if kind == 10:
            return self.random.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u00ab\u2014\u3002\u00bf")
        if kind == 11:
            return self.random.choice(["\u1112\u1161\u11ab", "\uac01\u0301", "\u304b\u3099", "\u0958", "\u0344", "e\u0301\u0323"])
        return self.character()

    def text(self, i):
        if i % 10 == 0:
            return self.sentence()
        if i % 97 == 1:
            return self.word() * self.random.randint(20, 60)
        joint = self.random.choice(["", " ", " "])
        return joint.join(self.part() for _ in range(self.random.randint(1, 12)))


EDGES = ["", " ", "  ", "\n", "\u2581", "\u2581a", " \u2581a", "a \u2581 b", "\u0000", "a\u0000b", "\u3000", " a", "a ", "  a  b  ", "\u00e9", "e\u0301",
         "<s>", " <mask> x", "<mask>", "a<mask>b", "x [new]y", "[NEW]", "\ufb01\u0301", "\u2122\u200d"]


# ---- tokenizers ----

def corpus():
    writer = Writer(1)
    return [writer.sentence() for _ in range(3000)]


def special(*texts):
    return [AddedToken(t, special=True, normalized=False) for t in texts]


def train_bytes(size, specials, **settings):
    t = Tokenizer(models.BPE(**settings))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False,
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def gpt2():
    return train_bytes(420, special("<|endoftext|>"))


def neox():
    t = train_bytes(420, special("<|endoftext|>", "<|padding|>"))
    t.normalizer = normalizers.NFC()
    t.add_tokens([AddedToken(" " * n, normalized=True) for n in range(12, 1, -1)])
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    return t


def roberta():
    t = train_bytes(420, special("<s>", "<pad>", "</s>", "<unk>"), unk_token="<unk>")
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    return t


def llama3():
    t = train_bytes(420, special("<|begin_of_text|>", "<|eot|>"), ignore_merges=True)
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
        "<|begin_of_text|> $A", "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", [("<|begin_of_text|>", 0)])])
    return t


def qwen2():
    t = train_bytes(420, special("<|endoftext|>"))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.add_tokens([AddedToken("<start>", normalized=False, rstrip=True), AddedToken("Wort", single_word=True)])
    return t


def digits():
    t = train_bytes(400, special("<|endoftext|>"))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return t


def prefixed():
    t = train_bytes(400, special("<|endoftext|>"))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return t


def train_bert(size, **settings):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(**settings)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=size, show_progress=False, limit_alphabet=120,
                                                             special_tokens=special("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")))
    t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)])
    return t


def bert():
    return train_bert(600)


def bert_added():
    t = train_bert(500, strip_accents=False)
    t.add_tokens([AddedToken("[new]", normalized=True), AddedToken("W\u00f6rt", normalized=True, single_word=True)])
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return t


def bert_cased():
    return train_bert(600, lowercase=False)


RULES = ["\ufb01", "\u2122", "\u00bd", "\u2460", "\uff21", "\uff22", "\u3000", "\u00a0", "\u2003", "\u0958", "\u0344", "\u0340", "\u2026", "\u1e69"]


def rules(path):
    """A few of the rules that models have: composition, compatible characters, control characters."""
    table = {}
    for base in "aeioukn":
        for mark in MARKS[:20]:
            composed = unicodedata.normalize("NFC", base + mark)
            if len(composed) == 1:
                table[base + mark] = composed
    table.update({c: unicodedata.normalize("NFKC", c) for c in RULES})
    table.update({chr(c): "" for c in (1, 2, 7, 0x200B, 0xFEFF)})
    table.update({chr(c): " " for c in (9, 10, 13, 0x2028)})
    table["\u304b\u3099"] = "\u304c"
    table["e\u0301\u0323"] = "\u1eb9\u0301"
    with open(path, "w", encoding="utf-8") as out:
        for key, value in sorted((k, v) for k, v in table.items() if k != v):
            out.write(" ".join(f"{ord(c):X}" for c in key) + "\t" + " ".join(f"{ord(c):X}" for c in value) + "\n")


def train_sentencepiece(path, **settings):
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/corpus", "w", encoding="utf-8") as out:
            out.write("\n".join(corpus()))
        rules(folder + "/rules.tsv")
        if settings.pop("ruled", False):
            settings["normalization_rule_tsv"] = folder + "/rules.tsv"
        else:
            settings["normalization_rule_name"] = "identity"
        sentencepiece.SentencePieceTrainer.train(input=folder + "/corpus", model_prefix=folder + "/model", num_threads=1,
                                                 minloglevel=2, **settings)
        shutil.copy(folder + "/model.model", path)
    return sentencepiece.SentencePieceProcessor(model_file=path)


def proto(path):
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    return model


def unigram(path):
    """The pieces and the map of a model of SentencePiece as a model of tokenizers."""
    model = proto(path)
    t = Tokenizer(models.Unigram([(p.piece, p.score) for p in model.pieces], unk_id=model.trainer_spec.unk_id))
    t.decoder = decoders.Metaspace()
    return t, model.normalizer_spec.precompiled_charsmap


def t5(path):
    t, charsmap = unigram(path)
    t.normalizer = normalizers.Precompiled(charsmap)
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.add_special_tokens(special("<pad>", "</s>", "<unk>"))
    t.add_special_tokens([AddedToken(f"<extra_id_{i}>", lstrip=True, rstrip=True, normalized=False) for i in (2, 1, 0)])
    t.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", t.token_to_id("</s>"))])
    return t


def xlmr(path):
    t, charsmap = unigram(path)
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Strip(left=False, right=True),
                                         normalizers.Replace(Regex(" {2,}"), "\u2581")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    t.add_special_tokens(special("<pad>", "</s>", "<unk>"))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    ids = [("<pad>", t.token_to_id("<pad>")), ("</s>", t.token_to_id("</s>"))]
    t.post_processor = processors.TemplateProcessing("<pad> $A </s>", "<pad> $A </s> </s> $B </s>", ids)
    return t


def characters(path, **settings):
    """A BPE model of SentencePiece as one of tokenizers: merges are all pairs that make a piece, by its score."""
    model = proto(path)
    vocab = {p.piece: i for i, p in enumerate(model.pieces)}
    scores = {p.piece: p.score for p in model.pieces if p.type in (1, 4)}
    merges = []
    for piece, score in scores.items():
        cuts = [(piece[:n], piece[n:]) for n in range(1, len(piece)) if piece[:n] in vocab and piece[n:] in vocab]
        merges += [(-score, vocab[a], vocab[b], a, b) for a, b in cuts]
    merges = [(a, b) for *_, a, b in sorted(merges)]
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, **settings))
    t.add_special_tokens(special("<unk>", "<s>", "</s>"))
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    return t


def llama2(path):
    t = characters(path, byte_fallback=True)
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return t


def mistral(path):
    t = characters(path, byte_fallback=True)
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return t


def unknowns(path):
    """Neither bytes for what is unknown, nor a space in front, and added tokens in the normal form of Llama."""
    t = characters(path)
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.add_tokens([AddedToken("Wort", normalized=True, lstrip=True), AddedToken("[new]", normalized=True, single_word=True)])
    return t


def gemma(path):
    t = characters(path, byte_fallback=True)
    t.normalizer = normalizers.Replace(" ", "\u2581")
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.add_tokens([AddedToken(x, normalized=False) for x in ("\n\n", "\u2581\u2581", "<start>", "\u2581\u2581\u2581")])
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return t


# ---- output ----

class Pieces:
    """SentencePiece as tokenizers sees it; frame: tokens in front, and behind, of each text."""

    def __init__(self, processor, front, behind, typed):
        self.processor, self.front, self.behind, self.typed = processor, front, behind, typed

    def ids(self, text):
        return self.processor.encode(text)


def digests(t, texts):
    if isinstance(t, Pieces):
        yield from (digest(t.ids(x)) for x in texts)
        for i in range(FRAMED):
            ids = t.front + t.ids(texts[i]) + t.behind
            yield digest(ids + [0] * len(ids))
            yield 0
        return
    t.no_truncation()
    t.no_padding()
    yield from (digest(t.encode(x, add_special_tokens=False).ids) for x in texts)
    for i in range(FRAMED):
        e = t.encode(texts[i])
        t.enable_truncation(MOST)
        p = t.encode(texts[i], texts[i + 1])
        t.no_truncation()
        yield digest(e.ids + e.type_ids)
        yield digest(p.ids + p.type_ids)


def compact(t):
    """As files are written, with what is to be left out and an old form of merges."""
    file = json.loads(t.to_str())
    merges = file["model"].get("merges")
    if merges and not any(" " in half for merge in merges for half in merge) and len(merges) % 2:
        file["model"]["merges"] = [" ".join(merge) for merge in merges]
    file["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    file["padding"] = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": "[PAD]"}
    return json.dumps(file, ensure_ascii=False, separators=(",", ":"))


def write(folder, name, t, texts, files):
    os.makedirs(f"{folder}/{name}", exist_ok=True)
    for file, content in files.items():
        with open(f"{folder}/{name}/{file}", "w", encoding="utf-8", newline="") as out:
            out.write(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":")))
    with open(f"{folder}/{name}/ids.bin", "wb") as out:
        out.write(b"".join(struct.pack("<I", value) for value in digests(t, texts)))
    print(name, len(texts), sum(os.path.getsize(f"{folder}/{name}/{f}") for f in os.listdir(f"{folder}/{name}")))


def main():
    folder, count, seed = sys.argv[1], int((sys.argv + [2000])[2] if len(sys.argv) > 2 else 2000), int(sys.argv[3]) if len(sys.argv) > 3 else 2
    os.makedirs(folder, exist_ok=True)
    writer = Writer(1)
    writer.random = random.Random(seed)
    texts = EDGES + [writer.text(i) for i in range(count)]
    with open(folder + "/texts.bin", "wb") as out:
        for text in texts:
            data = text.encode()
            out.write(struct.pack("<H", len(data)) + data)
    for make in (gpt2, neox, roberta, llama3, qwen2, digits, prefixed, bert, bert_added, bert_cased):
        t = make()
        write(folder, make.__name__, t, texts, {"tokenizer.json": compact(t)})
    t = gpt2()
    t.post_processor = processors.TemplateProcessing("$A <|endoftext|>", "$A <|endoftext|> $B:1 <|endoftext|>:1", [("<|endoftext|>", 0)])
    model = json.loads(t.to_str())["model"]
    write(folder, "gpt2_lists", t, texts, {
        "vocab.json": model["vocab"], "merges.txt": "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"]),
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024, "add_eos_token": True,
                                  "eos_token": "<|endoftext|>", "chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]}})
    t = roberta()
    model = json.loads(t.to_str())["model"]
    write(folder, "roberta_lists", t, texts, {
        "vocab.json": {**model["vocab"], "<mask>": t.token_to_id("<mask>")},
        "merges.txt": "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"])})
    t = bert_cased()
    vocab = json.loads(t.to_str())["model"]["vocab"]
    write(folder, "bert_txt", t, texts, {"vocab.txt": "".join(w + "\n" for w in sorted(vocab, key=vocab.get)),
                                         "tokenizer_config.json": {"do_lower_case": False, "model_max_length": 512, "tokenizer_class": "BertTokenizerFast"}})
    t5_ids = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    path = folder + "/t5_model/tokenizer.model"
    for name in ("t5_model", "llama_model", "gemma_model"):
        os.makedirs(f"{folder}/{name}", exist_ok=True)
    p = train_sentencepiece(path, vocab_size=420, character_coverage=0.99, ruled=True, **t5_ids)
    write(folder, "t5_model", Pieces(p, [], [1], False), texts, {"tokenizer_config.json": {"tokenizer_class": "T5Tokenizer", "extra_ids": 3}})
    for make in (t5, xlmr):
        t = make(path)
        write(folder, make.__name__, t, texts, {"tokenizer.json": compact(t)})
    path = folder + "/llama_model/tokenizer.model"
    p = train_sentencepiece(path, model_type="bpe", vocab_size=600, character_coverage=0.98, byte_fallback=True,
                            remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True)
    write(folder, "llama_model", Pieces(p, [1], [], True), texts, {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}})
    for make in (llama2, mistral):
        t = make(path)
        write(folder, make.__name__, t, texts, {"tokenizer.json": compact(t)})
    path = folder + "/gemma_model/tokenizer.model"
    p = train_sentencepiece(path, model_type="bpe", vocab_size=560, character_coverage=0.98, byte_fallback=True, add_dummy_prefix=False,
                            remove_extra_whitespaces=False, user_defined_symbols=["<start>", "\u2581\u2581", "\n\n", "\u2581\u2581\u2581"])
    write(folder, "gemma_model", Pieces(p, [], [], True), texts, {})
    t = gemma(path)
    write(folder, "gemma", t, texts, {"tokenizer.json": compact(t)})
    path = folder + "/unknowns_model/tokenizer.model"
    os.makedirs(folder + "/unknowns_model", exist_ok=True)
    p = train_sentencepiece(path, model_type="bpe", vocab_size=420, character_coverage=0.98, ruled=True)
    write(folder, "unknowns_model", Pieces(p, [], [], True), texts, {})
    t = unknowns(path)
    write(folder, "unknowns", t, texts, {"tokenizer.json": compact(t)})


if __name__ == "__main__":
    main()
