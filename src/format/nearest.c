/*
 * nearest.c
 *	  Which known name a misspelt one may have meant.
 */
#include "nearest.h"

#include <string.h>

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
