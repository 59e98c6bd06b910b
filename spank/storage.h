/*
 * storage.h - the file <run_dir>/storage.JOBID/env: the variables of the job's storage, as
 * the step program answered them to the job's first step on this node. Only root can read it.
 * The step program writes it (bridge/workflow, NodeFiles), the epilog removes it.
 */
#ifndef SLURMK8S_SPANK_STORAGE_H
#define SLURMK8S_SPANK_STORAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../goffi/shim/fields.h"

/* Returns whether there is one of this user's job and of this Workflow ("bb42:UID"), which
 * is then in `fields`. A file that is not root's, or not whole, counts as none. */
bool storage_read(const char *run_dir, uint32_t job, uid_t uid, const char *workflow, struct fields *fields);

#endif
