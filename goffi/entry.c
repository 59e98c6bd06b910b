/*
 * entry.c - the library's C entry points. Each one refuses what must never
 * reach Go (a forked child, a NULL), then calls one Go function of main.go.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <syslog.h>
#include <unistd.h>

#include "entry.h"
#include "slurmk8s.h"

/*
 * The ABI number for who must not load a Go runtime to ask for it, "slurmk8s doctor"
 * for one: an ELF note.
 */
__attribute__((section(".note.slurmk8s"), aligned(4), used)) static const struct {
	unsigned name_size, value_size, type;
	char name[12]; /* padded to four bytes */
	unsigned abi;
} abi_note = { sizeof("slurmk8s"), sizeof(unsigned), 1, "slurmk8s", SLURMK8S_ABI };

static pid_t loaded_by;
static rlim_t soft_nofile;
static char version[64] = "unknown";

/*
 * Priority 101 runs this before the default-priority constructor with which Go
 * starts its runtime thread: the limit is read before Go raises it.
 */
__attribute__((constructor(101))) static void remember_loader(void)
{
	struct rlimit lim;

	loaded_by = getpid();
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0)
		soft_nofile = lim.rlim_cur;
}

static int forked(void)
{
	return getpid() != loaded_by;
}

int slurmk8s_abi(void)
{
	return SLURMK8S_ABI;
}

const char *slurmk8s_version(void)
{
	if (!forked())
		slurmk8sGoReady();
	return version;
}

int slurmk8s_hook(const char *name, const char *const *fields, char ***reply)
{
	if (reply)
		*reply = NULL;
	if (forked())
		return SLURMK8S_EFORK;
	if (!name || !fields || !reply)
		return SLURMK8S_EINVAL;
	for (const char *const *f = fields; *f; f++) {
		const char *equals = strchr(*f, '=');

		if (!equals || equals == *f)
			return SLURMK8S_EINVAL;
	}
	return slurmk8sGoHook((char *)name, (char **)fields, reply);
}

void slurmk8s_free(char **reply)
{
	free(reply);
}

const char *slurmk8s_strerror(int code)
{
	switch (code) {
	case SLURMK8S_OK:
		return "done";
	case SLURMK8S_BUSY:
		return "in progress, ask again later";
	case SLURMK8S_REFUSED:
		return "refused: the request must be corrected";
	case SLURMK8S_FAILED:
		return "failed";
	case SLURMK8S_EINVAL:
		return "invalid argument: NULL, or a field without KEY=";
	case SLURMK8S_EFORK:
		return "called in a forked child of the process that loaded the library; load it in the child instead";
	case SLURMK8S_EPANIC:
		return "internal error (Go panic); see syslog and report it";
	case SLURMK8S_ENOMEM:
		return "out of memory";
	case SLURMK8S_ELOAD:
		return "libslurmk8s.so could not be loaded or is not trusted; run slurmk8s doctor";
	default:
		return "unknown code; are all files of slurmk8s of one version?";
	}
}

/* For main.go. */

unsigned long long slurmk8s_entry_soft_nofile(void)
{
	return soft_nofile;
}

void slurmk8s_entry_set_version(const char *text)
{
	snprintf(version, sizeof(version), "%s", text);
}

void slurmk8s_entry_syslog(const char *line)
{
	syslog(LOG_DAEMON | LOG_ERR, "slurmk8s: %s", line);
}

void *slurmk8s_entry_malloc(size_t size)
{
	return malloc(size);
}
