/*
 * options.c - see options.h.
 */
#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

enum { REGISTER, NAMESPACE, IMPORT, BUNDLE, NODES, EVICT_GRACE, EVICT_TIMEOUT, OPTIONS };

#define OF_JOB "SLURM_SPANK_" /* the prefix in the environment of a job */
#define NAME_MAX_LENGTH 128
#define VALUE_MAX 8192 /* of any option, in bytes */

static int on_option(int val, const char *value, int remote);

/* All that an option is. A duty's new option is a row here. */
static struct option {
	struct spank_option spank;
	const char *field;	 /* its name in a request */
	const char *environment; /* its name behind OPTION_ENVIRONMENT */
	unsigned max;		 /* bytes */
	bool for_step;		 /* a step acts on it; false: it only says how */
	bool job_wide;		 /* for the prolog */
	char *value;		 /* as given, ours; NULL if it was not */
} options[OPTIONS] = {
	[REGISTER] = {
		.spank = { "k8s-register", "SPEC[;SPEC...]",
			"make the job (with srun: the step) a Kubernetes Service while it "
			"runs. SPEC: NAME:PORT[:TARGET], or name=NAME,"
			"port=[PORTNAME:]PORT[:TARGET][/udp][,...] with ns=, type=, host=, ready=, "
			"expose= and others, or env for Arkouda's variables. In NAME: %a, %A, %j, %u",
			1, REGISTER, on_option },
		.field = "K8S_REGISTER", .environment = "k8s_register",
		.max = VALUE_MAX, .for_step = true },
	[NAMESPACE] = {
		.spank = { "k8s-namespace", "NAMESPACE",
			"the default Kubernetes namespace of --k8s-register and --k8s-import",
			1, NAMESPACE, on_option },
		.field = "K8S_NAMESPACE", .environment = "k8s_namespace",
		.max = 63 /* a DNS label */ },
	[IMPORT] = {
		.spank = { "k8s-import", "[NS/]SVC[:PORT],...",
			"find Kubernetes Services for the job: it gets <SVC>_SERVICE_HOST, "
			"<SVC>_SERVICE_PORT and <SVC>_ADDRESS in its environment",
			1, IMPORT, on_option },
		.field = "K8S_IMPORT", .environment = "k8s_import",
		.max = 4096, .for_step = true },
	[BUNDLE] = {
		.spank = { "k8s-bundle", "NAME[,KEY=VALUE...][;NAME...]",
			"make Kubernetes objects that live as long as the job, from templates of "
			"the administrator (see \"slurmk8s bundle list\"). In a VALUE, %2C is a "
			"comma, %3B a semicolon, %20 a blank and %25 a percent sign",
			1, BUNDLE, on_option },
		.field = "K8S_BUNDLE", .environment = "k8s_bundle",
		.max = 4096 },
	[NODES] = {
		.spank = { "k8s-nodes", "reclaim|keep|lend",
			"what to do with nodes that Kubernetes also uses: reclaim (evict their "
			"pods before the job starts, and keep new ones away until it has "
			"ended), keep (leave the pods there), or lend (the job is a "
			"placeholder for pods)",
			1, NODES, on_option },
		.field = "K8S_NODES", .environment = "k8s_nodes",
		.max = 16, .job_wide = true },
	[EVICT_GRACE] = {
		.spank = { "k8s-evict-grace", "SEC",
			"how many seconds a pod may take to end when the job's nodes are "
			"reclaimed",
			1, EVICT_GRACE, on_option },
		.field = "K8S_EVICT_GRACE", .environment = "k8s_evict_grace",
		.max = 16, .job_wide = true },
	[EVICT_TIMEOUT] = {
		.spank = { "k8s-evict-timeout", "SEC[:delete|fail|ignore]",
			"how many seconds to wait until all pods are gone, and what to do with "
			"the rest: delete them, fail (the job does not start), or ignore them",
			1, EVICT_TIMEOUT, on_option },
		.field = "K8S_EVICT_TIMEOUT", .environment = "k8s_evict_timeout",
		.max = 32, .job_wide = true },
};

const char *const options_environment[] = {
	"NAMESPACE",
	"EXTERNAL_SERVICE_NAME", "EXTERNAL_SERVICE_PORT", "EXTERNAL_SERVICE_TARGET_PORT",
	"METRICS_SERVICE_NAME", "METRICS_SERVICE_PORT", "METRICS_SERVICE_TARGET_PORT",
	"METRICS_SERVER_PORT",
	NULL
};

static char problem[256];
static bool changed;

const char *options_flaw(const char *text, unsigned max)
{
	if (!text || !*text)
		return "is empty";
	if (strnlen(text, (size_t)max + 1) > max)
		return "is too long";
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		if (*c < ' ' || *c == 0x7f)
			return "has a control character in it";
	return NULL;
}

/* The variable in which Slurm has an option, behind one of its prefixes. */
static const char *name_in_environment(const struct option *option, const char *prefix, char name[NAME_MAX_LENGTH])
{
	snprintf(name, NAME_MAX_LENGTH, "%s" OPTION_ENVIRONMENT "%s", prefix, option->environment);
	return name;
}

static void note_flaw(const struct option *option, const char *flaw)
{
	snprintf(problem, sizeof(problem), "--%s %s (at most %u bytes)", option->spank.name, flaw, option->max);
}

/* Slurm calls this for each occurrence, the environment's first: the last counts. */
static int on_option(int val, const char *value, int remote)
{
	struct option *option = &options[val];
	const char *flaw = options_flaw(value, option->max);
	char *copy = NULL;

	if (!remote && strcmp(program_invocation_short_name, "scrontab") == 0) {
		/* It parses the options of its jobs, and passes none of a plugin's on. */
		slurm_error("slurmk8s: --%s has no effect in a crontab; give it to a command there: "
			    "srun --%s=... COMMAND, or sbatch --%s=... SCRIPT", option->spank.name,
			    option->spank.name, option->spank.name);
		return -1;
	}
	if (!flaw && !(copy = strdup(value)))
		flaw = "does not fit into memory";
	changed = changed || !copy || !option->value || strcmp(copy, option->value) != 0;
	free(option->value);
	option->value = copy;
	if (!flaw)
		return 0;
	note_flaw(option, flaw);
	if (remote)
		return 0; /* the tasks will say it: Slurm would only log it */
	slurm_error("slurmk8s: %s", problem);
	return -1;
}

int options_register(spank_t spank)
{
	for (int i = 0; i < OPTIONS; i++) {
		spank_err_t rc = spank_option_register(spank, &options[i].spank);

		if (rc != ESPANK_SUCCESS) {
			slurm_error("slurmk8s: --%s: cannot be added: %s",
				    options[i].spank.name, spank_strerror(rc));
			return -1;
		}
	}
	return 0;
}

void options_unset(void)
{
	char name[NAME_MAX_LENGTH];

	for (int i = 0; i < OPTIONS; i++) {
		unsetenv(name_in_environment(&options[i], OF_JOB, name));
		unsetenv(name_in_environment(&options[i], "", name));
	}
}

void options_recover(spank_t spank)
{
	static char value[VALUE_MAX + 2]; /* one more than is allowed, so that it is seen */
	char name[NAME_MAX_LENGTH];

	for (int i = 0; i < OPTIONS; i++) {
		spank_err_t rc;

		if (options[i].value)
			continue;
		rc = spank_getenv(spank, name_in_environment(&options[i], OF_JOB, name), value, sizeof(value));
		if (rc == ESPANK_SUCCESS || rc == ESPANK_NOSPACE)
			on_option(i, value, 1);
	}
}

bool options_for_step(void)
{
	for (int i = 0; i < OPTIONS; i++)
		if (options[i].for_step && options[i].value)
			return true;
	return false;
}

bool options_any(void)
{
	return options_for_step() || options_job_wide(false);
}

bool options_changed(void)
{
	bool answer = changed;

	changed = false;
	return answer;
}

const char *options_problem(void)
{
	return problem[0] ? problem : NULL;
}

static const char *value_in_environment(const struct option *option, const char *prefix)
{
	char name[NAME_MAX_LENGTH];

	return getenv(name_in_environment(option, prefix, name));
}

static bool is_inherited(const struct option *option)
{
	const char *inherited = value_in_environment(option, OF_JOB);

	return inherited && strcmp(inherited, option->value) == 0;
}

bool options_inherited(void)
{
	if (!getenv("SLURM_JOB_ID"))
		return false;
	for (int i = 0; i < OPTIONS; i++)
		if (options[i].value && !is_inherited(&options[i]))
			return false;
	return true;
}

const char *options_job_wide(bool only_new)
{
	for (int i = 0; i < OPTIONS; i++)
		if (options[i].job_wide && options[i].value && !(only_new && is_inherited(&options[i])))
			return options[i].spank.name;
	return NULL;
}

/* Is "env" one of the SPECs, alone or with more behind a comma? */
bool options_want_environment(void)
{
	const char *spec = options[REGISTER].value;

	while (spec && *spec) {
		spec += strspn(spec, "; ");
		if (strncmp(spec, "env", 3) == 0 && strchr(",; ", spec[3]))
			return true;
		spec += strcspn(spec, ";");
	}
	return false;
}

bool options_want_bundles(void)
{
	return options[BUNDLE].value;
}

bool options_want_nodes(void)
{
	return options[NODES].value && strcmp(options[NODES].value, "keep") != 0;
}

void options_add_to(struct fields *fields)
{
	for (int i = 0; i < OPTIONS; i++)
		if (options[i].value)
			fields_add(fields, options[i].field, options[i].value);
}

const char *options_add_from_prolog(struct fields *fields)
{
	for (int i = 0; i < OPTIONS; i++) {
		const char *value = options[i].job_wide ? value_in_environment(&options[i], "SPANK_") : NULL;
		const char *flaw = value ? options_flaw(value, options[i].max) : NULL;

		if (flaw) {
			note_flaw(&options[i], flaw);
			return problem;
		}
		fields_add(fields, options[i].field, value);
	}
	return NULL;
}
