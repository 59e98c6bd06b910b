/*
 * bounded_exec.c - see bounded_exec.h.
 */
#define _GNU_SOURCE
#include "bounded_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "spawn.h"

#define POLL_WITHOUT_PIDFD_MS 2 /* how late an exit may be seen before Linux 5.3 */
#define REAP_AFTER_KILL_MS 10	/* a killed process is gone long before, unless its I/O hangs */
#define MAX_UNREAPED 16

/* The tests define SLURMK8S_OLD_SYSTEM, to see what RHEL 8 would. */
#if defined(SYS_pidfd_open) && !defined(SLURMK8S_OLD_SYSTEM)
#define HAVE_PIDFD 1
#endif

struct child {
	pid_t pid;
	int pidfd;	/* readable when the program has exited; -1 before Linux 5.3 */
	int in, out;	/* our ends of its stdin and stdout, -1 once closed */
	bool lost;	/* somebody else reaped it */
	double deadline;
};

/* Killed children that would not die in time (uninterruptible I/O): reaped by a
 * later call. An unreaped pid cannot be another process. */
static _Atomic pid_t unreaped[MAX_UNREAPED];

double bounded_exec_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/*
 * stdin is a socket, since only send() can be told not to raise SIGPIPE;
 * stdout is a pipe. Only our own ends are non-blocking: the flag belongs to one
 * end of a pipe, and the socket gets it call by call.
 */
static int make_channels(int in[2], int out[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0) {
		in[0] = in[1] = -1;
		return -1;
	}
	if (pipe2(out, O_CLOEXEC) < 0) {
		out[0] = out[1] = -1;
		return -1;
	}
	if (spawn_move_up(&in[0]) < 0 || spawn_move_up(&in[1]) < 0 ||
	    spawn_move_up(&out[0]) < 0 || spawn_move_up(&out[1]) < 0)
		return -1;
	return fcntl(out[0], F_SETFL, O_NONBLOCK);
}

/* Returns 0 or an errno. */
static int start(const char *const argv[], int in, int out, pid_t *pid)
{
	struct spawn how;
	int rc = spawn_prepare(&how, in, out, POSIX_SPAWN_SETPGROUP, NULL);

	if (rc)
		return rc;
	rc = posix_spawn(pid, argv[0], &how.actions, &how.attr, (char **)argv, spawn_environment);
	spawn_release(&how);
	return rc;
}

/* Has the program exited? It stays a zombie, so that its pid stays ours. */
static bool has_exited(struct child *child)
{
	siginfo_t info = { .si_pid = 0 };

	while (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
		if (errno == EINTR)
			continue;
		child->lost = true; /* ECHILD: SIGCHLD is ignored, or another's waitpid(-1) */
		return true;
	}
	return info.si_pid == child->pid;
}

static void feed(struct child *child, const char **input, size_t *size)
{
	while (*size) {
		ssize_t sent = send(child->in, *input, *size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0)
			break; /* it does not want to read: its own business */
		*input += sent;
		*size -= (size_t)sent;
	}
	close_fd(&child->in);
}

/* Read what there is. Returns false when it is too much. */
static bool collect(struct child *child, char *reply, size_t max, size_t *size)
{
	while (child->out >= 0) {
		char beyond;
		bool full = *size == max;
		ssize_t got = read(child->out, full ? &beyond : reply + *size,
				   full ? 1 : max - *size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			break;
		if (got <= 0)
			close_fd(&child->out);
		else if (full)
			return false;
		else
			*size += (size_t)got;
	}
	return true;
}

/* Feed and read until the program has exited. Returns 0 or a code. */
static int converse(struct child *child, const char *input, size_t input_size,
		    char *reply, size_t reply_max, size_t *reply_size)
{
	while (!has_exited(child)) {
		struct pollfd fds[] = {
			{ .fd = child->in, .events = POLLOUT },
			{ .fd = child->out, .events = POLLIN },
			{ .fd = child->pidfd, .events = POLLIN },
		};
		double left = child->deadline - bounded_exec_now_ms();

		if (left <= 0)
			return BOUNDED_EXEC_TIMED_OUT;
		if (child->pidfd < 0 && left > POLL_WITHOUT_PIDFD_MS)
			left = POLL_WITHOUT_PIDFD_MS;
		if (poll(fds, 3, (int)left + 1) <= 0)
			continue;
		if (fds[0].revents)
			feed(child, &input, &input_size);
		if (fds[1].revents && !collect(child, reply, reply_max, reply_size))
			return BOUNDED_EXEC_BAD_END;
	}
	/* A grandchild may hold the pipe open: what is in it now is the reply. */
	return collect(child, reply, reply_max, reply_size) ? 0 : BOUNDED_EXEC_BAD_END;
}

static void remember_unreaped(pid_t pid)
{
	for (int i = 0; i < MAX_UNREAPED; i++) {
		pid_t nobody = 0;

		if (atomic_compare_exchange_strong(&unreaped[i], &nobody, pid))
			return;
	}
}

static void reap_old(void)
{
	for (int i = 0; i < MAX_UNREAPED; i++) {
		pid_t pid = atomic_exchange(&unreaped[i], 0);

		if (pid && waitpid(pid, NULL, WNOHANG) == 0)
			remember_unreaped(pid);
	}
}

/*
 * Kill what is left of the group, then reap the program. In this order: as long
 * as it is unreaped, its group's number cannot belong to anybody else.
 * Returns its wait status, or -1 when that is not known.
 */
static int finish(struct child *child)
{
	double end = bounded_exec_now_ms() + REAP_AFTER_KILL_MS;
	int status;

	if (child->lost)
		return -1;
	kill(-child->pid, SIGKILL);
	for (;;) {
		pid_t pid = waitpid(child->pid, &status, WNOHANG);
		struct pollfd exited = { .fd = child->pidfd, .events = POLLIN };

		if (pid == child->pid)
			return status;
		if (pid < 0 && errno != EINTR)
			return -1;
		if (bounded_exec_now_ms() >= end)
			break;
		poll(&exited, 1, 1);
	}
	remember_unreaped(child->pid);
	return -1;
}

/* Turn the end of the program into a code and a line. */
static int judge(int code, int status, const struct child *child, int timeout_ms,
		 const char *program, char *err, size_t err_size)
{
	if (code == BOUNDED_EXEC_TIMED_OUT)
		snprintf(err, err_size, "%s: timed out after %d ms", program, timeout_ms);
	else if (code == BOUNDED_EXEC_BAD_END)
		snprintf(err, err_size, "%s: its reply is too long", program);
	else if (child->lost || status == -1)
		snprintf(err, err_size, "%s: its exit status was lost", program);
	else if (WIFSIGNALED(status))
		snprintf(err, err_size, "%s: killed by signal %d", program, WTERMSIG(status));
	else
		return WEXITSTATUS(status);
	return code ? code : BOUNDED_EXEC_BAD_END;
}

int bounded_exec(const char *const argv[], const char *input, size_t input_size,
		 int timeout_ms, char *reply, size_t reply_max, size_t *reply_size,
		 char *err, size_t err_size)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 };
	struct child child = { .pidfd = -1, .deadline = bounded_exec_now_ms() + timeout_ms };
	int code = BOUNDED_EXEC_CANNOT_RUN, rc;

	*reply_size = 0;
	reap_old();
	if (argv[0][0] != '/') {
		snprintf(err, err_size, "%s: not an absolute path", argv[0]);
		goto end;
	}
	if (make_channels(in, out) < 0) {
		snprintf(err, err_size, "%s: cannot create a socket for it: %s", argv[0], strerror(errno));
		goto end;
	}
	rc = start(argv, in[1], out[1], &child.pid);
	if (rc) {
		snprintf(err, err_size, "%s: cannot be run: %s", argv[0], strerror(rc));
		goto end;
	}
	close_fd(&in[1]);
	close_fd(&out[1]);
	child.in = in[0];
	child.out = out[0];
#ifdef HAVE_PIDFD
	child.pidfd = (int)syscall(SYS_pidfd_open, child.pid, 0);
#endif
	code = converse(&child, input, input_size, reply, reply_max, reply_size);
	rc = finish(&child);
	code = judge(code, rc, &child, timeout_ms, argv[0], err, err_size);
	in[0] = child.in;
	out[0] = child.out;
end:
	close_fd(&in[0]);
	close_fd(&in[1]);
	close_fd(&out[0]);
	close_fd(&out[1]);
	close_fd(&child.pidfd);
	return code;
}
