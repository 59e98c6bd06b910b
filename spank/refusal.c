/*
 * refusal.c - see refusal.h.
 */
#define _GNU_SOURCE
#include "refusal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <slurm/spank.h>

#include "../goffi/shim/fields.h"

static const char *mark_of(const char *run_dir, uint32_t job, const char *suffix)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/refuse.%u%s", run_dir, (unsigned)job, suffix);
	return path;
}

bool refusal_exists(const char *run_dir, uint32_t job)
{
	return access(mark_of(run_dir, job, ""), F_OK) == 0;
}

int refusal_write(const char *run_dir, uint32_t job, const char *text)
{
	char unfinished[PATH_MAX];
	int fd, rc = -1;

	snprintf(unfinished, sizeof(unfinished), "%s", mark_of(run_dir, job, ".new"));
	mkdir(run_dir, 0755);
	unlink(unfinished);
	fd = open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd >= 0 && dprintf(fd, "%s\n", text) > 0 && rename(unfinished, mark_of(run_dir, job, "")) == 0)
		rc = 0;
	else
		slurm_error("slurmk8s: job %u: %s: %s", (unsigned)job, mark_of(run_dir, job, ""), strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

bool refusal_read(const char *run_dir, uint32_t job, char *line, size_t size)
{
	char text[1024];
	ssize_t length;
	int fd = open(mark_of(run_dir, job, ""), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return false;
	/* One that cannot be read is there nevertheless. */
	length = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[length > 0 ? length : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	fields_line(text, "this node could not be made ready for the job", line, size);
	return true;
}

void refusal_remove(const char *run_dir, uint32_t job)
{
	unlink(mark_of(run_dir, job, ""));
}
