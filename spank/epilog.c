/*
 * epilog.c - slurm_spank_job_epilog: delete what a job's step program could not, and
 * give the node back to Kubernetes.
 *
 * An error would drain the node: all problems are only logged, and reconcile deals
 * with what is left.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../goffi/slurmk8s.h"
#include "fields.h"
#include "job_script.h"
#include "plugin.h"
#include "refusal.h"

#define HOOK "k8s_job_epilog"

static bool exists(const char *run_dir, const char *mark, uint32_t job)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s.%u", run_dir, mark, (unsigned)job);
	return access(path, F_OK) == 0;
}

/* A registration of the job itself shows in the environment. One of an srun step in it
 * does not: then there is the mark that the step program has left. */
static bool job_has_services(uint32_t job, const char *run_dir)
{
	return getenv("SPANK_" OPTION_ENVIRONMENT "k8s_register") || exists(run_dir, "job", job);
}

/* Its prolog says so, also when it was killed half way; see bridge/node. */
static bool job_has_node(uint32_t job, const char *run_dir)
{
	return exists(run_dir, "nodes/holder", job) || refusal_exists(run_dir, job);
}

void epilog_run(spank_t spank, const struct config *config)
{
	static struct fields request;
	char message[1024];
	uint32_t job;
	int code;

	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS ||
	    (!job_has_services(job, config->run_dir) && !job_has_node(job, config->run_dir)))
		return;
	job_script_request(&request, job, spank, config, config->epilog_timeout_ms);
	code = job_script_call(config->library, HOOK, &request, config->epilog_timeout_ms, message, sizeof(message));
	if (code != SLURMK8S_OK)
		slurm_error("slurmk8s: job %u: cleaning up is left to reconcile: %s", (unsigned)job, message);
	else if (message[0])
		slurm_info("slurmk8s: job %u: %s", (unsigned)job, message);
	/* Whatever the hook did: a requeued job has the same number. */
	refusal_remove(config->run_dir, job);
}
