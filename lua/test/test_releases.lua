-- test_releases.lua DIRECTORY SCRIPT STATE_DIR LABEL - burst_buffer.lua as each release of Slurm
-- calls it (releases.lua), with generated arguments.
local directory, script, state_dir, label = arg[1], arg[2], arg[3], arg[4]
package.path = directory .. "/?.lua"
local check, fake, releases = require("check"), require("fake_slurm"), require("releases")
check.prefix = label .. ": "
local unpack = table.unpack or unpack -- luacheck: ignore (5.1 has the global one)

local ROUNDS = 40

local random = require("random").below
local function one_of(...)
	return require("random").one_of({ ... })
end

local function id()
	return string.format("%d", one_of(1, 77, 67108863, 1 + random(4294967))) -- above 1<<26 in a federation
end

local function job_info(job_id)
	return {
		job_id = tonumber(job_id) / one_of(1, 1),
		nodes = one_of("", "c1", "c[1-3]", "rack[1-2]n[01-16]"),
		restart_cnt = one_of(0, 1, 7.0),
		submit_time = one_of(1760000000, 1.76e9),
		user_name = one_of("alice", "a.b", "DOM\\user", "%s"),
	}
end

-- A value of each argument; script and job_info are of the same job.
local function values_of(job_id)
	return {
		job_id = job_id,
		uid = one_of("0", "1000", "4294967294"),
		gid = one_of("0", "100", "4294967294"),
		pool = one_of("(null)", "dws"),
		size = one_of("0", "214748364800"),
		hurry = one_of("true", "false"),
		script = one_of("/var/spool/slurmctld/hash." .. job_id:sub(-1) .. "/job." .. job_id .. "/script",
			"/spool dir/hash.0/job." .. job_id .. "/script", "/proc/4711/fd/" .. random(100)),
		path = state_dir .. "/no such directory/path",
		word = one_of("workflow", "session", job_id, "", "%d%s", "a=b"),
		info = job_info(job_id),
	}
end

local FIELD_OF = { job_id = "JOB_ID", uid = "UID", gid = "GID", script = "SCRIPT", hurry = "HURRY" }
local INFO_OF = { nodes = "NODES", restart_cnt = "RESTART_COUNT", submit_time = "SUBMIT_TIME", user_name = "USER_NAME" }

-- The arguments of a call, and the fields that they are to become.
local function generate(hook, names, release)
	local values, arguments = values_of(id()), {}
	local fields = { CONFIG = "/etc/slurm/slurmk8s.toml", STATE_DIR = state_dir, PROGRAM = "/usr/bin/slurmk8s" }
	fields.BUSY = release >= 2405 and "true" or nil
	local words = 0
	for i, name in ipairs(names) do
		arguments[i] = values[name]
		if name == "job_info" then
			arguments[i] = fake.job_info(values.info)
			for key, field in pairs(INFO_OF) do
				local value = values.info[key]
				fields[field] = type(value) == "number" and string.format("%.0f", value) or value ~= "" and value or nil
			end
		elseif name == "word" then
			words = words + 1
			fields["ARG" .. words] = values.word
		elseif FIELD_OF[name] then
			fields[FIELD_OF[name]] = values[name]
		end
	end
	if hook == "slurm_bb_job_process" then
		fields.JOB_ID = values.script:match("/job%.(%d+)/script$") or release >= 2302 and values.job_id or nil
	elseif hook == "slurm_bb_get_status" then
		fields.DEADLINE_MS = "900"
	end
	return arguments, fields
end

-- Those that run neither program nor library.
local LOCAL = { slurm_bb_pools = true, slurm_bb_paths = true, slurm_bb_real_size = true }

local function no_print() error("printed: from 24.11 on that is a part of the answer") end

for _, release in ipairs(releases) do
	check.test("Slurm " .. release .. ": generated arguments become fields, and each answer is taken", function()
		local called = 0
		for _, hook in ipairs(releases.hooks) do
			local names = releases.arguments(hook, release)
			for round = 1, names and ROUNDS or 0 do
				local code = one_of(0, 0, 1, 2, 3, -6)
				local arguments, fields = generate(hook, names, release)
				fake.load(script, release, { code, one_of({}, { MESSAGE = "no space, %s" }, { TEXT = "status=Ready" }) })
				local print, write = print, io.write
				_G.print, io.write = no_print, no_print -- luacheck: ignore
				local answer = { n = 0 }
				local function take(...)
					answer = { n = select("#", ...), ... }
				end
				local ok, why = pcall(function() take(_G[hook](unpack(arguments, 1, #names))) end)
				_G.print, io.write = print, write -- luacheck: ignore
				local what = string.format("%s, round %d: ", hook, round)
				assert(ok, what .. tostring(why))
				local complaint = releases.complaint(hook, release, unpack(answer, 1, answer.n))
				assert(not complaint, what .. tostring(complaint))
				check.equal(fake.calls, LOCAL[hook] and 0 or 1, what .. "calls")
				if not LOCAL[hook] then
					check.equal(fake.called.hook, hook)
					check.equal(fake.called.kind, hook == "slurm_bb_job_process" and "exec" or "call", what .. "kind")
					check.same(fake.called.fields, fields)
				end
				called = called + 1
			end
		end
		check.equal(called, ROUNDS * (release < 2405 and 11 or 13), "calls")
	end)
end

check.test("an answer that a release does not take is noticed", function()
	for _, case in ipairs({
		{ "slurm_bb_setup", 2205, 1 }, { "slurm_bb_setup", 2205, -1 }, { "slurm_bb_setup", 2605, 0, 5 },
		{ "slurm_bb_setup", 2605, 0, "BUSY" }, { "slurm_bb_setup", 2605, 0, "a", "b" }, { "slurm_bb_real_size", 2311, 0 },
		{ "slurm_bb_real_size", 2605, 0, "" }, { "slurm_bb_real_size", 2605, 0, "7" }, { "slurm_bb_pools", 2605, 0, "[]" },
		{ "slurm_bb_get_status", 2605, 0 }, { "slurm_bb_pre_run" , 2605 },
	}) do
		assert(releases.complaint(unpack(case)), case[1] .. " " .. tostring(case[3]))
	end
	assert(not releases.complaint("slurm_bb_real_size", 2405, 0), "24.05 skips an empty size")
	assert(not releases.complaint("slurm_bb_test_data_in", 2405, 0, "BUSY"), "BUSY")
end)

os.exit(check.failed == 0 and 0 or 1)
