/*
 * client.c - srun, sbatch and salloc: an error at the prompt, where it costs
 * least. What is refused here is a service to the user, not the protection: the
 * process is the user's. The node judges again.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../goffi/shim/fields.h"
#include "../goffi/shim/hook_program.h"
#include "../goffi/slurmk8s.h"
#include "options.h"
#include "plugin.h"

static void make_request(struct fields *request, const struct config *config)
{
	fields_clear(request);
	fields_add(request, "CONFIG", config->file);
	options_add_to(request);
	for (int i = 0; options_want_environment() && options_environment[i]; i++) {
		const char *value = getenv(options_environment[i]);
		char name[64];

		snprintf(name, sizeof(name), "ENV_%s", options_environment[i]);
		if (!options_flaw(value, OPTIONS_VARIABLE_MAX))
			fields_add(request, name, value);
	}
}

__attribute__((noreturn, format(printf, 1, 2)))
static void refuse(const char *format, ...)
{
	char line[1280];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	slurm_error("slurmk8s: %s", line);
	exit(EXIT_FAILURE);
}

static void have_judged(const struct config *config)
{
	static struct fields request, reply;
	char problem[512], message[1024];
	int code;

	make_request(&request, config);
	code = hook_program(config->program, "k8s_check", &request, config->check_timeout_ms, &reply,
			    problem, sizeof(problem));
	if (code == SLURMK8S_OK)
		return;
	fields_message(&reply, problem, message, sizeof(message));
	if (code == SLURMK8S_REFUSED)
		refuse("%s", message);
	slurm_info("slurmk8s: the options could not be checked here, the node will do it: %s",
		   message);
}

/* A later component has options of its own. Slurm keeps one value for all. */
static void check_component(int component, int asked_by, const char *job)
{
	if (spank_context() != S_CTX_LOCAL)
		refuse("component %1$d of a heterogeneous job: its --k8s options have no effect, since "
		       "the batch script runs on component 0; give them to a step instead: "
		       "srun --het-group=%1$d --k8s-register=...", component);
	if (job)
		refuse("give --k8s options to a step of one component: srun --het-group=%d --k8s-register=...",
		       component);
	if (asked_by >= 0)
		refuse("only one component of an srun can have --k8s options, but components %d and %d have them",
		       asked_by, component);
}

/* What a step cannot ask for any more, or nobody where nodes are not shared. */
static void check_job_wide(const struct config *config, const char *job)
{
	const char *option = options_job_wide(job != NULL);

	if (option && job && spank_context() == S_CTX_LOCAL)
		refuse("--%s is for a whole job, whose nodes are made ready before its first step: "
		       "give it to sbatch, salloc, or an srun outside a job", option);
	if (option && !config->nodes)
		refuse("--%s: Slurm's nodes are not shared with Kubernetes here; leave it out, or ask the "
		       "administrator for nodes=on in plugstack.conf", option);
}

void client_leave_job(void)
{
	bool in_allocation = getenv("SLURM_JOB_ID") || getenv("SLURM_JOBID");

	if (spank_context() == S_CTX_LOCAL && in_allocation)
		return; /* a step of this job */
	/* Users who want an srun with a new allocation unset the first two. */
	if (in_allocation || getenv("SLURM_JOB_NODELIST"))
		options_unset();
}

void client_check_options(const struct config *config)
{
	const char *job = getenv("SLURM_JOB_ID"); /* in whose script or shell we run */
	static int next_component, asked_by = -1;
	int component = next_component++;
	char asked[32] = "";

	if (component == 0)
		unsetenv(ASKED_BY);
	if (!options_any())
		return;
	check_job_wide(config, job);
	if (!options_changed()) {
		/* srun --het-group=0,1: which of them is to be registered? */
		if (component > 0 && job && spank_context() == S_CTX_LOCAL && !options_inherited())
			check_component(component, asked_by, job);
		return;
	}
	if (component > 0)
		check_component(component, asked_by, job);
	asked_by = component;
	if (!options_for_step())
		; /* nothing that a step could register */
	else if (options_inherited()) /* slurmstepd sets SLURM_TASK_PID, salloc does not */
		snprintf(asked, sizeof(asked), "%s:%s", getenv("SLURM_TASK_PID") ? "task" : "job", job);
	else if (spank_context() == S_CTX_LOCAL && !job)
		snprintf(asked, sizeof(asked), "component:%d", component);
	if (asked[0])
		setenv(ASKED_BY, asked, 1);
	if (!options_inherited())
		have_judged(config);
}
