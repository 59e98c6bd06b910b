/*
 * test_loader DIRECTORY - what the loader accepts and refuses. DIRECTORY holds
 * stub.so, abi2.so and incomplete.so; the tests change copies of them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "../shim/loader.h"
#include "../slurmk8s.h"
#include "check.h"

static const char *directory;

/* A fresh copy of DIRECTORY/`name`, as DIRECTORY/`subdir`/lib.so, root's 0644. */
static const char *copy(const char *name, const char *subdir)
{
	static char path[PATH_MAX], command[3 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s/lib.so", directory, subdir);
	snprintf(command, sizeof(command),
		 "d='%s'; s=\"$d/%s\"; rm -rf \"$s\" && mkdir -m 755 \"$s\" && "
		 "install -m 644 \"$d/%s\" \"$s/lib.so\"", directory, subdir, name);
	CHECK(system(command) == 0, "%s", command);
	return path;
}

static void accepts(const char *path)
{
	const struct slurmk8s_library *lib = NULL;
	char err[512] = "";

	CHECK(slurmk8s_load(path, &lib, err, sizeof(err)) == SLURMK8S_OK, "%s", err);
	CHECK(lib && strcmp(lib->version(), "stub") == 0);
}

/* The message must hold `reason`, be one line and say who speaks. */
static void refuses(const char *path, const char *reason)
{
	const struct slurmk8s_library *lib = (void *)1;
	char err[512] = "";

	CHECK(slurmk8s_load(path, &lib, err, sizeof(err)) == SLURMK8S_ELOAD, "%s", path);
	CHECK(lib == NULL);
	CHECK(strstr(err, reason) && strncmp(err, "slurmk8s: ", 10) == 0 &&
	      !strchr(err, '\n'), "%s", err);
	note("%.400s", err);
}

static void loads_a_trusted_file(void) { accepts(copy("stub.so", "plain")); }

static void loads_in_a_sticky_directory(void)
{
	const char *path = copy("stub.so", "sticky");
	char parent[PATH_MAX];

	snprintf(parent, sizeof(parent), "%s/sticky", directory);
	CHECK(chmod(parent, 01777) == 0);
	accepts(path);
}

static void loads_once(void)
{
	const struct slurmk8s_library *first, *second;
	const char *path = copy("stub.so", "once");
	char other[PATH_MAX];

	CHECK(slurmk8s_load(path, &first, NULL, 0) == SLURMK8S_OK);
	CHECK(slurmk8s_load(path, &second, NULL, 0) == SLURMK8S_OK && first == second);
	snprintf(other, sizeof(other), "%s/stub.so", directory);
	refuses(other, "is already loaded in this process");
}

static void loads_by_a_linked_directory(void)
{
	char link[PATH_MAX], path[PATH_MAX + 8];

	copy("stub.so", "real");
	snprintf(link, sizeof(link), "%s/linked", directory);
	unlink(link);
	CHECK(symlink("real", link) == 0);
	snprintf(path, sizeof(path), "%s/lib.so", link);
	accepts(path);
}

static void another_user_loads_roots_file(void)
{
	const char *path = copy("stub.so", "asuser");

	CHECK(setegid(65534) == 0 && seteuid(65534) == 0);
	accepts(path);
	CHECK(seteuid(0) == 0); /* LeakSanitizer needs it back */
}

static void refuses_null(void)
{
	const struct slurmk8s_library *lib;

	CHECK(slurmk8s_load(NULL, &lib, NULL, 0) == SLURMK8S_EINVAL);
	CHECK(slurmk8s_load("/x", NULL, NULL, 0) == SLURMK8S_EINVAL);
}

static void refuses_relative(void) { refuses("libslurmk8s.so", "not an absolute path"); }
static void refuses_absent(void) { refuses("/nonexistent/lib.so", "No such file"); }
static void refuses_directory(void) { refuses("/usr/lib", "not a regular file"); }
static void refuses_other_abi(void) { refuses(copy("abi2.so", "abi"), "has ABI 2, this plugin needs 1"); }
static void refuses_incomplete(void) { refuses(copy("incomplete.so", "incomplete"), "no function slurmk8s_hook"); }
static void refuses_text(void) { refuses(copy("text.so", "text"), "invalid ELF header"); }

static void refuses_foreign_library(void)
{
	refuses(copy("foreign.so", "foreign"), "no function slurmk8s_abi");
}

static void refuses_symlink(void)
{
	char link[PATH_MAX];

	snprintf(link, sizeof(link), "%s/link.so", directory);
	unlink(link);
	CHECK(symlink(copy("stub.so", "target"), link) == 0);
	refuses(link, "symbolic link");
}

static void refuses_mode(mode_t mode, const char *reason)
{
	const char *path = copy("stub.so", "mode");

	CHECK(chmod(path, mode) == 0);
	refuses(path, reason);
}

static void refuses_world_writable(void) { refuses_mode(0777, "mode 0777 lets others write it; chmod go-w"); }
static void refuses_group_writable(void) { refuses_mode(0664, "mode 0664 lets others write it; chmod go-w"); }

static void refuses_other_owner(void)
{
	const char *path = copy("stub.so", "owner");

	CHECK(chown(path, 65534, 0) == 0);
	refuses(path, "belongs to uid 65534; chown root");
}

static void refuses_parent(const char *subdir, mode_t mode, uid_t owner, const char *reason)
{
	char parent[PATH_MAX], path[PATH_MAX + 16];

	copy("stub.so", subdir);
	snprintf(parent, sizeof(parent), "%s/%s", directory, subdir);
	CHECK(chown(parent, owner, 0) == 0 && chmod(parent, mode) == 0);
	snprintf(path, sizeof(path), "%s/lib.so", parent);
	refuses(path, reason);
}

static void refuses_writable_directory(void) { refuses_parent("open", 0777, 0, "open: mode 0777 lets others write it"); }
static void refuses_foreign_directory(void) { refuses_parent("theirs", 0755, 65534, "theirs: belongs to uid 65534"); }

static void refuses_writable_grandparent(void)
{
	char path[PATH_MAX], command[3 * PATH_MAX];

	copy("stub.so", "grand");
	snprintf(command, sizeof(command),
		 "cd '%s/grand' && mkdir -m 755 sub && mv lib.so sub/ && chmod 777 .", directory);
	CHECK(system(command) == 0);
	snprintf(path, sizeof(path), "%s/grand/sub/lib.so", directory);
	refuses(path, "grand: mode 0777 lets others write it");
}

static void short_buffer_is_safe(void)
{
	const struct slurmk8s_library *lib;
	char err[12];

	memset(err, 'x', sizeof(err));
	CHECK(slurmk8s_load("relative", &lib, err, 10) == SLURMK8S_ELOAD);
	CHECK(strlen(err) == 9 && err[10] == 'x');
}

static const struct test tests[] = {
	{ "loader: a file that only root can write is loaded", loads_a_trusted_file },
	{ "loader: a sticky directory is accepted", loads_in_a_sticky_directory },
	{ "loader: a second load returns the first, another path is refused", loads_once },
	{ "loader: a directory may be a symbolic link", loads_by_a_linked_directory },
	{ "loader: another user may load root's file", another_user_loads_roots_file },
	{ "loader: NULL is EINVAL", refuses_null },
	{ "loader: a relative path is refused", refuses_relative },
	{ "loader: an absent file is refused", refuses_absent },
	{ "loader: a directory is refused", refuses_directory },
	{ "loader: a symbolic link is refused", refuses_symlink },
	{ "loader: a world-writable file is refused", refuses_world_writable },
	{ "loader: a group-writable file is refused", refuses_group_writable },
	{ "loader: another user's file is refused", refuses_other_owner },
	{ "loader: a file in a world-writable directory is refused", refuses_writable_directory },
	{ "loader: a file in another user's directory is refused", refuses_foreign_directory },
	{ "loader: a world-writable directory further up is refused", refuses_writable_grandparent },
	{ "loader: a library with another ABI number is refused", refuses_other_abi },
	{ "loader: a library without one of the functions is refused", refuses_incomplete },
	{ "loader: a library of something else is refused", refuses_foreign_library },
	{ "loader: a text file is refused", refuses_text },
	{ "loader: a short error buffer is not overrun", short_buffer_is_safe },
};

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	directory = argv[1];
	return run_tests(tests, sizeof(tests) / sizeof(*tests)) != 0;
}
