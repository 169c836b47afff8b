/*
 * character_map.h
 *	  A small precompiled_charsmap as SentencePiece stores it, for tests.
 */
#ifndef LLMAPP_CHARACTER_MAP_H
#define LLMAPP_CHARACTER_MAP_H

#include <stdint.h>
#include <string.h>

#define MAP_STATES 16
#define MAP_BYTES (4 + 4 * 256 * (MAP_STATES + 1) + 64)

/*
 * Write the map of a ligature, a wide letter, two wide spaces, an accent; returns its bytes.  Each
 * state of the trie has 256 units of its own, the first of which is its value.
 */
static inline size_t
write_character_map(uint8_t out[MAP_BYTES])
{
	static const char *const pairs[][2] = {{"\xEF\xAC\x81", "fi"},
										   {"\xEF\xBC\xA1", "A"},
										   {"\xE3\x80\x80", " "},
										   {"e\xCC\x81", "\xC3\xA9"},
										   {"\xC2\xAD", ""}};
	static uint32_t unit[256 * (MAP_STATES + 1)];
	uint32_t states = 1, trie = sizeof(unit), texts = 0;
	char *text = (char *) out + 4 + sizeof(unit);

	memset(unit, 0, sizeof(unit));
	unit[0] = 256 << 10;
	for (size_t p = 0; p < sizeof(pairs) / sizeof(pairs[0]); p++)
	{
		uint32_t base = 256, at = 0;

		for (const uint8_t *c = (const uint8_t *) pairs[p][0]; *c; c++)
		{
			at = base + *c;
			if (unit[at] == 0)
				unit[at] = (at ^ (256 * ++states)) << 10 | *c;
			base = at ^ (unit[at] >> 10);
		}
		unit[at] |= 0x100;
		unit[base] = 0x80000000 | texts;
		strcpy(text + texts, pairs[p][1]);
		texts += (uint32_t) strlen(pairs[p][1]) + 1;
	}
	memcpy(out, &trie, 4);
	memcpy(out + 4, unit, sizeof(unit));
	return 4 + sizeof(unit) + texts;
}

#endif /* LLMAPP_CHARACTER_MAP_H */
