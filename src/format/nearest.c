/*
 * nearest.c
 *	  Which known name a misspelt one may have meant.
 */
#include "nearest.h"

#include <string.h>

#include "tensor_source.h"

int
name_distance(const char *a, const char *b)
{
	int row[64];
	size_t width = strlen(b);

	if (strlen(a) >= 64 || width >= 64)
		return 1000;
	for (size_t j = 0; j <= width; j++)
		row[j] = (int) j;
	for (size_t i = 1; a[i - 1] != '\0'; i++)
	{
		int diagonal = row[0];

		row[0] = (int) i;
		for (size_t j = 1; j <= width; j++)
		{
			int substitute = diagonal + (a[i - 1] != b[j - 1]);
			int shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			diagonal = row[j];
			row[j] = substitute < shorter ? substitute : shorter;
		}
	}
	return row[width];
}

bool
keys_known(const json_t *object, const char *what, const char *const *known, int count, llm_error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) object, key, value)
	{
		int nearest = 0, i = 0;

		while (i < count && strcmp(key, known[i]) != 0)
			i++;
		if (i < count)
			continue;
		for (i = 1; i < count; i++)
			if (name_distance(key, known[i]) < name_distance(key, known[nearest]))
				nearest = i;
		llm_fail(err, LLM_INVALID, "unknown %s \"%s\"", what, SHOWN(key));
		if (name_distance(key, known[nearest]) <= NAME_DISTANCE_NEAR)
			llm_hint(err, "Did you mean \"%s\"?", known[nearest]);
		return false;
	}
	return true;
}
