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
 * negative one reply.MESSAGE says why.
 *
 * Loading this module loads no Go; call() does, and so belongs only in a hook
 * that Slurm runs in a child process.
 *
 * When Lua runs out of memory it jumps out of here, and a request or reply of at
 * most 64 KiB leaks; no descriptor or child is open at that point.
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
#include "../goffi/shim/loader.h"
#include "../goffi/slurmk8s.h"
#include "inherited_pipes.h"

#define REPLY_MAX (64 * 1024)
#define LINE_MAX_BYTES 1024

#define EXPORT __attribute__((visibility("default")))

/* "KEY=VALUE\0KEY=VALUE\0" */
struct fields {
	char *text;
	size_t size, count;
};

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

static bool append(struct fields *fields, const char *key, size_t key_size,
		   const char *value, size_t value_size)
{
	size_t size = key_size + 1 + value_size + 1;
	char *text = realloc(fields->text, fields->size + size);

	if (!text)
		return false;
	fields->text = text;
	text += fields->size;
	memcpy(text, key, key_size);
	text[key_size] = '=';
	memcpy(text + key_size + 1, value, value_size);
	text[size - 1] = '\0';
	fields->size += size;
	fields->count++;
	return true;
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
		if (!append(fields, key, key_size, value, value_size))
			return "out of memory";
		lua_settop(L, -2);
	}
	return NULL;
}

/* Add "KEY=VALUE" to the table on top of the stack; changes the text. */
static bool push_field(lua_State *L, char *field)
{
	char *equals = strchr(field, '=');

	if (!equals || !is_key(field, (size_t)(equals - field)))
		return false;
	*equals = '\0';
	lua_pushlstring(L, equals + 1, strlen(equals + 1));
	lua_setfield(L, -2, field);
	return true;
}

/* The strings of `fields` as a vector; free() it. */
static const char **make_vector(const struct fields *fields)
{
	const char **vector = calloc(fields->count + 1, sizeof(*vector));
	const char *text = fields->text;

	for (size_t i = 0; vector && i < fields->count; i++) {
		vector[i] = text;
		text += strlen(text) + 1;
	}
	return vector;
}

/* call(library, hook, fields) -> code, reply */
static int lua_call_hook(lua_State *L)
{
	const char *path = lua_tolstring(L, 1, NULL), *hook = lua_tolstring(L, 2, NULL);
	const struct slurmk8s_library *lib;
	struct fields fields = { 0 };
	const char *wrong = path && hook ? read_fields(L, 3, &fields)
					 : "call(library, hook, fields)";
	char err[LINE_MAX_BYTES] = "";
	const char **vector;
	char **reply = NULL;
	int code;

	if (wrong) {
		free(fields.text);
		return push_error(L, SLURMK8S_EINVAL, "slurmk8s: %s", wrong);
	}
	close_inherited_pipes();
	code = slurmk8s_load(path, &lib, err, sizeof(err));
	if (code == SLURMK8S_OK) {
		vector = make_vector(&fields);
		code = vector ? lib->hook(hook, vector, &reply) : SLURMK8S_ENOMEM;
		free(vector);
		if (code < 0)
			snprintf(err, sizeof(err), "slurmk8s: %s: %s", hook, lib->strerror(code));
	}
	free(fields.text);
	if (code < 0)
		return push_error(L, code, "%s", err);

	lua_settop(L, 0);
	lua_pushnumber(L, code);
	lua_createtable(L, 0, 2);
	for (char **field = reply; field && *field; field++)
		push_field(L, *field);
	lib->free(reply);
	return 2;
}

/* Push the NUL-separated fields of a program's reply. False: it is no such list. */
static bool push_reply(lua_State *L, char *reply, size_t size)
{
	bool valid = true;

	reply[size] = '\0'; /* the last field need not be terminated */
	lua_createtable(L, 0, 2);
	for (size_t at = 0; at < size && valid; ) {
		size_t length = strlen(reply + at);

		valid = push_field(L, reply + at);
		at += length + 1;
	}
	return valid;
}

/* Does the table on top of the stack have a MESSAGE? */
static bool has_message(lua_State *L)
{
	bool found = false;

	lua_pushnil(L);
	while (lua_next(L, -2)) {
		found = found || strcmp(lua_tolstring(L, -2, NULL), "MESSAGE") == 0;
		lua_settop(L, -2);
	}
	return found;
}

/* Give exec()'s result to Lua; `err` is set when code is negative. */
static int push_result(lua_State *L, const char *program, int code, char *reply,
		       size_t reply_size, const char *err)
{
	if (code < 0)
		return push_error(L, code, "slurmk8s: %s", err);
	lua_settop(L, 0);
	lua_pushnumber(L, code <= SLURMK8S_FAILED ? code : BOUNDED_EXEC_BAD_END);
	if (!push_reply(L, reply, reply_size))
		return push_error(L, BOUNDED_EXEC_BAD_END, "slurmk8s: %s: its reply is not a list of fields",
				  program);
	/* A program that crashed has a status too (Go's is 2), but no message. */
	if (code >= SLURMK8S_REFUSED && !has_message(L))
		return push_error(L, BOUNDED_EXEC_BAD_END, "slurmk8s: %s: ended with status %d and no message",
				  program, code);
	return 2;
}

/* exec(program, hook, fields, timeout_ms) -> code, reply */
static int lua_exec_hook(lua_State *L)
{
	const char *program = lua_tolstring(L, 1, NULL), *hook = lua_tolstring(L, 2, NULL);
	const char *timeout = lua_tolstring(L, 4, NULL);
	const char *argv[] = { program, "hook", "-0", hook, NULL };
	struct fields fields = { 0 };
	const char *wrong = program && hook && timeout ? read_fields(L, 3, &fields)
						       : "exec(program, hook, fields, timeout_ms)";
	char err[LINE_MAX_BYTES] = "";
	char *reply = NULL;
	size_t reply_size = 0;
	double timeout_ms = timeout ? strtod(timeout, NULL) : 0;
	int code, pushed;

	if (!wrong && !(timeout_ms >= 1 && timeout_ms <= INT32_MAX))
		wrong = "the timeout is not a number of milliseconds";
	if (!wrong && !(reply = malloc(REPLY_MAX + 1)))
		wrong = "out of memory";
	if (wrong) {
		free(reply);
		free(fields.text);
		return push_error(L, SLURMK8S_EINVAL, "slurmk8s: %s", wrong);
	}
	code = slurmk8s_check_program(program, err, sizeof(err)) == SLURMK8S_OK ?
		bounded_exec(argv, fields.text, fields.size, (int)timeout_ms, reply,
			     REPLY_MAX, &reply_size, err, sizeof(err)) : BOUNDED_EXEC_CANNOT_RUN;
	free(fields.text);
	pushed = push_result(L, program, code, reply, reply_size, err);
	free(reply);
	return pushed;
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
