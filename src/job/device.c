/*
 * device.c
 *	  The GPUs of this server, as a session sees them.
 *
 * The child process shares nothing with the server but code and an inherited copy of memory: it forgets
 * callbacks of exit, gives signals their defaults, ends with its parent at the latest and never returns.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "device.h"
#include "worker.h"

#define LIBRARY "llmapp_cuda.so"
#define ANSWER_MS 30000
#define POLL_MS 100

char *
GpuLibrary(void)
{
	char path[MAXPGPATH];
	Dl_info info;

	if (dladdr((void *) GpuLibrary, &info) == 0 || info.dli_fname == NULL)
		return NULL;
	strlcpy(path, info.dli_fname, sizeof(path));
	get_parent_directory(path);
	join_path_components(path, path, LIBRARY);
	return access(path, R_OK) == 0 ? pstrdup(path) : NULL;
}

/* ---- asking ---- */

pg_noreturn static void
Answer(int fd, const char *path)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGCHLD};
	GpuList answer = {0};
	llm_error err = {0};

	on_exit_reset();
	for (int i = 0; i < (int) lengthof(signals); i++)
		pqsignal(signals[i], SIG_DFL);
	(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
	answer.count = cuda_list(path, answer.list, &err);
	snprintf(answer.reason, sizeof(answer.reason), "%s%s%s", err.message, err.detail[0] ? ": " : "", err.detail);
	for (Size done = 0; done < sizeof(answer);)
	{
		ssize_t written = write(fd, (char *) &answer + done, sizeof(answer) - done);

		if (written <= 0 && errno != EINTR)
			_exit(1);
		done += Max(written, 0);
	}
	_exit(0);
}

/* All of the answer, or false when the child ended before or takes too long. */
static bool
ReadAnswer(int fd, GpuList *gpus)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	TimestampTz start = GetCurrentTimestamp();
	Size done = 0;

	while (done < sizeof(*gpus))
	{
		ssize_t got;

		CHECK_FOR_INTERRUPTS();
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), ANSWER_MS))
			return false;
		if (poll(&wait, 1, POLL_MS) <= 0)
			continue;
		got = read(fd, (char *) gpus + done, sizeof(*gpus) - done);
		if (got == 0 || (got < 0 && errno != EINTR))
			return false;
		done += Max(got, 0);
	}
	return true;
}

static void
AskChild(const char *path, GpuList *gpus)
{
	int ends[2];
	pid_t child;

	if (pipe(ends) != 0 || (child = fork()) < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not start a process that looks for GPUs: %m")));
	if (child == 0)
		Answer(ends[1], path);
	close(ends[1]);
	PG_TRY();
	{
		if (!ReadAnswer(ends[0], gpus))
		{
			gpus->count = 0;
			strlcpy(gpus->reason, "the process that looked for GPUs ended without an answer", sizeof(gpus->reason));
		}
	}
	PG_FINALLY();
	{
		close(ends[0]);
		(void) kill(child, SIGKILL);
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	PG_END_TRY();
}

/* Its files; the backend's emulated GPU, of tests, has none and is named in the server's environment. */
static bool
HasDriver(void)
{
	static const char *const files[] = {"/dev/nvidiactl", "/dev/dxg", "/dev/nvmap"};

	for (int i = 0; i < (int) lengthof(files); i++)
		if (access(files[i], F_OK) == 0)
			return true;
	return getenv("LLMAPP_EMULATED_GPU") != NULL;
}

/* Loading the library takes longer than many a training, so it is loaded where there is a driver only. */
void
AskForGpus(GpuList *gpus)
{
	char *path = GpuLibrary();

	memset(gpus, 0, sizeof(*gpus));
	if (path == NULL)
		strlcpy(gpus->reason, LIBRARY " is not installed", sizeof(gpus->reason));
	else if (!HasDriver())
		strlcpy(gpus->reason, "no NVIDIA driver is loaded", sizeof(gpus->reason));
	else
		AskChild(path, gpus);
}

/* ---- names ---- */

int
GpuNumber(const char *device)
{
	if (strcmp(device, "cuda") == 0)
		return -1;
	if (strncmp(device, "cuda:", 5) != 0 || device[5] == '\0' || strlen(device) > 5 + 4 ||
		strspn(device + 5, "0123456789") != strlen(device + 5))
		return -2;
	return atoi(device + 5);
}

/* Why a GPU of this number, or any, cannot be used; NULL when it can. */
static const char *
GpuProblem(const GpuList *gpus, int number)
{
	if (gpus->count == 0)
		return gpus->reason;
	if (number >= gpus->count)
		return psprintf("There are %d GPUs, numbered from 0", gpus->count);
	for (int i = 0; i < gpus->count; i++)
		if ((number < 0 || i == number) && gpus->list[i].major >= LEAST_CAPABILITY)
			return NULL;
	return "Its compute capability is below 8.0";
}

pg_noreturn static void
ThrowNoDevice(const char *device, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("device \"%s\" is not available", device),
					errdetail_internal("%s.", problem),
					errhint("Use device => 'auto' or 'cpu'; see SELECT * FROM llmapp.devices;")));
}

static bool
IsGpu(const char *device)
{
	if (strcmp(device, "cpu") == 0 || strcmp(device, "auto") == 0)
		return false;
	if (GpuNumber(device) == -2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown device \"%s\"", device),
						errhint("Use 'auto', 'cpu', 'cuda' or 'cuda:N'; see SELECT * FROM llmapp.devices;")));
	return true;
}

char *
ResolveDevice(const char *device)
{
	GpuList gpus;
	const char *problem;

	if (device == NULL)
		device = llmapp_device;
	if (!IsGpu(device))
		return pstrdup(strcmp(device, "auto") == 0 && GpuLibrary() != NULL ? "auto" : "cpu");
	AskForGpus(&gpus);
	problem = GpuProblem(&gpus, GpuNumber(device));
	if (problem != NULL)
		ThrowNoDevice(device, problem);
	return pstrdup(device);
}
