/*
 * config.c - see config.h.
 */
#include "config.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The installed layout; the Makefile says where. */
#ifndef BINDIR
#define BINDIR "/opt/slurmk8s/bin"
#endif
#ifndef LIBDIR
#define LIBDIR "/opt/slurmk8s/lib"
#endif
#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc/slurm"
#endif

#define TIMEOUT_MIN_MS 100
#define TIMEOUT_MAX_MS 3600000

static const struct config defaults = {
	.program = BINDIR "/slurmk8s",
	.library = LIBDIR "/libslurmk8s.so",
	.file = SYSCONFDIR "/slurmk8s.toml",
	.run_dir = "/run/slurmk8s",
	.check_timeout_ms = 3000,
	.register_timeout_ms = 15000,
	.deregister_timeout_ms = 5000,
	.prolog_timeout_ms = 1200000,
	.epilog_timeout_ms = 10000,
};

enum kind { ABSOLUTE_PATH, MILLISECONDS, SWITCH };

static const struct key {
	const char *name;
	enum kind kind;
	size_t offset; /* of a const char *, an int or a bool in struct config */
} keys[] = {
	{ "program", ABSOLUTE_PATH, offsetof(struct config, program) },
	{ "library", ABSOLUTE_PATH, offsetof(struct config, library) },
	{ "config", ABSOLUTE_PATH, offsetof(struct config, file) },
	{ "run_dir", ABSOLUTE_PATH, offsetof(struct config, run_dir) },
	{ "nodes", SWITCH, offsetof(struct config, nodes) },
	{ "workflows", SWITCH, offsetof(struct config, workflows) },
	{ "check_timeout_ms", MILLISECONDS, offsetof(struct config, check_timeout_ms) },
	{ "register_timeout_ms", MILLISECONDS, offsetof(struct config, register_timeout_ms) },
	{ "deregister_timeout_ms", MILLISECONDS, offsetof(struct config, deregister_timeout_ms) },
	{ "prolog_timeout_ms", MILLISECONDS, offsetof(struct config, prolog_timeout_ms) },
	{ "epilog_timeout_ms", MILLISECONDS, offsetof(struct config, epilog_timeout_ms) },
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

static int unknown_key(const char *argument, char problem[CONFIG_PROBLEM_MAX])
{
	size_t used = (size_t)snprintf(problem, CONFIG_PROBLEM_MAX,
				       "plugstack.conf: unknown argument \"%.100s\"; known are",
				       argument);

	for (size_t i = 0; i < KEYS && used < CONFIG_PROBLEM_MAX; i++)
		used += (size_t)snprintf(problem + used, CONFIG_PROBLEM_MAX - used,
					 "%s %s=", i ? "," : "", keys[i].name);
	return -1;
}

static int set_value(struct config *config, const struct key *key, const char *value,
		     char problem[CONFIG_PROBLEM_MAX])
{
	char *place = (char *)config + key->offset;
	char *end;
	long number;

	if (key->kind == ABSOLUTE_PATH) {
		if (value[0] != '/') {
			snprintf(problem, CONFIG_PROBLEM_MAX,
				 "plugstack.conf: %s=%.100s: not an absolute path",
				 key->name, value);
			return -1;
		}
		*(const char **)(void *)place = value;
		return 0;
	}
	if (key->kind == SWITCH) {
		if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
			snprintf(problem, CONFIG_PROBLEM_MAX, "plugstack.conf: %s=%.100s: must be on or off",
				 key->name, value);
			return -1;
		}
		*(bool *)(void *)place = strcmp(value, "on") == 0;
		return 0;
	}
	errno = 0;
	number = strtol(value, &end, 10);
	if (errno || end == value || *end || number < TIMEOUT_MIN_MS || number > TIMEOUT_MAX_MS) {
		snprintf(problem, CONFIG_PROBLEM_MAX,
			 "plugstack.conf: %s=%.100s: not a number of milliseconds from %d to %d",
			 key->name, value, TIMEOUT_MIN_MS, TIMEOUT_MAX_MS);
		return -1;
	}
	*(int *)(void *)place = (int)number;
	return 0;
}

int config_parse(struct config *config, int argc, char *const argv[],
		 char problem[CONFIG_PROBLEM_MAX])
{
	struct config parsed = defaults;
	unsigned seen = 0;

	*config = defaults;
	problem[0] = '\0';
	for (int i = 0; i < argc; i++)
		config->nodes = config->nodes || strcmp(argv[i], "nodes=on") == 0;
	for (int i = 0; i < argc; i++) {
		size_t length = strcspn(argv[i], "="), k = 0;

		while (k < KEYS && (strlen(keys[k].name) != length ||
				    strncmp(keys[k].name, argv[i], length) != 0))
			k++;
		if (k == KEYS || argv[i][length] != '=')
			return unknown_key(argv[i], problem);
		if (seen & (1U << k)) {
			snprintf(problem, CONFIG_PROBLEM_MAX,
				 "plugstack.conf: %s= is given twice", keys[k].name);
			return -1;
		}
		seen |= 1U << k;
		if (set_value(&parsed, &keys[k], argv[i] + length + 1, problem) < 0)
			return -1;
	}
#ifndef WITH_PROLOG
	if (parsed.nodes) {
		snprintf(problem, CONFIG_PROBLEM_MAX, "plugstack.conf: nodes=on: this plugin has no prolog; "
			 "use slurmk8s_nodes_spank.so instead");
		return -1;
	}
#endif
	*config = parsed;
	return 0;
}
