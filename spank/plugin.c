/*
 * plugin.c - the SPANK plugin: which of Slurm's callbacks does what, in which
 * context. DESIGN.md, section 2, says what may run where.
 *
 * In a job that was given none of our options nothing is started, loaded or
 * read; slurmd only has the plugin mapped.
 */
#include "plugin.h"

#include "options.h"

/* Slurm takes a plugin only from its own release, but the interface is the same
 * from 22.05 to 26.05: -DFOR_SLURM=SLURM_VERSION_NUM(24,11,0) makes one for
 * another release than that of the installed headers. */
#ifdef FOR_SLURM
#undef SLURM_VERSION_NUMBER
#define SLURM_VERSION_NUMBER (FOR_SLURM)
#endif

#define EXPORT __attribute__((visibility("default")))
#pragma GCC visibility push(default)
SPANK_PLUGIN(slurmk8s, 1)
#pragma GCC visibility pop

static struct config config;
static char config_problem[CONFIG_PROBLEM_MAX]; /* "" if there is none */

EXPORT int slurm_spank_init(spank_t spank, int argc, char *argv[])
{
	spank_context_t context = spank_context();

	if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR && context != S_CTX_REMOTE)
		return 0;
	if (config_parse(&config, argc, argv, config_problem) < 0 && context != S_CTX_REMOTE) {
		slurm_error("slurmk8s: %s", config_problem);
		return -1;
	}
	if (context != S_CTX_REMOTE)
		client_leave_job();
	/* In slurmstepd an error would drain the node: jobs with our options fail. */
	return options_register(spank) < 0 && context != S_CTX_REMOTE ? -1 : 0;
}

EXPORT int slurm_spank_init_post_opt(spank_t spank, int argc, char *argv[])
{
	(void)argc;
	(void)argv;
	switch (spank_context()) {
	case S_CTX_LOCAL:
	case S_CTX_ALLOCATOR:
		client_check_options(&config);
		break;
	case S_CTX_REMOTE:
		stepd_start(spank, &config, config_problem[0] ? config_problem : NULL);
		break;
	default:
		break;
	}
	return 0;
}

/* Slurm calls this and the next in slurmstepd only. */
EXPORT int slurm_spank_user_init(spank_t spank, int argc, char *argv[])
{
	(void)argc;
	(void)argv;
	stepd_await_answer(spank);
	return 0;
}

EXPORT int slurm_spank_task_init(spank_t spank, int argc, char *argv[])
{
	(void)argc;
	(void)argv;
	stepd_enter_task(spank);
	return 0;
}

EXPORT int slurm_spank_exit(spank_t spank, int argc, char *argv[])
{
	(void)spank;
	(void)argc;
	(void)argv;
	if (spank_context() == S_CTX_REMOTE)
		stepd_end(&config);
	return 0;
}

/* Slurm calls no slurm_spank_init before this one and the next. */
#ifdef WITH_PROLOG
EXPORT int slurm_spank_job_prolog(spank_t spank, int argc, char *argv[])
{
	/* As for the epilog. */
	if (config_parse(&config, argc, argv, config_problem) < 0)
		slurm_error("slurmk8s: %s", config_problem);
	prolog_run(spank, &config, config_problem[0] ? config_problem : NULL);
	return 0;
}
#endif

#ifndef WITHOUT_EPILOG
EXPORT int slurm_spank_job_epilog(spank_t spank, int argc, char *argv[])
{
	/* An error drains the node, whatever its cause: there is none. */
	if (config_parse(&config, argc, argv, config_problem) < 0)
		slurm_error("slurmk8s: %s", config_problem);
	else
		epilog_run(spank, &config);
	return 0;
}
#endif
