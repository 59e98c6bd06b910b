/*
 * storage.c - see storage.h.
 */
#define _GNU_SOURCE
#include "storage.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A whole file of at most `size` bytes; -1 if it is not to be trusted. */
static ssize_t read_file(int fd, char *text, size_t size)
{
	struct stat info;
	size_t used = 0;
	ssize_t n;

	if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) ||
	    info.st_size <= 0 || (size_t)info.st_size > size)
		return -1;
	while (used < (size_t)info.st_size && (n = read(fd, text + used, (size_t)info.st_size - used)) > 0)
		used += (size_t)n;
	return used == (size_t)info.st_size ? (ssize_t)used : -1;
}

static bool equals(const struct fields *fields, const char *key, const char *value)
{
	const char *found = fields_get(fields, key);

	return found && strcmp(found, value) == 0;
}

bool storage_read(const char *run_dir, uint32_t job, uid_t uid, const char *workflow, struct fields *fields)
{
	static char text[FIELDS_REPLY_MAX_BYTES];
	char path[PATH_MAX], owner[16];
	ssize_t size;
	int fd;

	fields_clear(fields);
	snprintf(path, sizeof(path), "%s/storage.%u/env", run_dir, (unsigned)job);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	size = read_file(fd, text, sizeof(text));
	close(fd);
	snprintf(owner, sizeof(owner), "%u", (unsigned)uid);
	if (size > 0 && fields_frame_length(text, (size_t)size) == (size_t)size &&
	    fields_read(fields, text, (size_t)size) == 0 &&
	    equals(fields, "UID", owner) && equals(fields, "WORKFLOW", workflow))
		return true;
	fields_clear(fields);
	return false;
}
