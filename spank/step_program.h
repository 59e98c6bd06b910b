/*
 * step_program.h - `slurmk8s step`, the program that registers a step's
 * services and lives as long as the step: how slurmstepd runs it.
 *
 * It starts in its own session with PATH and LANG as its environment, / as its
 * working directory and default signal actions. Its only descriptors are 0 and 1,
 * both one end of a stream socket, and 2, /dev/null. The socket carries frames
 * (shim/fields.h), one reply for each request:
 *
 *   first  CONFIG DEADLINE_MS JOB_ID STEP_ID UID GID GIDS NODE NODELIST
 *          NODE_RANK RESTART_COUNT SCRIPT WORKFLOW K8S_REGISTER K8S_NAMESPACE K8S_IMPORT ENV_<NAME>
 *          INHERITED IMPORTED
 *          -> CODE=0|2|3 MESSAGE=... SETENV_<NAME>=... OVER=1
 *   last   ACTION=deregister DEADLINE_MS
 *          -> CODE=0|3 MESSAGE=...
 *
 * OVER means that there is nothing to do at the end of the step: the program exits, and
 * there is no last request.
 *
 * At end of file the program deregisters, if it has not, and exits. This replaces
 * the last request if slurmstepd was killed or had no answer in time.
 *
 * It is not a child of slurmstepd. Before slurm_spank_exit Slurm kills all processes
 * of the step, and for proctrack/linuxproc these are slurmstepd's descendants;
 * scancel signals them as well. (With proctrack/cgroup and proctrack/pgid it does
 * not belong to the step anyway.) Only the socket tells whether the program is
 * alive, and only init waits for it.
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

/* Tell the program that the step has ended, wait until `deadline` for it to exit, then
 * kill it. Returns true if it had to be killed. */
bool step_program_end(struct step_program *program, double deadline);

#endif
