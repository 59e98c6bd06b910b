/*
 * load.c LIBRARY LUA_MODULE LIBLUA PLUGIN... - loads what the packages bring, as Slurm's processes
 * do, on a system that has no Slurm: fake_spank.c stands for it. Prints a line for each that works.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../goffi/shim/loader.h"
#include "../../../goffi/slurmk8s.h"
#include "../../../spank/test/fake_spank.h"

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static void *open_object(const char *path, int flags)
{
	void *object = dlopen(path, RTLD_NOW | flags);

	if (!object)
		fail(path, dlerror());
	return object;
}

static void *symbol(void *object, const char *name)
{
	void *found = dlsym(object, name);

	if (!found)
		fail(name, dlerror());
	return found;
}

/* The answer comes from Go. */
static void load_library(const char *path)
{
	const struct slurmk8s_library *library;
	static const char *const none[] = { NULL };
	char error[512], **reply;

	if (slurmk8s_load(path, &library, error, sizeof(error)) != SLURMK8S_OK)
		fail(path, error);
	if (library->hook("no_such_hook", none, &reply) <= 0 || !reply || strncmp(reply[0], "MESSAGE=", 8) != 0)
		fail(path, "does not answer");
	printf("library %s: %s\n", library->version(), reply[0]);
	library->free(reply);
}

/* burst_buffer_lua.so has Lua's symbols global. */
static void load_lua_module(const char *path, const char *liblua)
{
	void *lua = open_object(liblua, RTLD_GLOBAL), *state;
	void *(*new_state)(void);
	int (*open_module)(void *);

	*(void **)&new_state = symbol(lua, "luaL_newstate");
	*(void **)&open_module = symbol(open_object(path, RTLD_LOCAL), "luaopen_slurmk8s");
	state = new_state();
	if (!state || open_module(state) != 1)
		fail(path, "gives no module");
	printf("Lua module with %s\n", strrchr(liblua, '/') ? strrchr(liblua, '/') + 1 : liblua);
}

static void load_plugin(const char *path)
{
	void *plugin = open_object(path, RTLD_LOCAL);
	const char *type = symbol(plugin, "plugin_type");
	const unsigned int *version = symbol(plugin, "plugin_version");
	spank_f *callback;

	if (strcmp(type, "spank") != 0)
		fail(path, "is no SPANK plugin");
	*(void **)&callback = symbol(plugin, "slurm_spank_init");
	if (callback(fake_handle, 0, NULL) != 0)
		fail(path, "slurm_spank_init failed");
	printf("plugin for Slurm %u.%02u\n", *version >> 16, *version >> 8 & 0xff);
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: load LIBRARY LUA_MODULE LIBLUA PLUGIN...\n");
		return 64;
	}
	load_lua_module(argv[2], argv[3]);
	for (int i = 4; i < argc; i++)
		load_plugin(argv[i]);
	load_library(argv[1]);
	return 0;
}
