/*
 * host LIBLUA SCRIPT ARGUMENT... - a process that does to Lua what slurmctld
 * does: liblua loaded globally at run time, a fresh lua_State per call, several
 * threads, signals blocked or ignored, fd 0 closed, a descriptor without
 * close-on-exec. Runs the script in each of 4 threads, HOST_ROUNDS times.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 4
#define MULTRET (-1)

typedef struct lua_State lua_State;

static lua_State *(*newstate)(void);
static void (*openlibs)(lua_State *);
static void (*createtable)(lua_State *, int, int);
static const char *(*pushstring)(lua_State *, const char *);
static void (*rawseti)(lua_State *, int, long long);
static void (*rawseti_51)(lua_State *, int, int);
static int (*loadfile)(lua_State *, const char *);
static int (*loadfilex)(lua_State *, const char *, const char *);
static int (*pcall)(lua_State *, int, int, int);
static int (*pcallk)(lua_State *, int, int, int, long, void *);
static const char *(*tolstring)(lua_State *, int, size_t *);
static void (*close_state)(lua_State *);
static void (*setfield)(lua_State *, int, const char *);
static void (*setglobal)(lua_State *, const char *);

static char **script;
static int rounds, failed;

static void *symbol(void *handle, const char *name)
{
	return dlsym(handle, name);
}

static void load_lua(const char *path)
{
	void *lua = dlopen(path, RTLD_NOW | RTLD_GLOBAL);

	if (!lua) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
	*(void **)&newstate = symbol(lua, "luaL_newstate");
	*(void **)&openlibs = symbol(lua, "luaL_openlibs");
	*(void **)&createtable = symbol(lua, "lua_createtable");
	*(void **)&pushstring = symbol(lua, "lua_pushstring");
	*(void **)&rawseti = symbol(lua, "lua_rawseti");
	*(void **)&rawseti_51 = symbol(lua, "lua_rawseti");
	*(void **)&loadfile = symbol(lua, "luaL_loadfile");
	*(void **)&loadfilex = symbol(lua, "luaL_loadfilex");
	*(void **)&pcall = symbol(lua, "lua_pcall");
	*(void **)&pcallk = symbol(lua, "lua_pcallk");
	*(void **)&tolstring = symbol(lua, "lua_tolstring");
	*(void **)&close_state = symbol(lua, "lua_close");
	*(void **)&setfield = symbol(lua, "lua_setfield");
	*(void **)&setglobal = symbol(lua, "lua_setglobal");
}

static void run_once(void)
{
	lua_State *L = newstate();
	int rc;

	openlibs(L);
	createtable(L, 4, 0);
	for (int i = 1; script[i]; i++) {
		pushstring(L, script[i]);
		if (pcallk)
			rawseti(L, -2, i);
		else
			rawseti_51(L, -2, i);
	}
	if (setglobal) /* a macro in 5.1 */
		setglobal(L, "arg");
	else
		setfield(L, -10002, "arg");
	rc = loadfile ? loadfile(L, script[0]) : loadfilex(L, script[0], NULL);
	if (!rc)
		rc = pcallk ? pcallk(L, 0, MULTRET, 0, 0, NULL) : pcall(L, 0, MULTRET, 0);
	if (rc) {
		fprintf(stderr, "%s\n", tolstring(L, -1, NULL));
		failed = 1;
	}
	close_state(L);
}

static void *run(void *unused)
{
	for (int i = 0; i < rounds && !failed; i++)
		run_once();
	return unused;
}

int main(int argc, char **argv)
{
	const char *count = getenv("HOST_ROUNDS");
	pthread_t threads[THREADS];
	sigset_t blocked;

	if (argc < 3)
		return 2;
	script = argv + 2;
	rounds = count ? atoi(count) : 1;
	load_lua(argv[1]);
	sigfillset(&blocked);
	sigdelset(&blocked, SIGINT);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	close(0);
	if (open("/etc/passwd", O_RDONLY) != 0 || dup2(0, 50) != 50)
		return 2;
	close(0);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, run, NULL) != 0)
			return 2;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return failed;
}
