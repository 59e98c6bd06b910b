/*
 * bounded_exec.h - run a small program from inside slurmctld, for a bounded time.
 *
 * Slurm calls slurm_bb_job_process in slurmctld itself, under its locks. So
 * nothing here may block beyond the deadline, raise or change a signal, leak a
 * descriptor or a zombie, or reap another's child.
 */
#ifndef SLURMK8S_BOUNDED_EXEC_H
#define SLURMK8S_BOUNDED_EXEC_H

#include <stddef.h>

/* Returned instead of an exit status (0 to 255). The numbers continue those of
 * slurmk8s.h; burst_buffer.lua uses them. */
enum {
	BOUNDED_EXEC_TIMED_OUT = -6,	/* killed at the deadline */
	BOUNDED_EXEC_CANNOT_RUN = -7,	/* no such program, no permission, no process */
	BOUNDED_EXEC_BAD_END = -8	/* killed by a signal, too long a reply, status lost */
};

/*
 * Run argv[0], an absolute path, in its own process group. Its environment is
 * PATH and LANG, `input` is its stdin, stderr goes to /dev/null, no other
 * descriptor is open, and all signals have their default action.
 *
 * Up to `reply_max` bytes of stdout are copied to `reply`; *reply_size is their
 * number. Returns when the program exits, or after `timeout_ms`. In both cases
 * the rest of the process group is killed. posix_spawn() itself cannot be
 * bounded: keep the program on a local file system.
 *
 * Returns the exit status, or one of the codes above with a line in `err`.
 * May be called from several threads.
 */
int bounded_exec(const char *const argv[], const char *input, size_t input_size,
		 int timeout_ms, char *reply, size_t reply_max, size_t *reply_size,
		 char *err, size_t err_size);

/* Milliseconds of the monotonic clock. */
double bounded_exec_now_ms(void);

#endif
