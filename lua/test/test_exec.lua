-- test_exec.lua DIRECTORY MODULE CHILD LABEL - module.exec() with children that behave
-- and children that do not.
local directory, module_path, program, label = arg[1], arg[2], arg[3], arg[4]
package.path = directory .. "/?.lua"
local check = require("check")
check.prefix = label .. ": exec: "
local module = assert(package.loadlib(module_path, "luaopen_slurmk8s"))()
local test, equal, contains = check.test, check.equal, check.contains

local TIMED_OUT, CANNOT_RUN, BAD_END, EINVAL = -6, -7, -8, -1
local TIMEOUT_MS, LATE_MS = 200, 5000 -- late: what a busy test machine may add

-- exec() that must end, with no child or descriptor left, TIMEOUT_MS + LATE_MS later.
local function exec(behaviour, fields, timeout_ms)
	timeout_ms = timeout_ms or TIMEOUT_MS
	local before, start = check.descriptors(), module.clock()
	local code, reply = module.exec(program, behaviour, fields or {}, timeout_ms)
	local took = module.clock() - start
	equal(check.descriptors(), before, "descriptors")
	-- A killed child that a busy machine has not let die yet is reaped by a later call.
	for _ = 1, 50 do
		if check.children() == "" then
			break
		end
		os.execute("sleep 0.1")
		module.exec(program, "echo", {}, 5000)
	end
	equal(check.children(), "", "children")
	assert(took < timeout_ms + LATE_MS, string.format("took %.0f ms", took))
	return code, reply, took
end

local function times_out(behaviour, fields)
	local code, reply, took = exec(behaviour, fields)
	equal(code, TIMED_OUT, "code")
	contains(reply.MESSAGE, "timed out after 200 ms")
	assert(took >= TIMEOUT_MS, "too early: " .. took)
	return string.format("%.1f ms after the deadline", took - TIMEOUT_MS)
end

test("fields go in and come back", function()
	local fields = { A = "x=y", B = "two\nlines", NUMBER = 42, EMPTY = "", _0 = "\1\255" }
	local code, reply = exec("echo", fields, 5000)
	equal(code, 0, "code")
	fields.NUMBER, fields.DEADLINE_MS = "42", "4800"
	check.same(reply, fields)
end)

test("a request needs no field", function()
	local code, reply = exec("echo", {}, 5000)
	equal(code, 0, "code")
	check.same(reply, { DEADLINE_MS = "4800" })
end)

test("60 KiB go both ways", function()
	local code, reply = exec("echo", { BIG = ("x"):rep(60000) }, 5000)
	equal(code, 0, "code")
	equal(#reply.BIG, 60000, "size")
end)

test("exit status and MESSAGE are the answer", function()
	local code, reply = exec("refuse", {}, 5000)
	equal(code, 2, "code")
	equal(reply.MESSAGE, "no such file system")
	equal((exec("busy", {}, 5000)), 1, "code")
end)

test("a reply that was cut is no answer", function()
	local code, reply = exec("unterminated", {}, 5000)
	equal(code, BAD_END, "code")
	contains(reply.MESSAGE, "its reply is not a list of fields")
end)

test("the program gets a little less than its deadline", function()
	for timeout_ms, deadline_ms in pairs({ [10000] = "9800", [5000.0] = "4800", [300] = "150" }) do
		local code, reply = exec("echo", {}, timeout_ms)
		equal(code == TIMED_OUT and timeout_ms < 1000 and deadline_ms or reply.DEADLINE_MS, deadline_ms, "DEADLINE_MS")
	end
end)

test("the child has a clean environment, descriptors, signals and group", function()
	local code, reply = exec("inspect", {}, 5000)
	equal(code, 0, "code")
	check.same(reply, {
		ENV_PATH = "/usr/bin:/bin", ENV_LANG = "C",
		BLOCKED = "0000000000000000", IGNORED = "0", LEADER = "1",
	})
end)

test("a child that sleeps is killed at the deadline", function() return times_out("sleep") end)
test("a child that ignores SIGTERM is killed", function() return times_out("ignore TERM") end)
test("a child that is stopped is killed", function() return times_out("stop") end)
test("a child that closes stdout and goes on is killed", function() return times_out("close stdout") end)
test("a child that closes 0, 1 and 2 and goes on is killed", function() return times_out("close all") end)
test("a child that never reads a large request is killed", function()
	return times_out("never read", { BIG = ("x"):rep(1000000) })
end)

test("a child that closes stdin does not raise SIGPIPE", function()
	local code, reply = exec("close stdin", { BIG = ("x"):rep(1000000) }, 5000)
	equal(code, 0, "code")
	equal(reply.MESSAGE, "did not read")
end)

-- Does a process of that pid, other than a zombie, exist?
local function alive(pid)
	local file = io.open("/proc/" .. pid .. "/stat")
	local state = file and file:read("*a"):match("%) (%a)")
	if file then
		file:close()
	end
	return state ~= nil and state ~= "Z"
end

test("a grandchild that keeps the pipe delays nothing and is killed", function()
	local pidfile = os.tmpname()
	local code, reply, took = exec("grandchild", { PIDFILE = pidfile }, 5000)
	equal(code, 0, "code")
	equal(reply.MESSAGE, "parent is done")
	assert(took < 1000, "took " .. took)
	local pid = check.read(pidfile):match("%d+")
	os.remove(pidfile)
	assert(pid, "the grandchild did not start")
	local deadline = module.clock() + 1000
	while alive(pid) and module.clock() < deadline do end
	assert(not alive(pid), "the grandchild lives")
	return string.format("%.1f ms", took)
end)

test("a grandchild in a session of its own delays nothing", function()
	local code, _, took = exec("session", {}, 5000)
	equal(code, 0, "code")
	assert(took < 1000, "took " .. took)
	return string.format("%.1f ms", took)
end)

for _, behaviour in ipairs({ "flood", "flood grandchild" }) do
	test("a reply without end is cut: " .. behaviour, function()
		local code, reply = exec(behaviour, {}, 5000)
		-- The grandchild races its parent's exit: what it wrote by then is no list either way.
		equal(code == 0 and BAD_END or code, BAD_END, "code")
		if behaviour == "flood" then
			contains(reply.MESSAGE, "too long")
		end
	end)
end

test("a crash is not an answer", function()
	local code, reply = exec("abort", {}, 5000)
	equal(code, BAD_END, "code")
	contains(reply.MESSAGE, "killed by signal 6")
	code, reply = exec("silent crash", {}, 5000)
	equal(code, BAD_END, "code")
	contains(reply.MESSAGE, "ended with status 2 and no message")
	code, reply = exec("no list", {}, 5000)
	equal(code, BAD_END, "code")
	contains(reply.MESSAGE, "its reply is not a list of fields")
	code, reply = exec("negative code", {}, 5000)
	equal(code, BAD_END, "code")
	equal(reply.MESSAGE, "slurmk8s: a Go panic")
end)

test("a program that cannot be run says why", function()
	for path, why in pairs({ ["/nonexistent"] = "No such file", ["/etc/passwd"] = "Permission denied",
		["/usr"] = "is not a regular file", ["slurmk8s"] = "not an absolute path" }) do
		local code, reply = module.exec(path, "echo", {}, 1000)
		equal(code, CANNOT_RUN, path)
		contains(reply.MESSAGE, why)
	end
	equal(check.children(), "", "children")
end)

-- SlurmUser runs it, who has the controller's credential.
test("a program that others may write is not run", function()
	local open = os.tmpname()
	os.execute(string.format("install -m 777 '%s' '%s'", program, open))
	local code, reply = module.exec(open, "echo", { A = 1 }, 1000)
	equal(code, CANNOT_RUN, "code")
	contains(reply.MESSAGE, "mode 0777 lets others write it; chmod go-w")
	os.execute(string.format("chmod 755 '%s'", open))
	equal((module.exec(open, "echo", { A = 1 }, 1000)), 0, "and otherwise it is")
	os.remove(open)
end)

test("arguments are checked", function()
	local function refused(why, ...)
		local code, reply = module.exec(...)
		equal(code, EINVAL, why)
		contains(reply.MESSAGE, why)
	end
	refused("has a NUL byte", program, "echo", { A = "x\0y" }, 1000)
	refused("[A-Z0-9_]+", program, "echo", { a = "x" }, 1000)
	refused("[A-Z0-9_]+", program, "echo", { ["A="] = "x" }, 1000)
	refused("[A-Z0-9_]+", program, "echo", { [""] = "x" }, 1000)
	refused("name is not a string", program, "echo", { "x" }, 1000)
	refused("neither string nor number", program, "echo", { A = true }, 1000)
	refused("not a table", program, "echo", "A=1", 1000)
	refused("milliseconds", program, "echo", {}, 0)
	refused("milliseconds", program, "echo", {}, "soon")
	refused("milliseconds", program, "echo", {}, 1e12)
	refused("exec(program, hook, fields, timeout_ms)", program, "echo", {})
	refused("exec(program, hook, fields, timeout_ms)")
end)

test("1000 calls leak no descriptor or child", function()
	local before, start = check.descriptors(), module.clock()
	for i = 1, 1000 do
		local code, reply = module.exec(program, "echo", { A = i }, 10000)
		equal(code, 0, "code")
		equal(tonumber(reply.A), i, "reply")
	end
	local took = module.clock() - start
	equal(check.descriptors(), before, "descriptors")
	equal(check.children(), "", "children")
	return string.format("%.2f ms a call", took / 1000)
end)

os.exit(check.failed == 0 and 0 or 1)
