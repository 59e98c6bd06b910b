/*
 * stepd.c - slurmstepd: the step program from before the first task to after
 * the last one. Plain C: slurmstepd forks its tasks from here.
 *
 * In order: stepd_start (slurm_spank_init_post_opt, still root), the answer is
 * awaited in slurm_spank_user_init, where the job's environment can be set, a
 * failure shows in slurm_spank_task_init, in each forked task: an error returned
 * any earlier drains the node, and a batch job would end COMPLETED.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <slurm/slurm.h>

#include "../goffi/shim/bounded_exec.h"
#include "../goffi/shim/fields.h"
#include "options.h"
#include "plugin.h"
#include "refusal.h"
#include "step_program.h"
#include "storage.h"

/* The program keeps its deadline itself and says what went wrong; only one that
 * hangs is waited for this much longer. */
#define MARGIN_MS 500

#define SETENV "SETENV_"
#define NODELIST_MAX 8192
#define NUMBER_MAX 16
#define IMPORT_MAX 4096 /* as --k8s-import's own */
#define GROUPS_MAX 16384

static struct {
	bool wanted;	/* this step was given an option */
	pid_t owner;	/* the slurmstepd that started the program */
	struct step_program program;
	double deadline; /* of the answer */
	char failure[1024]; /* "": the tasks may start */
} step = { .program = { .fd = -1 } };

static struct fields message; /* one at a time, a request or its reply */
static struct fields kept; /* the variables of the job's storage that an earlier step was told */

__attribute__((format(printf, 1, 2)))
static void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(step.failure, sizeof(step.failure), format, args);
	va_end(args);
	/* Not slurm_error(): srun would show it beside what the task says. */
	slurm_info("slurmk8s: %s", step.failure);
}

static void add_step_id(struct fields *fields, uint32_t id)
{
	if (id == SLURM_BATCH_SCRIPT)
		fields_add(fields, "STEP_ID", "batch");
	else if (id == SLURM_INTERACTIVE_STEP)
		fields_add(fields, "STEP_ID", "interactive");
	else
		fields_add_number(fields, "STEP_ID", id);
}

/* A variable of the job's environment, which is the user's to write; at most `max`
 * bytes of it. */
static void add_job_variable(spank_t spank, struct fields *fields, const char *key,
			     const char *variable, unsigned max)
{
	char value[NODELIST_MAX + 1];

	if (spank_getenv(spank, variable, value, sizeof(value)) == ESPANK_SUCCESS &&
	    !options_flaw(value, max))
		fields_add(fields, key, value);
}

/* The batch script's copy in slurmd's spool directory. */
static void add_script(spank_t spank, struct fields *fields)
{
	char **argv = NULL;
	int argc = 0;

	if (spank_get_item(spank, S_JOB_ARGV, &argc, &argv) == ESPANK_SUCCESS && argc > 0 &&
	    argv && !options_flaw(argv[0], 4096))
		fields_add(fields, "SCRIPT", argv[0]);
}

/* Groups as Slurm has them; it may not tell. */
static void add_groups(spank_t spank, struct fields *fields)
{
	char text[GROUPS_MAX];
	gid_t *gids = NULL;
	size_t used = 0;
	int count = 0;

	if (spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &gids, &count) != ESPANK_SUCCESS || !gids)
		return;
	for (int i = 0; i < count && used < sizeof(text); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", i ? "," : "",
					 (unsigned)gids[i]);
	/* Half a list would be another one. */
	if (count > 0 && used < sizeof(text))
		fields_add(fields, "GIDS", text);
}

/* Slurm tells a batch script's slurmstepd, but not that of an srun step. */
static void add_array(spank_t spank, struct fields *fields, uint32_t step_id)
{
	uint32_t array = 0, task = NO_VAL;

	if (step_id != SLURM_BATCH_SCRIPT) {
		add_job_variable(spank, fields, "ARRAY_JOB_ID", "SLURM_ARRAY_JOB_ID", NUMBER_MAX);
		add_job_variable(spank, fields, "ARRAY_TASK_ID", "SLURM_ARRAY_TASK_ID", NUMBER_MAX);
		return;
	}
	if (spank_get_item(spank, S_JOB_ARRAY_ID, &array) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ARRAY_TASK_ID, &task) != ESPANK_SUCCESS)
		return;
	if (task == NO_VAL) /* of a job in no array */
		array = 0;
	fields_add_number(fields, "ARRAY_JOB_ID", array);
	if (array)
		fields_add_number(fields, "ARRAY_TASK_ID", task);
}

/* What a step asks its program for. */
struct wishes {
	bool options;	/* those of --k8s-register and --k8s-import */
	bool inherited; /* a task of the job has them already */
	bool workflow; /* the variables of the job's storage */
};

static int make_request(spank_t spank, struct fields *fields, uint32_t step_id,
			struct wishes wishes, const struct config *config)
{
	uint32_t job = 0, rank = 0, restarts;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_UID, &uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_NODEID, &rank) != ESPANK_SUCCESS)
		return -1;
	fields_clear(fields);
	fields_add(fields, "CONFIG", config->file);
	fields_add_number(fields, "DEADLINE_MS", (unsigned long)config->register_timeout_ms);
	fields_add_number(fields, "JOB_ID", job);
	add_step_id(fields, step_id);
	fields_add_number(fields, "UID", uid);
	fields_add_number(fields, "GID", gid);
	add_groups(spank, fields);
	/* slurmstepd's own environment: slurmd's word. In the job's a user can
	 * write SLURMD_NODENAME, and at this point Slurm has not yet corrected it. */
	fields_add(fields, "NODE", getenv("SLURMD_NODENAME"));
	fields_add_number(fields, "NODE_RANK", rank);
	/* slurmstepd has put this one into a batch script's environment itself. In
	 * an srun step it is what srun sent, and so the user's word. */
	add_job_variable(spank, fields, "NODELIST", "SLURM_JOB_NODELIST", NODELIST_MAX);
	/* Slurm (22.05 to 26.05) does not tell: 0 also after a requeue. The environment's
	 * SLURM_RESTART_COUNT comes later, and only from the first requeue on is Slurm's. */
	if (spank_get_item(spank, S_SLURM_RESTART_COUNT, &restarts) == ESPANK_SUCCESS && restarts)
		fields_add_number(fields, "RESTART_COUNT", restarts);
	if (step_id == SLURM_BATCH_SCRIPT)
		add_script(spank, fields);
	add_array(spank, fields, step_id);
	if (wishes.workflow)
		fields_add(fields, "WORKFLOW", "1");
	if (!wishes.options)
		return 0;
	options_add_to(fields);
	if (wishes.inherited) {
		fields_add(fields, "INHERITED", "1");
		/* Not SLURM...: see variableImport of bridge/step. */
		add_job_variable(spank, fields, "IMPORTED", "K8S_IMPORTED", IMPORT_MAX);
	}
	for (int i = 0; options_want_environment() && options_environment[i]; i++) {
		char key[64];

		snprintf(key, sizeof(key), "ENV_%s", options_environment[i]);
		add_job_variable(spank, fields, key, options_environment[i], OPTIONS_VARIABLE_MAX);
	}
	return 0;
}

/* The job id of a component, as srun tells its steps; "" if it does not. */
static void component_job(spank_t spank, const char *component, char *job, int size)
{
	char name[64];

	snprintf(name, sizeof(name), "SLURM_JOB_ID_HET_GROUP_%s", component);
	if (spank_getenv(spank, name, job, size) == ESPANK_SUCCESS)
		return;
	snprintf(name, sizeof(name), "SLURM_JOB_ID_PACK_GROUP_%s", component);
	if (spank_getenv(spank, name, job, size) != ESPANK_SUCCESS)
		job[0] = '\0';
}

/* Is this a step of the component that asked, and has a task of the job the options already?
 * See ASKED_BY. */
static bool asked_here(spank_t spank, bool *inherited)
{
	char asked_by[32], here[16], job[16] = "";
	uint32_t id = 0;

	if (spank_getenv(spank, ASKED_BY, asked_by, sizeof(asked_by)) != ESPANK_SUCCESS)
		return true;
	spank_unsetenv(spank, ASKED_BY);
	*inherited = strncmp(asked_by, "task:", 5) == 0;
	if (*inherited || strncmp(asked_by, "job:", 4) == 0)
		snprintf(job, sizeof(job), "%.15s", strchr(asked_by, ':') + 1);
	else if (strncmp(asked_by, "component:", 10) == 0)
		component_job(spank, asked_by + 10, job, sizeof(job));
	spank_get_item(spank, S_JOB_ID, &id);
	snprintf(here, sizeof(here), "%u", (unsigned)id);
	return !job[0] || strcmp(job, here) == 0;
}

/*
 * Is this the Workflow of a heterogeneous job's first component, and the job a later one? Slurm
 * tells the tasks of all components what it told the first.
 */
static bool of_first_component(spank_t spank, uint32_t job, const char *workflow)
{
	char component[16], here[16], id[16], first[32];

	component_job(spank, "0", id, sizeof(id));
	snprintf(first, sizeof(first), "bb%s:", id);
	if (!id[0] || strncmp(workflow, first, strlen(first)) != 0)
		return false;
	snprintf(here, sizeof(here), "%u", (unsigned)job);
	for (int i = 1; id[0] && strcmp(id, here) != 0; i++) {
		snprintf(component, sizeof(component), "%d", i);
		component_job(spank, component, id, sizeof(id));
	}
	return id[0] != '\0';
}

/*
 * Has the job a Workflow of DWS? slurm_bb_setup has said so in its environment, where
 * `workflow` is then "bb42:UID", or "" if a former version said it, or if only the first component
 * was told of its own: this one may have one too. A user can write it: the program asks for the
 * Workflow of this very job, and what is kept for another user is not read.
 */
static bool has_workflow(spank_t spank, uint32_t job, char *workflow, int size)
{
	char own[32], name[64];
	bool found = spank_getenv(spank, "SLURMK8S_WORKFLOW", workflow, size) == ESPANK_SUCCESS, of_first;

	snprintf(own, sizeof(own), "bb%u:", (unsigned)job);
	if (found && strncmp(workflow, own, strlen(own)) == 0)
		return true;
	of_first = found && of_first_component(spank, job, workflow);
	workflow[0] = '\0';
	if (of_first)
		return true;
	own[strlen(own) - 1] = '\0';
	return spank_getenv(spank, "DW_WORKFLOW_NAME", name, sizeof(name)) == ESPANK_SUCCESS && strcmp(name, own) == 0;
}

/*
 * Is Kubernetes to be asked for the variables of the job's storage? Not if an earlier step here
 * did, or if they came with the environment of srun, which got them in the batch script or
 * in another step. The batch script is the first of its run: it always asks. A token comes with no
 * environment, only the path of its file, and the rabbit with the environment is another node's.
 */
static bool wants_workflow(spank_t spank, uint32_t job, uint32_t step_id, const char *run_dir)
{
	char workflow[128], delivered[128];
	uid_t uid;

	if (!has_workflow(spank, job, workflow, sizeof(workflow)))
		return false;
	if (step_id == SLURM_BATCH_SCRIPT || !workflow[0])
		return true;
	if (spank_get_item(spank, S_JOB_UID, &uid) == ESPANK_SUCCESS &&
	    storage_read(run_dir, job, uid, workflow, &kept))
		return false;
	/* Not SLURM...: see variableDelivered of bridge/workflow. */
	if (spank_getenv(spank, "K8S_WORKFLOW", delivered, sizeof(delivered)) != ESPANK_SUCCESS ||
	    strcmp(delivered, workflow) != 0)
		return true;
	return spank_getenv(spank, "DW_WORKFLOW_TOKEN_FILE", delivered, sizeof(delivered)) != ESPANK_ENV_NOEXIST ||
	       spank_getenv(spank, "SLURMK8S_DW_RABBIT", delivered, sizeof(delivered)) != ESPANK_ENV_NOEXIST;
}

/*
 * Has slurm_bb_setup told that the job has bundles? It is Slurm's word in a batch script, and
 * in a step what srun was told. Only the first component of a heterogeneous job has any, and
 * the others' tasks need not know of them.
 */
static bool has_bundles(spank_t spank)
{
	char value[8];
	spank_err_t rc = spank_getenv(spank, "SLURMK8S_BUNDLES", value, sizeof(value));

	if (rc == ESPANK_SUCCESS || rc == ESPANK_NOSPACE)
		return true;
	rc = spank_getenv(spank, "SLURM_HET_SIZE", value, sizeof(value));
	return rc == ESPANK_SUCCESS || rc == ESPANK_NOSPACE;
}

void stepd_start(spank_t spank, const struct config *config, const char *config_problem)
{
	uint32_t id = SLURM_EXTERN_CONT, job = 0;
	struct wishes wishes = { .options = false };
	char problem[512];

	/* The extern step is Slurm's own and is given no options; never there. */
	if (spank_get_item(spank, S_JOB_STEPID, &id) != ESPANK_SUCCESS || id == SLURM_EXTERN_CONT)
		return;
	if (spank_get_item(spank, S_JOB_ID, &job) == ESPANK_SUCCESS &&
	    refusal_read(config->run_dir, job, problem, sizeof(problem))) {
		step.wanted = true;
		step.owner = getpid();
		fail("%s", problem);
		return;
	}
	if (id == SLURM_BATCH_SCRIPT)
		options_recover(spank);
	/* No prolog has emptied the node: it was to be said here, and not only where the
	 * job was submitted. */
	if (options_want_nodes() && !config->nodes) {
		step.wanted = true;
		step.owner = getpid();
		fail("--k8s-nodes was given, but plugstack.conf has no nodes=on on this node: tell the administrator");
		return;
	}
	if (options_want_bundles() && !has_bundles(spank)) {
		step.wanted = true;
		step.owner = getpid();
		fail("--k8s-bundle had no effect: the job has no bundles. It is an option of sbatch, salloc and an "
		     "srun outside a job; if it was given to one of these, job_submit.lua of slurmk8s is not "
		     "installed: tell the administrator");
		return;
	}
	wishes.options = (options_for_step() || options_problem()) && asked_here(spank, &wishes.inherited);
	wishes.workflow = config->workflows && wants_workflow(spank, job, id, config->run_dir);
	if (!wishes.options && !wishes.workflow)
		return;
	step.wanted = true;
	step.owner = getpid();
	step.deadline = bounded_exec_now_ms() + config->register_timeout_ms + MARGIN_MS;
	if (wishes.options && options_problem())
		fail("%s", options_problem());
	else if (config_problem)
		fail("%s: tell the administrator", config_problem);
	else if (make_request(spank, &message, id, wishes, config) < 0)
		fail("Slurm does not say which job this is");
	else if (step_program_start(&step.program, config->program, problem, sizeof(problem)) < 0 ||
		 step_program_send(&step.program, &message, step.deadline, problem, sizeof(problem)) < 0)
		fail("%s: tell the administrator", problem);
}

static bool is_variable_name(const char *name, size_t length)
{
	if (!length || isdigit((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_')
			return false;
	return true;
}

static void set_job_environment(spank_t spank, const struct fields *reply)
{
	for (const char *f = NULL; (f = fields_next(reply, f));) {
		const char *name = f + strlen(SETENV), *equals = strchr(f, '=');
		char copy[256];
		size_t length;

		if (strncmp(f, SETENV, strlen(SETENV)) != 0)
			continue;
		length = (size_t)(equals - name);
		snprintf(copy, sizeof(copy), "%.*s", (int)length, name);
		if (length >= sizeof(copy) || !is_variable_name(name, length) ||
		    spank_setenv(spank, copy, equals + 1, 1) != ESPANK_SUCCESS) {
			fail("the environment cannot have a variable \"%s\"", copy);
			return;
		}
	}
}

void stepd_await_answer(spank_t spank)
{
	char problem[512];
	const char *code;

	if (fields_next(&kept, NULL)) {
		set_job_environment(spank, &kept);
		fields_clear(&kept);
		step.wanted = step.wanted || step.failure[0];
		step.owner = getpid();
	}
	if (!step.wanted || step.failure[0])
		return;
	if (step_program_receive(&step.program, &message, step.deadline, problem, sizeof(problem)) < 0) {
		fail("%s: tell the administrator", problem);
		return;
	}
	code = fields_get(&message, "CODE");
	if (code && strcmp(code, "0") == 0) {
		set_job_environment(spank, &message);
		if (fields_get(&message, "OVER")) {
			step_program_end(&step.program, step.deadline);
			step.wanted = step.failure[0];
		}
		return;
	}
	fields_message(&message, "the step program failed and gave no reason", problem, sizeof(problem));
	fail("%s", problem);
}

/*
 * In the forked task, as the user, just before exec. Ends it here, as Slurm would
 * for an error of a `required` plugin: an `optional` one's is ignored, and the job
 * would run unregistered. One task of a node says why.
 */
void stepd_enter_task(spank_t spank)
{
	int task = 0;

	if (!step.wanted || !step.failure[0])
		return;
	if (spank_get_item(spank, S_TASK_ID, &task) != ESPANK_SUCCESS || task == 0)
		dprintf(STDERR_FILENO, "slurmk8s: %s\n", step.failure);
	_exit(EXIT_FAILURE);
}

/*
 * Right after this, Slurm kills what is left of the step without asking, so the
 * program has to be done. What it could not do, the epilog does.
 */
void stepd_end(const struct config *config)
{
	double deadline = bounded_exec_now_ms() + config->deregister_timeout_ms + MARGIN_MS;
	char problem[512];
	const char *code;

	/* A forked child has the same memory, but not the program. */
	if (!step.wanted || getpid() != step.owner)
		return;
	if (!step.failure[0]) {
		fields_clear(&message);
		fields_add(&message, "ACTION", "deregister");
		fields_add_number(&message, "DEADLINE_MS", (unsigned long)config->deregister_timeout_ms);
		if (step_program_send(&step.program, &message, deadline, problem, sizeof(problem)) < 0 ||
		    step_program_receive(&step.program, &message, deadline, problem, sizeof(problem)) < 0) {
			slurm_info("slurmk8s: %s; the epilog deregisters", problem);
		} else if (!(code = fields_get(&message, "CODE")) || strcmp(code, "0") != 0) {
			fields_message(&message, "could not deregister", problem, sizeof(problem));
			slurm_info("slurmk8s: %s; the epilog tries again", problem);
		}
	}
	if (step_program_end(&step.program, deadline))
		slurm_info("slurmk8s: the step program hung and was killed");
	step.wanted = false;
}
