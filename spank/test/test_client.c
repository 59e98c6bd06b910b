/*
 * test_client.c STEP_PROGRAM - the check at the prompt.
 */
#define _GNU_SOURCE
#include "../../goffi/test/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fake_spank.h"

#define CHECK_TIMEOUT_MS 800

static const char *program;
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

static const char *nodes = "nodes=off";

/* A command with --OPTION=VALUE, or none, in a process that may end. Returns its exit status,
 * 0 if it goes on; what it logged is in slurm.log. */
static int give(spank_context_t context, const char *option, const char *value)
{
	static char path[512], timeout[64];
	char *arguments[] = { path, timeout, (char *)nodes };
	int status;
	ssize_t n;
	pid_t pid;

	snprintf(path, sizeof(path), "program=%s", program);
	snprintf(timeout, sizeof(timeout), "check_timeout_ms=%d", CHECK_TIMEOUT_MS);
	slurm.context = context;
	CHECK(slurm_spank_init(fake_handle, 3, arguments) == 0, "%s", slurm.log);
	if (value)
		CHECK(fake_option(option, value, 0) == 0, "%s", slurm.log);
	unlink(check_log);
	CHECK(pipe(log_pipe) == 0);
	pid = fork();
	if (pid == 0) {
		atexit(hand_over_log);
		exit(slurm_spank_init_post_opt(fake_handle, 3, arguments) ? 99 : 0);
	}
	close(log_pipe[1]);
	n = read(log_pipe[0], slurm.log, sizeof(slurm.log) - 1);
	slurm.log[n > 0 ? n : 0] = '\0';
	close(log_pipe[0]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int submit(const char *value)
{
	return give(S_CTX_ALLOCATOR, "k8s-register", value);
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
	CHECK(give(S_CTX_LOCAL, "k8s-register", "jup:8888") == 0 && access(check_log, F_OK) < 0);
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register", "other:1", 1);
	CHECK(give(S_CTX_LOCAL, "k8s-register", "jup:8888") == 0 && access(check_log, F_OK) == 0);
}

static void start_client(spank_context_t context)
{
	static char path[512];
	char *arguments[] = { path };

	snprintf(path, sizeof(path), "program=%s", program);
	slurm.context = context;
	CHECK(slurm_spank_init(fake_handle, 1, arguments) == 0);
}

#define REGISTER_ENVIRONMENT "_SLURM_SPANK_OPTION_slurmk8s_k8s_register"
#define NODES_ENVIRONMENT "SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_nodes"

static void what_a_job_was_given_reaches_no_job_that_it_makes(void)
{
	static const struct { spank_context_t context; const char *variable; bool other_job; } commands[] = {
		{ S_CTX_ALLOCATOR, "SLURM_JOB_ID", true }, { S_CTX_ALLOCATOR, "SLURM_JOBID", true },
		{ S_CTX_ALLOCATOR, "SLURM_JOB_NODELIST", true }, /* env -u SLURM_JOB_ID -u SLURM_JOBID sbatch */
		{ S_CTX_ALLOCATOR, "NONE", false },
		{ S_CTX_LOCAL, "SLURM_JOB_ID", false }, { S_CTX_LOCAL, "SLURM_JOBID", false },
		{ S_CTX_LOCAL, "SLURM_JOB_NODELIST", true }, { S_CTX_LOCAL, "NONE", false },
	};

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		setenv(commands[i].variable, "42", 1);
		setenv(REGISTER_ENVIRONMENT, "a:1", 1); /* of salloc's shell */
		setenv("SLURM_SPANK_" REGISTER_ENVIRONMENT, "a:1", 1);
		setenv(NODES_ENVIRONMENT, "lend", 1);
		start_client(commands[i].context);
		CHECK(!getenv("SLURM_SPANK_" REGISTER_ENVIRONMENT) == commands[i].other_job, "%zu", i);
		CHECK(!getenv(REGISTER_ENVIRONMENT) == commands[i].other_job, "%zu", i);
		CHECK(!getenv(NODES_ENVIRONMENT) == commands[i].other_job, "%zu", i);
		unsetenv(commands[i].variable);
	}
}

static void an_option_in_a_crontab_is_refused(void)
{
	start_client(S_CTX_ALLOCATOR);
	program_invocation_short_name = (char *)"scrontab";
	CHECK(fake_option("k8s-import", "db", 0) == -1 && slurm.errors == 1);
	CHECK(strstr(slurm.log, "slurmk8s: --k8s-import has no effect in a crontab; give it to a command there: srun --k8s-import="), "%s", slurm.log);
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

static void a_task_of_the_job_has_what_its_srun_inherits(void)
{
	start_client(S_CTX_LOCAL);
	setenv("SLURM_JOB_ID", "100", 1);
	setenv("SLURM_TASK_PID", "4711", 1);
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_import", "db", 1);
	CHECK(fake_option("k8s-import", "db", 0) == 0);
	CHECK(component(NULL) && strcmp(asked_by(), "task:100") == 0, "%s", asked_by());
}

static void what_srun_is_given_in_a_task_is_new(void)
{
	start_client(S_CTX_LOCAL);
	setenv("SLURM_JOB_ID", "100", 1);
	setenv("SLURM_TASK_PID", "4711", 1);
	setenv("SLURM_K8S_ASKED_BY", "task:100", 1);
	CHECK(component("a:1") && strcmp(asked_by(), "none") == 0, "%s", asked_by());
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

static void what_a_job_wants_of_its_nodes_is_judged(void)
{
	nodes = "nodes=on";
	CHECK(give(S_CTX_ALLOCATOR, "k8s-nodes", "reclaim") == 0 && !slurm.log[0], "%s", slurm.log);
	CHECK(strstr(read_all(check_log), "check K8S_NODES=reclaim\n"), "%s", read_all(check_log));
	CHECK(give(S_CTX_LOCAL, "k8s-evict-timeout", "30:delete") == 0 && !slurm.log[0], "%s", slurm.log);
	CHECK(strstr(read_all(check_log), "check K8S_EVICT_TIMEOUT=30:delete\n"));
	CHECK(!getenv("SLURM_K8S_ASKED_BY"), "nothing that a step registers");
}

static void nodes_that_are_not_shared_cannot_be_asked_for(void)
{
	CHECK(give(S_CTX_ALLOCATOR, "k8s-evict-grace", "5") == 1 && strstr(slurm.log, "--k8s-evict-grace"), "%s", slurm.log);
	CHECK(give(S_CTX_ALLOCATOR, "k8s-nodes", "reclaim") == 1 && access(check_log, F_OK) < 0);
	CHECK(strstr(slurm.log, "slurmk8s: --k8s-nodes: Slurm's nodes are not shared with Kubernetes here"),
	      "%s", slurm.log);
}

static void a_step_cannot_ask_for_nodes(void)
{
	nodes = "nodes=on";
	setenv("SLURM_JOB_ID", "42", 1);
	CHECK(give(S_CTX_LOCAL, "k8s-nodes", "keep") == 1);
	CHECK(strstr(slurm.log, "--k8s-nodes is for a whole job"), "%s", slurm.log);
	CHECK(give(S_CTX_ALLOCATOR, "k8s-nodes", "keep") == 0, "sbatch in a job makes another one: %s", slurm.log);
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_nodes", "keep", 1);
	nodes = "nodes=off";
	CHECK(give(S_CTX_LOCAL, "k8s-nodes", "keep") == 0 && access(check_log, F_OK) < 0,
	      "inherited from the job: %s", slurm.log);
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
		{ "client: what a job was given reaches no job that it makes", what_a_job_was_given_reaches_no_job_that_it_makes },
		{ "client: an option in a crontab is refused", an_option_in_a_crontab_is_refused },
		{ "client: the steps of srun know which component asked", the_steps_of_srun_know_which_component_asked },
		{ "client: a step in a job can only be of one component", a_step_in_a_job_can_only_be_of_one_component },
		{ "client: inherited options are those of the script", inherited_options_are_those_of_the_script },
		{ "client: a task of the job has what its srun inherits", a_task_of_the_job_has_what_its_srun_inherits },
		{ "client: what srun is given in a task is new", what_srun_is_given_in_a_task_is_new },
		{ "client: sbatch in a job tells its job nothing", sbatch_in_a_job_tells_its_job_nothing },
		{ "client: two components of srun cannot both ask", two_components_of_srun_cannot_both_ask },
		{ "client: only the first component of a batch job can ask", only_the_first_component_of_a_batch_job_can_ask },
		{ "client: what a job wants of its nodes is judged", what_a_job_wants_of_its_nodes_is_judged },
		{ "client: nodes that are not shared cannot be asked for", nodes_that_are_not_shared_cannot_be_asked_for },
		{ "client: a step cannot ask for nodes", a_step_cannot_ask_for_nodes },
		{ "client: bad arguments end the command", bad_arguments_end_the_command },
	};

	if (argc != 2)
		return 2;
	program = argv[1];
	snprintf(check_log, sizeof(check_log), "%.*s/step_program.log",
		 (int)(strrchr(program, '/') - program), program);
	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
