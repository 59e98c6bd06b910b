/*
 * stub_go.c - stands in for main.go, so that the sanitizers see the C half of
 * the boundary (Go's half cannot run under them). Answers with the fields.
 */
#include <string.h>

#include "../entry.h"

int stub_go_calls;

void slurmk8sGoReady(void)
{
	slurmk8s_entry_set_version("a version of more than 64 characters, which must be cut, not overrun");
}

int slurmk8sGoHook(char *name, char **fields, char ***reply)
{
	size_t count = 0, bytes = 0;
	char **block, *text;

	stub_go_calls++;
	while (fields[count])
		bytes += strlen(fields[count++]) + 1;
	block = slurmk8s_entry_malloc((count + 1) * sizeof(*block) + bytes);
	text = (char *)(block + count + 1);
	for (size_t i = 0; i < count; i++) {
		block[i] = text;
		text += strlen(strcpy(text, fields[i])) + 1;
	}
	block[count] = NULL;
	*reply = block;
	return strcmp(name, "busy") == 0;
}
