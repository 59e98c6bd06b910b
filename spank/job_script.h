/*
 * job_script.h - what the prolog and the epilog share: both run on each node of
 * every job, as root, in their own process ("slurmstepd spank prolog", Slurm's
 * S_CTX_JOB_SCRIPT) with descriptor 0 closed and no PATH. Both call one hook of
 * libslurmk8s.so, which the plugin loads nowhere else.
 */
#ifndef SLURMK8S_SPANK_JOB_SCRIPT_H
#define SLURMK8S_SPANK_JOB_SCRIPT_H

#include <stdint.h>

#include <slurm/spank.h>

#include "../goffi/shim/fields.h"
#include "config.h"

/* Start a request: what Slurm says of the job and this node. */
void job_script_request(struct fields *request, uint32_t job, spank_t spank, const struct config *config,
			int timeout_ms);

/*
 * Load the library and run one of its hooks in a thread, because this process must
 * neither hang nor be killed: a hook that hangs is abandoned and ends with the
 * process. May be called once.
 *
 * Returns one of slurmk8s_code; SLURMK8S_ENOMEM without a call if the request is
 * incomplete. `message` is one printable line: the hook's message, why there is none,
 * or "" after a success without a message.
 */
int job_script_call(const char *library, const char *hook, const struct fields *request, int timeout_ms,
		    char *message, size_t size);

#endif
