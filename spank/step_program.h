/*
 * step_program.h - `slurmk8s step`, the program that registers a step's
 * services and lives as long as the step: how slurmstepd runs it.
 *
 * It is started in a session of its own with PATH and LANG as its environment,
 * / as its directory, default signals and no descriptors but these: 0 and 1 are
 * both one end of a stream socket, 2 is /dev/null. Over the socket frames go
 * (shim/fields.h), a reply to each request:
 *
 *   first  CONFIG DEADLINE_MS JOB_ID STEP_ID UID GID GIDS NODE NODELIST
 *          NODE_RANK RESTART_COUNT SCRIPT WORKFLOW K8S_REGISTER K8S_NAMESPACE K8S_IMPORT ENV_<NAME>
 *          -> CODE=0|2|3 MESSAGE=... SETENV_<NAME>=... OVER=1
 *   last   ACTION=deregister DEADLINE_MS
 *          -> CODE=0|3 MESSAGE=...
 *
 * OVER means that there is nothing to do at the end of the step: the program exits, and
 * there is no last request.
 *
 * End of file means that it should deregister, if it has not, and exit. In place
 * of the last request: slurmstepd was killed, or had no answer in time.
 *
 * It is no child of slurmstepd. Before slurm_spank_exit Slurm kills all that
 * belongs to the step, and for proctrack/linuxproc these are slurmstepd's
 * descendants; scancel's signals go to them as well. (For proctrack/cgroup and
 * proctrack/pgid it does not belong to the step either way.) So nothing but the
 * socket tells whether it is alive, and nobody waits for it but init.
 */
#ifndef SLURMK8S_SPANK_STEP_PROGRAM_H
#define SLURMK8S_SPANK_STEP_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../goffi/shim/fields.h"

struct step_program {
	pid_t pid; /* of its process group, too */
	int fd;	   /* our end of the socket; -1: it does not run */
};

/* Start `path` with argument "step". Returns 0, or -1 with a line in `problem`. */
int step_program_start(struct step_program *program, const char *path,
		       char *problem, size_t size);

/* Both block until `deadline` (bounded_exec_now_ms()) at most. Return 0, or -1
 * with a line in `problem`. */
int step_program_send(struct step_program *program, const struct fields *request,
		      double deadline, char *problem, size_t size);
int step_program_receive(struct step_program *program, struct fields *reply,
			 double deadline, char *problem, size_t size);

/* Tell it that the step is over, wait until `deadline` for its end, then kill
 * it. Returns true if it had to be killed. */
bool step_program_end(struct step_program *program, double deadline);

#endif
