/*
 * child hook -0 BEHAVIOUR - stands in for `slurmk8s hook -0 NAME`, well behaved
 * or not. Linked statically, so that 1000 runs cost little.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static void say(const char *field)
{
	if (write(1, field, strlen(field) + 1) < 0)
		_exit(99);
}

/* Copy stdin to stdout: the request is the reply. */
static int echo(void)
{
	char text[4096];
	ssize_t got;

	while ((got = read(0, text, sizeof(text))) > 0)
		if (write(1, text, (size_t)got) != got)
			return 99;
	return 0;
}

/* What it was given besides stdin: each must be as bounded_exec.h promises. */
static int inspect(void)
{
	char line[256], field[300];
	struct dirent *entry;
	DIR *dir;
	FILE *status;

	for (char **e = environ; *e; e++) {
		snprintf(field, sizeof(field), "ENV_%s", *e);
		say(field);
	}
	dir = opendir("/proc/self/fd");
	while ((entry = readdir(dir)))
		if (atoi(entry->d_name) > 2 && atoi(entry->d_name) != dirfd(dir))
			say("EXTRA_FD=1");
	closedir(dir);
	status = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof(line), status)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "SigBlk:\t", 8) == 0) {
			snprintf(field, sizeof(field), "BLOCKED=%s", line + 8);
			say(field);
		}
		if (strncmp(line, "SigIgn:\t", 8) == 0) {
			/* glibc's posix_spawn() leaves its own two signals, 32 and 33, ignored. */
			snprintf(field, sizeof(field), "IGNORED=%llx",
				 strtoull(line + 8, NULL, 16) & ~0x180000000ULL);
			say(field);
		}
	}
	snprintf(field, sizeof(field), "LEADER=%d", getpgrp() == getpid());
	say(field);
	return 0;
}

/* Write its pid to the file named by stdin's field PIDFILE. */
static void tell_pid(void)
{
	char text[4096] = "";
	ssize_t got = read(0, text, sizeof(text) - 1);
	FILE *f;

	if (got <= 8 || strncmp(text, "PIDFILE=", 8) != 0)
		return;
	f = fopen(text + 8, "w");
	fprintf(f, "%d\n", getpid());
	fclose(f);
}

static int grandchild(int new_session)
{
	if (fork() == 0) {
		if (new_session)
			setsid();
		tell_pid();
		sleep(5);
		_exit(0);
	}
	usleep(20000);
	say("MESSAGE=parent is done");
	return 0;
}

static void flood(void)
{
	static char text[4096];

	memset(text, 'x', sizeof(text));
	for (;;)
		if (write(1, text, sizeof(text)) < 0)
			_exit(99);
}

int main(int argc, char **argv)
{
	const char *what = argc == 4 && !strcmp(argv[1], "hook") && !strcmp(argv[2], "-0")
			   ? argv[3] : "bad arguments";

	if (!strcmp(what, "echo"))
		return echo();
	if (!strcmp(what, "inspect"))
		return inspect();
	if (!strcmp(what, "refuse")) {
		say("MESSAGE=no such file system");
		return 2;
	}
	if (!strcmp(what, "busy"))
		return 1;
	if (!strcmp(what, "unterminated"))
		return write(1, "A=1\0B=2", 7) == 7 ? 0 : 99;
	if (!strcmp(what, "silent crash"))
		return 2;
	if (!strcmp(what, "negative code")) {
		say("MESSAGE=a Go panic");
		return 125;
	}
	if (!strcmp(what, "no list")) {
		say("panic: something went wrong");
		return 0;
	}
	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "sleep"))
		return sleep(5), 0;
	if (!strcmp(what, "ignore TERM")) {
		signal(SIGTERM, SIG_IGN);
		return sleep(5), 0;
	}
	if (!strcmp(what, "stop"))
		return raise(SIGSTOP), 0;
	if (!strcmp(what, "close stdout")) {
		close(1);
		return sleep(5), 0;
	}
	if (!strcmp(what, "close all")) {
		close(0), close(1), close(2);
		return sleep(5), 0;
	}
	if (!strcmp(what, "close stdin")) {
		close(0);
		usleep(20000);
		say("MESSAGE=did not read");
		return 0;
	}
	if (!strcmp(what, "never read"))
		return sleep(5), 0;
	if (!strcmp(what, "grandchild"))
		return grandchild(0);
	if (!strcmp(what, "session"))
		return grandchild(1);
	if (!strcmp(what, "flood"))
		flood();
	if (!strcmp(what, "flood grandchild")) {
		if (fork() == 0)
			flood();
		return 0;
	}
	say("MESSAGE=bad arguments");
	return 3;
}
