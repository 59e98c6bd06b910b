/*
 * launch_cost.c PLUGIN [storage] - what a launch without our options costs slurmstepd: PLUGIN is
 * loaded and called as Slurm does, in a fresh process each time. With "storage" it is a later step
 * of a job with storage, whose variables an earlier one has left. Prints the median; fails above
 * the budget.
 */
#define _GNU_SOURCE
#include "../../goffi/test/check.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fake_spank.h"

#define RUNS 101
#define BUDGET_MS 0.5
#define STORAGE_BUDGET_MS 5.0
#define VARIABLES 40

static char directory[] = "/tmp/slurmk8s-test-XXXXXX", run_dir[64], of_job[64], path[80];
static char *arguments[] = { run_dir, (char *)"workflows=on" };
static int argument_count;

static int leave_variables(void)
{
	FILE *file;
	int fd;

	if (!mkdtemp(directory))
		return -1;
	snprintf(run_dir, sizeof(run_dir), "run_dir=%s", directory);
	snprintf(of_job, sizeof(of_job), "%s/storage.42", directory);
	snprintf(path, sizeof(path), "%s/env", of_job);
	fd = mkdir(of_job, 0711) < 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file)
		return -1;
	for (int i = 0; i < VARIABLES; i++)
		fprintf(file, "SETENV_DW_JOB_%d=/mnt/nnf/0f8c4e1c-7d6a-4b7e-9c41-%d%c", i, i, 0);
	fprintf(file, "UID=1001%cWORKFLOW=bb42:u1%c%c", 0, 0, 0);
	slurm.environment[0] = (char *)"SLURMK8S_WORKFLOW=bb42:u1";
	slurm.step = 3;
	argument_count = 2;
	return fclose(file);
}

static void remove_variables(void)
{
	unlink(path);
	rmdir(of_job);
	rmdir(directory);
}

static double launch(const char *path)
{
	static const char *const callbacks[] = { "slurm_spank_init", "slurm_spank_init_post_opt",
		"slurm_spank_user_init", "slurm_spank_task_init", "slurm_spank_exit" };
	double start = now_ms();
	void *plugin = dlopen(path, RTLD_LAZY);

	if (!plugin) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	for (size_t i = 0; i < sizeof(callbacks) / sizeof(callbacks[0]); i++) {
		spank_f *callback;

		*(void **)&callback = dlsym(plugin, callbacks[i]);
		if (!callback || callback(fake_handle, argument_count, arguments) != 0)
			exit(1);
	}
	start = now_ms() - start;
	if (argument_count && !fake_variable("DW_JOB_39"))
		exit(1);
	return start;
}

static int compare(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv)
{
	double *took = mmap(NULL, RUNS * sizeof(*took), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool storage = argc == 3 && strcmp(argv[2], "storage") == 0;
	int rc = 0;

	if ((argc != 2 && !storage) || took == MAP_FAILED)
		return 1;
	if (storage && leave_variables() < 0)
		return 1;
	slurm.context = S_CTX_REMOTE;
	for (int i = 0; i < RUNS; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			took[i] = launch(argv[1]);
			_exit(0);
		}
		if (wait_for(pid, 5000) != 0)
			rc = 1;
	}
	qsort(took, RUNS, sizeof(*took), compare);
	printf("median of %d: %.3f ms", RUNS, took[RUNS / 2]);
	if (storage)
		remove_variables();
	return rc || took[RUNS / 2] >= (storage ? STORAGE_BUDGET_MS : BUDGET_MS);
}
