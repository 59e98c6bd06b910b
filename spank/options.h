/*
 * options.h - the options that the plugin adds to srun, sbatch and salloc.
 *
 * Users control the values everywhere, because they can write the environment
 * in which Slurm passes them to the nodes. C only checks that a value is safe to
 * pass on; Go checks what it means.
 */
#ifndef SLURMK8S_SPANK_OPTIONS_H
#define SLURMK8S_SPANK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <slurm/spank.h>

#include "../goffi/shim/fields.h"

/* Add the options to this context. Returns 0, or -1 after logging why not. */
int options_register(spank_t spank);

/* Take all options out of the environment, under the names that srun, sbatch and salloc read
 * and under those that they pass on. */
void options_unset(void);

/* In a batch script's slurmstepd, take the options that sbatch has left to srun only: with
 * --export=NONE or a list of variables up to 23.02, and with --export-file. */
void options_recover(spank_t spank);

/* Was an option given that a step has to act on? */
bool options_for_step(void);

/* Was any option given that has an effect? */
bool options_any(void);

/* The name of an option that was given and applies to the whole job, in its prolog; or NULL.
 * `only_new`: ignore those that a step got from the job's environment. */
const char *options_job_wide(bool only_new);

/* Has an option changed since the last call? */
bool options_changed(void);

/* NULL, or one line that says why an option's value is not passed on. In client
 * commands such a value ends the command earlier. */
const char *options_problem(void);

/* Returns NULL if `text` may be the value of an option, or why not. `max` is its
 * limit in bytes. */
const char *options_flaw(const char *text, unsigned max);

/* Did a step in a job get all its options from the job's environment, and
 * nothing from its command line? They were judged when the job was submitted. */
bool options_inherited(void);

/* Does --k8s-register ask for Arkouda's environment variables? */
bool options_want_environment(void);

/* Was --k8s-nodes given, and not as "keep"? */
bool options_want_nodes(void);

/* Was --k8s-bundle given? */
bool options_want_bundles(void);

/* Limit in bytes; the values are names and ports. Longer ones are not passed on. */
#define OPTIONS_VARIABLE_MAX 1024

/* Names of those variables, NULL after the last. Of all that Arkouda reads, the
 * ones that describe services: no credentials, no addresses, no paths. The list is
 * that of bridge/service/env.go. */
extern const char *const options_environment[];

/* Add what was given: K8S_REGISTER=..., K8S_NAMESPACE=... */
void options_add_to(struct fields *fields);

/* Add the options that the prolog acts on, from its environment. Returns NULL, or one
 * line that says why an option is not passed on. */
const char *options_add_from_prolog(struct fields *fields);

#endif
