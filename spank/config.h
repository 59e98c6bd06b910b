/*
 * config.h - the arguments of the plugin's line in plugstack.conf:
 *
 *	required /opt/slurmk8s/lib/slurmk8s_spank.so [KEY=VALUE ...]
 *
 * Slurm allows no blanks in a value. All else is in slurmk8s.toml, which only Go reads.
 */
#ifndef SLURMK8S_SPANK_CONFIG_H
#define SLURMK8S_SPANK_CONFIG_H

#define CONFIG_PROBLEM_MAX 512

struct config {
	const char *program;	/* the slurmk8s program */
	const char *library;	/* libslurmk8s.so */
	const char *file;	/* slurmk8s.toml */
	const char *run_dir;	/* as in slurmk8s.toml: a mark for each job with services */
	int check_timeout_ms;	/* at the prompt */
	int register_timeout_ms; /* before the first task */
	int deregister_timeout_ms; /* after the last one */
	int epilog_timeout_ms;
};

/*
 * Fill *config from `argv`, whose strings must outlive it, and from the
 * defaults. Strict: an unknown key, one that comes twice and a bad value are
 * errors. Returns 0, or -1 with one line in `problem`; *config is then the defaults.
 */
int config_parse(struct config *config, int argc, char *const argv[],
		 char problem[CONFIG_PROBLEM_MAX]);

#endif
