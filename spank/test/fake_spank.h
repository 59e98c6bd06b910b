/*
 * fake_spank.h - the part of Slurm that the plugin sees, under a test's control.
 * The plugin's objects are linked to it instead of being loaded by Slurm.
 */
#ifndef FAKE_SPANK_H
#define FAKE_SPANK_H

#include <stdint.h>
#include <sys/types.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

extern struct fake_slurm {
	spank_context_t context;
	uint32_t job, step, rank, restarts, array, array_task;
	uid_t uid;
	gid_t gid, *groups;
	int group_count;
	int task;
	const char *script;	/* argv[0] of the step, or NULL */
	char *environment[64];	/* the job's; NULL-terminated */
	char log[8192];		/* all that slurm_info() and slurm_error() were given */
	int errors;		/* of these, slurm_error() */
} slurm;

/* A handle; the plugin only hands it back. */
extern spank_t const fake_handle;

/* Give an option as Slurm does; `remote` in slurmstepd. Returns the callback's answer. */
int fake_option(const char *name, const char *value, int remote);

/* The option's row, or NULL if the plugin did not register it. */
const struct spank_option *fake_find_option(const char *name);

/* A variable of the job's environment, or NULL. */
const char *fake_variable(const char *name);

#endif
