/*
 * prolog.c - slurm_spank_job_prolog: a job that takes its nodes away from Kubernetes
 * waits here until its node is empty of pods. Which jobs do, Go decides.
 *
 * An error would drain the node, whatever its cause. So there is none: a job that
 * must not run here is refused by a mark (refusal.h), and its tasks fail with the
 * reason. With PrologFlags=Alloc this runs on all nodes at once, before the first
 * task; without, on each node before the first task there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../goffi/shim/fields.h"
#include "../goffi/slurmk8s.h"
#include "job_script.h"
#include "options.h"
#include "plugin.h"
#include "refusal.h"

#define HOOK "k8s_job_prolog"

static void refuse(const struct config *config, uint32_t job, const char *reason)
{
	const char *node = getenv("SLURMD_NODENAME");
	char line[1024];

	snprintf(line, sizeof(line), "node %.100s could not be made ready for job %u: %.800s: tell the administrator",
		 node ? node : "(unknown)", (unsigned)job, reason);
	slurm_error("slurmk8s: %s", line);
	refusal_write(config->run_dir, job, line);
}

void prolog_run(spank_t spank, const struct config *config, const char *config_problem)
{
	static struct fields request;
	const char *wish = getenv("SPANK_" OPTION_ENVIRONMENT "k8s_nodes"), *flaw;
	char message[1024];
	uint32_t job;
	int code;

	if (!config->nodes && (!wish || strcmp(wish, "keep") == 0))
		return;
	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS)
		return;
	/* Of this job's last run, where the epilog was lost. */
	refusal_remove(config->run_dir, job);
	if (config_problem || !config->nodes) {
		refuse(config, job, config_problem ? config_problem :
		       "--k8s-nodes was given, but plugstack.conf has no nodes=on here");
		return;
	}
	job_script_request(&request, job, spank, config, config->prolog_timeout_ms);
	fields_add(&request, "PARTITION", getenv("SLURM_JOB_PARTITION"));
	fields_add(&request, "CONSTRAINTS", getenv("SLURM_JOB_CONSTRAINTS"));
	if ((flaw = options_add_from_prolog(&request))) {
		refuse(config, job, flaw);
		return;
	}
	code = job_script_call(config->library, HOOK, &request, config->prolog_timeout_ms, message, sizeof(message));
	if (code == SLURMK8S_OK) {
		if (message[0])
			slurm_info("slurmk8s: job %u: %s", (unsigned)job, message);
		return;
	}
	/* Go has written the mark, if it came so far. */
	if (refusal_exists(config->run_dir, job))
		slurm_error("slurmk8s: job %u does not run here: %s", (unsigned)job, message);
	else
		refuse(config, job, message);
}
