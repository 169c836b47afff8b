/*
 * faulty_disk.c
 *	  Preloaded into a test server: writes to files whose path holds the text in the file that
 *	  FAULTY_DISK names fail as on a full disk.  Without that file, or when it is empty, all is well.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static bool
is_full(int fd)
{
	const char *control = getenv("FAULTY_DISK");
	char text[512], link[64], path[512];
	int file = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t length = file >= 0 ? read(file, text, sizeof(text) - 1) : 0;
	ssize_t named;

	if (file >= 0)
		close(file);
	if (length <= 0)
		return false;
	text[length] = '\0';
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	named = readlink(link, path, sizeof(path) - 1);
	if (named < 0)
		return false;
	path[named] = '\0';
	return strstr(path, text) != NULL;
}

#define FAIL_WHEN_FULL(fd) \
	do \
	{ \
		int before = errno; \
		if (is_full(fd)) \
		{ \
			errno = ENOSPC; \
			return -1; \
		} \
		errno = before; \
	} while (0)

#define DEFINE(result, name, parameters, arguments) \
	result name parameters \
	{ \
		static result(*real) parameters; \
		if (real == NULL) \
			*(void **) &real = dlsym(RTLD_NEXT, #name); \
		FAIL_WHEN_FULL(fd); \
		return real arguments; \
	}

/* clang-format off */
DEFINE(ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
DEFINE(ssize_t, pwrite, (int fd, const void *bytes, size_t count, off_t offset), (fd, bytes, count, offset))
DEFINE(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t offset), (fd, parts, count, offset))
/* clang-format on */
