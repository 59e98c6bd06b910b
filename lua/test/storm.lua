-- storm.lua MODULE CHILD - one round of host: a script that is read again each time,
-- as Slurm does, and that several threads run at once.
local module = assert(package.loadlib(arg[1], "luaopen_slurmk8s"))()

local code, reply = module.exec(arg[2], "echo", { A = 1, B = "x" }, 10000)
assert(code == 0 and reply.A == "1" and reply.B == "x", tostring(reply.MESSAGE))

code, reply = module.exec(arg[2], "inspect", {}, 10000)
assert(code == 0, tostring(reply.MESSAGE))
assert(reply.BLOCKED == "0000000000000000" and reply.IGNORED == "0", "signals")
assert(not reply.EXTRA_FD, "a descriptor was inherited")

code = module.exec(arg[2], "sleep", {}, 5)
assert(code == -6, "code " .. code)
