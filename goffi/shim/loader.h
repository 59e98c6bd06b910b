/*
 * loader.h - how spank/ and lua/ check and load libslurmk8s.so. It stays loaded.
 * Compile loader.c into the plugin. slurmk8s.h says in which processes this is allowed.
 */
#ifndef SLURMK8S_LOADER_H
#define SLURMK8S_LOADER_H

#include <stddef.h>

/* The library's functions, as slurmk8s.h specifies them. */
struct slurmk8s_library {
	const char *(*version)(void);
	int (*hook)(const char *name, const char *const *fields, char ***reply);
	void (*free)(char **reply);
	const char *(*strerror)(int code);
};

/*
 * Load the library at `path`, which must be absolute and not a symbolic link.
 * The file and each directory above it must belong to root or to the process's
 * effective user, with no write permission for others (a sticky directory such
 * as /tmp may have one).
 *
 * Returns SLURMK8S_OK and sets *lib, which stays valid until the process ends.
 * A second call returns the same; another path is then refused, since a process
 * can hold only one Go runtime. Otherwise returns SLURMK8S_ELOAD (SLURMK8S_EINVAL
 * for a NULL) and writes one line that starts with "slurmk8s: " to `err`.
 *
 * Not thread-safe: for the single-threaded processes named in slurmk8s.h.
 */
int slurmk8s_load(const char *path, const struct slurmk8s_library **lib,
		  char *err, size_t err_size);

/*
 * Check a program that will run as root or SlurmUser by the rules of slurmk8s_load().
 * Returns SLURMK8S_OK if it can be trusted, or SLURMK8S_ELOAD with one line in `err`.
 * A missing file is SLURMK8S_OK: the caller reports it. Thread-safe.
 */
int slurmk8s_check_program(const char *path, char *err, size_t err_size);

#endif
