/*
 * refusal.h - the file <run_dir>/refuse.JOBID. It exists if this node could not be
 * made ready for the job, whose tasks must not start here. Its text is one line for the
 * user.
 *
 * A failing prolog would have the same effect, but Slurm would drain the node. The
 * prolog writes the file, in Go (bridge/node) or, if that fails, here. slurmstepd reads
 * it, and the epilog removes it.
 */
#ifndef SLURMK8S_SPANK_REFUSAL_H
#define SLURMK8S_SPANK_REFUSAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool refusal_exists(const char *run_dir, uint32_t job);

/* Returns 0, or -1 after logging why not. */
int refusal_write(const char *run_dir, uint32_t job, const char *text);

/* Returns whether the job is refused; `line` is then its printable text. */
bool refusal_read(const char *run_dir, uint32_t job, char *line, size_t size);

void refusal_remove(const char *run_dir, uint32_t job);

#endif
