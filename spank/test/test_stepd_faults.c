/*
 * test_stepd_faults.c STEP_PROGRAM - the plugin in slurmstepd: registrations that fail,
 * programs that misbehave, and odd processes to run in.
 */
#define _GNU_SOURCE
#include "stepd_host.h"

/* A step whose registration fails: the first task says why, none runs, all in time. */
static void fails(const char *spec, const char *says)
{
	int before = open_descriptors();
	double start = now_ms(), limit;
	char said[1024], expected[1024];

	start_step(SLURM_BATCH_SCRIPT, "k8s-register", spec);
	limit = REGISTER_TIMEOUT_MS + MARGIN_MS + SLACK_MS;
	CHECK(now_ms() - start < limit, "took %.0f ms", now_ms() - start);
	snprintf(expected, sizeof(expected), "slurmk8s: %s\n", says);
	CHECK(!task_runs(0, said));
	CHECK(strcmp(said, expected) == 0, "%s", said);
	CHECK(!task_runs(1, said) && !*said, "each task says it");
	CHECK(slurm.errors == 0, "srun would show it twice: %s", slurm.log);
	CHECK(strncmp(slurm.log, expected, strlen(expected)) == 0, "%s", slurm.log);
	start = now_ms();
	end_step();
	CHECK(now_ms() - start < DEREGISTER_TIMEOUT_MS + MARGIN_MS + SLACK_MS, "end took %.0f ms", now_ms() - start);
	CHECK(open_descriptors() == before && wait(NULL) < 0 && errno == ECHILD);
	CHECK(!program_pid() || gone(program_pid()));
}

static void a_refusal_is_the_tasks_message(void)
{
	fails("refused:1", "service refused: namespace kube-system is not open to alice");
}

static void an_unreachable_api_is_the_tasks_message(void)
{
	fails("fails:1", "service fails: API server at 10.0.0.1:6443 does not answer");
}

static void a_message_of_several_lines_is_made_one(void)
{
	fails("multiline:1", "one two [31m");
}

static void a_program_that_hangs_is_killed(void)
{
	fails("silent:1", "the step program gave no answer in time: tell the administrator");
	CHECK(strstr(slurm.log, "hung and was killed"), "%s", slurm.log);
}

static void a_program_that_crashes_is_noticed(void)
{
	double start = now_ms();

	fails("crash:1", "the step program ended without giving its answer: tell the administrator");
	CHECK(now_ms() - start < REGISTER_TIMEOUT_MS, "not at once");
}

static void garbage_is_noticed(void)
{
	fails("garbage:1", "the step program's answer is invalid: is it of another version?: tell the administrator");
}

static void half_an_answer_is_noticed(void)
{
	/* Then step_program waits for a request; the reply's deadline passes. */
	fails("half:1", "the step program gave no answer in time: tell the administrator");
}

static void a_giant_answer_is_bounded(void)
{
	fails("giant:1", "the step program's answer is larger than 64 KiB: tell the administrator");
}

static void a_bad_variable_is_refused(void)
{
	fails("badname:1", "the environment cannot have a variable \"A B\"");
	CHECK(!fake_variable("A B"));
}

static void a_value_that_cannot_be_carried_fails_the_tasks(void)
{
	fails("a\nb", "--k8s-register has a control character in it (at most 8192 bytes)");
}

static void a_missing_program_fails_the_tasks(void)
{
	arguments[argument_count++] = (char *)"program=/no/such/program";
	fails("a:1", "/no/such/program cannot be run: No such file or directory: tell the administrator");
}

/* Root runs it: who may write it, or put another in its place, would be root. */
static void a_program_that_others_may_write_is_not_run(void)
{
	char path[1024], argument[1100], says[1200], command[2600];

	snprintf(path, sizeof(path), "%s.open", program);
	snprintf(command, sizeof(command), "install -m 777 '%s' '%s'", program, path);
	CHECK(system(command) == 0);
	snprintf(argument, sizeof(argument), "program=%s", path);
	arguments[argument_count++] = argument;
	snprintf(says, sizeof(says), "%s: mode 0777 lets others write it; chmod go-w: tell the administrator", path);
	fails("a:1", says);
	CHECK(access(log_path, F_OK) < 0 || !strstr(program_log(), "begin"), "it was run");
	unlink(path);
}

static void bad_arguments_fail_only_jobs_with_the_option(void)
{
	char said[1024];

	arguments[argument_count++] = (char *)"config=relative.toml";
	start_step(0, NULL, NULL);
	CHECK(task_runs(0, said) && !*said);
	end_step();
	fails("a:1", "plugstack.conf: config=relative.toml: not an absolute path: tell the administrator");
}

static void a_program_killed_in_mid_life_costs_nothing(void)
{
	double start;
	char said[1024];

	start_step(0, "k8s-register", "a:1");
	CHECK(kill(program_pid(), SIGKILL) == 0 && task_runs(0, said));
	start = now_ms();
	end_step();
	CHECK(now_ms() - start < SLACK_MS && slurm.errors == 0);
	CHECK(strstr(slurm.log, "the epilog deregisters"), "%s", slurm.log);
}

static void a_program_stopped_in_mid_life_is_killed(void)
{
	double start;

	start_step(0, "k8s-register", "a:1");
	CHECK(kill(program_pid(), SIGSTOP) == 0);
	start = now_ms();
	end_step();
	CHECK(now_ms() - start < DEREGISTER_TIMEOUT_MS + MARGIN_MS + SLACK_MS);
	CHECK(gone(program_pid()) && strstr(slurm.log, "hung and was killed"), "%s", slurm.log);
}

static void a_deaf_program_is_killed(void)
{
	start_step(0, "k8s-register", "deaf:1");
	end_step();
	CHECK(gone(program_pid()) && strstr(slurm.log, "no answer in time"), "%s", slurm.log);
}

static void it_sees_the_death_of_slurmstepd(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		start_step(0, "k8s-register", "a:1");
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, &status, 0);
	CHECK(appears("end without a request, job 42", 2000), "%s", program_log());
	CHECK(gone(program_pid()));
}

static void a_forked_child_leaves_the_program_alone(void)
{
	pid_t pid;

	start_step(0, "k8s-register", "a:1");
	pid = fork();
	if (pid == 0) {
		slurm_spank_exit(fake_handle, 0, NULL);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	CHECK(!gone(program_pid()) && !strstr(program_log(), "end "));
	end_step();
	CHECK(strstr(program_log(), "end done"));
}

/* A copy of the socket in a forked child must not keep the program from seeing the end. */
static void a_copy_of_the_socket_keeps_nothing_alive(void)
{
	pid_t pid;

	start_step(0, "k8s-register", "refused:1");
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	end_step();
	CHECK(!strstr(slurm.log, "killed") && gone(program_pid()), "%s", slurm.log);
	kill(pid, SIGKILL);
}

static int contained(void *unused)
{
	(void)unused;
	return slurm_spank_user_init(fake_handle, 0, NULL);
}

/* contain_spank (24.05): slurm_spank_user_init runs in a child that shares the memory. */
static void it_works_with_contain_spank(void)
{
	static char stack[256 * 1024];
	char path[512];
	pid_t pid;

	unlink(log_path);
	slurm.context = S_CTX_REMOTE;
	slurm.step = 0;
	snprintf(path, sizeof(path), "program=%s", program);
	arguments[0] = path;
	slurm_spank_init(fake_handle, 1, arguments);
	fake_option("k8s-register", "jup:1", 1);
	slurm_spank_init_post_opt(fake_handle, 1, arguments);
	pid = clone(contained, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	CHECK(pid > 0 && waitpid(pid, NULL, 0) == pid);
	CHECK(fake_variable("SLURMK8S_SERVICE_JUP"), "%s", slurm.log);
	end_step();
	CHECK(strstr(program_log(), "end done"), "%s", slurm.log);
}

static void it_works_without_standard_descriptors(void)
{
	int saved = dup(2);

	close(0);
	close(1);
	close(2);
	start_step(0, "k8s-register", "jup:1");
	end_step();
	dup2(saved, 2);
	CHECK(fake_variable("SLURMK8S_SERVICE_JUP") && strstr(program_log(), "end done"), "%s", slurm.log);
}

static void it_works_where_children_are_not_waited_for(void)
{
	signal(SIGCHLD, SIG_IGN);
	start_step(0, "k8s-register", "jup:1");
	end_step();
	CHECK(fake_variable("SLURMK8S_SERVICE_JUP") && strstr(program_log(), "end done"), "%s", slurm.log);
}

static void slurmd_and_the_epilog_ignore_the_arguments_of_steps(void)
{
	arguments[0] = (char *)"nonsense";
	slurm.context = S_CTX_SLURMD;
	CHECK(slurm_spank_init(fake_handle, 1, arguments) == 0 && !fake_find_option("k8s-register"));
	CHECK(!slurm.log[0]);
	slurm.context = S_CTX_JOB_SCRIPT;
	CHECK(slurm_spank_job_epilog(fake_handle, 1, arguments) == 0);
	CHECK(strstr(slurm.log, "unknown argument"), "%s", slurm.log);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "stepd: a refusal is the first task's message", a_refusal_is_the_tasks_message },
		{ "stepd: an unreachable API is the first task's message", an_unreachable_api_is_the_tasks_message },
		{ "stepd: a message of several lines is made one", a_message_of_several_lines_is_made_one },
		{ "stepd: a program that hangs is killed", a_program_that_hangs_is_killed },
		{ "stepd: a program that crashes is noticed at once", a_program_that_crashes_is_noticed },
		{ "stepd: garbage for an answer fails the tasks", garbage_is_noticed },
		{ "stepd: half an answer fails the tasks", half_an_answer_is_noticed },
		{ "stepd: a giant answer is bounded", a_giant_answer_is_bounded },
		{ "stepd: a variable with a bad name is refused", a_bad_variable_is_refused },
		{ "stepd: a value that cannot be carried fails the tasks", a_value_that_cannot_be_carried_fails_the_tasks },
		{ "stepd: a missing program fails the tasks", a_missing_program_fails_the_tasks },
		{ "stepd: a program that others may write is not run", a_program_that_others_may_write_is_not_run },
		{ "stepd: bad arguments fail only jobs with the option", bad_arguments_fail_only_jobs_with_the_option },
		{ "stepd: a program killed in mid-life costs nothing", a_program_killed_in_mid_life_costs_nothing },
		{ "stepd: a program stopped in mid-life is killed", a_program_stopped_in_mid_life_is_killed },
		{ "stepd: a program that does not deregister is killed", a_deaf_program_is_killed },
		{ "stepd: the program sees the death of slurmstepd", it_sees_the_death_of_slurmstepd },
		{ "stepd: a forked child leaves the program alone", a_forked_child_leaves_the_program_alone },
		{ "stepd: a copy of the socket keeps nothing alive", a_copy_of_the_socket_keeps_nothing_alive },
		{ "stepd: works with contain_spank", it_works_with_contain_spank },
		{ "stepd: works without descriptors 0 to 2", it_works_without_standard_descriptors },
		{ "stepd: works where SIGCHLD is ignored", it_works_where_children_are_not_waited_for },
		{ "slurmd, epilog: bad arguments are no error", slurmd_and_the_epilog_ignore_the_arguments_of_steps },
	};

	if (set_program(argc > 1 ? argv[1] : NULL) < 0)
		return 2;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
