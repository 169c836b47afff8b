"""Write unicode_tables.c: two-stage tables of what src/text/unicode.h answers.

usage: python3 unicode_tables.py > unicode_tables.c && clang-format -i unicode_tables.c
Everything comes from the unicodedata module, but White_Space, which it does not have, and which the Unicode standard
fixes (PropList.txt).  Tables cut the code points into blocks of 128 and keep each distinct block once.
"""
import sys
import unicodedata

BLOCK = 128
CODE_POINTS = 0x110000
SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
HANGUL = range(0xAC00, 0xD7A4)  # decomposed and composed by arithmetic


def composes(c):
    """May a text change under NFC because it has this character?"""
    return unicodedata.combining(chr(c)) > 0 or unicodedata.normalize("NFC", chr(c)) != chr(c) or c in SECONDS


def char_class(c):
    """Bits in the order of enum char_class."""
    category = unicodedata.category(chr(c))
    bits = [category[0] == "L", category[0] == "N", c in SPACES, category[0] == "P", category == "Mn",
            category in ("Cc", "Cf", "Co"), composes(c)]
    return sum(bit << i for i, bit in enumerate(bits))


def lower(c):
    """Distance to the simple lowercase mapping."""
    small = chr(c).lower()
    return ord(small) - c if len(small) == 1 else 0


def blocks(values):
    """Number of each block, and the distinct blocks one after the other."""
    numbers, index, data = {}, [], []
    for start in range(0, CODE_POINTS, BLOCK):
        block = tuple(values[start:start + BLOCK])
        if block not in numbers:
            numbers[block] = len(numbers)
            data += block
        index.append(numbers[block])
    return index, data


def array(kind, name, values):
    print(f"\nconst {kind} {name}[{len(values)}] = {{")
    for i in range(0, len(values), 24):
        print("\t" + ", ".join(str(v) for v in values[i:i + 24]) + ",")
    print("};")


def table(kind, name, values):
    index, data = blocks(values)
    array("uint8_t" if max(index) < 256 else "uint16_t", name + "_block", index)
    array(kind, name, data)


def decompositions():
    """Offset of each code point's full canonical decomposition in a list of runs: length, then code points."""
    offsets, runs = [0] * CODE_POINTS, [0]
    for c in range(CODE_POINTS):
        text = unicodedata.normalize("NFD", chr(c)) if c not in HANGUL and not 0xD800 <= c < 0xE000 else chr(c)
        if text != chr(c):
            offsets[c] = len(runs)
            runs += [len(text), *map(ord, text)]
    return offsets, runs


def compositions():
    """Primary composites as (first, second, composite), in order."""
    found = []
    for c in range(CODE_POINTS):
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and "<" not in parts[0] and unicodedata.normalize("NFC", chr(c)) == chr(c):
            found.append((int(parts[0], 16), int(parts[1], 16), c))
    return sorted(found)


print(f"""/*
 * unicode_tables.c
 *	  Properties of code points, Unicode {unicodedata.unidata_version}; written by unicode_tables.py.
 */
#include "unicode.h"
""", end="")
offsets, runs = decompositions()
composites = compositions()
SECONDS = {*(second for _, second, _ in composites), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}
table("uint8_t", "unicode_class", [char_class(c) for c in range(CODE_POINTS)])
table("int32_t", "unicode_lower", [lower(c) for c in range(CODE_POINTS)])
table("uint8_t", "unicode_combining", [unicodedata.combining(chr(c)) for c in range(CODE_POINTS)])
table("uint16_t", "unicode_decomposition", offsets)
array("int32_t", "unicode_decomposed", runs)
print(f"\nconst int32_t unicode_composite_count = {len(composites)};")
print(f"\nconst int32_t unicode_composite[{len(composites)}][3] = {{")
for i in range(0, len(composites), 6):
    print("\t" + " ".join("{%d, %d, %d}," % c for c in composites[i:i + 6]))
print("};")
print(f"composites {len(composites)}, runs {len(runs)}", file=sys.stderr)
