/*
 * options.c - see options.h.
 */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

enum { REGISTER, NAMESPACE, IMPORT, OPTIONS };

static int on_option(int val, const char *value, int remote);

/* All that an option is. A duty's new option is a row here. */
static struct option {
	struct spank_option spank;
	const char *field;	 /* its name in a request */
	const char *environment; /* its name behind OPTION_ENVIRONMENT */
	unsigned max;		 /* bytes */
	bool starts_work;	 /* false: it only says how */
	char *value;		 /* as given, ours; NULL if it was not */
} options[OPTIONS] = {
	[REGISTER] = {
		.spank = { "k8s-register", "SPEC[;SPEC...]",
			"make the job a Kubernetes Service while it runs; an srun step, while "
			"the step runs. SPEC: NAME:PORT[:TARGET], or name=NAME,"
			"port=[PORTNAME:]PORT[:TARGET][,...] with ns=, type=, host=, ready=, "
			"expose= and others, or env for Arkouda's variables",
			1, REGISTER, on_option },
		.field = "K8S_REGISTER", .environment = "k8s_register",
		.max = 8192, .starts_work = true },
	[NAMESPACE] = {
		.spank = { "k8s-namespace", "NAMESPACE",
			"the Kubernetes namespace of --k8s-register and --k8s-import, where "
			"they name none",
			1, NAMESPACE, on_option },
		.field = "K8S_NAMESPACE", .environment = "k8s_namespace",
		.max = 63 /* a DNS label */ },
	[IMPORT] = {
		.spank = { "k8s-import", "[NS/]SVC[:PORT],...",
			"find Kubernetes Services for the job: it gets <SVC>_SERVICE_HOST, "
			"<SVC>_SERVICE_PORT and <SVC>_ADDRESS in its environment",
			1, IMPORT, on_option },
		.field = "K8S_IMPORT", .environment = "k8s_import",
		.max = 4096, .starts_work = true },
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

/* Slurm calls this for each occurrence, the environment's first: the last counts. */
static int on_option(int val, const char *value, int remote)
{
	struct option *option = &options[val];
	const char *flaw = options_flaw(value, option->max);
	char *copy = NULL;

	if (!flaw && !(copy = strdup(value)))
		flaw = "does not fit into memory";
	changed = changed || !copy || !option->value || strcmp(copy, option->value) != 0;
	free(option->value);
	option->value = copy;
	if (!flaw)
		return 0;
	snprintf(problem, sizeof(problem), "--%s %s (at most %u bytes)",
		 option->spank.name, flaw, option->max);
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

bool options_given(void)
{
	for (int i = 0; i < OPTIONS; i++)
		if (options[i].starts_work && options[i].value)
			return true;
	return false;
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

bool options_inherited(void)
{
	if (!getenv("SLURM_JOB_ID"))
		return false;
	for (int i = 0; i < OPTIONS; i++) {
		char name[128];
		const char *inherited;

		snprintf(name, sizeof(name), "SLURM_SPANK_" OPTION_ENVIRONMENT "%s",
			 options[i].environment);
		inherited = getenv(name);
		if (options[i].value && (!inherited || strcmp(inherited, options[i].value) != 0))
			return false;
	}
	return true;
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

void options_add_to(struct fields *fields)
{
	for (int i = 0; i < OPTIONS; i++)
		if (options[i].value)
			fields_add(fields, options[i].field, options[i].value);
}
