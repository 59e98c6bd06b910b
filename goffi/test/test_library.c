/*
 * test_library LIBRARY - the behaviours that slurmk8s.h promises, against a
 * library built with the tag slurmk8s_testhooks.
 */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "../shim/loader.h"
#include "../slurmk8s.h"
#include "check.h"

static const char *library;

static const struct slurmk8s_library *load(void)
{
	const struct slurmk8s_library *lib;
	char err[512] = "";

	CHECK(slurmk8s_load(library, &lib, err, sizeof(err)) == SLURMK8S_OK, "%s", err);
	return lib;
}

/* Call a hook that has no reply worth reading. */
static int call(const struct slurmk8s_library *lib, const char *name,
		const char *const *fields)
{
	char **reply;
	int code = lib->hook(name, fields, &reply);

	CHECK(code >= 0 || reply == NULL);
	lib->free(reply);
	return code;
}

static const char *const none[] = { NULL };
static const char *const echo[] = { "CODE=0", "B=two\nlines", "A=x=y", "C=", NULL };

static void echoes_fields(void)
{
	const struct slurmk8s_library *lib = load();
	char **reply;

	CHECK(lib->hook("test_echo", echo, &reply) == SLURMK8S_OK);
	CHECK(strcmp(reply[0], "A=x=y") == 0);
	CHECK(strcmp(reply[1], "B=two\nlines") == 0);
	CHECK(strcmp(reply[2], "C=") == 0);
	CHECK(strcmp(reply[3], "CODE=0") == 0);
	CHECK(reply[4] == NULL);
	lib->free(reply);
}

static void hands_codes_through(void)
{
	const struct slurmk8s_library *lib = load();
	const char *busy[] = { "CODE=1", NULL }, *failed[] = { "CODE=3", NULL };

	CHECK(call(lib, "test_echo", busy) == SLURMK8S_BUSY);
	CHECK(call(lib, "test_echo", failed) == SLURMK8S_FAILED);
}

static void empty_reply_is_null(void)
{
	const struct slurmk8s_library *lib = load();
	char **reply = (char **)1;

	CHECK(lib->hook("test_echo", none, &reply) == SLURMK8S_OK);
	CHECK(reply == NULL);
	lib->free(NULL);
}

static void unknown_hook_says_so(void)
{
	const struct slurmk8s_library *lib = load();
	char **reply;
	int code = lib->hook("no_such_hook", none, &reply);

	CHECK(code == SLURMK8S_FAILED || code == SLURMK8S_REFUSED, "code %d", code);
	CHECK(reply && reply[0] && strncmp(reply[0], "MESSAGE=", 8) == 0);
	note("%s", reply[0]);
	lib->free(reply);
}

static void has_a_version(void)
{
	const struct slurmk8s_library *lib = load();

	CHECK(strcmp(lib->version(), "9.8.7-test") == 0, "%s", lib->version());
}

static void each_code_has_a_text(void)
{
	const struct slurmk8s_library *lib = load();

	for (int code = -100; code <= 100; code++) {
		const char *text = lib->strerror(code);

		CHECK(text && *text && !strchr(text, '\n'), "code %d", code);
	}
}

static void null_is_einval(void)
{
	const struct slurmk8s_library *lib = load();
	char **reply = (char **)1;

	CHECK(lib->hook(NULL, none, &reply) == SLURMK8S_EINVAL && reply == NULL);
	reply = (char **)1;
	CHECK(lib->hook("test_echo", NULL, &reply) == SLURMK8S_EINVAL && reply == NULL);
	CHECK(lib->hook("test_echo", none, NULL) == SLURMK8S_EINVAL);
}

static void field_without_key_is_einval(void)
{
	const struct slurmk8s_library *lib = load();
	const char *no_equals[] = { "A=1", "B", NULL }, *no_key[] = { "=1", NULL };

	CHECK(call(lib, "test_echo", no_equals) == SLURMK8S_EINVAL);
	CHECK(call(lib, "test_echo", no_key) == SLURMK8S_EINVAL);
}

static void panic_is_epanic(void)
{
	const struct slurmk8s_library *lib = load();

	for (int i = 0; i < 20; i++) {
		CHECK(call(lib, "test_panic", none) == SLURMK8S_EPANIC);
		CHECK(call(lib, "test_fatal", none) == SLURMK8S_EPANIC);
		CHECK(call(lib, "test_echo", echo) == SLURMK8S_OK);
	}
}

/* What a forked child sees: codes at once, never a hang. */
static void in_forked_child(const struct slurmk8s_library *lib, const char *what)
{
	double start = now_ms(), took;
	int fds[2], status;
	pid_t pid;

	CHECK(pipe(fds) == 0);
	pid = fork();
	if (pid == 0) {
		char **reply = (char **)1;
		double t = now_ms();
		int ok = lib->hook("test_echo", echo, &reply) == SLURMK8S_EFORK &&
			 reply == NULL && lib->version() && lib->strerror(-2);

		t = now_ms() - t;
		ok = ok && write(fds[1], &t, sizeof(t)) == sizeof(t);
		_exit(!ok);
	}
	status = wait_for(pid, 5000);
	took = now_ms() - start;
	CHECK(status == 0, "%s: child hung or got another code, status 0x%x", what,
	      (unsigned)status);
	CHECK(took < 1000, "%s: %.1f ms", what, took);
	CHECK(read(fds[0], &start, sizeof(start)) == sizeof(start));
	note("call %.3f ms, with fork and wait %.2f ms", start, took);
}

static void fork_after_load(void)
{
	in_forked_child(load(), "dlopen only");
}

static void fork_after_call(void)
{
	const struct slurmk8s_library *lib = load();

	CHECK(call(lib, "test_echo", echo) == SLURMK8S_OK);
	in_forked_child(lib, "dlopen and call");
	CHECK(call(lib, "test_echo", echo) == SLURMK8S_OK);
}

static void prints_nothing(void)
{
	int fds[2];
	char text[4096];
	ssize_t got;
	pid_t pid;

	CHECK(pipe(fds) == 0);
	pid = fork();
	if (pid == 0) {
		const struct slurmk8s_library *lib;

		dup2(fds[1], 1);
		dup2(fds[1], 2);
		close(fds[0]);
		close(fds[1]);
		lib = load();
		CHECK(call(lib, "test_print", none) == SLURMK8S_OK);
		CHECK(call(lib, "test_panic", none) == SLURMK8S_EPANIC);
		CHECK(call(lib, "test_fatal", none) == SLURMK8S_EPANIC);
		CHECK(call(lib, "no_such_hook", none) > 0);
		_exit(0);
	}
	close(fds[1]);
	got = read(fds[0], text, sizeof(text) - 1); /* until the child's exit */
	text[got > 0 ? got : 0] = '\0';
	CHECK(wait_for(pid, 30000) == 0, "%s", text);
	CHECK(got == 0, "%zd bytes: %.300s", got, text);
}

static void keeps_nofile_limit(void)
{
	struct rlimit lim;

	CHECK(getrlimit(RLIMIT_NOFILE, &lim) == 0);
	lim.rlim_cur = 777;
	CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	(void)load()->version();
	CHECK(getrlimit(RLIMIT_NOFILE, &lim) == 0);
	CHECK(lim.rlim_cur == 777, "%llu", (unsigned long long)lim.rlim_cur);
}

static void leaves_signals_alone(void)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCHLD,
				       SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP };
	const size_t count = sizeof(signals) / sizeof(*signals);
	struct sigaction before[sizeof(signals) / sizeof(*signals)];

	/* Not SIG_DFL for all: who starts the tests in the background ignores some. */
	for (size_t i = 0; i < count; i++)
		CHECK(sigaction(signals[i], NULL, &before[i]) == 0);
	CHECK(call(load(), "test_echo", echo) == SLURMK8S_OK);
	for (size_t i = 0; i < count; i++) {
		struct sigaction action;

		CHECK(sigaction(signals[i], NULL, &action) == 0);
		CHECK(action.sa_handler == before[i].sa_handler, "signal %d", signals[i]);
	}
}

static void *sleeper(void *lib)
{
	const char *fields[] = { "MS=200", NULL };

	return (void *)(long)call(lib, "test_sleep", fields);
}

static void runs_in_parallel(void)
{
	const struct slurmk8s_library *lib = load();
	pthread_t threads[8];
	double start = now_ms();

	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&threads[i], NULL, sleeper, (void *)lib) == 0);
	for (int i = 0; i < 8; i++) {
		void *code;

		pthread_join(threads[i], &code);
		CHECK(code == (void *)SLURMK8S_OK);
	}
	CHECK(now_ms() - start < 1000, "%.0f ms", now_ms() - start);
	note("8 calls of 200 ms took %.0f ms", now_ms() - start);
}

static int count_entries(const char *directory)
{
	DIR *dir = opendir(directory);
	int count = 0;

	CHECK(dir != NULL);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static long rss_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%*d %ld", &pages) == 1);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void leaks_nothing(void)
{
	const struct slurmk8s_library *lib = load();
	const char *bad[] = { "B", NULL };
	long rss = 0;
	size_t heap = 0;
	int fds = 0, threads = 0;

	for (int i = 0; i < 15000; i++) {
		if (i == 5000) { /* the first third warms up */
			rss = rss_kib();
			heap = mallinfo2().uordblks;
			fds = count_entries("/proc/self/fd");
			threads = count_entries("/proc/self/task");
		}
		CHECK(call(lib, "test_echo", echo) == SLURMK8S_OK);
		if (i % 10 == 0) {
			CHECK(call(lib, "test_echo", bad) == SLURMK8S_EINVAL);
			CHECK(call(lib, "no_such_hook", none) > 0);
		}
		if (i % 100 == 0)
			CHECK(call(lib, "test_panic", none) == SLURMK8S_EPANIC);
	}
	note("10000 calls: RSS %ld -> %ld KiB, malloc %+ld B, fds %+d, threads %d%+d",
	     rss, rss_kib(), (long)(mallinfo2().uordblks - heap),
	     count_entries("/proc/self/fd") - fds, threads,
	     count_entries("/proc/self/task") - threads);
	CHECK(rss_kib() - rss < 4096, "RSS %ld -> %ld KiB", rss, rss_kib());
	CHECK(mallinfo2().uordblks <= heap + 4096, "malloc %zu -> %zu", heap,
	      mallinfo2().uordblks);
	CHECK(count_entries("/proc/self/fd") == fds);
	CHECK(count_entries("/proc/self/task") <= threads + 1);
}

/* They are the hook's reply. A file that Go collects as garbage is closed. */
static void keeps_the_standard_descriptors(void)
{
	const struct slurmk8s_library *lib = load();
	struct stat before[3], after;

	for (int fd = 0; fd < 3; fd++)
		CHECK(fstat(fd, &before[fd]) == 0);
	for (int i = 0; i < 20000; i++) /* several cycles of the collector */
		CHECK(call(lib, "test_echo", echo) == SLURMK8S_OK);
	for (int fd = 0; fd < 3; fd++)
		CHECK(fstat(fd, &after) == 0 && after.st_ino == before[fd].st_ino && after.st_dev == before[fd].st_dev,
		      "descriptor %d", fd);
}

static void is_quick(void)
{
	double start = now_ms(), loaded, first;
	const struct slurmk8s_library *lib = load();

	loaded = now_ms() - start;
	CHECK(call(lib, "test_echo", echo) == SLURMK8S_OK);
	first = now_ms() - start;
	start = now_ms();
	for (int i = 0; i < 1000; i++)
		call(lib, "test_echo", echo);
	note("load %.1f ms, load and first call %.1f ms, then %.1f us a call, RSS %ld KiB",
	     loaded, first, now_ms() - start, rss_kib());
	CHECK(first < 5000);
}

static const struct test tests[] = {
	{ "fields come back as sent, with newlines and '=' in values", echoes_fields },
	{ "codes are handed through", hands_codes_through },
	{ "a reply without fields is NULL", empty_reply_is_null },
	{ "an unknown hook is an error with a MESSAGE", unknown_hook_says_so },
	{ "version comes from the linker", has_a_version },
	{ "each code has a one-line text", each_code_has_a_text },
	{ "NULL name, fields or reply is EINVAL", null_is_einval },
	{ "a field without KEY= is EINVAL", field_without_key_is_einval },
	{ "a Go panic or klog.Fatal is EPANIC and the process goes on", panic_is_epanic },
	{ "forked child of a process that loaded the library gets EFORK", fork_after_load },
	{ "forked child of a process that called the library gets EFORK", fork_after_call },
	{ "nothing on fd 1 or 2 from any logger, client-go, panic or error", prints_nothing },
	{ "the soft limit of open files stays as it was", keeps_nofile_limit },
	{ "TERM, INT, HUP, CHLD and others keep their dispositions", leaves_signals_alone },
	{ "calls from several threads run in parallel", runs_in_parallel },
	{ "10000 calls leak no memory, descriptor or thread", leaks_nothing },
	{ "descriptors 0 to 2 stay what they were, garbage collected or not", keeps_the_standard_descriptors },
	{ "load and call times", is_quick },
};

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	library = argv[1];
	return run_tests(tests, sizeof(tests) / sizeof(*tests)) != 0;
}
