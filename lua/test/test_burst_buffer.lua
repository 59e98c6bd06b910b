-- test_burst_buffer.lua DIRECTORY SCRIPT STATE_DIR LABEL - burst_buffer.lua with the
-- arguments of each Slurm version, a fake `slurm` and a fake C module.
local directory, script, state_dir, label = arg[1], arg[2], arg[3], arg[4]
package.path = directory .. "/?.lua"
local check, fake = require("check"), require("fake_slurm")
check.prefix = label .. ": "
local test, equal, contains = check.test, check.equal, check.contains
local returned = fake.returned

local SCRIPT = "/var/spool/slurmctld/hash.7/job.77/script"
local VERSIONS = { 2205, 2302, 2311, 2405, 2411, 2505, 2605 }
local INFO = fake.job_info({
	nodes = "c[1-3]", restart_cnt = 2, submit_time = 1760000000, user_name = "alice", job_id = 77,
})
local INFO_FIELDS = {
	NODES = "c[1-3]", RESTART_COUNT = "2", SUBMIT_TIME = "1760000000", USER_NAME = "alice",
}
-- What the Makefile put in; each request has it.
local PATH_FIELDS = {
	CONFIG = "/etc/slurm/slurmk8s.toml", STATE_DIR = state_dir, PROGRAM = "/usr/bin/slurmk8s",
}

-- The arguments of each hook: in 22.05, and from 23.02 on.
local job_2205, job_2302 = { "77", SCRIPT }, { "77", SCRIPT, "1000", "100", INFO }
local CHILD_HOOKS = {
	slurm_bb_job_teardown = { { "77", SCRIPT, "true" }, { "77", SCRIPT, "true", "1000", "100" } },
	slurm_bb_setup = {
		{ "77", "1000", "100", "(null)", "0", SCRIPT },
		{ "77", "1000", "100", "(null)", "0", SCRIPT, INFO },
	},
	slurm_bb_data_in = { job_2205, job_2302 },
	slurm_bb_test_data_in = { job_2205, job_2302 },
	slurm_bb_pre_run = { job_2205, job_2302 },
	slurm_bb_post_run = { job_2205, job_2302 },
	slurm_bb_data_out = { job_2205, job_2302 },
	slurm_bb_test_data_out = { job_2205, job_2302 },
}
local POLLED = { slurm_bb_test_data_in = true, slurm_bb_test_data_out = true }
local unpack = table.unpack or unpack -- luacheck: ignore (5.1 has the global one)

-- Call a hook as Slurm `version` does; the module answers `code`, `reply`.
local function call(version, hook, code, reply)
	fake.load(script, version, { code, reply })
	return returned(_G[hook](unpack(CHILD_HOOKS[hook][version < 2302 and 1 or 2])))
end

local function want_fields(version, hook)
	local fields = { JOB_ID = "77", SCRIPT = SCRIPT }
	for key, value in pairs(PATH_FIELDS) do
		fields[key] = value
	end
	if version >= 2302 or hook == "slurm_bb_setup" then
		fields.UID, fields.GID = "1000", "100"
	end
	if version >= 2405 then
		fields.BUSY = "true"
	end
	if hook == "slurm_bb_job_teardown" then
		fields.HURRY = "true"
	elseif version >= 2302 then
		for key, value in pairs(INFO_FIELDS) do
			fields[key] = value
		end
	end
	return fields
end

test("reading the file does nothing but define", function()
	local names = { "execute", "getenv", "remove", "tmpname" }
	local saved, open, loadlib = {}, io.open, package.loadlib
	local function forbidden() error("called at top level") end
	for _, name in ipairs(names) do
		saved[name], os[name] = os[name], forbidden -- luacheck: ignore
	end
	io.open, package.loadlib = forbidden, forbidden -- luacheck: ignore
	slurm = nil -- luacheck: ignore
	local ok, why = pcall(dofile, script)
	for _, name in ipairs(names) do
		os[name] = saved[name] -- luacheck: ignore
	end
	io.open, package.loadlib = open, loadlib -- luacheck: ignore
	assert(ok, why)
end)

test("all 13 hooks are there, and nothing else is global", function()
	local before = {}
	for key in pairs(_G) do
		before[key] = true
	end
	fake.load(script, 2605, { 0, {} })
	local hooks = 0
	for key in pairs(_G) do
		if tostring(key):find("^slurm_bb_") then
			hooks = hooks + 1
		else
			assert(before[key] or key == "slurm", "global " .. tostring(key))
		end
	end
	equal(hooks, 13, "hooks")
end)

test("paths were put in", function()
	assert(not check.read(script):find("@%u+@"), "a placeholder is left")
end)

for _, version in ipairs(VERSIONS) do
	test("Slurm " .. version .. ": arguments become fields, in each hook of a child process", function()
		for hook in pairs(CHILD_HOOKS) do
			equal((call(version, hook, 0, {})), 0, hook)
			equal(fake.called.kind, "call", hook)
			equal(fake.called.target, "/usr/lib/slurmk8s/libslurmk8s.so", hook)
			equal(fake.called.hook, hook)
			check.same(fake.called.fields, want_fields(version, hook))
			equal(#fake.lines, 1, "log lines")
		end
	end)
end

test("codes become what Slurm may be answered", function()
	for hook in pairs(CHILD_HOOKS) do
		local code, text = call(2405, hook, 0, { MESSAGE = "fine" })
		equal(code, 0, hook)
		equal(text, nil, hook)
		code, text = call(2405, hook, 1, {})
		equal(code, POLLED[hook] and 0 or -1, hook)
		if POLLED[hook] then
			equal(text, "BUSY", hook)
		end
		for _, failure in ipairs({ 2, 3, -1, -2, -3, -4, -5, 99 }) do
			code, text = call(2405, hook, failure, { MESSAGE = "bb77: no space, ask for less" })
			equal(code, -1, hook)
			equal(text, "bb77: no space, ask for less", hook)
			code, text = call(2405, hook, failure, {})
			equal(code, -1, hook)
			contains(text, hook)
		end
	end
end)

test("a module that cannot be loaded is an error with its path", function()
	for hook, arguments in pairs(CHILD_HOOKS) do
		fake.load(script, 2605, nil)
		local code, text = returned(_G[hook](unpack(arguments[2])))
		equal(code, -1, hook)
		contains(text, "/usr/lib/slurmk8s/slurmk8s_lua.so: cannot open")
		contains(fake.lines[1], "error: slurmk8s: " .. hook)
	end
end)

test("the log has one line a hook, with job and time, whatever the message", function()
	call(2405, "slurm_bb_setup", 0, {})
	equal(#fake.lines, 1, "lines")
	contains(fake.lines[1], "info: slurmk8s: slurm_bb_setup JobId=77: done (7.0 ms)")
	call(2405, "slurm_bb_setup", 3, { MESSAGE = "100% %s of\nit" })
	equal(#fake.lines, 1, "lines")
	contains(fake.lines[1], "error: slurmk8s: slurm_bb_setup JobId=77: failed: 100% %s of it (7.0 ms)")
end)

test("job_info: absent values are left out, doubles are written as integers", function()
	fake.load(script, 2605, { 0, {} })
	returned(slurm_bb_pre_run("77", SCRIPT, "1000", "100", fake.job_info({
		restart_cnt = 0.0, submit_time = 1.76e9, nodes = "",
	})))
	local fields = fake.called.fields
	equal(fields.RESTART_COUNT, "0")
	equal(fields.SUBMIT_TIME, "1760000000")
	equal(fields.NODES, nil)
	equal(fields.USER_NAME, nil)
end)

test("job_process: one bounded run of the program, no library", function()
	for _, version in ipairs(VERSIONS) do
		fake.load(script, version, { 0, {} })
		local arguments = version < 2302 and { SCRIPT } or { SCRIPT, "1000", "100", INFO }
		local code, text = returned(slurm_bb_job_process(unpack(arguments)))
		equal(code, 0)
		equal(text, nil)
		equal(fake.calls, 1, "calls")
		equal(fake.called.kind, "exec")
		equal(fake.called.target, "/usr/bin/slurmk8s")
		equal(fake.called.hook, "slurm_bb_job_process")
		equal(fake.called.timeout_ms, 2000)
		local want = want_fields(version, "slurm_bb_job_process")
		check.same(fake.called.fields, want)
	end
end)

test("job_process: without job.ID in the path, job_info has the job's id", function()
	fake.load(script, 2605, { 0, {} })
	returned(slurm_bb_job_process("/tmp/script", "1000", "100", INFO))
	equal(fake.called.fields.JOB_ID, "77")
	returned(slurm_bb_job_process("/tmp/script"))
	equal(fake.called.fields.JOB_ID, nil)
end)

test("job_process: a script that was accepted under this id is not judged again, a changed one is", function()
	local path = state_dir .. "/job.77/script"
	local text = "#!/bin/sh\n#DW x\n"
	check.write(path, text)
	for mark, calls in pairs({ ["77\n" .. text] = 0, ["77\n#!/bin/sh\n#DW y\n"] = 1, ["141\n" .. text] = 1, [""] = 1 }) do
		check.write(state_dir .. "/judged.13", mark)
		fake.load(script, 2205, { 0, {} })
		local code, why = returned(slurm_bb_job_process(path))
		equal(code, 0)
		equal(why, nil)
		equal(fake.calls, calls, "calls")
	end
	os.remove(state_dir .. "/judged.13")
	fake.load(script, 2205, { 0, {} })
	returned(slurm_bb_job_process(path))
	equal(fake.calls, 1, "calls without a file")
	os.remove(path)
end)

test("job_process: a refusal or failure is the user's message", function()
	for _, failure in ipairs({ 2, 3 }) do
		fake.load(script, 2205, { failure, { MESSAGE = "line 3: unknown #DW command" } })
		local code, text = returned(slurm_bb_job_process(SCRIPT))
		equal(code, -1)
		equal(text, "line 3: unknown #DW command")
	end
end)

test("job_process: a check that timed out is no refusal, but logged", function()
	fake.load(script, 2605, { -6, { MESSAGE = "slurmk8s: /usr/bin/slurmk8s: timed out after 2000 ms" } })
	local code, text = returned(slurm_bb_job_process(SCRIPT, "1000", "100", INFO))
	equal(code, 0)
	equal(text, nil)
	contains(fake.lines[1], "error: slurmk8s: slurm_bb_job_process JobId=77: timed out")
end)

test("job_process: a program that cannot run or crashed is an error for user and administrator", function()
	for _, failure in ipairs({ 1, -1, -7, -8 }) do
		fake.load(script, 2605, { failure, { MESSAGE = "slurmk8s: /usr/bin/slurmk8s: cannot be run: No such file" } })
		local code, text = returned(slurm_bb_job_process(SCRIPT, "1000", "100", INFO))
		equal(code, -1)
		equal(text, "slurmk8s: /usr/bin/slurmk8s: cannot be run: No such file; "
			.. "please tell the administrators of this cluster")
		equal(#fake.lines, 1, "log lines")
	end
	fake.load(script, 2605, nil)
	local code, text = returned(slurm_bb_job_process(SCRIPT, "1000", "100", INFO))
	equal(code, -1)
	contains(text, "slurmk8s_lua.so: cannot open shared object file; please tell the administrators")
end)

-- bbstat: words of the user, after uid and gid in 23.02.
local function status(version, result, ...)
	fake.load(script, version, result)
	return returned(slurm_bb_get_status(...))
end

test("get_status: 22.05 gives only words, and a user cannot pass them off as uid and gid", function()
	local code, text = status(2205, { 0, { TEXT = "desiredState=DataIn\nmore=1" } }, "0", "0", "workflow", "77")
	equal(code, 0)
	equal(text, "desiredState=DataIn\nmore=1\n")
	check.same(fake.called.fields, { CONFIG = PATH_FIELDS.CONFIG, STATE_DIR = state_dir,
		PROGRAM = PATH_FIELDS.PROGRAM, DEADLINE_MS = "900",
		ARG1 = "0", ARG2 = "0", ARG3 = "workflow", ARG4 = "77" })
end)

test("get_status: from 23.02 on uid and gid come first", function()
	for _, version in ipairs({ 2302, 2311, 2405, 2605 }) do
		local code, text = status(version, { 0, { TEXT = "x=1\n" } }, "1000", "100", "workflow", "77")
		equal(code, 0)
		equal(text, "x=1\n")
		local fields = fake.called.fields
		equal(fields.UID, "1000")
		equal(fields.GID, "100")
		equal(fields.ARG1, "workflow")
		equal(fields.ARG2, "77")
		equal(fields.ARG3, nil)
	end
	equal((status(2605, { 0, {} }, "1000", "100")), 0, "no words")
	equal(fake.called.fields.ARG1, nil)
end)

test("get_status: a failure is told, in the words that scripts look for", function()
	for _, failure in ipairs({ 1, 2, 3, -3, -5 }) do
		local code, text = status(2605, { failure, { MESSAGE = "job 77 is not yours" } }, "1000", "100", "workflow", "77")
		equal(code, 0)
		equal(text, "Error running slurm_bb_get_status: job 77 is not yours\n")
	end
end)

-- As _start_stage_in reads it by strtol(): up to 23.11 the empty text of a reply without one
-- is an error in slurmctld's log, and a number above the request changes the job's size.
test("real_size: a number that changes nothing, without the library", function()
	for _, version in ipairs(VERSIONS) do
		fake.load(script, version, { 0, {} })
		local code, text = returned(slurm_bb_real_size("77", "1000", "100", INFO))
		equal(code, 0)
		equal(text, "0", "size for " .. version)
		equal(fake.calls, 0, "calls")
	end
end)

test("real_size: what the storage takes, where setup has left that", function()
	fake.load(script, 2605, { 0, {} })
	for text, want in pairs({ ["110000000000\n"] = "110000000000", [""] = "0", ["nonsense"] = "0", ["-1"] = "0" }) do
		check.write(state_dir .. "/job.77/size", text)
		local code, size = returned(slurm_bb_real_size("77", "1000", "100", INFO))
		equal(code, 0)
		equal(size, want)
	end
	os.remove(state_dir .. "/job.77/size")
end)

test("pools: no file gives the pool without an end, an empty one gives none", function()
	fake.load(script, 2605, { 0, {} })
	os.remove(state_dir .. "/pools.json")
	local code, text = returned(slurm_bb_pools())
	equal(code, 0)
	equal(text, '{"pools":[{"id":"dws","quantity":1152921504606846976,"granularity":1,"free":1152921504606846976}]}')
	check.write(state_dir .. "/pools.json", " \n")
	code, text = returned(slurm_bb_pools())
	os.remove(state_dir .. "/pools.json")
	equal(code, 0)
	equal(text, nil)
end)

test("pools: the file's content is the answer", function()
	local json = '{"pools":[{"id":"lustre","quantity":10,"granularity":1,"free":5}]}\n'
	check.write(state_dir .. "/pools.json", json)
	fake.load(script, 2605, { 0, {} })
	local code, text = returned(slurm_bb_pools())
	os.remove(state_dir .. "/pools.json")
	equal(code, 0)
	equal(text, json)
	equal(fake.calls, 0, "calls")
end)

local PATHFILE = state_dir .. "/path"

-- Call slurm_bb_paths for job 77 with that env file; returns code, message, pathfile's text.
local function paths(env)
	os.remove(state_dir .. "/job.77/env")
	check.write(PATHFILE, "")
	if env then
		check.write(state_dir .. "/job.77/env", env)
	end
	fake.load(script, 2605, { 0, {} })
	local code, text = returned(slurm_bb_paths("77", SCRIPT, PATHFILE, "1000", "100", INFO))
	equal(fake.calls, 0, "calls")
	return code, text, check.read(PATHFILE)
end

test("paths: without an env file nothing is written and the job runs", function()
	local code, text, written = paths(nil)
	equal(code, 0)
	equal(text, nil)
	equal(written, "")
	equal(#fake.lines, 0, "log lines")
	fake.load(script, 2205, nil) -- nor does it need the module
	equal((returned(slurm_bb_paths("78", SCRIPT, PATHFILE))), 0)
end)

test("paths: valid lines are appended, others counted in the log", function()
	local code, text, written = paths("DW_JOB_x=/mnt/a=b\n_A1=\n1X=no\nA B=no\nno equals\n"
		.. "TAB=a\tb\nCR=a\r\nNUL=a\0b\nLAST=1")
	equal(code, 0)
	equal(text, nil)
	equal(written, "DW_JOB_x=/mnt/a=b\n_A1=\nTAB=a\tb\nLAST=1\n")
	contains(fake.lines[1], "error: slurmk8s: slurm_bb_paths JobId=77: 4 variables, 5 invalid lines ignored")
	paths("A=1\n")
	contains(fake.lines[1], "info: slurmk8s: slurm_bb_paths JobId=77: 1 variables, 0 invalid lines ignored")
end)

test("paths: a pathfile that cannot be written is an error", function()
	paths("A=1\n")
	local code, text = returned(slurm_bb_paths("77", SCRIPT, "/nonexistent/deeper/path"))
	equal(code, -1)
	contains(text, "slurmk8s: cannot hand over the job's variables: /nonexistent/deeper/path: No such file")
	code, text = returned(slurm_bb_paths("77", SCRIPT, "/dev/full"))
	equal(code, -1)
	contains(text, "/dev/full: No space left on device")
end)

test("paths: the directory of an array's task, which Slurm does not make, is made", function()
	local made = state_dir .. "/job.task"
	os.execute("rm -rf " .. made)
	paths("A=1\n")
	local code, text = returned(slurm_bb_paths("77", SCRIPT, made .. "/path"))
	equal(code, 0)
	equal(text, nil)
	equal(check.read(made .. "/path"), "A=1\n")
	os.execute("rm -rf " .. made)
end)

test("paths: an env file that cannot be read is an error", function()
	os.remove(state_dir .. "/job.77/env")
	local code, text = returned(slurm_bb_paths("dir", SCRIPT, PATHFILE)) -- job.dir/env is a directory
	equal(code, -1)
	contains(text, "cannot read the job's variables: " .. state_dir .. "/job.dir/env: Is a directory")
end)

test("a site's settings count, and an unknown one is an error", function()
	rawset(_G, "slurmk8s_settings", { submit_timeout_ms = 700 })
	fake.load(script, 2605, { 0, {} })
	slurm_bb_job_process(SCRIPT, "1000", "100", INFO)
	equal(fake.called.timeout_ms, 700)
	rawset(_G, "slurmk8s_settings", { submit_timeout = 700 })
	local loaded, why = pcall(fake.load, script, 2605, { 0, {} })
	rawset(_G, "slurmk8s_settings", nil)
	equal(loaded, false)
	contains(why, "slurmk8s_settings: there is no setting submit_timeout")
end)

os.exit(check.failed == 0 and 0 or 1)
