"""Write unicode_tables.c: two-stage tables of what src/text/unicode.h answers.

usage: python3 unicode_tables.py > unicode_tables.c && clang-format -i unicode_tables.c
Everything comes from the unicodedata module, but White_Space, which it does not have, and which the Unicode standard
fixes (PropList.txt), and what the general category does not say of clusters (GraphemeBreakProperty.txt) and of letters
(Other_Alphabetic).  Tables cut the code points into blocks of 128 and keep each distinct block once.
"""
import sys
import unicodedata

BLOCK = 128
CODE_POINTS = 0x110000
SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
HANGUL = range(0xAC00, 0xD7A4)  # decomposed and composed by arithmetic

# Marks that end a cluster, and others that go on with it or go before it.
APART = {0x102B, 0x102C, 0x1038, *range(0x1062, 0x1065), *range(0x1067, 0x106E), 0x1083, *range(0x1087, 0x108D), 0x108F,
         *range(0x109A, 0x109D), 0x1A61, 0x1A63, 0x1A64, 0xAA7B, 0xAA7D, 0x11720, 0x11721}
EXTENDS = {0x200C, 0x200D, 0x0E33, 0x0EB3, 0xFF9E, 0xFF9F, *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080)}
PREPENDED = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2, 0x111C3, 0x1193F,
             0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02}
CIRCLED = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A)}


def composes(c):
    """May a text change under NFC because it has this character?"""
    return unicodedata.combining(chr(c)) > 0 or unicodedata.normalize("NFC", chr(c)) != chr(c) or c in SECONDS


def char_class(c):
    """Bits in the order of enum char_class."""
    category = unicodedata.category(chr(c))
    bits = [category[0] == "L", category[0] == "N", c in SPACES, category[0] == "P", category == "Mn",
            category in ("Cc", "Cf", "Co"), composes(c)]
    return sum(bit << i for i, bit in enumerate(bits))


def char_role(c):
    """Bits in the order of enum char_role."""
    category = unicodedata.category(chr(c))
    mark = category[0] == "M"
    extends = (mark and c not in APART) or c in EXTENDS
    control = category in ("Cc", "Cf", "Zl", "Zp") and not extends and c not in PREPENDED
    word = category[0] in "LM" or category in ("Nd", "Nl", "Pc") or c in CIRCLED or c in (0x200C, 0x200D)
    bits = [mark, extends, c in PREPENDED, control, word]
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
table("uint8_t", "unicode_role", [char_role(c) for c in range(CODE_POINTS)])
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
