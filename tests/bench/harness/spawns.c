/*
 * spawns FILE PROGRAM ARGUMENT... - runs a program and writes to FILE what it and
 * all its descendants spawned:
 *	PROCESSES EXECS THREADS
 *
 * It traces (ptrace), but stops at these events only, so that it counts exactly,
 * vfork and posix_spawn included, and needs neither wrappers on PATH nor strace.
 * The first exec, of PROGRAM itself, is not counted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			    PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;

static pid_t start(char *const argv[])
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		raise(SIGSTOP); /* until it is traced */
		execv(argv[0], argv);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, WUNTRACED) < 0 ||
	    ptrace(PTRACE_SEIZE, child, 0, options) < 0)
		return -1;
	kill(child, SIGCONT);
	return child;
}

int main(int argc, char **argv)
{
	long processes = 0, execs = -1, threads = 0;
	int first_status = 1, status;
	pid_t first, pid;
	FILE *out;

	if (argc < 3)
		return 2;
	first = start(argv + 2);
	if (first < 0) {
		perror("spawns: trace");
		return 1;
	}
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		int event = status >> 16, deliver = 0;

		if (!WIFSTOPPED(status)) {
			if (pid == first)
				first_status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
			continue;
		}
		if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK)
			processes++;
		else if (event == PTRACE_EVENT_CLONE)
			threads++;
		else if (event == PTRACE_EVENT_EXEC)
			execs++;
		else if (!event)
			deliver = WSTOPSIG(status);
		/* A new child's first stop has an event too, and nothing to deliver. */
		ptrace(PTRACE_CONT, pid, 0, deliver);
	}
	out = fopen(argv[1], "w");
	if (!out || fprintf(out, "%ld %ld %ld\n", processes, execs, threads) < 0 || fclose(out) != 0) {
		fprintf(stderr, "spawns: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	return first_status;
}
