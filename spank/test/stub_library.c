/*
 * stub_library.c - plays libslurmk8s.so: writes what it is asked to LOG, and answers by
 * the job id's last digit: 6 leaves a refusal, 7 fails, 8 hangs, 9 fails without a message;
 * all else is done.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../goffi/slurmk8s.h"

int slurmk8s_abi(void)
{
	return SLURMK8S_ABI;
}

const char *slurmk8s_version(void)
{
	return "stub";
}

void slurmk8s_free(char **reply)
{
	if (reply)
		free(reply[0]);
	free(reply);
}

const char *slurmk8s_strerror(int code)
{
	return code == SLURMK8S_FAILED ? "failed, in general" : "other";
}

static void refuse(const char *run_dir, const char *job)
{
	char path[512];
	FILE *mark;

	snprintf(path, sizeof(path), "%s/refuse.%s", run_dir, job);
	mark = fopen(path, "w");
	if (mark) {
		fprintf(mark, "web-1 may not be evicted\n");
		fclose(mark);
	}
}

int slurmk8s_hook(const char *name, const char *const *fields, char ***reply)
{
	FILE *log = fopen(LOG, "a");
	const char *run_dir = getenv("STUB_RUN_DIR"), *job = "0";
	char digit;

	if (!log)
		return SLURMK8S_FAILED;
	fprintf(log, "%s, lowest descriptor %d\n", name, fileno(log));
	for (; *fields; fields++) {
		fprintf(log, "  %s\n", *fields);
		if (strncmp(*fields, "JOB_ID=", 7) == 0)
			job = *fields + 7;
	}
	fclose(log);
	digit = job[strlen(job) - 1];
	*reply = NULL;
	while (digit == '8')
		sleep(1);
	if (digit == '6' && run_dir && strcmp(name, "k8s_job_prolog") == 0)
		refuse(run_dir, job);
	if (digit == '7') {
		*reply = calloc(2, sizeof(**reply));
		(*reply)[0] = strdup("MESSAGE=the API server does not answer");
	}
	return digit == '6' || digit == '7' || digit == '9' ? SLURMK8S_FAILED : SLURMK8S_OK;
}
