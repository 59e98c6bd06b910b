/*
 * bbhost SCRIPT [busy] - does to burst_buffer.lua what Slurm does to it: a new
 * lua_State for each call, the script read again, one function called, closed.
 * (job_submit.lua's state Slurm keeps: there it costs a little less than here.)
 * With "busy" it is a Slurm that knows SLURM_BB_BUSY (24.05 and later).
 *
 * A request is a line on standard input, its words separated by tabs:
 *	fork HOOK ARGUMENT...	in a forked child, as slurmscriptd runs a hook
 *	here HOOK ARGUMENT...	in this process, as slurmctld runs a hook
 * An argument "@job_info" is the job_info table of 23.02 and later, "@job_desc" that
 * of a job with --k8s-register=web:8888.
 *
 * The answer, on standard output; "started" comes for a fork only:
 *	started PID
 *	ended CODE BEGIN_NS END_NS CPU_US MAXRSS_KB TEXT
 * Times are of CLOCK_MONOTONIC. END_NS is when Slurm would go on: the pipe of
 * the hook's text is at its end and the child is reaped. What the script logs
 * goes to standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORDS 16
#define MAX_TEXT 4096

static const char *script;
static int busy;

struct outcome {
	int code;
	char text[MAX_TEXT];
	long long begin_ns, end_ns, cpu_us, maxrss_kb;
};

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "bbhost: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* slurm.log(format, ...): Slurm's own does the same string.format. */
static int lua_log(lua_State *L)
{
	lua_getglobal(L, "string");
	lua_getfield(L, -1, "format");
	lua_remove(L, -2);
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	fprintf(stderr, "%s\n", lua_tostring(L, -1));
	return 0;
}

static void push_slurm(lua_State *L)
{
	static const char *const logs[] = { "log_error", "log_info", "log_verbose", "log_debug", "log_user" };

	lua_newtable(L);
	lua_pushnumber(L, 0);
	lua_setfield(L, -2, "SUCCESS");
	lua_pushnumber(L, -1);
	lua_setfield(L, -2, "ERROR");
	lua_pushnumber(L, 2074);
	lua_setfield(L, -2, "ESLURM_INVALID_BURST_BUFFER_REQUEST");
	if (busy) {
		lua_pushstring(L, "BUSY");
		lua_setfield(L, -2, "SLURM_BB_BUSY");
	}
	for (size_t i = 0; i < sizeof(logs) / sizeof(*logs); i++) {
		lua_pushcfunction(L, lua_log);
		lua_setfield(L, -2, logs[i]);
	}
	lua_setglobal(L, "slurm");
}

static void push_job_info(lua_State *L)
{
	lua_newtable(L);
	lua_pushstring(L, "c1");
	lua_setfield(L, -2, "nodes");
	lua_pushstring(L, "bench");
	lua_setfield(L, -2, "user_name");
	lua_pushnumber(L, 0);
	lua_setfield(L, -2, "restart_cnt");
	lua_pushnumber(L, 1750000000);
	lua_setfield(L, -2, "submit_time");
	lua_pushnumber(L, 0);
	lua_setfield(L, -2, "array_job_id");
}

static void push_job_desc(lua_State *L)
{
	lua_newtable(L);
	lua_pushnumber(L, getuid());
	lua_setfield(L, -2, "user_id");
	lua_pushnumber(L, getgid());
	lua_setfield(L, -2, "group_id");
	lua_newtable(L);
	lua_pushstring(L, "_SLURM_SPANK_OPTION_slurmk8s_k8s_register=web:8888");
	lua_rawseti(L, -2, 0);
	lua_setfield(L, -2, "spank_job_env");
}

/* _start_lua_script() of burst_buffer_lua.c; text is what goes with the code. */
static int run(int count, char *const words[], char text[MAX_TEXT])
{
	lua_State *L = luaL_newstate();
	int code = -1;

	text[0] = '\0';
	luaL_openlibs(L);
	push_slurm(L);
	if (luaL_loadfile(L, script) || lua_pcall(L, 0, 0, 0))
		goto done;
	lua_getglobal(L, words[0]);
	for (int i = 1; i < count; i++) {
		if (strcmp(words[i], "@job_info") == 0)
			push_job_info(L);
		else if (strcmp(words[i], "@job_desc") == 0)
			push_job_desc(L);
		else
			lua_pushstring(L, words[i]);
	}
	if (lua_pcall(L, count - 1, 2, 0))
		goto done;
	code = (int)lua_tonumber(L, -2);
done:
	if (lua_isstring(L, -1))
		snprintf(text, MAX_TEXT, "%s", lua_tostring(L, -1));
	lua_close(L);
	return code;
}

/* The child's text until the end of the pipe. Who talks to us may die meanwhile. */
static void read_text(int from, pid_t child, char text[MAX_TEXT])
{
	struct pollfd watched[] = { { .fd = from, .events = POLLIN }, { .fd = 0 } };
	size_t size = 0;

	for (;;) {
		ssize_t got;

		if (poll(watched, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (watched[1].revents & (POLLHUP | POLLERR)) {
			kill(-child, SIGKILL);
			exit(1);
		}
		if (!watched[0].revents)
			continue;
		got = read(from, text + size, MAX_TEXT - 1 - size);
		if (got <= 0)
			break;
		size += (size_t)got;
	}
	text[size] = '\0';
}

static void run_forked(int count, char *const words[], struct outcome *o)
{
	struct rusage used;
	int ends[2], status;
	pid_t child;

	if (pipe(ends) < 0)
		die("pipe");
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		char text[MAX_TEXT];
		int code;

		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		code = run(count, words, text);
		if (write(ends[1], text, strlen(text)) < 0)
			_exit(125);
		_exit(code);
	}
	setpgid(child, child);
	close(ends[1]);
	printf("started %d\n", child);
	fflush(stdout);
	read_text(ends[0], child, o->text);
	close(ends[0]);
	if (wait4(child, &status, 0, &used) < 0)
		die("wait4");
	o->code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	o->cpu_us = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL +
		    used.ru_utime.tv_usec + used.ru_stime.tv_usec;
	o->maxrss_kb = used.ru_maxrss;
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t capacity = 0;

	if (argc < 2)
		return 2;
	script = argv[1];
	busy = argc > 2 && strcmp(argv[2], "busy") == 0;
	signal(SIGPIPE, SIG_IGN);
	while (getline(&line, &capacity, stdin) > 0) {
		struct outcome o = { 0 };
		char *words[MAX_WORDS], *rest = NULL;
		int count = 0;

		line[strcspn(line, "\n")] = '\0';
		for (char *word = strtok_r(line, "\t", &rest); word && count < MAX_WORDS;
		     word = strtok_r(NULL, "\t", &rest))
			words[count++] = word;
		if (count < 2)
			return 2;
		o.begin_ns = now_ns();
		if (strcmp(words[0], "fork") == 0)
			run_forked(count - 1, words + 1, &o);
		else
			o.code = run(count - 1, words + 1, o.text);
		o.end_ns = now_ns();
		for (char *c = o.text; *c; c++)
			if (*c == '\n')
				*c = ' ';
		printf("ended %d %lld %lld %lld %lld %s\n", o.code, o.begin_ns, o.end_ns,
		       o.cpu_us, o.maxrss_kb, o.text);
		fflush(stdout);
	}
	free(line);
	return 0;
}
