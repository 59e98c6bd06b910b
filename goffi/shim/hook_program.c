/*
 * hook_program.c - see hook_program.h.
 */
#include "hook_program.h"

#include <stdio.h>
#include <stdlib.h>

#include "../slurmk8s.h"
#include "bounded_exec.h"
#include "loader.h"

#define MARGIN_MS 200

/* What an exit status and a reply mean. */
static int judge(const char *program, int status, const char *text, size_t text_size, struct fields *reply,
		 char *problem, size_t size)
{
	char none[256];

	if (fields_read(reply, text, text_size) < 0) {
		snprintf(problem, size, "%s: its reply is not a list of fields", program);
		return BOUNDED_EXEC_BAD_END;
	}
	if (status < SLURMK8S_REFUSED || (status <= SLURMK8S_FAILED && fields_get(reply, "MESSAGE")))
		return status;
	snprintf(none, sizeof(none), "%.200s: ended with status %d and no message", program, status);
	fields_message(reply, none, problem, size);
	fields_clear(reply);
	return BOUNDED_EXEC_BAD_END;
}

int hook_program(const char *program, const char *hook, struct fields *request, int timeout_ms,
		 struct fields *reply, char *problem, size_t size)
{
	const char *const argv[] = { program, "hook", "-0", hook, NULL };
	int deadline_ms = timeout_ms > 2 * MARGIN_MS ? timeout_ms - MARGIN_MS : (timeout_ms + 1) / 2;
	char *answer = malloc(FIELDS_REPLY_MAX_BYTES);
	size_t text_size, answer_size = 0;
	const char *text;
	int code = BOUNDED_EXEC_CANNOT_RUN;

	fields_clear(reply);
	fields_add_number(request, "DEADLINE_MS", (unsigned long)deadline_ms);
	text = fields_text(request, &text_size, problem, size);
	if (!answer)
		snprintf(problem, size, "out of memory");
	else if (text && slurmk8s_check_program(program, problem, size) == SLURMK8S_OK)
		code = bounded_exec(argv, text, text_size, timeout_ms, answer, FIELDS_REPLY_MAX_BYTES,
				    &answer_size, problem, size);
	if (code >= 0)
		code = judge(program, code, answer, answer_size, reply, problem, size);
	free(answer);
	return code;
}
