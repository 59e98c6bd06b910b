/*
 * job_script.c - see job_script.h.
 */
#define _GNU_SOURCE
#include "job_script.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../goffi/shim/loader.h"
#include "../goffi/slurmk8s.h"

#define MARGIN_MS 1000 /* for a hook that does not keep its own deadline */

/* Static: a thread that hangs keeps it in use after we return. */
static struct hook_call {
	const struct slurmk8s_library *library;
	const char *hook;
	const char **fields;
	char **reply;
	int code;
} call;

/* The environment here is slurmd's, but for variables that start with SPANK_. */
void job_script_request(struct fields *request, uint32_t job, spank_t spank, const struct config *config,
			int timeout_ms)
{
	const char *nodelist = getenv("SLURM_JOB_NODELIST"); /* 23.02 and later */
	uid_t uid;
	gid_t gid;

	fields_clear(request);
	fields_add(request, "CONFIG", config->file);
	fields_add_number(request, "DEADLINE_MS", (unsigned long)timeout_ms);
	fields_add_number(request, "JOB_ID", job);
	if (spank_get_item(spank, S_JOB_UID, &uid) == ESPANK_SUCCESS)
		fields_add_number(request, "UID", uid);
	if (spank_get_item(spank, S_JOB_GID, &gid) == ESPANK_SUCCESS)
		fields_add_number(request, "GID", gid);
	fields_add(request, "NODE", getenv("SLURMD_NODENAME"));
	fields_add(request, "NODELIST", nodelist ? nodelist : getenv("SLURM_NODELIST"));
	fields_add(request, "RESTART_COUNT", getenv("SLURM_JOB_RESTART_COUNT"));
}

/* So that none of the library's files becomes descriptor 0, 1 or 2. */
static void occupy_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static void *run_hook(void *unused)
{
	call.code = call.library->hook(call.hook, call.fields, &call.reply);
	return unused;
}

/* Returns false if the hook has to be left behind. */
static bool run_until(int timeout_ms)
{
	struct timespec deadline;
	pthread_t thread;

	if (pthread_create(&thread, NULL, run_hook, NULL) != 0) {
		run_hook(NULL);
		return true;
	}
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += timeout_ms / 1000;
	deadline.tv_nsec += timeout_ms % 1000 * 1000000L;
	if (deadline.tv_nsec >= 1000000000L) {
		deadline.tv_sec++;
		deadline.tv_nsec -= 1000000000L;
	}
	return pthread_timedjoin_np(thread, NULL, &deadline) == 0;
}

static void take_message(char *const *reply, const char *otherwise, char *message, size_t size)
{
	while (reply && *reply && strncmp(*reply, "MESSAGE=", 8) != 0)
		reply++;
	fields_line(reply && *reply ? *reply + 8 : NULL, otherwise, message, size);
}

int job_script_call(const char *library, const char *hook, const struct fields *request, int timeout_ms,
		    char *message, size_t size)
{
	call.fields = fields_vector(request, message, size);
	if (!call.fields)
		return SLURMK8S_ENOMEM;
	call.hook = hook;
	occupy_standard_descriptors();
	call.code = slurmk8s_load(library, &call.library, message, size);
	if (call.code != SLURMK8S_OK)
		goto end;
	if (!run_until(timeout_ms + MARGIN_MS)) {
		snprintf(message, size, "the hook did not end within %d ms", timeout_ms + MARGIN_MS);
		return SLURMK8S_FAILED;
	}
	take_message(call.reply, call.code == SLURMK8S_OK ? "" : call.library->strerror(call.code), message, size);
	call.library->free(call.reply);
end:
	free(call.fields);
	return call.code;
}
