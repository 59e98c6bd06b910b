/*
 * spawn.h - start a program of slurmk8s from a process of Slurm. It gets default signal
 * actions, an environment of PATH and LANG, stderr to /dev/null, and only descriptors 0,
 * 1 and 2.
 */
#ifndef SLURMK8S_SPAWN_H
#define SLURMK8S_SPAWN_H

#include <spawn.h>

/* For posix_spawn(). */
struct spawn {
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
};

extern char *const spawn_environment[];

/*
 * Fill *spawn for a program that gets descriptors `in` and `out` as 0 and 1. `flag` is
 * POSIX_SPAWN_SETPGROUP or POSIX_SPAWN_SETSID: it leads its own process group or session.
 * `directory` is its working directory; NULL: that of its parent.
 *
 * Returns 0, and spawn_release() must follow, or an errno.
 */
int spawn_prepare(struct spawn *spawn, int in, int out, short flag, const char *directory);
void spawn_release(struct spawn *spawn);

/* A daemon may run without descriptors 0 to 2, and then a new one is one of them, which a
 * child's dup2() would overwrite: move it above these. Returns 0, or -1 with errno. */
int spawn_move_up(int *fd);

#endif
