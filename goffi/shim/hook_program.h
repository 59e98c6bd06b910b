/*
 * hook_program.h - run a hook in the slurmk8s program, for a bounded time. For processes
 * that may not load a Go runtime.
 */
#ifndef SLURMK8S_HOOK_PROGRAM_H
#define SLURMK8S_HOOK_PROGRAM_H

#include <stddef.h>

#include "fields.h"

/*
 * Run `program` hook -0 `hook` with `request`. Adds DEADLINE_MS to the request, a little less
 * than `timeout_ms`, so that the program itself can report what was slow. loader.h says
 * which programs are trusted.
 *
 * Returns the hook's code with its fields in `reply`, or a code of bounded_exec.h with a
 * line in `problem` and no field in `reply`. A program that crashed has an exit status too
 * (Go's is 2): only one with a MESSAGE is a refusal or a failure.
 * May be called from several threads.
 */
int hook_program(const char *program, const char *hook, struct fields *request, int timeout_ms,
		 struct fields *reply, char *problem, size_t size);

#endif
