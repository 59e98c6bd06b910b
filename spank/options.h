/*
 * options.h - the options that the plugin adds to srun, sbatch and salloc.
 *
 * Their values are a user's, wherever they are read: the environment through
 * which Slurm hands them to the nodes can be written by hand. Here they are only
 * made harmless to carry; what they mean, Go judges.
 */
#ifndef SLURMK8S_SPANK_OPTIONS_H
#define SLURMK8S_SPANK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <slurm/spank.h>

#include "../goffi/shim/fields.h"

/* Add the options to this context. Returns 0, or -1 after logging why not. */
int options_register(spank_t spank);

/* Was an option given for which there is something to do in a step? */
bool options_given(void);

/* Was one given that can be refused at the prompt? */
bool options_to_judge(void);

/* NULL, or the name of an option that is of a whole job: its prolog acts on it.
 * `only_new`: not one that a step in a job has got from the job's environment. */
const char *options_of_job(bool only_new);

/* Has an option got a new value since this was asked last? */
bool options_changed(void);

/* NULL, or one line: why an option's value is not even carried. In the clients
 * such a value ends the command before this could be asked. */
const char *options_problem(void);

/* May `text` be the value of an option? Returns NULL, or why not; `max` bytes
 * are its limit. */
const char *options_flaw(const char *text, unsigned max);

/* Did a step in a job get all its options from the job's environment, and
 * nothing from its command line? They were judged when the job was submitted. */
bool options_inherited(void);

/* Does --k8s-register ask for Arkouda's environment variables? */
bool options_want_environment(void);

/* Was --k8s-nodes given, and not as "keep"? */
bool options_ask_for_nodes(void);

/* Bytes; they are names and ports. Longer ones are not carried. */
#define OPTIONS_VARIABLE_MAX 1024

/* Names of those variables, NULL after the last. Of all that Arkouda reads, the
 * ones that describe services: no credentials, no addresses, no paths. The list is
 * that of bridge/service/env.go. */
extern const char *const options_environment[];

/* Add what was given: K8S_REGISTER=..., K8S_NAMESPACE=... */
void options_add_to(struct fields *fields);

/* In the prolog, whose environment has them: add those that are for it. Returns NULL, or
 * one line: why one is not even carried. */
const char *options_add_from_prolog(struct fields *fields);

#endif
