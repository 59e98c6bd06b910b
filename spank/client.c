/*
 * client.c - srun, sbatch and salloc: an error at the prompt, where it costs
 * least. What is refused here is a service to the user, not the protection: the
 * process is the user's. The node judges again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../lua/bounded_exec.h"
#include "fields.h"
#include "options.h"
#include "plugin.h"

/* The exit status of `slurmk8s hook`, as in goffi/slurmk8s.h. */
enum { ACCEPTED = 0, REFUSED = 2 };

static void make_request(struct fields *request, const struct config *config)
{
	fields_clear(request);
	fields_add(request, "CONFIG", config->file);
	fields_add_number(request, "DEADLINE_MS", (unsigned long)config->check_timeout_ms);
	options_add_to(request);
	for (int i = 0; options_want_environment() && options_environment[i]; i++) {
		const char *value = getenv(options_environment[i]);
		char name[64];

		snprintf(name, sizeof(name), "ENV_%s", options_environment[i]);
		if (!options_flaw(value, 1024))
			fields_add(request, name, value);
	}
}

void client_check_options(const struct config *config)
{
	static struct fields request, reply;
	const char *const argv[] = { config->program, "hook", "-0", "k8s_check", NULL };
	char problem[512] = "it gave no reason", message[1024];
	size_t size = 0;
	int status;

	if (!options_given() || options_inherited())
		return;
	make_request(&request, config);
	/* The program keeps its deadline itself; the margin is for one that hangs. */
	status = bounded_exec(argv, request.text, request.size, config->check_timeout_ms + 200,
			      reply.text, sizeof(reply.text), &size, problem, sizeof(problem));
	if (status == ACCEPTED)
		return;
	if (fields_check(&reply, status > 0 ? size : 0) < 0)
		fields_clear(&reply);
	fields_message(&reply, status > 0 ? "the options are refused, without a reason" : problem,
		       message, sizeof(message));
	if (status == REFUSED) {
		slurm_error("slurmk8s: %s", message);
		exit(EXIT_FAILURE);
	}
	slurm_info("slurmk8s: the options could not be checked here, the node will do it: %s",
		   message);
}
