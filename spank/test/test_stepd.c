/*
 * test_stepd.c STEP_PROGRAM - plays slurmstepd: the plugin's callbacks in Slurm's order,
 * with step_program as the slurmk8s program.
 */
#define _GNU_SOURCE
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
static const char *program_log(void)
{
	static char text[65536];
	int fd = open(log_path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

static bool appears(const char *text, int within_ms)
{
	for (double end = now_ms() + within_ms; now_ms() < end; usleep(1000))
		if (strstr(program_log(), text))
			return true;
	return false;
}

static pid_t program_pid(void)
{
	const char *pid = strstr(program_log(), " pid=");

	return pid ? atoi(pid + 5) : 0;
}

/* Has it exited? Init may take its time to reap it. */
static bool gone(pid_t pid)
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

static char *arguments[4];
static int argument_count;

/* slurmstepd up to the first task: Slurm gives option NAME=VALUE, or none. */
static void start_step(uint32_t step, const char *option, const char *value)
{
	static char path[512], registering[64], deregistering[64];

	unlink(log_path);
	slurm.context = S_CTX_REMOTE;
	slurm.step = step;
	snprintf(path, sizeof(path), "program=%s", program);
	snprintf(registering, sizeof(registering), "register_timeout_ms=%d", REGISTER_TIMEOUT_MS);
	snprintf(deregistering, sizeof(deregistering), "deregister_timeout_ms=%d", DEREGISTER_TIMEOUT_MS);
	if (!argument_count) {
		arguments[argument_count++] = path;
		arguments[argument_count++] = registering;
		arguments[argument_count++] = deregistering;
	}
	CHECK(slurm_spank_init(fake_handle, argument_count, arguments) == 0);
	if (option)
		CHECK(fake_option(option, value, 1) == 0);
	CHECK(slurm_spank_init_post_opt(fake_handle, argument_count, arguments) == 0);
	CHECK(slurm_spank_user_init(fake_handle, argument_count, arguments) == 0);
}

/* A forked task: what it writes to stderr goes to `said`. Returns whether it was executed. */
static bool task_runs(int id, char said[1024])
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

static void end_step(void)
{
	CHECK(slurm_spank_exit(fake_handle, 0, NULL) == 0);
}

static int open_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 64; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void without_an_option_nothing_happens(void)
{
	int before = open_descriptors();
	char said[1024];

	start_step(0, NULL, NULL);
	CHECK(task_runs(0, said) && !*said, "%s", said);
	end_step();
	CHECK(access(log_path, F_OK) < 0 && open_descriptors() == before && !slurm.log[0]);
	CHECK(wait(NULL) < 0 && errno == ECHILD);
}

static void the_extern_step_registers_nothing(void)
{
	start_step(SLURM_EXTERN_CONT, "k8s-register", "a:1");
	end_step();
	CHECK(access(log_path, F_OK) < 0);
}

static void a_namespace_alone_starts_nothing(void)
{
	start_step(0, "k8s-namespace", "team");
	end_step();
	CHECK(access(log_path, F_OK) < 0);
}

static void a_step_is_registered_and_deregistered(void)
{
	int before = open_descriptors();
	char said[1024];

	slurm.environment[0] = (char *)"SLURM_JOB_NODELIST=n[1-2]";
	slurm.environment[1] = (char *)"SLURMD_NODENAME=forged";
	slurm.script = "/var/spool/slurmd/job00042/slurm_script";
	slurm.restarts = 3;
	slurm.groups = (gid_t[]){ 1002, 27 };
	slurm.group_count = 2;
	setenv("SLURMD_NODENAME", "n1", 1);
	start_step(SLURM_BATCH_SCRIPT, "k8s-register", "jup:8888");
	CHECK(fake_variable("SLURMK8S_SERVICE_JUP"), "%s", slurm.log);
	CHECK(strcmp(fake_variable("DB_SERVICE_HOST"), "a b'c") == 0);
	CHECK(task_runs(0, said) && task_runs(1, said) && !*said);
	end_step();
	CHECK(!slurm.log[0], "%s", slurm.log);
	CHECK(strstr(program_log(), "end done") && gone(program_pid()));
	CHECK(open_descriptors() == before && wait(NULL) < 0 && errno == ECHILD);
	for (const char *const *field = (const char *const[]){ "JOB_ID=42\n", "STEP_ID=batch\n", "UID=1001\n",
		"GID=1002\n", "GIDS=1002,27\n", "NODE=n1\n", "NODE_RANK=0\n", "NODELIST=n[1-2]\n", "RESTART_COUNT=3\n",
		"DEADLINE_MS=1200\n", "CONFIG=/etc/slurm/slurmk8s.toml\n", "K8S_REGISTER=jup:8888\n",
		"SCRIPT=/var/spool/slurmd/job00042/slurm_script\n", "end ACTION=deregister\n", NULL }; *field; field++)
		CHECK(strstr(program_log(), *field), "no %s", *field);
	CHECK(!strstr(program_log(), "ENV_") && !strstr(program_log(), "forged"));
}

static void more_groups_than_can_be_carried_are_not_told(void)
{
	static gid_t many[65536];

	for (int i = 0; i < 65536; i++)
		many[i] = 4000000000U + (gid_t)i;
	slurm.groups = many;
	slurm.group_count = 65536;
	start_step(0, "k8s-register", "a:1");
	end_step();
	CHECK(strstr(program_log(), "GID=1002\n") && !strstr(program_log(), "GIDS="), "half a list is another one");
}

static void a_numbered_step_says_its_number(void)
{
	slurm.rank = 7;
	start_step(5, "k8s-import", "db/mysql:3306");
	end_step();
	CHECK(strstr(program_log(), "STEP_ID=5\n") && strstr(program_log(), "NODE_RANK=7\n"));
	CHECK(strstr(program_log(), "K8S_IMPORT=db/mysql:3306\n") && !strstr(program_log(), "SCRIPT="));
}

static void the_interactive_step_says_so(void)
{
	start_step(SLURM_INTERACTIVE_STEP, "k8s-register", "a:1");
	end_step();
	CHECK(strstr(program_log(), "STEP_ID=interactive\n"));
}

static void env_sends_arkoudas_variables_and_no_others(void)
{
	slurm.environment[0] = (char *)"EXTERNAL_SERVICE_NAME=arkouda-on-slurm";
	slurm.environment[1] = (char *)"METRICS_SERVICE_PORT=5556";
	slurm.environment[2] = (char *)"KEY_PASSWD=secret";
	slurm.environment[3] = (char *)"SSL_TOKEN=secret";
	slurm.environment[4] = (char *)"KUBECONFIG=/home/eve/config";
	slurm.environment[5] = (char *)"NAMESPACE=two\nlines";
	start_step(0, "k8s-register", "env");
	end_step();
	CHECK(strstr(program_log(), "ENV_EXTERNAL_SERVICE_NAME=arkouda-on-slurm\n"));
	CHECK(strstr(program_log(), "ENV_METRICS_SERVICE_PORT=5556\n"));
	CHECK(!strstr(program_log(), "secret") && !strstr(program_log(), "eve") && !strstr(program_log(), "lines"));
}

static void the_program_inherits_nothing(void)
{
	int oom = open("/proc/self/oom_score_adj", O_WRONLY);
	char pid[64];
	sigset_t all;

	CHECK(oom >= 0 && write(oom, "500", 3) == 3);
	CHECK(dup2(2, 9) == 9); /* not O_CLOEXEC */
	signal(SIGUSR1, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setenv("KUBECONFIG", "/evil", 1);
	start_step(0, "k8s-register", "a:1");
	end_step();
	CHECK(strstr(program_log(), " cwd=/ ") && strstr(program_log(), "env=PATH=/usr/bin:/bin LANG=C \n"), "%s", program_log());
	/* 255 is the script, 3 the directory that it lists. */
	CHECK(strstr(program_log(), "fds=0 1 2 255 3 env="), "%s", program_log());
	snprintf(pid, sizeof(pid), " pid=%1$d sid=%1$d ", (int)program_pid());
	CHECK(strstr(program_log(), pid), "%s", program_log());
	/* USR1 is bit 9; bash itself ignores TERM, INT, HUP and, without a terminal, more. */
	CHECK(!(strtoull(strstr(program_log(), "SigIgn: ") + 8, NULL, 16) & (1ULL << (SIGUSR1 - 1))));
	CHECK(!(strtoull(strstr(program_log(), "SigBlk: ") + 8, NULL, 16) & (1ULL << (SIGTERM - 1))));
	CHECK(strstr(program_log(), " oom=0 "));
}

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
	fails("garbage:1", "the step program's answer makes no sense: is it of another version?: tell the administrator");
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
		{ "stepd: without an option nothing happens", without_an_option_nothing_happens },
		{ "stepd: the extern step registers nothing", the_extern_step_registers_nothing },
		{ "stepd: a namespace alone starts nothing", a_namespace_alone_starts_nothing },
		{ "stepd: a step is registered and deregistered", a_step_is_registered_and_deregistered },
		{ "stepd: more groups than can be carried are not told", more_groups_than_can_be_carried_are_not_told },
		{ "stepd: an srun step says its number and rank", a_numbered_step_says_its_number },
		{ "stepd: the interactive step says so", the_interactive_step_says_so },
		{ "stepd: env sends Arkouda's variables and no others", env_sends_arkoudas_variables_and_no_others },
		{ "stepd: the program inherits nothing", the_program_inherits_nothing },
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
	program = argc > 1 ? argv[1] : "";
	if (program[0] != '/')
		return 2;
	snprintf(log_path, sizeof(log_path), "%.*s/step_program.log",
		 (int)(strrchr(program, '/') - program), program);
	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
