/*
 * inherited_pipes.c - see inherited_pipes.h.
 */
#define _GNU_SOURCE
#include "inherited_pipes.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_PRIVATE_FD 3
/* More are left as they are: Slurm runs at most 512 hooks at once, each with one pipe
 * for the microseconds that matter. */
#define MAX_PIPES 1024

struct end {
	dev_t device;
	ino_t inode;
	int fd;
	bool writes;
};

/* Fill `ends` with this process's ends of pipes; returns how many there are. */
static size_t list_pipes(struct end *ends)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	size_t count = 0;

	while (dir && count < MAX_PIPES && (entry = readdir(dir))) {
		int fd = atoi(entry->d_name), mode;
		struct stat info;

		if (fd < FIRST_PRIVATE_FD || fd == dirfd(dir) || fstat(fd, &info) < 0 ||
		    !S_ISFIFO(info.st_mode) || (mode = fcntl(fd, F_GETFL)) < 0)
			continue;
		ends[count++] = (struct end){ info.st_dev, info.st_ino, fd,
					      (mode & O_ACCMODE) != O_RDONLY };
	}
	if (dir)
		closedir(dir);
	return count;
}

void close_inherited_pipes(void)
{
	struct end *ends = calloc(MAX_PIPES, sizeof(*ends));
	size_t count = ends ? list_pipes(ends) : 0;

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count; j++) {
			if (ends[i].device == ends[j].device && ends[i].inode == ends[j].inode &&
			    ends[i].writes != ends[j].writes) {
				close(ends[i].fd);
				break;
			}
		}
	}
	free(ends);
}
