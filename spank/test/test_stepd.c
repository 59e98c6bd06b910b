/*
 * test_stepd.c STEP_PROGRAM - the plugin in slurmstepd: which steps register, and what the
 * program is told and given.
 */
#define _GNU_SOURCE
#include "stepd_host.h"

#include <sys/stat.h>

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

static void only_the_component_that_asked_registers(void)
{
	static const struct { const char *asked_by, *component; bool registers; } steps[] = {
		{ "job:42", "", true }, { "job:41", "", false }, { "job:420", "", false },
		{ "task:42", "", true }, { "task:41", "", false },
		{ "component:0", "", true }, /* no heterogeneous job */
		{ "component:1", "SLURM_JOB_ID_HET_GROUP_1=42", true },
		{ "component:1", "SLURM_JOB_ID_PACK_GROUP_1=42", true },
		{ "component:1", "SLURM_JOB_ID_PACK_GROUP_1=43", false },
		{ "component:0", "SLURM_JOB_ID_PACK_GROUP_0=41", false },
		{ "nonsense", "", true },
		{ "job:999999999999999999999999999999999999999999", "", true }, /* too long: not srun's */
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		char asked_by[128];

		snprintf(asked_by, sizeof(asked_by), "SLURM_K8S_ASKED_BY=%s", steps[i].asked_by);
		slurm.environment[0] = asked_by;
		slurm.environment[1] = (char *)steps[i].component;
		slurm.environment[2] = NULL;
		start_step(0, "k8s-register", "refused:1"); /* sets no variables */
		end_step();
		CHECK((access(log_path, F_OK) == 0) == steps[i].registers, "%s %s", steps[i].asked_by, steps[i].component);
		if (strlen(asked_by) < 50)
			CHECK(!fake_variable("SLURM_K8S_ASKED_BY"), "the tasks see it");
	}
}

static void a_step_says_whether_its_options_are_inherited(void)
{
	static const struct { const char *asked_by; bool inherited; } steps[] = {
		{ "task:42", true }, { "job:42", false }, { "component:0", false }, { "task", false }, { "", false },
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		char asked_by[64];

		snprintf(asked_by, sizeof(asked_by), "%s%s", *steps[i].asked_by ? "SLURM_K8S_ASKED_BY=" : "NO=", steps[i].asked_by);
		slurm.environment[0] = asked_by;
		slurm.environment[1] = (char *)"K8S_IMPORTED=db/mysql:3306";
		slurm.environment[2] = NULL;
		start_step(3, "k8s-register", "refused:1"); /* sets no variables */
		end_step();
		CHECK(strstr(program_log(), "K8S_REGISTER=refused:1\n"), "%s", asked_by);
		CHECK(!strstr(program_log(), "INHERITED=1\n") == !steps[i].inherited, "%s", asked_by);
		CHECK(!strstr(program_log(), "IMPORTED=db/mysql:3306\n") == !steps[i].inherited, "%s", asked_by);
	}
}

/* sbatch --export=NONE of 22.05 takes along only what begins with SLURM_. */
static void a_batch_script_has_the_options_that_are_left_to_its_srun(void)
{
	char said[1024];

	slurm.environment[0] = (char *)"SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register=refused:1";
	slurm.environment[1] = (char *)"SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_namespace=team";
	start_step(0, NULL, NULL);
	CHECK(task_runs(0, said), "srun says itself what its steps inherit");
	end_step();
	CHECK(access(log_path, F_OK) < 0);
	start_step(SLURM_BATCH_SCRIPT, "k8s-namespace", "mine");
	CHECK(!task_runs(0, said) && strstr(said, "refused"), "%s", said);
	end_step();
	CHECK(strstr(program_log(), "K8S_REGISTER=refused:1\n") && strstr(program_log(), "K8S_NAMESPACE=mine\n"), "%s", program_log());
}

static void what_is_wrong_with_such_an_option_is_said(void)
{
	static char value[9000] = "SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register=";
	char said[1024];

	memset(value + strlen(value), 'x', 8193);
	slurm.environment[0] = value;
	start_step(SLURM_BATCH_SCRIPT, NULL, NULL);
	CHECK(!task_runs(0, said) && strcmp(said, "slurmk8s: --k8s-register is too long (at most 8192 bytes)\n") == 0, "%s", said);
	end_step();
	CHECK(access(log_path, F_OK) < 0);
}

static void so_are_wishes_about_nodes(void)
{
	char said[1024];

	slurm.environment[0] = (char *)"SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_nodes=reclaim";
	start_step(SLURM_BATCH_SCRIPT, NULL, NULL);
	CHECK(!task_runs(0, said) && strstr(said, "no nodes=on on this node"), "%s", said);
	end_step();
}

static void a_namespace_alone_starts_nothing(void)
{
	start_step(0, "k8s-namespace", "team");
	end_step();
	CHECK(access(log_path, F_OK) < 0);
}

static void nor_does_what_the_prolog_acts_on(void)
{
	char said[1024];

	arguments[argument_count++] = (char *)"nodes=on";
	start_step(0, "k8s-nodes", "reclaim");
	CHECK(task_runs(0, said) && !*said, "%s", said);
	end_step();
	CHECK(access(log_path, F_OK) < 0);
}

static void without_nodes_on_a_job_that_takes_its_nodes_does_not_run_beside_pods(void)
{
	char said[1024];

	start_step(0, "k8s-nodes", "reclaim");
	CHECK(!task_runs(0, said) && strstr(said, "no nodes=on on this node"), "%s", said);
	end_step();
	start_step(0, "k8s-nodes", "keep");
	CHECK(task_runs(0, said) && !*said, "%s", said);
	end_step();
	CHECK(access(log_path, F_OK) < 0);
}

static void a_job_whose_bundle_was_not_made_does_not_run(void)
{
	char said[1024];

	start_step(0, "k8s-bundle", "exporter,interval=15");
	CHECK(!task_runs(0, said) && strstr(said, "--k8s-bundle had no effect") && strstr(said, "job_submit.lua"), "%s", said);
	end_step();
	slurm.environment[0] = (char *)"SLURMK8S_BUNDLES=exporter,aok"; /* longer than the look at it */
	slurm.environment[1] = NULL;
	start_step(0, "k8s-bundle", "exporter,interval=15");
	CHECK(task_runs(0, said) && !*said, "%s", said);
	end_step();
	slurm.environment[0] = (char *)"SLURM_HET_SIZE=2";
	start_step(0, "k8s-bundle", "exporter");
	CHECK(task_runs(0, said) && !*said, "a later component: %s", said);
	end_step();
	CHECK(access(log_path, F_OK) < 0, "no program is needed");
}

static void tasks_of_a_refused_job_fail_with_the_reason(void)
{
	char directory[] = "/tmp/slurmk8s-test-XXXXXX", argument[64], mark[64], said[1024];
	int fd;

	CHECK(mkdtemp(directory) != NULL);
	snprintf(argument, sizeof(argument), "run_dir=%s", directory);
	snprintf(mark, sizeof(mark), "%s/refuse.42", directory);
	fd = open(mark, O_WRONLY | O_CREAT, 0644);
	CHECK(write(fd, "web-1 may not be evicted\n", 25) == 25);
	close(fd);
	arguments[argument_count++] = argument;
	start_step(SLURM_EXTERN_CONT, NULL, NULL);
	end_step();
	CHECK(!slurm.log[0], "Slurm's own step goes on: %s", slurm.log);
	start_step(0, "k8s-register", "a:1");
	CHECK(!task_runs(0, said) && strcmp(said, "slurmk8s: web-1 may not be evicted\n") == 0, "%s", said);
	CHECK(!task_runs(1, said) && !*said, "one task of a node says why: %s", said);
	end_step();
	CHECK(access(log_path, F_OK) < 0 && slurm.errors == 0, "%s", slurm.log);
	unlink(mark);
	rmdir(directory);
}

/* One that is over asks for no end. */
static void a_job_with_storage_is_told_where_it_is(void)
{
	int before = open_descriptors();
	char said[1024];

	slurm.environment[0] = (char *)"SLURMK8S_WORKFLOW=bb42:u1";
	start_step(SLURM_BATCH_SCRIPT, NULL, NULL);
	end_step();
	CHECK(access(log_path, F_OK) < 0, "only where plugstack.conf says so");

	arguments[argument_count++] = (char *)"workflows=on";
	start_step(SLURM_BATCH_SCRIPT, NULL, NULL);
	CHECK(task_runs(0, said) && !*said, "%s", said);
	CHECK(fake_variable("DW_JOB_scratch") && strcmp(fake_variable("DW_JOB_scratch"), "/mnt/a b") == 0);
	CHECK(gone(program_pid()) && open_descriptors() == before);
	end_step();
	CHECK(!slurm.log[0] && strstr(program_log(), "WORKFLOW=1\n") && !strstr(program_log(), "end "), "%s", slurm.log);
}

static void a_later_component_is_told_of_its_own_storage(void)
{
	slurm.environment[0] = (char *)"SLURMK8S_WORKFLOW=bb40:u1";
	slurm.environment[1] = (char *)"K8S_WORKFLOW=bb40:u1";
	slurm.environment[2] = (char *)"SLURM_JOB_ID_HET_GROUP_0=40";
	slurm.environment[3] = (char *)"SLURM_JOB_ID_HET_GROUP_1=41";
	slurm.environment[4] = (char *)"SLURM_JOB_ID_HET_GROUP_2=42";
	arguments[argument_count++] = (char *)"workflows=on";
	start_step(0, NULL, NULL);
	CHECK(fake_variable("DW_JOB_scratch") && strcmp(fake_variable("DW_JOB_scratch"), "/mnt/a b") == 0);
	end_step();
	CHECK(strstr(program_log(), "WORKFLOW=1\n"));
}

/* What srun got on the batch script's node does not hold here. */
static void what_holds_for_a_node_is_asked_for_on_each(void)
{
	static const char *const variables[] = { "SLURMK8S_DW_RABBIT=r1", "SLURMK8S_DW_RABBIT=",
						 "DW_WORKFLOW_TOKEN_FILE=/run/slurmk8s/storage.42/token" };
	int status;
	pid_t pid;

	arguments[argument_count++] = (char *)"workflows=on";
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		slurm.environment[0] = (char *)"SLURMK8S_WORKFLOW=bb42:u1";
		slurm.environment[1] = (char *)"K8S_WORKFLOW=bb42:u1";
		slurm.environment[2] = (char *)variables[i];
		pid = fork(); /* a process of its own, as in Slurm */
		if (pid == 0) {
			start_step(0, NULL, NULL);
			end_step();
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0, "%s", variables[i]);
		CHECK(access(log_path, F_OK) == 0, "not asked: %s", variables[i]);
		unlink(log_path);
	}
}

static void its_steps_and_other_jobs_are_not_told(void)
{
	static const char *const environments[][2] = {
		{ "SLURMK8S_WORKFLOW=bb42:u1", "K8S_WORKFLOW=bb42:u1" }, /* srun in the script */
		{ "SLURMK8S_WORKFLOW=bb41:u1", "DW_WORKFLOW_NAME=bb41" }, /* of the job that this one was submitted in */
		{ "SLURMK8S_WORKFLOW=bb420:u1", "DW_WORKFLOW_NAME=bb4" },
		{ "SLURMK8S_WORKFLOW=bb41:u1", "SLURM_JOB_ID_HET_GROUP_0=41" }, /* or of a heterogeneous one */
		{ "DW_WORKFLOW_NAME=", "" },
		{ "", "" },
	};

	arguments[argument_count++] = (char *)"workflows=on";
	for (size_t i = 0; i < sizeof(environments) / sizeof(environments[0]); i++) {
		slurm.environment[0] = (char *)environments[i][0];
		slurm.environment[1] = (char *)environments[i][1];
		start_step(0, NULL, NULL);
		end_step();
		CHECK(access(log_path, F_OK) < 0, "%s", environments[i][0]);
	}
}

/* A step of job 42 with this environment, where an earlier step has left these fields; a process
 * of its own, as in Slurm. Its tasks have DW_JOB_scratch=scratch. Returns whether Kubernetes was asked. */
static bool asks_with(uint32_t step, const char *kept, size_t size, mode_t mode, const char *first, const char *second,
		      const char *scratch)
{
	static char directory[] = "/tmp/slurmk8s-test-XXXXXX", argument[64], of_job[64], path[80];
	const char *value;
	int fd, status;
	pid_t pid;

	if (!argument[0]) {
		CHECK(mkdtemp(directory) != NULL);
		snprintf(argument, sizeof(argument), "run_dir=%s", directory);
		snprintf(of_job, sizeof(of_job), "%s/storage.42", directory);
		snprintf(path, sizeof(path), "%s/env", of_job);
		arguments[argument_count++] = (char *)"workflows=on";
		arguments[argument_count++] = argument;
	}
	mkdir(directory, 0755);
	mkdir(of_job, 0711);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	CHECK(fd >= 0 && write(fd, kept, size) == (ssize_t)size && fchmod(fd, mode) == 0);
	close(fd);
	slurm.environment[0] = (char *)first;
	slurm.environment[1] = (char *)second;
	slurm.environment[2] = NULL;
	pid = fork();
	if (pid == 0) {
		start_step(step, NULL, NULL);
		end_step();
		value = fake_variable("DW_JOB_scratch");
		_exit(value && strcmp(value, scratch) == 0 ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the tasks have not %s", scratch);
	unlink(path);
	rmdir(of_job);
	rmdir(directory);
	return access(log_path, F_OK) == 0;
}

#define KEPT(UID, WORKFLOW) "SETENV_DW_JOB_scratch=/mnt/kept\0UID=" UID "\0WORKFLOW=" WORKFLOW "\0"

static void later_steps_have_what_the_first_was_told(void)
{
	static const char kept[] = KEPT("1001", "bb42:u2");
	static const struct { const char *first, *second; } environments[] = {
		{ "SLURMK8S_WORKFLOW=bb42:u2", "DW_JOB_scratch=/mnt/old" },
		{ "SLURMK8S_WORKFLOW=bb42:u2", "" }, /* srun --export=NONE */
		{ "SLURMK8S_WORKFLOW=bb42:u2", "K8S_WORKFLOW=bb42:u2" },
	};

	for (size_t i = 0; i < sizeof(environments) / sizeof(environments[0]); i++)
		CHECK(!asks_with(3, kept, sizeof(kept), 0600, environments[i].first, environments[i].second, "/mnt/kept"), "%zu", i);
	CHECK(asks_with(SLURM_BATCH_SCRIPT, kept, sizeof(kept), 0600, "SLURMK8S_WORKFLOW=bb42:u2", NULL, "/mnt/a b"),
	      "it begins a run of the job");
	CHECK(asks_with(3, kept, sizeof(kept), 0600, "DW_WORKFLOW_NAME=bb42", NULL, "/mnt/a b"),
	      "nothing tells of which run it is");
}

static void what_is_kept_for_another_counts_for_nothing(void)
{
	static const char good[] = KEPT("1001", "bb42:u2"), another[] = KEPT("1002", "bb42:u2"),
		former[] = KEPT("1001", "bb42:u1"), none[] = "SETENV_A=1\0";
	static const struct { const char *text; size_t size; mode_t mode; } files[] = {
		{ another, sizeof(another), 0600 }, { former, sizeof(former), 0600 }, { none, sizeof(none), 0600 },
		{ good, sizeof(good) - 1, 0600 }, { good, sizeof(good) - 4, 0600 }, { good, 0, 0600 }, { good, sizeof(good), 0640 },
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		CHECK(asks_with(0, files[i].text, files[i].size, files[i].mode, "SLURMK8S_WORKFLOW=bb42:u2", NULL, "/mnt/a b"), "%zu", i);
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

/* Whose job it is, which and where, Slurm says. */
static void what_a_job_says_of_itself_counts_for_nothing(void)
{
	static const char *const lies[] = { "SLURM_JOB_ID=1", "SLURM_JOBID=1", "SLURM_JOB_UID=0", "SLURM_UID=0", "SLURM_JOB_USER=root",
		"SLURMD_NODENAME=forged", "SLURM_STEP_ID=99", "SLURM_NODEID=7", "SLURM_RESTART_COUNT=9" };

	setenv("SLURMD_NODENAME", "n1", 1);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		slurm.environment[i] = (char *)lies[i];
	start_step(3, "k8s-register", "jup:8888");
	end_step();
	for (const char *const *field = (const char *const[]){ "JOB_ID=42\n", "STEP_ID=3\n", "UID=1001\n",
		"NODE=n1\n", "NODE_RANK=0\n", NULL }; *field; field++)
		CHECK(strstr(program_log(), *field), "no %s", *field);
	CHECK(!strstr(program_log(), "forged") && !strstr(program_log(), "root") && !strstr(program_log(), "RESTART_COUNT=9"));
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

static void a_batch_script_says_which_task_of_an_array_it_is(void)
{
	slurm.array = 20;
	slurm.array_task = 3;
	slurm.environment[0] = (char *)"SLURM_ARRAY_TASK_ID=4";
	start_step(SLURM_BATCH_SCRIPT, "k8s-register", "w-%a:1");
	end_step();
	CHECK(strstr(program_log(), "ARRAY_JOB_ID=20\n") && strstr(program_log(), "ARRAY_TASK_ID=3\n"));
}

static void a_batch_script_in_no_array_says_so(void)
{
	slurm.array = 0;
	slurm.array_task = NO_VAL;
	slurm.environment[0] = (char *)"SLURM_ARRAY_JOB_ID=19"; /* of the job that submitted it */
	start_step(SLURM_BATCH_SCRIPT, "k8s-register", "w-%A:1");
	end_step();
	CHECK(strstr(program_log(), "ARRAY_JOB_ID=0\n") && !strstr(program_log(), "ARRAY_TASK_ID"));
}

static void an_srun_step_says_what_srun_says_of_the_array(void)
{
	slurm.array_task = NO_VAL;
	slurm.environment[0] = (char *)"SLURM_ARRAY_JOB_ID=20";
	slurm.environment[1] = (char *)"SLURM_ARRAY_TASK_ID=3";
	start_step(0, "k8s-register", "w-%a:1");
	end_step();
	CHECK(strstr(program_log(), "ARRAY_JOB_ID=20\n") && strstr(program_log(), "ARRAY_TASK_ID=3\n"));
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

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "stepd: without an option nothing happens", without_an_option_nothing_happens },
		{ "stepd: the extern step registers nothing", the_extern_step_registers_nothing },
		{ "stepd: only the component that asked registers", only_the_component_that_asked_registers },
		{ "stepd: a step says whether its options are inherited", a_step_says_whether_its_options_are_inherited },
		{ "stepd: a batch script has the options that are left to its srun", a_batch_script_has_the_options_that_are_left_to_its_srun },
		{ "stepd: what is wrong with such an option is said", what_is_wrong_with_such_an_option_is_said },
		{ "stepd: so are wishes about nodes", so_are_wishes_about_nodes },
		{ "stepd: a namespace alone starts nothing", a_namespace_alone_starts_nothing },
		{ "stepd: nor does what the prolog acts on", nor_does_what_the_prolog_acts_on },
		{ "stepd: without nodes=on a job that takes its nodes does not run beside pods",
			without_nodes_on_a_job_that_takes_its_nodes_does_not_run_beside_pods },
		{ "stepd: a job whose bundle was not made does not run", a_job_whose_bundle_was_not_made_does_not_run },
		{ "stepd: tasks of a refused job fail with the reason", tasks_of_a_refused_job_fail_with_the_reason },
		{ "stepd: a job with storage is told where it is", a_job_with_storage_is_told_where_it_is },
		{ "stepd: a later component of a heterogeneous job is told of its own storage", a_later_component_is_told_of_its_own_storage },
		{ "stepd: what holds for a node is asked for on each", what_holds_for_a_node_is_asked_for_on_each },
		{ "stepd: its steps and other jobs are not told", its_steps_and_other_jobs_are_not_told },
		{ "stepd: later steps have what the first was told", later_steps_have_what_the_first_was_told },
		{ "stepd: what is kept for another job, user or run counts for nothing", what_is_kept_for_another_counts_for_nothing },
		{ "stepd: a step is registered and deregistered", a_step_is_registered_and_deregistered },
		{ "stepd: what a job says of itself counts for nothing", what_a_job_says_of_itself_counts_for_nothing },
		{ "stepd: more groups than can be carried are not told", more_groups_than_can_be_carried_are_not_told },
		{ "stepd: an srun step says its number and rank", a_numbered_step_says_its_number },
		{ "stepd: a batch script says which task of an array it is", a_batch_script_says_which_task_of_an_array_it_is },
		{ "stepd: a batch script in no array says so", a_batch_script_in_no_array_says_so },
		{ "stepd: an srun step says what srun says of the array", an_srun_step_says_what_srun_says_of_the_array },
		{ "stepd: the interactive step says so", the_interactive_step_says_so },
		{ "stepd: env sends Arkouda's variables and no others", env_sends_arkoudas_variables_and_no_others },
		{ "stepd: the program inherits nothing", the_program_inherits_nothing },
	};

	if (set_program(argc > 1 ? argv[1] : NULL) < 0)
		return 2;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
