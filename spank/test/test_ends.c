/*
 * test_ends.c STEP_PROGRAM STUB_LIBRARY LOG - the two ends of a job: the check at the
 * prompt, and job_epilog. Needs root, as the loader trusts only root's files.
 */
#define _GNU_SOURCE
#include "../../goffi/test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fake_spank.h"

#define CHECK_TIMEOUT_MS 800

static const char *program, *library, *log_path;
static char check_log[512];

static const char *read_all(const char *path)
{
	static char text[16384];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

static int log_pipe[2];

static void hand_over_log(void)
{
	dprintf(log_pipe[1], "%s", slurm.log);
}

/* sbatch with --k8s-register=VALUE, in a process that may end. Returns its exit status, 0 if
 * it goes on; what it logged is in slurm.log. */
static int submit(const char *value)
{
	static char path[512], timeout[64];
	char *arguments[] = { path, timeout };
	int status;
	ssize_t n;
	pid_t pid;

	snprintf(path, sizeof(path), "program=%s", program);
	snprintf(timeout, sizeof(timeout), "check_timeout_ms=%d", CHECK_TIMEOUT_MS);
	slurm.context = S_CTX_ALLOCATOR;
	CHECK(slurm_spank_init(fake_handle, 2, arguments) == 0, "%s", slurm.log);
	if (value)
		CHECK(fake_option("k8s-register", value, 0) == 0, "%s", slurm.log);
	unlink(check_log);
	CHECK(pipe(log_pipe) == 0);
	pid = fork();
	if (pid == 0) {
		atexit(hand_over_log);
		exit(slurm_spank_init_post_opt(fake_handle, 2, arguments) ? 99 : 0);
	}
	close(log_pipe[1]);
	n = read(log_pipe[0], slurm.log, sizeof(slurm.log) - 1);
	slurm.log[n > 0 ? n : 0] = '\0';
	close(log_pipe[0]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void without_an_option_nothing_is_run(void)
{
	CHECK(submit(NULL) == 0 && access(check_log, F_OK) < 0 && !slurm.log[0]);
}

static void what_is_accepted_goes_on_silently(void)
{
	CHECK(submit("jup:8888") == 0 && !slurm.log[0], "%s", slurm.log);
	CHECK(strstr(read_all(check_log), "check K8S_REGISTER=jup:8888\n"));
	CHECK(strstr(read_all(check_log), "check CONFIG=/etc/slurm/slurmk8s.toml\n"));
	CHECK(!strstr(read_all(check_log), "ENV_"));
}

static void what_is_refused_ends_the_command(void)
{
	CHECK(submit("refused-at-prompt:1") == 1);
	CHECK(strcmp(slurm.log, "slurmk8s: service name \"refused-at-prompt\" is not allowed for you\n") == 0,
	      "%s", slurm.log);
}

static void a_check_that_fails_is_a_warning(void)
{
	CHECK(submit("check-fails:1") == 0);
	CHECK(strstr(slurm.log, "could not be checked here, the node will do it: /etc/slurm/slurmk8s.toml: permission denied"),
	      "%s", slurm.log);
}

static void a_check_that_hangs_is_a_warning_in_time(void)
{
	double start = now_ms();

	CHECK(submit("check-hangs:1") == 0 && strstr(slurm.log, "timed out"), "%s", slurm.log);
	CHECK(now_ms() - start < CHECK_TIMEOUT_MS + 200 + 700, "took %.0f ms", now_ms() - start);
}

static void a_check_that_crashes_is_a_warning(void)
{
	CHECK(submit("check-crashes:1") == 0 && strstr(slurm.log, "killed by signal 11"), "%s", slurm.log);
}

static void a_check_that_floods_is_a_warning(void)
{
	CHECK(submit("check-floods:1") == 0 && strstr(slurm.log, "too long"), "%s", slurm.log);
}

static void a_missing_program_is_a_warning(void)
{
	program = "/no/such/program";
	CHECK(submit("a:1") == 0 && strstr(slurm.log, "cannot be run"), "%s", slurm.log);
}

static void env_brings_arkoudas_variables(void)
{
	setenv("EXTERNAL_SERVICE_NAME", "arkouda-on-slurm", 1);
	setenv("SSL_TOKEN", "secret", 1);
	CHECK(submit("env") == 0);
	CHECK(strstr(read_all(check_log), "check ENV_EXTERNAL_SERVICE_NAME=arkouda-on-slurm\n"));
	CHECK(!strstr(read_all(check_log), "secret"));
}

static void an_inherited_option_is_not_checked_again(void)
{
	setenv("SLURM_JOB_ID", "42", 1);
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register", "jup:8888", 1);
	CHECK(submit("jup:8888") == 0 && access(check_log, F_OK) < 0);
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register", "other:1", 1);
	CHECK(submit("jup:8888") == 0 && access(check_log, F_OK) == 0);
}

/* Parse the options of one component; NULL for none. Returns whether the command goes on. */
static bool component(const char *value)
{
	pid_t pid;
	int status;

	if (value)
		CHECK(fake_option("k8s-register", value, 0) == 0);
	pid = fork();
	if (pid == 0) {
		slurm_spank_init_post_opt(fake_handle, 0, NULL);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (status == 0)
		slurm_spank_init_post_opt(fake_handle, 0, NULL);
	return status == 0;
}

static void start_client(spank_context_t context)
{
	static char path[512];
	char *arguments[] = { path };

	snprintf(path, sizeof(path), "program=%s", program);
	slurm.context = context;
	CHECK(slurm_spank_init(fake_handle, 1, arguments) == 0);
}

/* What steps are told about who asked. */
static const char *asked_by(void)
{
	const char *value = getenv("SLURM_K8S_ASKED_BY");

	return value ? value : "none";
}

static void the_steps_of_srun_know_which_component_asked(void)
{
	start_client(S_CTX_LOCAL);
	setenv("SLURM_K8S_ASKED_BY", "component:7", 1);
	CHECK(component(NULL) && strcmp(asked_by(), "none") == 0);
	CHECK(component("a:1") && component(NULL) && strcmp(asked_by(), "component:1") == 0, "%s", asked_by());
}

static void a_step_in_a_job_can_only_be_of_one_component(void)
{
	start_client(S_CTX_LOCAL);
	setenv("SLURM_JOB_ID", "100", 1);
	CHECK(component("a:1") && strcmp(asked_by(), "none") == 0);
	CHECK(!component(NULL), "srun --het-group=0,1");
}

static void inherited_options_are_those_of_the_script(void)
{
	start_client(S_CTX_LOCAL);
	setenv("SLURM_JOB_ID", "100", 1);
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register", "a:1", 1);
	CHECK(component("a:1") && strcmp(asked_by(), "job:100") == 0, "%s", asked_by());
	CHECK(component(NULL), "srun --het-group=0,1");
}

static void sbatch_in_a_job_tells_its_job_nothing(void)
{
	start_client(S_CTX_ALLOCATOR);
	setenv("SLURM_JOB_ID", "100", 1);
	CHECK(component("a:1") && component("a:1") && strcmp(asked_by(), "none") == 0);
}

static void two_components_of_srun_cannot_both_ask(void)
{
	start_client(S_CTX_LOCAL);
	CHECK(component("a:1") && !component("b:1"));
}

static void only_the_first_component_of_a_batch_job_can_ask(void)
{
	start_client(S_CTX_ALLOCATOR);
	CHECK(component("a:1") && component("a:1"), "Slurm repeats the first one's for the others");
	CHECK(!component("b:1"));
}

static void bad_arguments_end_the_command(void)
{
	char *arguments[] = { (char *)"timeout=3" };

	slurm.context = S_CTX_LOCAL;
	CHECK(slurm_spank_init(fake_handle, 1, arguments) == -1 && slurm.errors == 1);
	CHECK(strstr(slurm.log, "slurmk8s: plugstack.conf: unknown argument \"timeout=3\""), "%s", slurm.log);
}

/* The epilog of job `id`. */
static void end_job(uint32_t id, int timeout_ms)
{
	static char path[512], timeout[64], directory[] = "run_dir=/tmp/slurmk8s-test-run";
	char *arguments[] = { path, timeout, directory };

	snprintf(path, sizeof(path), "library=%s", library);
	snprintf(timeout, sizeof(timeout), "epilog_timeout_ms=%d", timeout_ms);
	unlink(log_path);
	slurm.context = S_CTX_JOB_SCRIPT;
	slurm.job = id;
	setenv("SLURMD_NODENAME", "n1", 1);
	setenv("SLURM_NODELIST", "n[1-2]", 1);
	setenv("SLURM_JOB_RESTART_COUNT", "2", 1);
	CHECK(slurm_spank_job_epilog(fake_handle, 3, arguments) == 0);
}

static void with_option(void)
{
	setenv("SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register", "a:1", 1);
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

static void the_epilog_of_other_jobs_loads_nothing(void)
{
	end_job(40, 1000);
	CHECK(!is_loaded() && !slurm.log[0] && access(log_path, F_OK) < 0);
}

static void the_epilog_deregisters(void)
{
	with_option();
	end_job(40, 1000);
	CHECK(strcmp(read_all(log_path), "k8s_job_epilog, lowest descriptor 3\n"
		"  CONFIG=/etc/slurm/slurmk8s.toml\n  DEADLINE_MS=1000\n  JOB_ID=40\n  UID=1001\n  GID=1002\n"
		"  NODE=n1\n  NODELIST=n[1-2]\n  RESTART_COUNT=2\n") == 0, "%s", read_all(log_path));
	CHECK(!slurm.log[0], "%s", slurm.log);
}

static void a_mark_is_as_good_as_the_option(void)
{
	mkdir("/tmp/slurmk8s-test-run", 0700);
	CHECK(creat("/tmp/slurmk8s-test-run/job.4000000001", 0600) >= 0);
	end_job(4000000001U, 1000);
	unlink("/tmp/slurmk8s-test-run/job.4000000001");
	rmdir("/tmp/slurmk8s-test-run");
	CHECK(is_loaded() && strstr(read_all(log_path), "JOB_ID=4000000001"));
}

static void a_failure_is_logged_and_no_error(void)
{
	with_option();
	end_job(47, 1000);
	CHECK(strstr(slurm.log, "job 47: not deregistered, left to reconcile: the API server does not answer"),
	      "%s", slurm.log);
	end_job(49, 1000);
	CHECK(strstr(slurm.log, "failed, in general"), "%s", slurm.log);
}

static void a_hook_that_hangs_is_left_behind(void)
{
	double start = now_ms();

	with_option();
	end_job(48, 200);
	CHECK(now_ms() - start < 200 + 1000 + 700, "took %.0f ms", now_ms() - start);
	CHECK(strstr(slurm.log, "deregistration hangs"), "%s", slurm.log);
	_exit(0); /* as slurmstepd, it does not wait */
}

static void a_library_that_is_not_there_is_no_error(void)
{
	with_option();
	library = "/no/such/libslurmk8s.so";
	end_job(40, 1000);
	CHECK(slurm.errors == 1 && strstr(slurm.log, "No such file"), "%s", slurm.log);
}

static void a_library_that_others_may_write_is_not_loaded(void)
{
	with_option();
	CHECK(chmod(library, 0777) == 0);
	end_job(40, 1000);
	chmod(library, 0755);
	CHECK(!is_loaded() && strstr(slurm.log, "lets others write it"), "%s", slurm.log);
}

static void the_library_gets_no_standard_descriptor(void)
{
	int saved = dup(2);

	with_option();
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
		{ "client: without an option nothing is run", without_an_option_nothing_is_run },
		{ "client: what is accepted goes on silently", what_is_accepted_goes_on_silently },
		{ "client: what is refused ends the command", what_is_refused_ends_the_command },
		{ "client: a check that fails is a warning", a_check_that_fails_is_a_warning },
		{ "client: a check that hangs is a warning, in time", a_check_that_hangs_is_a_warning_in_time },
		{ "client: a check that crashes is a warning", a_check_that_crashes_is_a_warning },
		{ "client: a check that floods is a warning", a_check_that_floods_is_a_warning },
		{ "client: a missing program is a warning", a_missing_program_is_a_warning },
		{ "client: env brings Arkouda's variables and no secret", env_brings_arkoudas_variables },
		{ "client: an inherited option is not checked again", an_inherited_option_is_not_checked_again },
		{ "client: the steps of srun know which component asked", the_steps_of_srun_know_which_component_asked },
		{ "client: a step in a job can only be of one component", a_step_in_a_job_can_only_be_of_one_component },
		{ "client: inherited options are those of the script", inherited_options_are_those_of_the_script },
		{ "client: sbatch in a job tells its job nothing", sbatch_in_a_job_tells_its_job_nothing },
		{ "client: two components of srun cannot both ask", two_components_of_srun_cannot_both_ask },
		{ "client: only the first component of a batch job can ask", only_the_first_component_of_a_batch_job_can_ask },
		{ "client: bad arguments end the command", bad_arguments_end_the_command },
		{ "epilog: of other jobs loads nothing", the_epilog_of_other_jobs_loads_nothing },
		{ "epilog: deregisters", the_epilog_deregisters },
		{ "epilog: a mark is as good as the option", a_mark_is_as_good_as_the_option },
		{ "epilog: a failure is logged and no error", a_failure_is_logged_and_no_error },
		{ "epilog: a hook that hangs is left behind", a_hook_that_hangs_is_left_behind },
		{ "epilog: a library that is not there is no error", a_library_that_is_not_there_is_no_error },
		{ "epilog: a library that others may write is not loaded", a_library_that_others_may_write_is_not_loaded },
		{ "epilog: the library gets no standard descriptor", the_library_gets_no_standard_descriptor },
	};

	if (argc != 4)
		return 2;
	program = argv[1];
	library = argv[2];
	log_path = argv[3];
	snprintf(check_log, sizeof(check_log), "%.*s/step_program.log",
		 (int)(strrchr(program, '/') - program), program);
	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
