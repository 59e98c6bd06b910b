/*
 * test_parts.c - what the plugin parses: plugstack.conf's arguments, options, fields.
 */
#define _GNU_SOURCE
#include "../../goffi/test/check.h"

#include "../config.h"
#include "../../goffi/shim/fields.h"
#include "../options.h"
#include "fake_spank.h"

static char problem[CONFIG_PROBLEM_MAX];

/* Parse one or two arguments, whichever are not NULL. */
static int parse(struct config *config, const char *first, const char *second)
{
	char *argv[] = { (char *)first, (char *)second };

	return config_parse(config, first ? second ? 2 : 1 : 0, argv, problem);
}

static void config_has_defaults(void)
{
	struct config config;

	CHECK(parse(&config, NULL, NULL) == 0, "%s", problem);
	CHECK(strcmp(config.program, "/opt/slurmk8s/bin/slurmk8s") == 0, "%s", config.program);
	CHECK(strcmp(config.file, "/etc/slurm/slurmk8s.toml") == 0, "%s", config.file);
	CHECK(config.register_timeout_ms == 15000 && !config.nodes);
}

static void config_takes_every_key(void)
{
	char *argv[] = { (char *)"program=/p", (char *)"library=/l", (char *)"config=/c=d", (char *)"run_dir=/r",
		(char *)"check_timeout_ms=100", (char *)"register_timeout_ms=200",
		(char *)"deregister_timeout_ms=300", (char *)"epilog_timeout_ms=600000", (char *)"nodes=on",
		(char *)"prolog_timeout_ms=400" };
	struct config config;

	CHECK(config_parse(&config, 10, argv, problem) == 0, "%s", problem);
	CHECK(strcmp(config.program, "/p") == 0 && strcmp(config.library, "/l") == 0);
	CHECK(strcmp(config.file, "/c=d") == 0 && strcmp(config.run_dir, "/r") == 0, "%s", config.file);
	CHECK(config.check_timeout_ms == 100 && config.register_timeout_ms == 200);
	CHECK(config.deregister_timeout_ms == 300 && config.epilog_timeout_ms == 600000);
	CHECK(config.nodes && config.prolog_timeout_ms == 400);
}

static void config_is_strict(void)
{
	static const struct { const char *first, *second, *says; } wrong[] = {
		{ "programme=/p", NULL, "unknown argument \"programme=/p\"; known are program=, library=" },
		{ "prog=/p", NULL, "unknown" }, { "program", NULL, "unknown" },
		{ "", NULL, "unknown" }, { "=", NULL, "unknown" }, { "program =/p", NULL, "unknown" },
		{ "program=/a", "program=/a", "program= is given twice" },
		{ "config=slurmk8s.toml", NULL, "not an absolute path" }, { "library=", NULL, "not an absolute" },
		{ "nodes=yes", NULL, "nodes=yes: must be on or off" }, { "nodes=", NULL, "must be on or off" },
		{ "check_timeout_ms=", NULL, "not a number" }, { "check_timeout_ms=1s", NULL, "not a number" },
		{ "check_timeout_ms=99", NULL, "from 100 to 3600000" }, { "check_timeout_ms=-500", NULL, "not a number" },
		{ "check_timeout_ms=3600001", NULL, "not a number" },
		{ "check_timeout_ms=99999999999999999999", NULL, "not a number" },
		{ "program=/good", "x=1", "unknown argument \"x=1\"" },
	};
	struct config config;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CHECK(parse(&config, wrong[i].first, wrong[i].second) == -1, "%s", wrong[i].first);
		CHECK(strstr(problem, wrong[i].says), "%s", problem);
		CHECK(strcmp(config.program, "/opt/slurmk8s/bin/slurmk8s") == 0, "not the defaults after an error");
		CHECK(!config.nodes);
	}
	CHECK(parse(&config, "x=1", "nodes=on") == -1 && config.nodes, "jobs must not start beside pods");
}

static void options_are_carried_only_when_harmless(void)
{
	CHECK(!options_flaw("jupyter:8888", 12));
	CHECK(!options_flaw("caf\xc3\xa9", 8), "what is not ASCII is for Go to judge");
	CHECK(strstr(options_flaw("jupyter:88889", 12), "long"));
	CHECK(strstr(options_flaw("", 9), "empty") && strstr(options_flaw(NULL, 9), "empty"));
	for (int c = 1; c < 128; c++) {
		const char text[] = { 'a', (char)c, 'b', '\0' };

		CHECK(!!options_flaw(text, 9) == (c < ' ' || c == 127), "character %d", c);
	}
}

static void the_last_value_of_an_option_counts(void)
{
	static struct fields fields;

	slurm.context = S_CTX_ALLOCATOR;
	CHECK(options_register(fake_handle) == 0);
	CHECK(fake_option("k8s-namespace", "first", 0) == 0 && fake_option("k8s-namespace", "last", 0) == 0);
	CHECK(!options_for_step(), "a namespace alone is nothing to do");
	CHECK(fake_option("k8s-import", "db", 0) == 0 && options_for_step());
	fields_clear(&fields);
	options_add_to(&fields);
	CHECK(strcmp(fields_get(&fields, "K8S_NAMESPACE"), "last") == 0);
	CHECK(strcmp(fields_get(&fields, "K8S_IMPORT"), "db") == 0 && !fields_get(&fields, "K8S_REGISTER"));
}

static void an_error_names_the_option(void)
{
	char label[65];

	slurm.context = S_CTX_ALLOCATOR;
	options_register(fake_handle);
	memset(label, 'n', 64);
	label[64] = '\0';
	CHECK(fake_option("k8s-namespace", label, 0) == -1);
	CHECK(strstr(slurm.log, "slurmk8s: --k8s-namespace is too long (at most 63 bytes)"), "%s", slurm.log);
	CHECK(slurm.errors == 1);
	CHECK(fake_option("k8s-register", "a\nb", 1) == 0, "in slurmstepd the tasks say it");
	CHECK(strstr(options_problem(), "--k8s-register has a control character"));
}

static void arkoudas_variables_are_asked_for_by_env(void)
{
	static const struct { const char *spec; bool wants; } specs[] = {
		{ "env", true }, { "a:1;env", true }, { "a:1; env", true }, { "env;b:2", true },
		{ "env,ns=x", true }, { "environment:1", false }, { "env:80", false },
		{ "name=env,port=1", false }, { "a:1", false }, { "a;b;;", false },
	};

	slurm.context = S_CTX_REMOTE;
	options_register(fake_handle);
	CHECK(!options_want_environment());
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		fake_option("k8s-register", specs[i].spec, 1);
		CHECK(options_want_environment() == specs[i].wants, "%s", specs[i].spec);
	}
}

static void an_inherited_option_is_known_by_its_value(void)
{
	slurm.context = S_CTX_LOCAL;
	options_register(fake_handle);
	fake_option("k8s-register", "a:1", 0);
	unsetenv("SLURM_JOB_ID");
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register", "a:1", 1);
	CHECK(!options_inherited(), "outside a job it is the user's default");
	setenv("SLURM_JOB_ID", "42", 1);
	CHECK(options_inherited());
	fake_option("k8s-namespace", "x", 0);
	CHECK(!options_inherited(), "srun --k8s-namespace is new");
	setenv("SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_namespace", "x", 1);
	CHECK(options_inherited());
	fake_option("k8s-register", "b:1", 0);
	CHECK(!options_inherited());
}

static void frames_end_with_an_empty_string(void)
{
	CHECK(fields_frame_length("A=1\0B=2\0", 9) == 9, "the literal ends with a zero byte of its own");
	CHECK(fields_frame_length("A=1\0B=2\0", 8) == 0);
	CHECK(fields_frame_length("A=1\0B=", 6) == 0);
	CHECK(fields_frame_length("A=1", 3) == 0 && fields_frame_length("", 0) == 0);
	CHECK(fields_frame_length("", 1) == 1, "an empty frame");
	CHECK(fields_frame_length("A=1\0\0C=3\0", 10) == 5);
}

static void replies_are_made_of_fields(void)
{
	static const struct { const char *text; size_t size; int rc; } replies[] = {
		{ "CODE=0\0", 8, 0 }, { "CODE=0", 7, 0 }, { "", 0, 0 }, { "", 1, 0 }, { "A=", 3, 0 },
		{ "CODE=0", 6, -1 }, { "CODE", 5, -1 }, { "=0", 3, -1 }, { "A=1\0B\0", 7, -1 },
	};
	static struct fields fields;

	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		CHECK(fields_read(&fields, replies[i].text, replies[i].size) == replies[i].rc, "reply %zu", i);
		CHECK(replies[i].rc == 0 || !fields_next(&fields, NULL), "reply %zu", i);
	}
}

static void a_request_that_lost_a_field_cannot_be_sent(void)
{
	static struct fields fields;
	static char value[FIELDS_MAX_BYTES];
	char why[128] = "";
	size_t size;

	memset(value, 'v', sizeof(value) - 1);
	fields_add(&fields, "LARGE", value);
	fields_add(&fields, "SMALL", "1");
	CHECK(!fields_text(&fields, &size, why, sizeof(why)) && strstr(why, "does not fit"), "%s", why);
	CHECK(!fields_vector(&fields, why, sizeof(why)));
	fields_clear(&fields);
	CHECK(fields_text(&fields, &size, why, sizeof(why)) && size == 0);
	fields_free(&fields);
}

static void a_request_has_room_for_all_that_slurm_says(void)
{
	static struct fields fields;
	static char value[600 * 1024];
	char why[128] = "";
	const char *text, **vector;
	size_t size;

	memset(value, 'v', sizeof(value) - 1);
	for (int i = 0; i < 100; i++)
		fields_add_number(&fields, "N", (unsigned long)i);
	fields_add(&fields, "LARGE", value);
	text = fields_text(&fields, &size, why, sizeof(why));
	vector = fields_vector(&fields, why, sizeof(why));
	CHECK(text && vector, "%s", why);
	CHECK(size > sizeof(value) && text[size - 1] == '\0' && text[size] == '\0', "a frame ends with a zero byte more");
	CHECK(strcmp(vector[0], "N=0") == 0 && strcmp(vector[99], "N=99") == 0 && strlen(vector[100]) == 6 + sizeof(value) - 1);
	CHECK(!vector[101]);
	free(vector);
	fields_free(&fields);
}

static void a_message_is_one_printable_line(void)
{
	static struct fields fields;
	char line[64];

	fields_clear(&fields);
	fields_add(&fields, "MESSAGE", "one\ntwo\x1b[31m \xc3\xa9\x7f");
	fields_message(&fields, "none", line, sizeof(line));
	CHECK(strcmp(line, "one two [31m \xc3\xa9 ") == 0, "%s", line);
	fields_message(&fields, "none", line, 4);
	CHECK(strcmp(line, "one") == 0);
	fields_clear(&fields);
	fields_message(&fields, "none", line, sizeof(line));
	CHECK(strcmp(line, "none") == 0);
}

int main(void)
{
	static const struct test tests[] = {
		{ "config: no argument is needed", config_has_defaults },
		{ "config: takes every key", config_takes_every_key },
		{ "config: unknown, repeated and bad arguments are errors", config_is_strict },
		{ "options: empty, long and unprintable values are refused", options_are_carried_only_when_harmless },
		{ "options: the last value of one counts", the_last_value_of_an_option_counts },
		{ "options: an error names the option", an_error_names_the_option },
		{ "options: env asks for Arkouda's variables", arkoudas_variables_are_asked_for_by_env },
		{ "options: an inherited one is known by its value", an_inherited_option_is_known_by_its_value },
		{ "fields: a frame ends with an empty string", frames_end_with_an_empty_string },
		{ "fields: a reply is made of fields", replies_are_made_of_fields },
		{ "fields: a request that lost a field cannot be sent", a_request_that_lost_a_field_cannot_be_sent },
		{ "fields: a request has room for all that Slurm says", a_request_has_room_for_all_that_slurm_says },
		{ "fields: a message is one printable line", a_message_is_one_printable_line },
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0])) ? 1 : 0;
}
