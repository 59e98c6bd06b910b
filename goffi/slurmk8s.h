/*
 * slurmk8s.h - the C interface of libslurmk8s.so: this header is its specification.
 *
 * The library holds a Go runtime. A Go runtime does not survive fork() without
 * exec(), so load it only in a process that will not fork that way afterwards:
 * the child that Slurm creates for one burst_buffer.lua hook, or
 * "slurmstepd spank prolog|epilog". Never load it in slurmctld, slurmscriptd,
 * slurmd, slurmstepd or a client command. shim/loader.h loads it.
 *
 * No function writes to file descriptor 1 or 2 or reads the environment. A Go
 * panic does not abort the host process, and a call in a forked child does not
 * hang: both return an error code.
 */
#ifndef SLURMK8S_H
#define SLURMK8S_H

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a function, a code or the meaning of one changes. */
#define SLURMK8S_ABI 1

/* What a hook answers. The numbers are also the exit status of the program
 * `slurmk8s hook NAME` (negative ones: 125). */
enum slurmk8s_code {
	SLURMK8S_OK = 0,	/* done, or there was nothing to do */
	SLURMK8S_BUSY = 1,	/* not an error: in progress, ask again later */
	SLURMK8S_REFUSED = 2,	/* the user's mistake; MESSAGE is for the user */
	SLURMK8S_FAILED = 3,	/* failed; MESSAGE says what, why and what to do */

	SLURMK8S_EINVAL = -1,	/* NULL argument, or a field without '=' */
	SLURMK8S_EFORK = -2,	/* called in a fork()ed child of the process that loaded the library */
	SLURMK8S_EPANIC = -3,	/* a Go panic was recovered: a bug in slurmk8s */
	SLURMK8S_ENOMEM = -4,
	SLURMK8S_ELOAD = -5	/* loader only: the library could not be loaded or is not trusted */
};

/* The ABI number that the library was built with. Safe in any process. */
int slurmk8s_abi(void);

/* The library's version, such as "0.1.0". Static: do not free it. */
const char *slurmk8s_version(void);

/*
 * Run hook `name`, one of Slurm's own names such as "slurm_bb_setup".
 *
 * `fields` is the request: a NULL-terminated array of "KEY=VALUE" strings,
 * like an environment. The caller keeps its ownership. bridge/wire documents
 * the keys.
 *
 * `*reply` is set to the answer in the same form, or to NULL if there is none
 * or the code is negative. The key MESSAGE, if present, is one line for a
 * person. The caller frees the reply with slurmk8s_free(), exactly once.
 *
 * Blocks until the hook is done or its deadline (field DEADLINE_MS) has passed.
 * Safe to call from several threads. Returns one of slurmk8s_code.
 */
int slurmk8s_hook(const char *name, const char *const *fields, char ***reply);

/* Free a reply. NULL is allowed. */
void slurmk8s_free(char **reply);

/* One line that says what a code means and what to do. Static, never NULL. */
const char *slurmk8s_strerror(int code);

#ifdef __cplusplus
}
#endif

#endif
