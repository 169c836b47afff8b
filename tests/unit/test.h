/*
 * test.h
 *	  Counters and comparisons for plain C unit tests.
 *
 * Each tests/unit/test_*.c is one program: it calls CHECK macros from main() and ends
 * with `return test_summary();`, which prints "N passed, N failed" and is non-zero when
 * anything failed.  A failed check prints file, line and what was compared, then goes on.
 */
#ifndef LLMAPP_TEST_H
#define LLMAPP_TEST_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static int test_passed;
static int test_failed;

/* True when cond holds; counts either way. */
#define CHECK(cond) test_check((cond), #cond, __FILE__, __LINE__)

/* Integers; prints both values. */
#define CHECK_INT(actual, expected) \
	test_check_int((long long) (actual), (long long) (expected), #actual, __FILE__, __LINE__)

/* Strings, either may be NULL. */
#define CHECK_STR(actual, expected) test_check_str((actual), (expected), #actual, __FILE__, __LINE__)

/* Equal byte for byte. */
#define CHECK_BYTES(a, b, size) \
	test_check(memcmp((a), (b), (size)) == 0, "bytes of " #a " equal " #b, __FILE__, __LINE__)

/* |actual - expected| <= tolerance, and both finite. */
#define CHECK_NEAR(actual, expected, tolerance) \
	test_check_near((actual), (expected), (tolerance), #actual, __FILE__, __LINE__)

/* Normalised mean squared error of a float array against a double one: sum (a-b)^2 / sum b^2. */
#define CHECK_CLOSE(actual, expected, count, limit) \
	test_check_close((actual), (expected), (count), (limit), #actual, __FILE__, __LINE__)

static inline bool
test_check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		test_passed++;
	else
	{
		test_failed++;
		fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
	}
	return ok;
}

static inline bool
test_check_int(long long actual, long long expected, const char *what, const char *file, int line)
{
	char text[512];

	snprintf(text, sizeof(text), "%s is %lld, expected %lld", what, actual, expected);
	return test_check(actual == expected, text, file, line);
}

static inline bool
test_check_str(const char *actual, const char *expected, const char *what, const char *file, int line)
{
	char text[1024];
	bool equal = actual && expected ? strcmp(actual, expected) == 0 : actual == expected;

	snprintf(text, sizeof(text), "%s is \"%s\", expected \"%s\"", what, actual ? actual : "(null)",
			 expected ? expected : "(null)");
	return test_check(equal, text, file, line);
}

static inline bool
test_check_near(double actual, double expected, double tolerance, const char *what, const char *file, int line)
{
	char text[512];
	bool ok = isfinite(actual) && isfinite(expected) && fabs(actual - expected) <= tolerance;

	snprintf(text, sizeof(text), "%s is %.9g, expected %.9g within %g", what, actual, expected, tolerance);
	return test_check(ok, text, file, line);
}

static inline double
test_nmse(const float *actual, const double *expected, size_t count)
{
	double error = 0, norm = 0;

	for (size_t i = 0; i < count; i++)
	{
		error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
		norm += expected[i] * expected[i];
	}
	return norm > 0 ? error / norm : error;
}

static inline bool
test_check_close(const float *actual, const double *expected, size_t count, double limit, const char *what,
				 const char *file, int line)
{
	char text[512];
	double nmse = test_nmse(actual, expected, count);

	snprintf(text, sizeof(text), "NMSE of %s is %.3g, limit %g", what, nmse, limit);
	return test_check(isfinite(nmse) && nmse <= limit, text, file, line);
}

static inline int
test_summary(void)
{
	printf("%d passed, %d failed\n", test_passed, test_failed);
	return test_failed > 0;
}

#endif /* LLMAPP_TEST_H */
