/*
 * loader.c - see loader.h.
 */
#define _GNU_SOURCE
#include "loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../slurmk8s.h"

static struct slurmk8s_library loaded;
static char loaded_path[PATH_MAX]; /* "" until a library is loaded */

struct error {
	char *text;
	size_t size;
	const char *speaker; /* what the line begins with */
};

__attribute__((format(printf, 2, 3)))
static int fail(const struct error *err, const char *format, ...)
{
	char line[PATH_MAX + 256];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	line[strcspn(line, "\n")] = '\0';
	if (err->text && err->size)
		snprintf(err->text, err->size, "%s%s", err->speaker, line);
	return SLURMK8S_ELOAD;
}

/* May only root and this process's own user change what `path` is? */
static int check_trust(const char *path, mode_t type, const struct error *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return fail(err, "%s: %s", path, strerror(errno));
	if (S_ISLNK(st.st_mode))
		return fail(err, "%s: is a symbolic link; name the file itself", path);
	if ((st.st_mode & S_IFMT) != type)
		return fail(err, "%s: is not a %s", path,
			    type == S_IFREG ? "regular file" : "directory");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return fail(err, "%s: belongs to uid %u; chown root", path,
			    (unsigned)st.st_uid);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) &&
	    !(type == S_IFDIR && (st.st_mode & S_ISVTX)))
		return fail(err, "%s: mode %04o lets others write it; chmod go-w",
			    path, (unsigned)(st.st_mode & 07777));
	return SLURMK8S_OK;
}

/*
 * Check `path` and every directory above it. When all of them pass, nobody but
 * root and our own user can make the path mean another file between this check
 * and dlopen(), so that dlopen() can take the path. (A descriptor and
 * /proc/self/fd/N would do for the file alone, but need /proc, hide the name
 * from debuggers, and glibc compares names: with a number used again, dlopen()
 * would return the library that had it before.)
 *
 * `real` receives the path without symbolic links among its directories, which
 * is what is checked and loaded.
 */
static int check_path(const char *path, char real[PATH_MAX],
		      const struct error *err)
{
	char parent[PATH_MAX];
	char *slash;
	int rc;

	if (path[0] != '/')
		return fail(err, "%s: not an absolute path", path);
	rc = check_trust(path, S_IFREG, err);
	if (rc != SLURMK8S_OK)
		return rc;
	if (!realpath(path, real))
		return fail(err, "%s: %s", path, strerror(errno));
	rc = check_trust(real, S_IFREG, err);

	snprintf(parent, sizeof(parent), "%s", real);
	while (rc == SLURMK8S_OK && (slash = strrchr(parent, '/'))) {
		*slash = '\0';
		rc = check_trust(*parent ? parent : "/", S_IFDIR, err);
	}
	return rc;
}

int slurmk8s_check_program(const char *path, char *err_text, size_t err_size)
{
	const struct error err = { err_text, err_size, "" };
	char real[PATH_MAX];

	if (access(path, F_OK) < 0)
		return SLURMK8S_OK;
	return check_path(path, real, &err);
}

static void *resolve(void *handle, const char *path, const char *name,
		     const struct error *err)
{
	void *symbol = dlsym(handle, name);

	if (!symbol)
		fail(err, "%s: has no function %s; reinstall slurmk8s", path, name);
	return symbol;
}

static int resolve_all(void *handle, const char *path, const struct error *err)
{
	struct slurmk8s_library lib;
	int (*abi)(void);

	/* Casts as POSIX's dlsym() page shows them: ISO C has no direct one.
	 * The ABI number before any other call: what they mean depends on it. */
	*(void **)&abi = resolve(handle, path, "slurmk8s_abi", err);
	if (!abi)
		return SLURMK8S_ELOAD;
	if (abi() != SLURMK8S_ABI)
		return fail(err, "%s: has ABI %d, this plugin needs %d; install both from one version",
			    path, abi(), SLURMK8S_ABI);
	if (!(*(void **)&lib.version = resolve(handle, path, "slurmk8s_version", err)) ||
	    !(*(void **)&lib.hook = resolve(handle, path, "slurmk8s_hook", err)) ||
	    !(*(void **)&lib.free = resolve(handle, path, "slurmk8s_free", err)) ||
	    !(*(void **)&lib.strerror = resolve(handle, path, "slurmk8s_strerror", err)))
		return SLURMK8S_ELOAD;
	loaded = lib;
	return SLURMK8S_OK;
}

int slurmk8s_load(const char *path, const struct slurmk8s_library **lib,
		  char *err_text, size_t err_size)
{
	const struct error err = { err_text, err_size, "slurmk8s: " };
	char real[PATH_MAX];
	void *handle;
	int rc;

	if (!path || !lib) {
		fail(&err, "slurmk8s_load: NULL argument");
		return SLURMK8S_EINVAL;
	}
	*lib = NULL;
	if (loaded_path[0]) {
		if (strcmp(path, loaded_path) != 0)
			return fail(&err, "%s: %s is already loaded in this process",
				    path, loaded_path);
		*lib = &loaded;
		return SLURMK8S_OK;
	}
	rc = check_path(path, real, &err);
	if (rc != SLURMK8S_OK)
		return rc;
	/* A Go runtime cannot be unloaded: RTLD_NODELETE, and no dlclose(). */
	handle = dlopen(real, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!handle)
		return fail(&err, "%s", dlerror());
	rc = resolve_all(handle, path, &err);
	if (rc != SLURMK8S_OK)
		return rc;
	snprintf(loaded_path, sizeof(loaded_path), "%s", path);
	*lib = &loaded;
	return SLURMK8S_OK;
}
