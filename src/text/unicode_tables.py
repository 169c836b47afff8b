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

# What the library tokenizers does not know, because its own tables are of older versions of Unicode: for BERT the class of
# nonspacing marks, punctuation and format characters, and for StripAccents which characters are marks.
NEWER = (
    "61D 7FD 890-891 897-89F 8CA-8E2 9FD-9FE A76 AFA-AFF B55 C04 C3C C77 C84 D00 D3B-D3C D81 EBA ECE 180F 1885-1886 "
    "1ABF-1ACE 1B4E-1B4F 1B7D-1B7F 1DF6-1DFB 2E43-2E4F 2E52-2E5D A82C A8C5 A8FF A9BD 10D24-10D27 10D69-10D6E "
    "10EAB-10EAD 10EFC-10EFF 10F46-10F50 10F55-10F59 10F82-10F89 11070 11073-11074 110C2 110CD 111C9 111CF 1123E "
    "11241 1133B 113BB-113C0 113CE 113D0 113D2 113D4-113D5 113D7-113D8 113E1-113E2 11438-1143F 11442-11444 11446 "
    "1144B-1144F 1145A-1145B 1145D-1145E 11660-1166C 116B9 1182F-11837 11839-1183B 1193B-1193C 1193E 11943-11946 "
    "119D4-119D7 119DA-119DB 119E0 119E2 11A01-11A0A 11A33-11A38 11A3B-11A47 11A51-11A56 11A59-11A5B 11A8A-11A96 "
    "11A98-11A9C 11A9E-11AA2 11B00-11B09 11BE1 11C30-11C36 11C38-11C3D 11C3F 11C41-11C45 11C70-11C71 11C92-11CA7 "
    "11CAA-11CB0 11CB2-11CB3 11CB5-11CB6 11D31-11D36 11D3A 11D3C-11D3D 11D3F-11D45 11D47 11D90-11D91 11D95 11D97 "
    "11EF3-11EF4 11EF7-11EF8 11F00-11F01 11F36-11F3A 11F40 11F42-11F4F 11F5A 11FFF 12FF1-12FF2 13430-13440 "
    "13447-13455 1611E-16129 1612D-1612F 16D6D-16D6F 16E97-16E9A 16F4F 16FE2 16FE4 1CF00-1CF2D 1CF30-1CF46 "
    "1E000-1E006 1E008-1E018 1E01B-1E021 1E023-1E024 1E026-1E02A 1E08F 1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF "
    "1E5EE-1E5EF 1E5FF 1E944-1E94A 1E95E-1E95F ")
NO_MARKS = (
    "7FD 897-89F 8CA-8D3 9FE AFA-AFF B55 C04 C3C CF3 D00 D3B-D3C D81 EBA ECE 1715 180F 1ABF-1ACE 1CF2-1CF3 1CF7 "
    "1DF6-1DFA A82C A8FF 10D24-10D27 10D69-10D6D 10EAB-10EAC 10EFC-10EFF 10F46-10F50 10F82-10F85 11070 11073-11074 "
    "110C2 11145-11146 111C9 111CE-111CF 11241 1133B 113B8-113C0 113C2 113C5 113C7-113CA 113CC-113D0 113D2 "
    "113E1-113E2 1145E 1182C-1183A 11930-11935 11937-11938 1193B-1193E 11940 11942-11943 119D1-119D7 119DA-119E0 "
    "119E4 11A01-11A0A 11A33-11A39 11A3B-11A3E 11A47 11A51-11A5B 11A8A-11A99 11D31-11D36 11D3A 11D3C-11D3D "
    "11D3F-11D45 11D47 11D8A-11D8E 11D90-11D91 11D93-11D97 11EF3-11EF6 11F00-11F01 11F03 11F34-11F3A 11F3E-11F42 "
    "11F5A 13440 13447-13455 1611E-1612F 16F4F 16F7F-16F87 16FE4 16FF0-16FF1 1CF00-1CF2D 1CF30-1CF46 1E08F "
    "1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1E5EE-1E5EF ")


def ranges(text):
    """Code points of ranges in hexadecimal."""
    ends = [[int(end, 16) for end in part.split("-")] for part in text.split()]
    return {c for end in ends for c in range(end[0], end[-1] + 1)}


NEWER, NO_MARKS = ranges(NEWER), ranges(NO_MARKS)


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
    bits = [mark and c not in NO_MARKS, extends, c in PREPENDED, control, word, c in NEWER]
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
