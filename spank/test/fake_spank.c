/*
 * fake_spank.c - see fake_spank.h. What each call allows and answers is as in
 * Slurm's src/common/spank.c.
 */
#define _GNU_SOURCE
#include "fake_spank.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_slurm slurm = { .job = 42, .uid = 1001, .gid = 1002, .step = SLURM_BATCH_SCRIPT };
static int handle;
spank_t const fake_handle = (spank_t)&handle;

static struct spank_option options[128]; /* a test may start several steps */
static int option_count;

static void log_line(const char *format, va_list args)
{
	size_t used = strlen(slurm.log);

	vsnprintf(slurm.log + used, sizeof(slurm.log) - used, format, args);
	used = strlen(slurm.log);
	snprintf(slurm.log + used, sizeof(slurm.log) - used, "\n");
}

void slurm_info(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_line(format, args);
	va_end(args);
}

void slurm_error(const char *format, ...)
{
	va_list args;

	slurm.errors++;
	va_start(args, format);
	log_line(format, args);
	va_end(args);
}

const char *spank_strerror(spank_err_t err)
{
	(void)err;
	return "a Slurm error";
}

spank_context_t spank_context(void)
{
	return slurm.context;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *opt)
{
	if (spank != fake_handle || !opt->name || !opt->usage || strlen(opt->name) > SPANK_OPTION_MAXLEN)
		return ESPANK_BAD_ARG;
	options[option_count++] = *opt;
	return ESPANK_SUCCESS;
}

const struct spank_option *fake_find_option(const char *name)
{
	for (int i = 0; i < option_count; i++)
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	return NULL;
}

int fake_option(const char *name, const char *value, int remote)
{
	const struct spank_option *option = fake_find_option(name);
	char *copy = value ? strdup(value) : NULL; /* Slurm's own soon goes away */
	int rc;

	if (!option)
		return -77;
	rc = option->cb(option->val, copy, remote);
	free(copy);
	return rc;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
	va_list args;
	spank_err_t rc = ESPANK_SUCCESS;

	if (spank != fake_handle)
		return ESPANK_BAD_ARG;
	if (slurm.context == S_CTX_JOB_SCRIPT && item != S_JOB_ID && item != S_JOB_UID && item != S_JOB_GID)
		return ESPANK_NOT_AVAIL;
	va_start(args, item);
	switch (item) {
	case S_JOB_ID: *va_arg(args, uint32_t *) = slurm.job; break;
	case S_JOB_UID: *va_arg(args, uid_t *) = slurm.uid; break;
	case S_JOB_GID: *va_arg(args, gid_t *) = slurm.gid; break;
	case S_JOB_STEPID: *va_arg(args, uint32_t *) = slurm.step; break;
	case S_JOB_NODEID: *va_arg(args, uint32_t *) = slurm.rank; break;
	case S_JOB_ARRAY_ID: *va_arg(args, uint32_t *) = slurm.array; break;
	case S_JOB_ARRAY_TASK_ID: *va_arg(args, uint32_t *) = slurm.array_task; break;
	case S_SLURM_RESTART_COUNT: *va_arg(args, uint32_t *) = slurm.restarts; break;
	case S_TASK_ID: *va_arg(args, int *) = slurm.task; break;
	case S_JOB_ARGV:
		*va_arg(args, int *) = slurm.script ? 1 : 0;
		*va_arg(args, char ***) = slurm.script ? (char **)&slurm.script : NULL;
		break;
	case S_JOB_SUPPLEMENTARY_GIDS:
		*va_arg(args, gid_t **) = slurm.groups;
		*va_arg(args, int *) = slurm.group_count;
		break;
	default: rc = ESPANK_BAD_ARG;
	}
	va_end(args);
	return rc;
}

static char **find(const char *name)
{
	size_t length = strlen(name);
	char **v = slurm.environment;

	while (*v && (strncmp(*v, name, length) != 0 || (*v)[length] != '='))
		v++;
	return v;
}

const char *fake_variable(const char *name)
{
	char **v = find(name);

	return *v ? *v + strlen(name) + 1 : NULL;
}

spank_err_t spank_getenv(spank_t spank, const char *var, char *buf, int len)
{
	const char *value = fake_variable(var);

	if (spank != fake_handle || slurm.context != S_CTX_REMOTE)
		return ESPANK_NOT_REMOTE;
	if (!value)
		return ESPANK_ENV_NOEXIST;
	snprintf(buf, (size_t)len, "%s", value);
	return strlen(value) >= (size_t)len ? ESPANK_NOSPACE : ESPANK_SUCCESS;
}

spank_err_t spank_unsetenv(spank_t spank, const char *var)
{
	char **v = find(var);

	if (spank != fake_handle || slurm.context != S_CTX_REMOTE)
		return ESPANK_NOT_REMOTE;
	for (; *v; v++)
		v[0] = v[1];
	return ESPANK_SUCCESS;
}

spank_err_t spank_setenv(spank_t spank, const char *var, const char *val, int overwrite)
{
	char **v = find(var);

	if (spank != fake_handle || slurm.context != S_CTX_REMOTE)
		return ESPANK_NOT_REMOTE;
	if (*v && !overwrite)
		return ESPANK_ENV_EXISTS;
	return asprintf(v, "%s=%s", var, val) < 0 ? ESPANK_ERROR : ESPANK_SUCCESS;
}
