/*
 * launch_cost.c PLUGIN - what a launch without our options costs slurmstepd: PLUGIN is loaded
 * and called as Slurm does, in a fresh process each time. Prints the median; fails above the
 * budget.
 */
#define _GNU_SOURCE
#include "../../goffi/test/check.h"

#include <dlfcn.h>

#include "fake_spank.h"

#define RUNS 101
#define BUDGET_MS 0.5

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
		if (!callback || callback(fake_handle, 0, NULL) != 0)
			exit(1);
	}
	return now_ms() - start;
}

static int compare(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv)
{
	double *took = mmap(NULL, RUNS * sizeof(*took), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (argc != 2 || took == MAP_FAILED)
		return 1;
	slurm.context = S_CTX_REMOTE;
	for (int i = 0; i < RUNS; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			took[i] = launch(argv[1]);
			_exit(0);
		}
		if (wait_for(pid, 5000) != 0)
			return 1;
	}
	qsort(took, RUNS, sizeof(*took), compare);
	printf("median of %d: %.3f ms", RUNS, took[RUNS / 2]);
	return took[RUNS / 2] < BUDGET_MS ? 0 : 1;
}
