-- test_lost_child.lua DIRECTORY MODULE CHILD LABEL - exec() in a process that
-- ignores SIGCHLD, so that the kernel reaps its children.
local directory, module_path, program, label = arg[1], arg[2], arg[3], arg[4]
package.path = directory .. "/?.lua"
local check = require("check")
check.prefix = label .. ": exec: "
local module = assert(package.loadlib(module_path, "luaopen_slurmk8s"))()

check.test("a child that somebody else reaped is an error, not a hang", function()
	local start = module.clock()
	local code, reply = module.exec(program, "echo", { A = 1 }, 5000)
	check.equal(code, -8, "code")
	check.contains(reply.MESSAGE, "its exit status was lost")
	code, reply = module.exec(program, "sleep", {}, 100)
	check.equal(code, -6, "code")
	check.contains(reply.MESSAGE, "timed out")
	local took = module.clock() - start
	assert(took < 1000, "took " .. took)
	check.equal(check.children(), "", "children")
end)

os.exit(check.failed == 0 and 0 or 1)
