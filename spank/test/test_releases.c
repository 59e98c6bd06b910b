/*
 * test_releases.c STEP_PROGRAM - the plugin as each release of Slurm calls it, with generated
 * options and arguments of plugstack.conf. Facts: plugstack.c (22.05) and spank.c (23.02 and
 * later) of each.
 */
#define _GNU_SOURCE
#include "stepd_host.h"

#define ROUNDS 6

static const struct release {
	const char *name;
	/* srun's options reach slurmstepd's callback by its message and by the environment. */
	bool options_twice;
	/* An error is any answer but 0. Before, it is one below 0 only. */
	bool any_answer_counts;
} releases[] = {
	{ "22.05", true, false }, { "23.02", true, false }, { "23.11", true, false }, { "24.05", false, false },
	{ "24.11", false, false }, { "25.05", false, true }, { "25.11", false, true }, { "26.05", false, true },
};

static bool is_error(const struct release *release, int answer)
{
	return release->any_answer_counts ? answer != 0 : answer < 0;
}

static unsigned seed = 20221;

static unsigned below(unsigned limit)
{
	seed = (unsigned)((seed * 16807ULL) % 2147483647);
	return seed % limit;
}

/* The options that a round may give; NULL: it does not. */
static const struct { const char *name, *field, *values[3]; } choices[] = {
	{ "k8s-register", "K8S_REGISTER", { "a:1", "name=a,port=1,label=x=%s", "a:1;b:2" } },
	{ "k8s-namespace", "K8S_NAMESPACE", { "jobs", NULL, NULL } },
	{ "k8s-import", "K8S_IMPORT", { "db:5432", "ns/db", NULL } },
	{ "k8s-evict-timeout", "K8S_EVICT_TIMEOUT", { "9:fail", NULL, NULL } },
};
#define CHOICES (sizeof(choices) / sizeof(choices[0]))

static char *wrong_arguments[][2] = {
	{ (char *)"no_such_key=1" }, { (char *)"program=relative" }, { (char *)"register_timeout_ms=0", (char *)"nodes=off" },
};

static const struct release *release;

/* slurmstepd: no answer may be an error, which would drain the node. */
static void a_step(void)
{
	static const uint32_t steps[] = { 0, 7, SLURM_BATCH_SCRIPT, SLURM_INTERACTIVE_STEP, SLURM_EXTERN_CONT };
	uint32_t id = steps[below(5)];
	const char *given[CHOICES] = { NULL };
	char **wrong = below(4) == 0 ? wrong_arguments[below(3)] : NULL;
	bool asks = false;
	char path[512], said[1024];
	char *right[] = { path, (char *)"register_timeout_ms=5000" };
	char **argv = wrong ? wrong : right;
	int argc = wrong && !wrong[1] ? 1 : 2;

	unlink(log_path);
	snprintf(path, sizeof(path), "program=%s", program);
	slurm.context = S_CTX_REMOTE;
	slurm.step = id;
	CHECK(!is_error(release, slurm_spank_init(fake_handle, argc, argv)));
	for (size_t i = 0; i < CHOICES; i++) {
		given[i] = id == SLURM_EXTERN_CONT ? NULL : choices[i].values[below(3)];
		if (!given[i])
			continue;
		asks = asks || i == 0 || i == 2;
		for (int n = 0; n < (release->options_twice && id < SLURM_MAX_NORMAL_STEP_ID ? 2 : 1); n++)
			CHECK(!is_error(release, fake_option(choices[i].name, given[i], 1)));
	}
	CHECK(!is_error(release, slurm_spank_init_post_opt(fake_handle, argc, argv)));
	CHECK(!is_error(release, slurm_spank_user_init(fake_handle, argc, argv)));
	CHECK(task_runs(0, said) == !(asks && wrong), "%s", said);
	end_step();
	CHECK((access(log_path, F_OK) == 0) == (asks && !wrong));
	for (size_t i = 0; asks && !wrong && i < CHOICES; i++) {
		char line[256], *found;

		snprintf(line, sizeof(line), "step %s=", choices[i].field);
		found = strstr(program_log(), line);
		CHECK(!found == !given[i], "%s", line);
		if (!given[i])
			continue;
		CHECK(strncmp(found + strlen(line), given[i], strlen(given[i])) == 0, "%s", found);
		CHECK(!strstr(found + 1, line), "%s is there twice", line);
	}
}

/* srun, sbatch and salloc: a mistake in plugstack.conf is an error in each release. */
static void a_command(void)
{
	char **wrong = below(2) ? wrong_arguments[below(3)] : NULL;
	int argc = wrong ? 1 + !!wrong[1] : 0;

	slurm.context = below(2) ? S_CTX_LOCAL : S_CTX_ALLOCATOR;
	CHECK(is_error(release, slurm_spank_init(fake_handle, argc, wrong)) == !!wrong);
	if (wrong)
		return;
	CHECK(!is_error(release, fake_option("k8s-namespace", "jobs", 0)));
	CHECK(is_error(release, fake_option("k8s-namespace", below(2) ? "" : "a\nb", 0)), "a wrong value");
}

/* slurmd, and the two that run before and after a job: never an error. */
static void a_daemon(void)
{
	char **argv = wrong_arguments[below(3)];

	slurm.context = S_CTX_SLURMD;
	CHECK(!is_error(release, slurm_spank_init(fake_handle, 1 + !!argv[1], argv)) && !slurm.log[0]);
	slurm.context = S_CTX_JOB_SCRIPT;
	CHECK(!is_error(release, slurm_spank_job_prolog(fake_handle, 1 + !!argv[1], argv)));
	CHECK(!is_error(release, slurm_spank_job_epilog(fake_handle, 1 + !!argv[1], argv)));
	CHECK(slurm.errors >= 1, "nothing says what is wrong");
}

/* A round has a process of its own: the plugin keeps its options. */
static void rounds(void (*round)(void))
{
	for (size_t i = 0; i < sizeof(releases) / sizeof(releases[0]); i++)
		for (int n = 0; n < ROUNDS; n++) {
			int status;
			pid_t pid;

			below(2);
			release = &releases[i];
			pid = fork();
			if (pid == 0) {
				round();
				_exit(0);
			}
			CHECK(waitpid(pid, &status, 0) == pid);
			if (status) {
				char why[512];

				snprintf(why, sizeof(why), "%.500s", check_note);
				note("Slurm %s, round %d: %s", release->name, n, why);
				_exit(1);
			}
			seed += (unsigned)n + 1;
		}
}

static void steps(void) { rounds(a_step); }
static void commands(void) { rounds(a_command); }
static void daemons(void) { rounds(a_daemon); }

static void an_answer_that_a_release_overlooks_is_known(void)
{
	CHECK(is_error(&releases[0], -1) && !is_error(&releases[0], 1) && !is_error(&releases[4], 1));
	CHECK(is_error(&releases[5], -1) && is_error(&releases[5], 1) && !is_error(&releases[7], 0));
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "releases: each gives a step its options, and no answer drains the node", steps },
		{ "releases: each is told at the prompt what is wrong", commands },
		{ "releases: none has a node drained for what is wrong in plugstack.conf", daemons },
		{ "releases: an answer that a release overlooks is known", an_answer_that_a_release_overlooks_is_known },
	};

	if (set_program(argc > 1 ? argv[1] : NULL) < 0)
		return 2;
	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
