#!/usr/bin/env python3
"""Blocks of GGML and a small GGUF file as the gguf package has them, for test_ggml_blocks.c and test_gguf.c.

Needs numpy and gguf; the tests need neither: tests/unit/golden/make_gguf.py makes the files beside it again.
ggml_blocks.bin, little-endian:
  int32 types; for each int32 number, numbers in a block, bytes of a block
  int32 decoded; for each int32 number, blocks; the blocks; float32 numbers
  int32 encoded; for each int32 number, blocks; float32 numbers; the blocks
sample.gguf: a value of each type, and a tensor of each type that is written.
"""
import os
import numpy as np
from gguf import GGMLQuantizationType as T, GGUFValueType as V, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

HERE = os.path.dirname(os.path.abspath(__file__))
UNUSED = {T.Q8_1, T.Q8_K}  # of products, never in files
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}  # where a block has its factors
random = np.random.default_rng(7)


def ints(*numbers):
    return np.array(numbers, '<i4').tobytes()


def random_blocks(kind, blocks):
    """Any bits, but factors that are finite: from tiny to some hundreds, and 0."""
    rows = random.integers(0, 256, (blocks, GGML_QUANT_SIZES[kind][1]), np.uint8)
    for at in HALVES[kind]:
        halves = np.ldexp(random.normal(size=blocks), random.integers(-24, 8, blocks)).astype('<f2')
        halves[-1] = 0
        rows[:, at:at + 2] = halves.view(np.uint8).reshape(-1, 2)
    return rows


def decoded(kind, rows):
    numbers = dequantize(rows, kind).astype('<f4')
    return ints(kind, len(rows)) + rows.tobytes() + numbers.tobytes()


def encoded(kind, numbers):
    return ints(kind, numbers.size // GGML_QUANT_SIZES[kind][0]) + numbers.tobytes() + quantize(numbers, kind).tobytes()


def write_blocks():
    kinds = [t for t in T if t not in UNUSED]
    out = ints(len(kinds)) + b''.join(ints(t, *GGML_QUANT_SIZES[t]) for t in kinds)
    out += ints(len(HALVES) + 2) + b''.join(decoded(t, random_blocks(t, 8)) for t in HALVES)
    halves = np.arange(0, 65536, 97, dtype='<u2')
    halves = halves[np.isfinite(halves.view('<f2'))]
    out += decoded(T.F16, halves.view(np.uint8).reshape(-1, 2))
    out += decoded(T.BF16, halves.view(np.uint8).reshape(-1, 2))
    numbers = np.ldexp(random.normal(size=(16, 32)), random.integers(-20, 10, (16, 1))).astype('<f4')
    numbers[3] = 0
    numbers[4] = np.arange(32) / 2 - 8  # many lie in the middle of two
    numbers[5] = (np.arange(32) - 16) * 127.5 / 15
    numbers[6, :2] = [3, -3]
    numbers[7] = np.ldexp(np.arange(32, dtype='<f4'), -123)  # its factor is 0 as a half
    tricky = np.array([65519.99, 65520, 65504, 1e38, 2**-14, 2**-24, 2**-25, 2**-25 * 1.01, 3 * 2**-25, 1 + 2**-11,
                       1 + 3 * 2**-11, 2**-14 - 2**-26, 1 + 2**-8, 1 + 3 * 2**-8, 2**-130, 0], '<f4')
    numbers16 = np.concatenate([numbers[8:12].ravel(), tricky, -tricky]).reshape(-1, 32)
    with np.errstate(over='ignore'):
        out += ints(4) + encoded(T.Q4_0, numbers) + encoded(T.Q8_0, numbers) + encoded(T.F16, numbers16)
        out += encoded(T.BF16, numbers16)
    with open(os.path.join(HERE, 'ggml_blocks.bin'), 'wb') as f:
        f.write(out)


def write_sample():
    w = GGUFWriter(os.path.join(HERE, 'sample.gguf'), 'sample')
    for name, value, kind in [('u8', 200, V.UINT8), ('i8', -100, V.INT8), ('u16', 60000, V.UINT16),
                              ('i16', -30000, V.INT16), ('u32', 4000000000, V.UINT32), ('i32', -2000000000, V.INT32),
                              ('f32', 0.1, V.FLOAT32), ('true', True, V.BOOL), ('false', False, V.BOOL),
                              ('u64', 2**63 + 5, V.UINT64), ('i64', -2**40, V.INT64), ('f64', 0.1, V.FLOAT64)]:
        w.add_key_value('test.' + name, value, kind)
    w.add_string('test.string', 'grün')
    w.add_array('test.strings', ['<s>', '', ' a', '中'])
    w.add_array('test.integers', [1, -2, 3])
    w.add_array('test.floats', [0.5, -1.25])
    w.add_custom_alignment(64)
    numbers = np.arange(96, dtype=np.float32).reshape(3, 32) / 8 - 4
    w.add_tensor('b.weight', numbers)
    w.add_tensor('a.weight', numbers[:1].astype(np.float16))
    for kind in (T.Q8_0, T.Q4_0, T.BF16):
        w.add_tensor('t.' + kind.name, quantize(numbers, kind), raw_dtype=kind)
    w.add_tensor('i', np.arange(3, dtype=np.int32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


write_blocks()
write_sample()
