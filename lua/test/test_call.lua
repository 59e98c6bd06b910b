-- test_call.lua DIRECTORY MODULE LIBRARY LABEL - module.call() with the test
-- library of goffi/test. No fork without exec from here on: Go is loaded.
local directory, module_path, library, label = arg[1], arg[2], arg[3], arg[4]
package.path = directory .. "/?.lua"
local check = require("check")
check.prefix = label .. ": call: "
local module = assert(package.loadlib(module_path, "luaopen_slurmk8s"))()
local test, equal, contains = check.test, check.equal, check.contains

local EINVAL, EPANIC, ELOAD = -1, -3, -5

test("loading the module loads no Go", function()
	local _, threads = check.read("/proc/self/status"):match("(Threads:%s*(%d+))")
	equal(threads, "1", "threads")
	assert(not check.read("/proc/self/maps"):find("libslurmk8s", 1, true))
end)

test("a library that cannot be loaded is ELOAD with a reason", function()
	local code, reply = module.call("/nonexistent.so", "test_echo", {})
	equal(code, ELOAD, "code")
	contains(reply.MESSAGE, "slurmk8s: /nonexistent.so: No such file or directory")
	code, reply = module.call("libslurmk8s.so", "test_echo", {})
	equal(code, ELOAD, "code")
	contains(reply.MESSAGE, "not an absolute path")
end)

test("fields go in and come back", function()
	local fields = { A = "x=y", B = "two\nlines", NUMBER = 42, EMPTY = "" }
	local code, reply = module.call(library, "test_echo", fields)
	equal(code, 0, "code")
	fields.NUMBER = "42"
	check.same(reply, fields)
end)

test("codes are handed through", function()
	equal((module.call(library, "test_echo", { CODE = 1 })), 1, "code")
	equal((module.call(library, "test_echo", { CODE = 3 })), 3, "code")
end)

test("a panic is EPANIC and a message", function()
	local code, reply = module.call(library, "test_panic", {})
	equal(code, EPANIC, "code")
	contains(reply.MESSAGE, "slurmk8s: test_panic: internal error (Go panic)")
	equal((module.call(library, "test_echo", {})), 0, "code")
end)

test("arguments are checked", function()
	equal((module.call(library, "test_echo", { A = "x\0y" })), EINVAL, "NUL")
	equal((module.call(library, "test_echo", { a = "x" })), EINVAL, "key")
	equal((module.call(library, "test_echo")), EINVAL, "no table")
	equal((module.call()), EINVAL, "nothing")
end)

test("1000 calls leak no descriptor", function()
	local before, start = check.descriptors(), module.clock()
	for i = 1, 1000 do
		local code, reply = module.call(library, "test_echo", { A = i })
		equal(code, 0, "code")
		equal(tonumber(reply.A), i, "reply")
	end
	local took = module.clock() - start
	equal(check.descriptors(), before, "descriptors")
	return string.format("%.1f us a call", took)
end)

os.exit(check.failed == 0 and 0 or 1)
