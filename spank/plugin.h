/*
 * plugin.h - what each file of the plugin does in its context. plugin.c only
 * dispatches. The plugin's name is part of an interface: it is in the names of its
 * options in the environment (OPTION_ENVIRONMENT).
 */
#ifndef SLURMK8S_SPANK_PLUGIN_H
#define SLURMK8S_SPANK_PLUGIN_H

#include <stdint.h> /* spank.h needs it and does not include it */

#include <slurm/spank.h>

#include "config.h"

#define PLUGIN_NAME slurmk8s

/* How Slurm names option `k8s_register` in the environment of a job that was
 * given it: with SLURM_SPANK_ before it in the job's own, with SPANK_ in the
 * epilog's. */
#define OPTION_ENVIRONMENT "_SLURM_SPANK_OPTION_slurmk8s_"

/*
 * Slurm hands an option to the steps of all components of a heterogeneous job,
 * but only the component that was given it is to be registered. srun says which
 * in the environment that it sends (under this name also with --export=NONE), and
 * slurmstepd takes it out again. The user may write it, and will only miss a
 * registration.
 *
 *	job:ID		the job whose shell (salloc's) srun runs in, with options that it inherited
 *	task:ID		so too, but in a task: the batch script's, or another step's. They have
 *			the options already
 *	component:N	of srun's own allocation
 */
#define ASKED_BY "SLURM_K8S_ASKED_BY"

/*
 * client.c: srun, sbatch, salloc, scrun. What a job was given is for its own steps: a
 * command that makes another job forgets it, before Slurm reads it in the environment.
 */
void client_leave_job(void);

/*
 * client.c: srun, sbatch, salloc, scrun. Checks the options once all are known.
 * Called for each component of a heterogeneous job. If they are refused, prints a
 * message and ends the process, with `required` as with `optional` in
 * plugstack.conf.
 */
void client_check_options(const struct config *config);

/*
 * stepd.c: slurmstepd. Starts the step program (root in every uid), reads its
 * answer, fails the tasks if there is none, and ends the program. These functions
 * never return an error to Slurm, which would drain the node.
 *
 * `config_problem` is NULL, or why `config` is not valid.
 */
void stepd_start(spank_t spank, const struct config *config, const char *config_problem);
void stepd_await_answer(spank_t spank);
void stepd_enter_task(spank_t spank);
void stepd_end(const struct config *config);

/* prolog.c and epilog.c: "slurmstepd spank prolog" and "epilog". The only places that
 * load libslurmk8s.so; see job_script.h. */
void prolog_run(spank_t spank, const struct config *config, const char *config_problem);
void epilog_run(spank_t spank, const struct config *config);

#endif
