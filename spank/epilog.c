/*
 * epilog.c - slurm_spank_job_epilog: delete what a job's step program could not, and
 * give the node back to Kubernetes.
 *
 * An error would drain the node: all problems are only logged, and reconcile deals
 * with what is left.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "../goffi/shim/fields.h"
#include "../goffi/slurmk8s.h"
#include "job_script.h"
#include "plugin.h"
#include "refusal.h"

#define HOOK "k8s_job_epilog"

/* Is there something to clean up? Where that cannot be told, Go says why. */
static bool marked(const char *run_dir, const char *mark, uint32_t job)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s.%u", run_dir, mark, (unsigned)job);
	return access(path, F_OK) == 0 || errno != ENOENT;
}

static void clean_up(spank_t spank, uint32_t job, const struct config *config)
{
	static struct fields request;
	char message[1024];
	int code;

	job_script_request(&request, job, spank, config, config->epilog_timeout_ms);
	code = job_script_call(config->library, HOOK, &request, config->epilog_timeout_ms, message, sizeof(message));
	if (code != SLURMK8S_OK)
		slurm_error("slurmk8s: job %u: cleaning up is left to reconcile: %s", (unsigned)job, message);
	else if (message[0])
		slurm_info("slurmk8s: job %u: %s", (unsigned)job, message);
}

void epilog_run(spank_t spank, const struct config *config)
{
	uint32_t job;

	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS)
		return;
	/* A step program leaves its mark where it could not deregister, a prolog before it
	 * changes a node (bridge/service, bridge/node), a step program what later steps need
	 * (storage.h): without, Go would have nothing to do. */
	if (marked(config->run_dir, "job", job) || marked(config->run_dir, "nodes/holder", job) ||
	    marked(config->run_dir, "storage", job))
		clean_up(spank, job, config);
	/* Whatever was done: a requeued job has the same number. */
	refusal_remove(config->run_dir, job);
}
