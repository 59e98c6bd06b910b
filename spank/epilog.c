/*
 * epilog.c - slurm_spank_job_epilog: delete what a job's step program could not.
 *
 * Runs on each node of every job, as root, in a process of its own ("slurmstepd
 * spank epilog") with descriptor 0 closed and no PATH. An error would drain the
 * node: all problems are only logged, and reconcile deals with what is left.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../goffi/loader.h"
#include "../goffi/slurmk8s.h"
#include "fields.h"
#include "plugin.h"

#define HOOK "k8s_job_epilog"
#define MARGIN_MS 1000 /* for a hook that does not keep its own deadline */
#define MAX_FIELDS 16

/* Static: a thread that hangs keeps it in use after we return. */
static struct hook_call {
	const struct slurmk8s_library *library;
	const char *fields[MAX_FIELDS + 1];
	struct fields request;
	char **reply;
	int code;
} call;

/* An option of the job itself shows in the environment. One of an srun step in
 * it does not: then there is the mark that the step program has left. */
static bool job_has_services(uint32_t job, const char *run_dir)
{
	char mark[PATH_MAX];

	if (getenv("SPANK_" OPTION_ENVIRONMENT "k8s_register"))
		return true;
	snprintf(mark, sizeof(mark), "%s/job.%u", run_dir, (unsigned)job);
	return access(mark, F_OK) == 0;
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

/* The environment here is slurmd's, but for variables that start with SPANK_. */
static void make_request(uint32_t job, spank_t spank, const struct config *config)
{
	const char *nodelist = getenv("SLURM_JOB_NODELIST"); /* 23.02 and later */
	size_t count = 0;
	uid_t uid;
	gid_t gid;

	fields_clear(&call.request);
	fields_add(&call.request, "CONFIG", config->file);
	fields_add_number(&call.request, "DEADLINE_MS", (unsigned long)config->epilog_timeout_ms);
	fields_add_number(&call.request, "JOB_ID", job);
	if (spank_get_item(spank, S_JOB_UID, &uid) == ESPANK_SUCCESS)
		fields_add_number(&call.request, "UID", uid);
	if (spank_get_item(spank, S_JOB_GID, &gid) == ESPANK_SUCCESS)
		fields_add_number(&call.request, "GID", gid);
	fields_add(&call.request, "NODE", getenv("SLURMD_NODENAME"));
	fields_add(&call.request, "NODELIST", nodelist ? nodelist : getenv("SLURM_NODELIST"));
	fields_add(&call.request, "RESTART_COUNT", getenv("SLURM_JOB_RESTART_COUNT"));

	for (const char *f = NULL; count < MAX_FIELDS && (f = fields_next(&call.request, f));)
		call.fields[count++] = f;
	call.fields[count] = NULL;
}

static void *run_hook(void *unused)
{
	call.code = call.library->hook(HOOK, call.fields, &call.reply);
	return unused;
}

/* Run it in a thread, since this process may neither hang nor be killed. Returns
 * false if it has to be left behind; it ends with the process. */
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

static const char *message_of(char *const *reply)
{
	for (; reply && *reply; reply++)
		if (strncmp(*reply, "MESSAGE=", 8) == 0)
			return *reply + 8;
	return NULL;
}

void epilog_run(spank_t spank, const struct config *config)
{
	char problem[512];
	const char *message;
	uint32_t job;

	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS || !job_has_services(job, config->run_dir))
		return;
	occupy_standard_descriptors();
	if (slurmk8s_load(config->library, &call.library, problem, sizeof(problem)) != SLURMK8S_OK) {
		slurm_error("%s", problem);
		return;
	}
	make_request(job, spank, config);
	if (!run_until(config->epilog_timeout_ms + MARGIN_MS)) {
		slurm_error("slurmk8s: job %u: deregistration hangs, left to reconcile", (unsigned)job);
		return;
	}
	message = message_of(call.reply);
	if (call.code != SLURMK8S_OK)
		slurm_error("slurmk8s: job %u: not deregistered, left to reconcile: %s", (unsigned)job,
			    message ? message : call.library->strerror(call.code));
	else if (message)
		slurm_info("slurmk8s: job %u: %s", (unsigned)job, message);
	call.library->free(call.reply);
}
