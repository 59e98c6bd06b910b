/*
 * step_program.c - see step_program.h.
 */
#define _GNU_SOURCE
#include "step_program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../goffi/shim/bounded_exec.h"
#include "../goffi/shim/loader.h"
#include "../goffi/shim/spawn.h"

#define GONE_AFTER_KILL_MS 1000 /* killed, it goes at once, unless its I/O hangs */

/* What came of a spawn, over a pipe. */
struct spawned {
	int error; /* an errno */
	pid_t pid;
};

/* Start it from a child that ends at once, so that init inherits it. */
static int spawn_orphan(const char *path, const struct spawn *how, pid_t *pid)
{
	static char step[] = "step";
	char *const argv[] = { (char *)path, step, NULL };
	struct spawned spawned = { .error = 0 };
	int ends[2];
	pid_t parent;
	ssize_t got;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return errno;
	parent = fork();
	if (parent == 0) {
		/* slurmstepd has threads: only what is safe after fork(). */
		spawned.error = posix_spawn(&spawned.pid, path, &how->actions, &how->attr, argv, spawn_environment);
		_exit(write(ends[1], &spawned, sizeof(spawned)) != sizeof(spawned));
	}
	if (parent < 0)
		spawned.error = errno;
	close(ends[1]);
	if (parent > 0) {
		do
			got = read(ends[0], &spawned, sizeof(spawned));
		while (got < 0 && errno == EINTR);
		if (got != sizeof(spawned))
			spawned.error = ECHILD;
		while (waitpid(parent, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(ends[0]);
	*pid = spawned.pid;
	return spawned.error;
}

/* Returns 0 or an errno. */
static int start(const char *path, int socket_fd, pid_t *pid)
{
	struct spawn how;
	/* Not in slurmstepd's directory, which goes with the job. */
	int rc = spawn_prepare(&how, socket_fd, socket_fd, POSIX_SPAWN_SETSID, "/");

	if (rc)
		return rc;
	rc = spawn_orphan(path, &how, pid);
	spawn_release(&how);
	return rc;
}

/* slurmstepd is exempt from the OOM killer, and what it starts would be too. */
static void expose_to_oom_killer(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "0", 1) < 0) {
		/* It only stays harder to kill than it should be. */
	}
	close(fd);
}

int step_program_start(struct step_program *program, const char *path,
		       char *problem, size_t size)
{
	int ends[2] = { -1, -1 }, rc = -1;

	program->fd = -1;
	if (slurmk8s_check_program(path, problem, size) != 0) /* it is run as root */
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ||
	    spawn_move_up(&ends[0]) < 0 || spawn_move_up(&ends[1]) < 0) {
		snprintf(problem, size, "no socket for %s: %s", path, strerror(errno));
		goto end;
	}
	rc = start(path, ends[1], &program->pid);
	if (rc) {
		snprintf(problem, size, "%s cannot be run: %s", path, strerror(rc));
		rc = -1;
		goto end;
	}
	expose_to_oom_killer(program->pid);
	program->fd = ends[0];
	ends[0] = -1;
end:
	if (ends[0] >= 0)
		close(ends[0]);
	if (ends[1] >= 0)
		close(ends[1]);
	return rc;
}

/* Wait for `events`. Returns false at the deadline. */
static bool await(int fd, short events, double deadline)
{
	for (;;) {
		struct pollfd poller = { .fd = fd, .events = events };
		double left = deadline - bounded_exec_now_ms();

		if (left <= 0)
			return false;
		if (poll(&poller, 1, (int)left + 1) > 0)
			return true;
	}
}

int step_program_send(struct step_program *program, const struct fields *request,
		      double deadline, char *problem, size_t size)
{
	size_t left;
	const char *next = fields_text(request, &left, problem, size);

	if (!next)
		return -1;
	left++; /* the frame's end */
	while (left) {
		ssize_t sent = send(program->fd, next, left, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			next += sent;
			left -= (size_t)sent;
		} else if (errno != EAGAIN && errno != EINTR) {
			snprintf(problem, size, "the step program is gone: %s", strerror(errno));
			return -1;
		} else if (!await(program->fd, POLLOUT, deadline)) {
			snprintf(problem, size, "the step program does not read its request");
			return -1;
		}
	}
	return 0;
}

/* Read up to the end of a frame, and not beyond: the program speaks only when
 * asked. Returns the size, or -1. */
static ssize_t read_frame(int fd, char reply[FIELDS_REPLY_MAX_BYTES], double deadline,
			  char *problem, size_t size)
{
	size_t got = 0;

	while (!fields_frame_length(reply, got)) {
		ssize_t n = recv(fd, reply + got, FIELDS_REPLY_MAX_BYTES - got, MSG_DONTWAIT);

		if (n > 0) {
			got += (size_t)n;
		} else if (n == 0 && got == FIELDS_REPLY_MAX_BYTES) {
			snprintf(problem, size, "the step program's answer is larger than %d KiB",
				 FIELDS_REPLY_MAX_BYTES >> 10);
			return -1;
		} else if (n == 0) {
			snprintf(problem, size, "the step program ended %s its answer",
				 got ? "in the middle of" : "without giving");
			return -1;
		} else if (errno != EAGAIN && errno != EINTR) {
			snprintf(problem, size, "the step program is gone: %s", strerror(errno));
			return -1;
		} else if (!await(fd, POLLIN, deadline)) {
			snprintf(problem, size, "the step program gave no answer in time");
			return -1;
		}
	}
	return (ssize_t)got;
}

int step_program_receive(struct step_program *program, struct fields *reply,
			 double deadline, char *problem, size_t size)
{
	static char text[FIELDS_REPLY_MAX_BYTES];
	ssize_t got = read_frame(program->fd, text, deadline, problem, size);

	if (got >= 0 && fields_frame_length(text, (size_t)got) == (size_t)got &&
	    fields_read(reply, text, (size_t)got) == 0)
		return 0;
	if (got >= 0)
		snprintf(problem, size, "the step program's answer is invalid: is it of another version?");
	fields_clear(reply);
	return -1;
}

/* Its end of the socket is closed when it is gone, and not before. */
static bool await_end(int fd, double deadline)
{
	char ignored[4096];

	for (;;) {
		ssize_t n = recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return true;
		if (bounded_exec_now_ms() >= deadline || (n < 0 && !await(fd, POLLIN, deadline)))
			return false;
	}
}

bool step_program_end(struct step_program *program, double deadline)
{
	bool killed = false;

	if (program->fd < 0)
		return false;
	/* Not close(): it ends the stream even if a fork of slurmstepd has a copy. */
	shutdown(program->fd, SHUT_WR);
	if (!await_end(program->fd, deadline)) {
		/* It has the socket open and so is alive: the number is its own. */
		kill(-program->pid, SIGKILL);
		await_end(program->fd, bounded_exec_now_ms() + GONE_AFTER_KILL_MS);
		killed = true;
	}
	close(program->fd);
	program->fd = -1;
	return killed;
}
