/*
 * stepd_host.h - plays slurmstepd for the tests: the plugin's callbacks in Slurm's order,
 * with step_program as the slurmk8s program.
 */
#ifndef STEPD_HOST_H
#define STEPD_HOST_H

#include "../../goffi/test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#include "fake_spank.h"

#define REGISTER_TIMEOUT_MS 1200
#define DEREGISTER_TIMEOUT_MS 900
#define MARGIN_MS 500
#define SLACK_MS 700 /* a busy machine */

static const char *program;
static char log_path[512];

/* The log of step_program, from the start of this test on. */
__attribute__((unused)) static const char *program_log(void)
{
	static char text[65536];
	int fd = open(log_path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

__attribute__((unused)) static bool appears(const char *text, int within_ms)
{
	for (double end = now_ms() + within_ms; now_ms() < end; usleep(1000))
		if (strstr(program_log(), text))
			return true;
	return false;
}

__attribute__((unused)) static pid_t program_pid(void)
{
	const char *pid = strstr(program_log(), " pid=");

	return pid ? atoi(pid + 5) : 0;
}

/* Has it exited? Init may take its time to reap it. */
__attribute__((unused)) static bool gone(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	for (double end = now_ms() + 1000; now_ms() < end; usleep(1000)) {
		stat = fopen(path, "r");
		if (stat && fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
			state = 'Z';
		if (stat)
			fclose(stat);
		if (!stat || state == 'Z')
			return true;
	}
	return false;
}

static char *arguments[5];
static int argument_count;

/* slurmstepd up to the first task: Slurm gives option NAME=VALUE, or none. */
__attribute__((unused)) static void start_step(uint32_t step, const char *option, const char *value)
{
	static char path[512], registering[64], deregistering[64];

	unlink(log_path);
	slurm.context = S_CTX_REMOTE;
	slurm.step = step;
	snprintf(path, sizeof(path), "program=%s", program);
	snprintf(registering, sizeof(registering), "register_timeout_ms=%d", REGISTER_TIMEOUT_MS);
	snprintf(deregistering, sizeof(deregistering), "deregister_timeout_ms=%d", DEREGISTER_TIMEOUT_MS);
	/* A test may have added some, or all by itself. */
	if (!arguments[0] || (arguments[0] != path && strncmp(arguments[0], "program=", 8) != 0)) {
		memmove(arguments + 3, arguments, sizeof(arguments[0]) * (size_t)argument_count);
		arguments[0] = path;
		arguments[1] = registering;
		arguments[2] = deregistering;
		argument_count += 3;
	}
	CHECK(slurm_spank_init(fake_handle, argument_count, arguments) == 0);
	if (option)
		CHECK(fake_option(option, value, 1) == 0);
	CHECK(slurm_spank_init_post_opt(fake_handle, argument_count, arguments) == 0);
	CHECK(slurm_spank_user_init(fake_handle, argument_count, arguments) == 0);
}

/* A forked task: what it writes to stderr goes to `said`. Returns whether it was executed. */
__attribute__((unused)) static bool task_runs(int id, char said[1024])
{
	int pipe_fds[2], status;
	ssize_t n;
	pid_t pid;

	CHECK(pipe(pipe_fds) == 0);
	pid = fork();
	if (pid == 0) {
		dup2(pipe_fds[1], 2);
		slurm.task = id;
		if (slurm_spank_task_init(fake_handle, 0, NULL) == 0)
			_exit(0); /* execve() */
		_exit(99);
	}
	close(pipe_fds[1]);
	n = read(pipe_fds[0], said, 1023);
	said[n > 0 ? n : 0] = '\0';
	close(pipe_fds[0]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK(WEXITSTATUS(status) <= 1, "exit status %d", WEXITSTATUS(status));
	return WEXITSTATUS(status) == 0;
}

__attribute__((unused)) static void end_step(void)
{
	CHECK(slurm_spank_exit(fake_handle, 0, NULL) == 0);
}

__attribute__((unused)) static int open_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 64; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* The program's path from main()'s argument; step_program logs beside itself. */
static int set_program(const char *path)
{
	if (!path || path[0] != '/')
		return -1;
	program = path;
	snprintf(log_path, sizeof(log_path), "%.*s/step_program.log",
		 (int)(strrchr(program, '/') - program), program);
	return 0;
}

#endif
