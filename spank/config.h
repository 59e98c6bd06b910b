/*
 * config.h - the arguments of the plugin's line in plugstack.conf:
 *
 *	required /opt/slurmk8s/lib/slurmk8s_spank.so [KEY=VALUE ...]
 *
 * Slurm allows no spaces in a value. All other settings are in slurmk8s.toml, which only
 * Go reads.
 */
#ifndef SLURMK8S_SPANK_CONFIG_H
#define SLURMK8S_SPANK_CONFIG_H

#include <stdbool.h>

#define CONFIG_PROBLEM_MAX 512

struct config {
	const char *program;	/* the slurmk8s program */
	const char *library;	/* libslurmk8s.so */
	const char *file;	/* slurmk8s.toml */
	const char *run_dir;	/* as in slurmk8s.toml: marks of jobs with services or nodes */
	bool workflows;		/* do steps fetch the variables of the job's storage? */
	bool nodes;		/* may jobs reclaim their nodes from Kubernetes? */
	int check_timeout_ms;	/* at the prompt */
	int register_timeout_ms; /* before the first task */
	int deregister_timeout_ms; /* after the last one */
	int prolog_timeout_ms;	/* more than evict_timeout of slurmk8s.toml */
	int epilog_timeout_ms;
};

/*
 * Fill *config from `argv`, whose strings must outlive it, and from the
 * defaults. An unknown key, a repeated key and a bad value are errors.
 * Returns 0, or -1 with one line in `problem`. After an error *config has the
 * defaults, except that nodes is on if any argument says so: a mistake in another
 * argument must not let tasks start next to pods.
 */
int config_parse(struct config *config, int argc, char *const argv[],
		 char problem[CONFIG_PROBLEM_MAX]);

#endif
