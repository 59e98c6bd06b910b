/*
 * test_entry LIBRARY - entry.c with stub_go.c instead of Go, both built with
 * the sanitizers, as this program is.
 */
#include <dlfcn.h>

#include "../shim/loader.h"
#include "../slurmk8s.h"
#include "check.h"

static const char *library;
static const char *const two[] = { "A=1", "B=2", NULL };

static const struct slurmk8s_library *load(void)
{
	const struct slurmk8s_library *lib;
	char err[512] = "";

	CHECK(slurmk8s_load(library, &lib, err, sizeof(err)) == SLURMK8S_OK, "%s", err);
	return lib;
}

static int go_calls(void)
{
	return *(int *)dlsym(dlopen(library, RTLD_NOW), "stub_go_calls");
}

static void one_free_is_enough(void)
{
	const struct slurmk8s_library *lib = load();
	char **reply;

	for (int i = 0; i < 1000; i++) {
		CHECK(lib->hook("busy", two, &reply) == SLURMK8S_BUSY);
		CHECK(strcmp(reply[1], "B=2") == 0 && !reply[2]);
		lib->free(reply);
	}
	CHECK(go_calls() == 1000);
}

static void go_is_not_reached_by_mistakes(void)
{
	const struct slurmk8s_library *lib = load();
	const char *bad[] = { "A=1", "", NULL };
	char **reply = (char **)1;

	CHECK(lib->hook("x", bad, &reply) == SLURMK8S_EINVAL && !reply);
	CHECK(lib->hook(NULL, two, &reply) == SLURMK8S_EINVAL);
	CHECK(lib->hook("x", NULL, &reply) == SLURMK8S_EINVAL);
	CHECK(lib->hook("x", two, NULL) == SLURMK8S_EINVAL);
	CHECK(go_calls() == 0);
}

static void go_is_not_reached_from_a_fork(void)
{
	const struct slurmk8s_library *lib = load();
	char **reply;
	pid_t pid = fork();

	if (pid == 0)
		_exit(!(lib->hook("x", two, &reply) == SLURMK8S_EFORK && !reply &&
			go_calls() == 0 && strcmp(lib->version(), "unknown") == 0));
	CHECK(wait_for(pid, 5000) == 0);
}

static void a_long_version_is_cut(void)
{
	CHECK(strlen(load()->version()) == 63);
}

static const struct test tests[] = {
	{ "entry with ASan and UBSan: one free frees a reply", one_free_is_enough },
	{ "entry with ASan and UBSan: NULL and bad fields do not reach Go", go_is_not_reached_by_mistakes },
	{ "entry with ASan and UBSan: a forked child does not reach Go", go_is_not_reached_from_a_fork },
	{ "entry with ASan and UBSan: a long version is cut", a_long_version_is_cut },
};

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	library = argv[1];
	return run_tests(tests, sizeof(tests) / sizeof(*tests)) != 0;
}
