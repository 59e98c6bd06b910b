/*
 * stub_library.c - a library with an ABI number of choice (-DABI=N) and maybe
 * without slurmk8s_hook (-DINCOMPLETE), to see what the loader makes of it.
 */
#include <stddef.h>
#include <stdlib.h>

#ifndef ABI
#define ABI 1
#endif

int slurmk8s_abi(void)
{
	return ABI;
}

const char *slurmk8s_version(void)
{
	if (ABI != 1)
		abort(); /* nothing may be called after another ABI number */
	return "stub";
}

#ifndef INCOMPLETE
int slurmk8s_hook(const char *name, const char *const *fields, char ***reply)
{
	(void)name;
	(void)fields;
	*reply = NULL;
	return 0;
}
#endif

void slurmk8s_free(char **reply)
{
	free(reply);
}

const char *slurmk8s_strerror(int code)
{
	return code ? "error" : "done";
}
