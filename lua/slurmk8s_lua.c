/*
 * slurmk8s_lua.c - what burst_buffer.lua cannot do in Lua. One binary serves
 * Lua 5.1 to 5.4: lua_* stays undefined (Slurm has its liblua loaded globally),
 * and only calls are used whose ABI is equal in all four.
 *
 *	local open = package.loadlib("/abs/slurmk8s_lua.so", "luaopen_slurmk8s")
 *	local module = open()
 *	code, reply = module.call(library, hook, fields)
 *	code, reply = module.exec(program, hook, fields, timeout_ms)
 *	ms = module.clock()
 *	module.mkdir(path)
 *
 * `fields` is a table of [A-Z0-9_]+ to strings or numbers; `reply` is such a
 * table, with strings. `code` is one of slurmk8s.h or bounded_exec.h. On a
 * negative one reply.MESSAGE says why. exec() tells the program its deadline.
 *
 * Loading this module loads no Go; call() does, and so belongs only in a hook
 * that Slurm runs in a child process.
 *
 * When Lua runs out of memory it jumps out of here, and a request or reply leaks; no
 * descriptor or child is open at that point.
 */
#include <lua.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../goffi/shim/bounded_exec.h"
#include "../goffi/shim/fields.h"
#include "../goffi/shim/hook_program.h"
#include "../goffi/shim/loader.h"
#include "../goffi/slurmk8s.h"
#include "inherited_pipes.h"

#define LINE_MAX_BYTES 1024

#define EXPORT __attribute__((visibility("default")))

__attribute__((format(printf, 3, 4)))
static int push_error(lua_State *L, int code, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	lua_settop(L, 0);
	lua_pushnumber(L, code);
	lua_createtable(L, 0, 1);
	lua_pushlstring(L, line, strlen(line));
	lua_setfield(L, -2, "MESSAGE");
	return 2;
}

static bool is_key(const char *key, size_t size)
{
	for (size_t i = 0; i < size; i++) /* not isupper(): it asks the locale */
		if (!(key[i] >= 'A' && key[i] <= 'Z') && !(key[i] >= '0' && key[i] <= '9') &&
		    key[i] != '_')
			return false;
	return size > 0;
}

/* Read the table at `index`. Returns NULL or what is wrong with it. */
static const char *read_fields(lua_State *L, int index, struct fields *fields)
{
	if (lua_type(L, index) != LUA_TTABLE)
		return "the fields are not a table";
	lua_pushnil(L);
	while (lua_next(L, index)) {
		const char *key, *value;
		size_t key_size, value_size;

		/* Not a number: lua_tolstring() would change it and lose lua_next(). */
		if (lua_type(L, -2) != LUA_TSTRING)
			return "a field's name is not a string";
		key = lua_tolstring(L, -2, &key_size);
		if (!is_key(key, key_size))
			return "a field's name is not [A-Z0-9_]+";
		if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
			return "a field's value is neither string nor number";
		value = lua_tolstring(L, -1, &value_size);
		if (memchr(value, '\0', value_size))
			return "a field's value has a NUL byte";
		fields_add(fields, key, value);
		lua_settop(L, -2);
	}
	return NULL;
}

/* Give Lua a hook's answer: its code and a table, to which push_field() adds. */
static void push_answer(lua_State *L, int code)
{
	lua_settop(L, 0);
	lua_pushnumber(L, code);
	lua_createtable(L, 0, 2);
}

/* Add "KEY=VALUE" to the table on top of the stack. */
static void push_field(lua_State *L, const char *field)
{
	const char *equals = strchr(field, '=');

	if (!equals)
		return;
	lua_pushlstring(L, field, (size_t)(equals - field));
	lua_pushlstring(L, equals + 1, strlen(equals + 1));
	lua_settable(L, -3);
}

/* call(library, hook, fields) -> code, reply */
static int lua_call_hook(lua_State *L)
{
	const char *path = lua_tolstring(L, 1, NULL), *hook = lua_tolstring(L, 2, NULL);
	const struct slurmk8s_library *lib;
	struct fields fields = { .text = NULL };
	const char *wrong = path && hook ? read_fields(L, 3, &fields)
					 : "call(library, hook, fields)";
	char err[LINE_MAX_BYTES] = "";
	const char **vector;
	char **reply = NULL;
	int code;

	if (wrong) {
		fields_free(&fields);
		return push_error(L, SLURMK8S_EINVAL, "slurmk8s: %s", wrong);
	}
	close_inherited_pipes();
	code = slurmk8s_load(path, &lib, err, sizeof(err));
	if (code == SLURMK8S_OK) {
		vector = fields_vector(&fields, err, sizeof(err));
		code = vector ? lib->hook(hook, vector, &reply) : SLURMK8S_ENOMEM;
		free(vector);
		if (code < 0)
			snprintf(err, sizeof(err), "slurmk8s: %s: %s", hook, lib->strerror(code));
	}
	fields_free(&fields);
	if (code < 0)
		return push_error(L, code, "%s", err);

	push_answer(L, code);
	for (char **field = reply; field && *field; field++)
		push_field(L, *field);
	lib->free(reply);
	return 2;
}

/* exec(program, hook, fields, timeout_ms) -> code, reply */
static int lua_exec_hook(lua_State *L)
{
	const char *program = lua_tolstring(L, 1, NULL), *hook = lua_tolstring(L, 2, NULL);
	const char *timeout = lua_tolstring(L, 4, NULL);
	struct fields fields = { .text = NULL }, reply = { .text = NULL };
	const char *wrong = program && hook && timeout ? read_fields(L, 3, &fields)
						       : "exec(program, hook, fields, timeout_ms)";
	char err[LINE_MAX_BYTES] = "";
	double timeout_ms = timeout ? strtod(timeout, NULL) : 0;
	int code;

	if (!wrong && !(timeout_ms >= 1 && timeout_ms <= INT32_MAX))
		wrong = "the timeout is not a number of milliseconds";
	if (wrong) {
		fields_free(&fields);
		return push_error(L, SLURMK8S_EINVAL, "slurmk8s: %s", wrong);
	}
	code = hook_program(program, hook, &fields, (int)timeout_ms, &reply, err, sizeof(err));
	fields_free(&fields);
	if (code < 0) {
		fields_free(&reply);
		return push_error(L, code, "slurmk8s: %s", err);
	}
	push_answer(L, code);
	for (const char *f = NULL; (f = fields_next(&reply, f));)
		push_field(L, f);
	fields_free(&reply);
	return 2;
}

/* clock() -> milliseconds; Lua has only CPU time and whole seconds */
static int lua_clock(lua_State *L)
{
	lua_pushnumber(L, bounded_exec_now_ms());
	return 1;
}

/* mkdir(path) -> nothing; whether it is there, the next open() tells */
static int lua_mkdir(lua_State *L)
{
	const char *path = lua_tolstring(L, 1, NULL);

	if (path)
		(void)mkdir(path, 0700);
	return 0;
}

EXPORT int luaopen_slurmk8s(lua_State *L);

int luaopen_slurmk8s(lua_State *L)
{
	static const struct {
		const char *name;
		lua_CFunction function;
	} functions[] = {
		{ "call", lua_call_hook },
		{ "exec", lua_exec_hook },
		{ "clock", lua_clock },
		{ "mkdir", lua_mkdir },
	};
	const size_t count = sizeof(functions) / sizeof(*functions);

	lua_createtable(L, 0, (int)count);
	for (size_t i = 0; i < count; i++) {
		lua_pushcclosure(L, functions[i].function, 0);
		lua_setfield(L, -2, functions[i].name);
	}
	return 1;
}
