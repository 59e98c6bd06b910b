/*
 * test_job_script.c STUB_LIBRARY LOG - job_prolog and job_epilog, with a stub for the library.
 * Needs root, as the loader trusts only root's files.
 */
#define _GNU_SOURCE
#include "../../goffi/test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "../../goffi/shim/fields.h"
#include "../refusal.h"
#include "fake_spank.h"

#define WISH "SPANK__SLURM_SPANK_OPTION_slurmk8s_"

static const char *library, *log_path;
static char run_dir[] = "/tmp/slurmk8s-test-XXXXXX";

static const char *read_all(const char *path)
{
	static char text[256 * 1024];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

static bool is_loaded(void)
{
	static char maps[65536];
	int fd = open("/proc/self/maps", O_RDONLY);
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, maps + used, sizeof(maps) - 1 - used)) > 0)
		used += (size_t)n;
	maps[used] = '\0';
	close(fd);
	return strstr(maps, library) != NULL;
}

/* As Slurm calls it for job `id`, with one argument more in plugstack.conf. */
static void call(spank_f *callback, uint32_t id, int timeout_ms, const char *argument)
{
	static char path[512], prolog[64], epilog[64], directory[128];
	char *arguments[] = { path, prolog, epilog, directory, (char *)argument };

	snprintf(path, sizeof(path), "library=%s", library);
	snprintf(prolog, sizeof(prolog), "prolog_timeout_ms=%d", timeout_ms);
	snprintf(epilog, sizeof(epilog), "epilog_timeout_ms=%d", timeout_ms);
	snprintf(directory, sizeof(directory), "run_dir=%s", run_dir);
	unlink(log_path);
	slurm.context = S_CTX_JOB_SCRIPT;
	slurm.job = id;
	setenv("SLURMD_NODENAME", "n1", 1);
	setenv("SLURM_NODELIST", "n[1-2]", 1);
	setenv("SLURM_JOB_RESTART_COUNT", "2", 1);
	setenv("SLURM_JOB_PARTITION", "main", 1);
	CHECK(callback(fake_handle, argument ? 5 : 4, arguments) == 0, "an error drains the node");
}

static void begin_job(uint32_t id, int timeout_ms)
{
	call(slurm_spank_job_prolog, id, timeout_ms, "nodes=on");
}

static void end_job(uint32_t id, int timeout_ms)
{
	call(slurm_spank_job_epilog, id, timeout_ms, NULL);
}

static void write_mark(const char *name)
{
	char path[256];
	int fd;

	mkdir(run_dir, 0755);
	snprintf(path, sizeof(path), "%s/nodes", run_dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/%s", run_dir, name);
	fd = creat(path, 0600);
	CHECK(fd >= 0, "%s", path);
	close(fd);
}

/* What the step program of a job could not deregister. */
static void with_services_left(uint32_t job)
{
	char mark[32];

	snprintf(mark, sizeof(mark), "job.%u", (unsigned)job);
	write_mark(mark);
}

static void remove_run_dir(void)
{
	char command[128];

	unsetenv("SLURM_JOB_NODELIST"); /* may be more than a program can be given */
	snprintf(command, sizeof(command), "rm -rf '%s'", run_dir);
	if (system(command) != 0)
		perror(run_dir);
}

/* The job's nodes, in so many bytes that no two of them can be shortened. */
static void spread_over_nodes(size_t size)
{
	char *list = malloc(size + 1);

	CHECK(list);
	memset(list, 'n', size);
	memcpy(list + size - 4, ",end", 5);
	setenv("SLURM_JOB_NODELIST", list, 1);
	free(list);
}

/* The refusal of a job, "" if there is none. */
static const char *refusal(uint32_t job)
{
	static char line[1024];

	return refusal_read(run_dir, job, line, sizeof(line)) ? line : "";
}

static void the_prolog_does_nothing_where_nodes_are_not_shared(void)
{
	write_mark("refuse.40"); /* to see that it does not even look */
	call(slurm_spank_job_prolog, 40, 1000, NULL);
	call(slurm_spank_job_prolog, 40, 1000, "nodes=off");
	setenv(WISH "k8s_nodes", "keep", 1);
	call(slurm_spank_job_prolog, 40, 1000, NULL);
	CHECK(!is_loaded() && !slurm.log[0] && refusal_exists(run_dir, 40));
}

static void a_wish_that_is_not_heard_is_refused(void)
{
	setenv(WISH "k8s_nodes", "reclaim", 1);
	call(slurm_spank_job_prolog, 40, 1000, NULL);
	CHECK(!is_loaded() && strstr(refusal(40), "node n1 could not be made ready for job 40: --k8s-nodes was given, but"),
	      "%s", refusal(40));
}

static void the_prolog_asks_the_library(void)
{
	begin_job(40, 1000);
	CHECK(strcmp(read_all(log_path), "k8s_job_prolog, lowest descriptor 3\n"
		"  CONFIG=/etc/slurm/slurmk8s.toml\n  DEADLINE_MS=1000\n  JOB_ID=40\n  UID=1001\n  GID=1002\n"
		"  NODE=n1\n  NODELIST=n[1-2]\n  RESTART_COUNT=2\n  PARTITION=main\n") == 0, "%s", read_all(log_path));
	CHECK(!slurm.log[0] && !refusal(40)[0], "%s", slurm.log);
}

static void the_prolog_hands_on_what_the_job_wants(void)
{
	setenv("SLURM_JOB_CONSTRAINTS", "gpu", 1);
	setenv(WISH "k8s_nodes", "reclaim", 1);
	setenv(WISH "k8s_evict_grace", "5", 1);
	setenv(WISH "k8s_evict_timeout", "30:fail", 1);
	setenv(WISH "k8s_register", "a:1", 1);
	begin_job(40, 1000);
	CHECK(strstr(read_all(log_path), "  CONSTRAINTS=gpu\n  K8S_NODES=reclaim\n  K8S_EVICT_GRACE=5\n"
		"  K8S_EVICT_TIMEOUT=30:fail\n"), "%s", read_all(log_path));
	CHECK(!strstr(read_all(log_path), "K8S_REGISTER"));
}

static void a_long_list_of_nodes_is_whole(void)
{
	spread_over_nodes(100 * 1024);
	begin_job(40, 1000);
	CHECK(strstr(read_all(log_path), "n,end\n  RESTART_COUNT=2\n"), "no NODELIST");
	CHECK(!refusal(40)[0], "%s", refusal(40));
}

static void an_incomplete_request_is_not_made(void)
{
	spread_over_nodes(2 * FIELDS_MAX_BYTES);
	begin_job(40, 1000);
	CHECK(!is_loaded() && strstr(refusal(40), "job 40: the request does not fit into memory or 1024 KiB"), "%s", refusal(40));
	write_mark("job.40");
	end_job(40, 1000);
	CHECK(!is_loaded() && strstr(slurm.log, "left to reconcile: the request does not fit"), "%s", slurm.log);
}

static void a_hostile_wish_is_not_handed_on(void)
{
	setenv(WISH "k8s_nodes", "keep\nUID=0", 1);
	begin_job(40, 1000);
	CHECK(!is_loaded() && strstr(refusal(40), "--k8s-nodes has a control character in it"), "%s", refusal(40));
	setenv(WISH "k8s_nodes", "reclaimreclaimreclaim", 1);
	begin_job(40, 1000);
	CHECK(!is_loaded() && strstr(refusal(40), "--k8s-nodes is too long"), "%s", refusal(40));
}

static void a_job_that_failed_to_get_its_node_is_refused(void)
{
	begin_job(47, 1000);
	CHECK(strcmp(refusal(47), "node n1 could not be made ready for job 47: the API server does not answer: "
	      "tell the administrator") == 0, "%s", refusal(47));
	begin_job(49, 1000);
	CHECK(strstr(refusal(49), "failed, in general"), "%s", refusal(49));
}

/* The stub leaves a mark for job ids that end with 6. */
static void the_librarys_own_words_are_kept(void)
{
	CHECK(mkdir(run_dir, 0755) == 0 && setenv("STUB_RUN_DIR", run_dir, 1) == 0);
	begin_job(46, 1000);
	CHECK(strcmp(refusal(46), "web-1 may not be evicted") == 0, "%s", refusal(46));
	CHECK(strstr(slurm.log, "job 46 does not run here"), "%s", slurm.log);
}

static void a_prolog_that_hangs_ends_and_refuses(void)
{
	double start = now_ms();

	begin_job(48, 200);
	CHECK(now_ms() - start < 200 + 1000 + 700, "took %.0f ms", now_ms() - start);
	CHECK(strstr(refusal(48), "the hook did not end"), "%s", refusal(48));
	remove_run_dir();
	_exit(0); /* as slurmstepd, it does not wait */
}

static void without_a_library_jobs_are_refused(void)
{
	library = "/no/such/libslurmk8s.so";
	begin_job(40, 1000);
	CHECK(strstr(refusal(40), "No such file"), "%s", refusal(40));
}

static void a_slip_in_plugstack_conf_refuses_where_nodes_are_shared(void)
{
	char *arguments[] = { (char *)"epilogue=1", (char *)"nodes=on" };
	char line[1024];

	slurm.context = S_CTX_JOB_SCRIPT;
	slurm.job = 4000000002U;
	CHECK(slurm_spank_job_prolog(fake_handle, 1, arguments) == 0);
	CHECK(!refusal_exists("/run/slurmk8s", slurm.job));
	CHECK(slurm_spank_job_prolog(fake_handle, 2, arguments) == 0);
	CHECK(refusal_read("/run/slurmk8s", slurm.job, line, sizeof(line)) && strstr(line, "unknown argument \"epilogue=1\""),
	      "%s", line);
	refusal_remove("/run/slurmk8s", slurm.job);
	rmdir("/run/slurmk8s"); /* unless others use it */
}

static void a_refusal_of_the_last_run_does_not_count(void)
{
	write_mark("refuse.40");
	begin_job(40, 1000);
	CHECK(!refusal(40)[0], "%s", refusal(40));
}

static void a_refusal_is_one_printable_line(void)
{
	char path[256];
	int fd;

	write_mark("refuse.40");
	CHECK(strcmp(refusal(40), "this node could not be made ready for the job") == 0, "%s", refusal(40));
	snprintf(path, sizeof(path), "%s/refuse.40", run_dir);
	fd = open(path, O_WRONLY);
	CHECK(write(fd, "a\x1b[2Jb\nsecond\n", 14) == 14);
	close(fd);
	CHECK(strcmp(refusal(40), "a [2Jb") == 0, "%s", refusal(40));
	unlink(path);
	CHECK(symlink("/etc/shadow", path) == 0);
	CHECK(strcmp(refusal(40), "this node could not be made ready for the job") == 0, "%s", refusal(40));
}

static void the_epilog_of_other_jobs_loads_nothing(void)
{
	end_job(40, 1000);
	CHECK(!is_loaded() && !slurm.log[0] && access(log_path, F_OK) < 0);
}

static void the_epilog_deregisters(void)
{
	with_services_left(40);
	end_job(40, 1000);
	CHECK(strcmp(read_all(log_path), "k8s_job_epilog, lowest descriptor 3\n"
		"  CONFIG=/etc/slurm/slurmk8s.toml\n  DEADLINE_MS=1000\n  JOB_ID=40\n  UID=1001\n  GID=1002\n"
		"  NODE=n1\n  NODELIST=n[1-2]\n  RESTART_COUNT=2\n") == 0, "%s", read_all(log_path));
	CHECK(!slurm.log[0], "%s", slurm.log);
}

static void a_job_that_cleaned_up_after_itself_loads_nothing(void)
{
	setenv(WISH "k8s_register", "a:1", 1);
	setenv(WISH "k8s_nodes", "reclaim", 1);
	write_mark("job.41");
	write_mark("nodes/holder.41");
	end_job(40, 1000);
	CHECK(!is_loaded() && !slurm.log[0], "%s", slurm.log);
}

static void a_refusal_needs_no_library_to_end(void)
{
	write_mark("refuse.40");
	end_job(40, 1000);
	CHECK(!is_loaded() && !refusal_exists(run_dir, 40), "the number comes again");
}

static void marks_that_cannot_be_read_may_be_there(void)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/nodes", run_dir);
	CHECK(mkdir(run_dir, 0755) == 0 || errno == EEXIST);
	CHECK(symlink("nodes", path) == 0);
	end_job(40, 1000);
	CHECK(strstr(read_all(log_path), "JOB_ID=40"));
}

static void each_mark_calls_the_library(void)
{
	static const char *const marks[] = { "job", "nodes/holder", "storage" };
	char name[64];

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		uint32_t job = 4000000010U + 10 * (uint32_t)i;

		snprintf(name, sizeof(name), "%s.%u", marks[i], (unsigned)job);
		write_mark(name);
		end_job(job, 1000);
		snprintf(name, sizeof(name), "JOB_ID=%u", (unsigned)job);
		CHECK(strstr(read_all(log_path), name), "%s", marks[i]);
	}
}

static void a_failure_is_logged_and_no_error(void)
{
	write_mark("refuse.47");
	with_services_left(47);
	end_job(47, 1000);
	CHECK(strstr(slurm.log, "job 47: cleaning up is left to reconcile: the API server does not answer"),
	      "%s", slurm.log);
	CHECK(!refusal_exists(run_dir, 47));
	with_services_left(49);
	end_job(49, 1000);
	CHECK(strstr(slurm.log, "failed, in general"), "%s", slurm.log);
}

static void a_hook_that_hangs_is_left_behind(void)
{
	double start = now_ms();

	with_services_left(48);
	end_job(48, 200);
	CHECK(now_ms() - start < 200 + 1000 + 700, "took %.0f ms", now_ms() - start);
	CHECK(strstr(slurm.log, "job 48: cleaning up is left to reconcile: the hook did not end"), "%s", slurm.log);
	remove_run_dir();
	_exit(0); /* as slurmstepd, it does not wait */
}

static void a_library_that_is_not_there_is_no_error(void)
{
	with_services_left(40);
	library = "/no/such/libslurmk8s.so";
	end_job(40, 1000);
	CHECK(slurm.errors == 1 && strstr(slurm.log, "No such file"), "%s", slurm.log);
}

static void a_library_that_others_may_write_is_not_loaded(void)
{
	with_services_left(40);
	CHECK(chmod(library, 0777) == 0);
	end_job(40, 1000);
	chmod(library, 0755);
	CHECK(!is_loaded() && strstr(slurm.log, "lets others write it"), "%s", slurm.log);
}

static void the_library_gets_no_standard_descriptor(void)
{
	int saved = dup(2);

	with_services_left(40);
	close(0);
	close(1);
	close(2);
	end_job(40, 1000);
	dup2(saved, 2);
	CHECK(!strstr(read_all(log_path), "lowest descriptor 0") && strstr(read_all(log_path), "k8s_job_epilog"),
	      "%s", read_all(log_path));
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "prolog: does nothing where nodes are not shared", the_prolog_does_nothing_where_nodes_are_not_shared },
		{ "prolog: a wish that is not heard there is refused", a_wish_that_is_not_heard_is_refused },
		{ "prolog: asks the library", the_prolog_asks_the_library },
		{ "prolog: hands on what the job wants", the_prolog_hands_on_what_the_job_wants },
		{ "prolog: a long list of nodes is whole", a_long_list_of_nodes_is_whole },
		{ "prolog and epilog: an incomplete request is not made", an_incomplete_request_is_not_made },
		{ "prolog: a hostile wish is not handed on", a_hostile_wish_is_not_handed_on },
		{ "prolog: a job that failed to get its node is refused, no error", a_job_that_failed_to_get_its_node_is_refused },
		{ "prolog: the library's own words are kept", the_librarys_own_words_are_kept },
		{ "prolog: one that hangs ends and refuses", a_prolog_that_hangs_ends_and_refuses },
		{ "prolog: without a library jobs are refused", without_a_library_jobs_are_refused },
		{ "prolog: a slip in plugstack.conf refuses where nodes are shared",
		  a_slip_in_plugstack_conf_refuses_where_nodes_are_shared },
		{ "prolog: a refusal of the job's last run does not count", a_refusal_of_the_last_run_does_not_count },
		{ "refusal: is one printable line", a_refusal_is_one_printable_line },
		{ "epilog: of other jobs loads nothing", the_epilog_of_other_jobs_loads_nothing },
		{ "epilog: deregisters", the_epilog_deregisters },
		{ "epilog: a job that cleaned up after itself loads nothing",
		  a_job_that_cleaned_up_after_itself_loads_nothing },
		{ "epilog: a refusal needs no library to end", a_refusal_needs_no_library_to_end },
		{ "epilog: marks that cannot be read may be there", marks_that_cannot_be_read_may_be_there },
		{ "epilog: each mark calls the library", each_mark_calls_the_library },
		{ "epilog: a failure is logged and no error", a_failure_is_logged_and_no_error },
		{ "epilog: a hook that hangs is left behind", a_hook_that_hangs_is_left_behind },
		{ "epilog: a library that is not there is no error", a_library_that_is_not_there_is_no_error },
		{ "epilog: a library that others may write is not loaded", a_library_that_others_may_write_is_not_loaded },
		{ "epilog: the library gets no standard descriptor", the_library_gets_no_standard_descriptor },
	};

	if (argc != 3 || !mkdtemp(run_dir))
		return 2;
	atexit(remove_run_dir); /* at the end of each test */
	library = argv[1];
	log_path = argv[2];
	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
