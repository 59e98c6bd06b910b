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

/* Instead of an exit status (0 to 255). The numbers go on where those of
 * slurmk8s.h end; burst_buffer.lua knows them. */
enum {
	BOUNDED_EXEC_TIMED_OUT = -6,	/* killed at the deadline */
	BOUNDED_EXEC_CANNOT_RUN = -7,	/* no such program, no permission, no process */
	BOUNDED_EXEC_BAD_END = -8	/* killed by a signal, too long a reply, status lost */
};

/*
 * Run argv[0], an absolute path, in a process group of its own: PATH and LANG
 * are its whole environment, `input` comes on stdin, stderr goes to /dev/null,
 * no other descriptor is open, all signals are at their defaults.
 *
 * Up to `reply_max` bytes of stdout are put into `reply`, *reply_size says how
 * many. Ends when the program exits, or `timeout_ms` later: then, and also
 * after a normal end, what is left of the process group is killed. posix_spawn()
 * itself cannot be bounded: keep the program on a local file system.
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
