/*
 * stopwatch.c - a SPANK plugin that tells when Slurm called it. plugstack.conf has one copy
 * before the plugin under test and one after it: Slurm loads and calls plugins in that order,
 * so the time between the two is the plugin's, and without the plugin what Slurm and the
 * stopwatch take themselves.
 *
 *   required .../before.so VARIANT DIRECTORY
 *   required .../after.so VARIANT DIRECTORY
 *
 * At its end a process appends to DIRECTORY/times, a line a call:
 *   VARIANT CONTEXT PID before|after CALLBACK NANOSECONDS
 * and, while DIRECTORY/want-maps exists, `after` copies what the process has mapped to
 * DIRECTORY/maps.VARIANT.CONTEXT.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <slurm/spank.h>

/* As spank/plugin.c: for another release than that of the headers. */
#undef SLURM_VERSION_NUMBER
#define SLURM_VERSION_NUMBER (FOR_SLURM)

#define MAX_CALLS 64

SPANK_PLUGIN(stopwatch, 1)

static struct call {
	pid_t pid;
	const char *callback;
	long long ns;
} calls[MAX_CALLS];
static int count;

static void note(const char *callback)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	if (count < MAX_CALLS)
		calls[count++] = (struct call){ getpid(), callback, t.tv_sec * 1000000000LL + t.tv_nsec };
}

__attribute__((constructor)) static void loaded(void) { note("load"); }

static const char *context(void)
{
	switch (spank_context()) {
	case S_CTX_LOCAL: return "srun";
	case S_CTX_ALLOCATOR: return "salloc";
	case S_CTX_REMOTE: return "slurmstepd";
	case S_CTX_SLURMD: return "slurmd";
	default: return "other";
	}
}

static void copy_maps(const char *variant, const char *directory)
{
	char path[512], text[4096];
	ssize_t n;
	int from, to;

	snprintf(path, sizeof(path), "%s/want-maps", directory);
	if (access(path, F_OK) < 0)
		return;
	snprintf(path, sizeof(path), "%s/maps.%s.%s", directory, variant, context());
	from = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	while (from >= 0 && to >= 0 && (n = read(from, text, sizeof(text))) > 0)
		if (write(to, text, (size_t)n) != n)
			break;
	close(from);
	close(to);
}

/* The calls of this process; those from before a fork are its parent's. */
static void tell(int argc, char *argv[])
{
	char path[512], text[MAX_CALLS * 128];
	size_t used = 0;
	int fd;

	if (argc < 2)
		return;
	for (int i = 0; i < count; i++)
		if (calls[i].pid == getpid())
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %s %d %s %s %lld\n", argv[0], context(),
						 (int)getpid(), PLACE, calls[i].callback, calls[i].ns);
	count = 0;
	snprintf(path, sizeof(path), "%s/times", argv[1]);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd >= 0 && write(fd, text, used) != (ssize_t)used)
		slurm_error("stopwatch: %s: %m", path);
	close(fd);
	if (PLACE[0] == 'a')
		copy_maps(argv[0], argv[1]);
}

#define CALLBACK(name)                                       \
	int slurm_spank_##name(spank_t s, int argc, char *argv[]) \
	{                                                         \
		(void)s;                                          \
		(void)argc;                                       \
		(void)argv;                                       \
		note(#name);                                      \
		return 0;                                         \
	}

#define LAST_CALLBACK(name)                                  \
	int slurm_spank_##name(spank_t s, int argc, char *argv[]) \
	{                                                         \
		(void)s;                                          \
		note(#name);                                      \
		tell(argc, argv);                                 \
		return 0;                                         \
	}

CALLBACK(init_post_opt)
CALLBACK(user_init)
LAST_CALLBACK(task_init)
CALLBACK(task_exit)
LAST_CALLBACK(exit)

/* slurmd is told nothing more. */
int slurm_spank_init(spank_t s, int argc, char *argv[])
{
	(void)s;
	note("init");
	if (spank_context() == S_CTX_SLURMD)
		tell(argc, argv);
	return 0;
}
