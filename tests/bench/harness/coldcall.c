/*
 * coldcall LIBRARY HOOK KEY=VALUE... - one call of a hook in a fresh process, as
 * a hook's child makes it: load the library, run the hook. Prints
 *	CODE LOAD_MS CALL_MS RSS_BEFORE_KB RSS_LOADED_KB RSS_AFTER_KB MESSAGE
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../../../goffi/shim/loader.h"
#include "../../../goffi/slurmk8s.h"

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Not /proc/self/statm: its counters lag by up to 64 pages a thread. */
static long rss_kb(void)
{
	char line[256];
	long kb = -1;
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Rss: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

int main(int argc, char **argv)
{
	const struct slurmk8s_library *lib;
	const char *message = "";
	char **reply = NULL;
	char err[512] = "";
	long before, loaded, after;
	double begin, load, call;
	int code;

	if (argc < 3)
		return 2;
	before = rss_kb();
	begin = now_ms();
	code = slurmk8s_load(argv[1], &lib, err, sizeof(err));
	load = now_ms() - begin;
	if (code != SLURMK8S_OK) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	loaded = rss_kb();
	begin = now_ms();
	code = lib->hook(argv[2], (const char *const *)argv + 3, &reply);
	call = now_ms() - begin;
	after = rss_kb();
	for (char **field = reply; field && *field; field++)
		if (strncmp(*field, "MESSAGE=", 8) == 0)
			message = *field + 8;
	printf("%d %.3f %.3f %ld %ld %ld %s\n", code, load, call, before, loaded, after, message);
	lib->free(reply);
	return 0;
}
