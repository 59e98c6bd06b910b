/*
 * check.h - runs each test in a process of its own, since a process can load
 * the library only once and must not fork after it did.
 *
 * Output: "ok - NAME (note)" or "not ok - NAME: reason" a test.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_TIMEOUT_MS 120000

struct test {
	const char *name; /* the behaviour, as a sentence */
	void (*run)(void);
};

/* Shared with the test's process: a figure, or why it failed. */
static char *check_note;

__attribute__((format(printf, 1, 2), unused))
static void note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(check_note, 1024, format, args);
	va_end(args);
}

/* End the test unless `condition` holds; the rest is a printf() of the details. */
#define CHECK(condition, ...)                                                \
	do {                                                                 \
		if (!(condition)) {                                          \
			note(" " __VA_ARGS__);                               \
			fail_at(__FILE__, __LINE__, #condition);             \
		}                                                            \
	} while (0)

__attribute__((noreturn, unused))
static void fail_at(const char *file, int line, const char *condition)
{
	char details[512];

	snprintf(details, sizeof(details), "%.500s", check_note);
	note("%s:%d: %s:%s", file, line, condition, details);
	_exit(1);
}

__attribute__((unused)) static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* waitpid() with a deadline; a child that hangs is killed and reported as -1. */
__attribute__((unused)) static int wait_for(pid_t pid, double timeout_ms)
{
	double end = now_ms() + timeout_ms;
	int status;

	while (now_ms() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(200);
	}
	kill(pid, 9);
	waitpid(pid, &status, 0);
	return -1;
}

/* The tests look at descriptors by their numbers: close those that the caller's shell has left open. */
static void close_inherited_descriptors(void)
{
	for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
		close(fd);
}

/* Returns the number of failed tests. */
__attribute__((unused))
static int run_tests(const struct test *tests, size_t count)
{
	int failed = 0;

	close_inherited_descriptors();
	check_note = mmap(NULL, 1024, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < count; i++) {
		pid_t pid;
		int status;

		check_note[0] = '\0';
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			tests[i].run();
			exit(0);
		}
		status = wait_for(pid, TEST_TIMEOUT_MS);
		if (status == 0) {
			printf("ok - %s%s%s%s\n", tests[i].name, *check_note ? " (" : "",
			       check_note, *check_note ? ")" : "");
			continue;
		}
		failed++;
		printf("not ok - %s: %s (wait status 0x%x)\n", tests[i].name,
		       *check_note ? check_note : "died", (unsigned)status);
	}
	return failed;
}

#endif
