/*
 * spawn.c - see spawn.h.
 */
#define _GNU_SOURCE
#include "spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_PRIVATE_FD 3

/* The tests define SLURMK8S_OLD_SYSTEM, to see what a system before glibc 2.34 would. */
#ifndef SLURMK8S_OLD_SYSTEM
/* Weak: what is built for an older glibc uses it where a newer one has it. */
extern __attribute__((weak)) int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions,
									  int from);
#endif

static char path[] = "PATH=/usr/bin:/bin", lang[] = "LANG=C";
char *const spawn_environment[] = { path, lang, NULL };

/* A descriptor that another thread opens after this list is made, and without
 * O_CLOEXEC, is inherited. One that is closed meanwhile is no error. */
static int close_one_by_one(posix_spawn_file_actions_t *actions)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int rc = 0;

	while (dir && rc == 0 && (entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (fd >= FIRST_PRIVATE_FD && fd != dirfd(dir))
			rc = posix_spawn_file_actions_addclose(actions, fd);
	}
	if (dir)
		closedir(dir);
	return rc;
}

/* Have the child close all but stdin, stdout and stderr. */
static int close_the_rest(posix_spawn_file_actions_t *actions)
{
#ifndef SLURMK8S_OLD_SYSTEM
	if (posix_spawn_file_actions_addclosefrom_np)
		return posix_spawn_file_actions_addclosefrom_np(actions, FIRST_PRIVATE_FD);
#endif
	return close_one_by_one(actions);
}

static int add_actions(posix_spawn_file_actions_t *actions, int in, int out, const char *directory)
{
	int rc;

	if ((rc = posix_spawn_file_actions_adddup2(actions, in, STDIN_FILENO)) ||
	    (rc = posix_spawn_file_actions_adddup2(actions, out, STDOUT_FILENO)) ||
	    (rc = posix_spawn_file_actions_addopen(actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)))
		return rc;
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 29)
	if (directory && (rc = posix_spawn_file_actions_addchdir_np(actions, directory)))
		return rc;
#else
	(void)directory;
#endif
	return close_the_rest(actions);
}

static int set_attributes(posix_spawnattr_t *attr, short flag)
{
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	if ((rc = posix_spawnattr_setflags(attr, flag | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)) ||
	    (rc = posix_spawnattr_setpgroup(attr, 0)) ||
	    (rc = posix_spawnattr_setsigmask(attr, &none)))
		return rc;
	return posix_spawnattr_setsigdefault(attr, &all);
}

int spawn_prepare(struct spawn *spawn, int in, int out, short flag, const char *directory)
{
	int rc = posix_spawn_file_actions_init(&spawn->actions);

	if (rc)
		return rc;
	rc = posix_spawnattr_init(&spawn->attr);
	if (rc) {
		posix_spawn_file_actions_destroy(&spawn->actions);
		return rc;
	}
	if ((rc = add_actions(&spawn->actions, in, out, directory)) || (rc = set_attributes(&spawn->attr, flag)))
		spawn_release(spawn);
	return rc;
}

void spawn_release(struct spawn *spawn)
{
	posix_spawnattr_destroy(&spawn->attr);
	posix_spawn_file_actions_destroy(&spawn->actions);
}

int spawn_move_up(int *fd)
{
	int moved;

	if (*fd >= FIRST_PRIVATE_FD)
		return 0;
	moved = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD);
	if (moved < 0)
		return -1;
	close(*fd);
	*fd = moved;
	return 0;
}
