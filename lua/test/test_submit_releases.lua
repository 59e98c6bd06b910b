-- test_submit_releases.lua DIRECTORY SCRIPT STATE_DIR LABEL - job_submit.lua as each release of
-- Slurm calls it (releases.lua), with generated jobs.
local directory, script, label = arg[1], arg[2], arg[4]
package.path = directory .. "/?.lua"
local check, fake, releases, random = require("check"), require("fake_slurm"), require("releases"), require("random")
check.prefix = label .. ": job_submit: "
local below, one_of = random.below, random.one_of

local ROUNDS = 40
local OPTION = "_SLURM_SPANK_OPTION_slurmk8s_k8s_"
local VALUES = { register = { "a:1", "w-%a:1", "name=a,port=1,label=a=b", "" }, namespace = { "jobs" },
	nodes = { "lend", "%s" }, evict_timeout = { "9:fail" } }
local NO_POOL = "#DW jobdw type=xfs capacity=1GiB name=a"
local BELOW = "#!/bin/sh\nhostname\n#DW jobdw type=xfs name=a\n"

-- A value as lua_pushnumber gives it: in Lua 5.3 and later 1001.0.
local function number(n) return n / 1 end

-- The fields of a job that a release has; the request that is to come of its options, nil if
-- they are refused before; and whether Slurm is to be told of a directive that it does not read.
local function generate(release)
	local env, fields, request, count = {}, {}, {}, 0
	for name, values in pairs(VALUES) do
		if below(3) == 0 then
			local value = one_of(values)
			env[count], count = OPTION .. name .. "=" .. value, count + 1 -- the list begins with 0
			request["K8S_" .. name:upper()] = value
		end
	end
	env[count] = one_of({ "OTHER=1", "X", "=", OPTION .. "unknown=1" })
	fields.spank_job_env = below(5) > 0 and env or nil
	if not fields.spank_job_env then
		request = {}
	end
	fields.user_id, fields.group_id = number(one_of({ 0, 1001, 4294967293 })), number(one_of({ 0, 100 }))
	fields.array_inx = one_of({ false, "0-3", "0-3%1" }) or nil
	fields.account, fields.default_account = one_of({ false, "", "p1" }) or nil, one_of({ false, "p2" }) or nil
	fields.script = one_of({ false, "#!/bin/sh\n", "#!/bin/sh\n" .. NO_POOL .. "\nhostname\n", BELOW }) or nil
	fields.burst_buffer = one_of({ false, NO_POOL }) or nil
	fields.environment = fields.script and { HOME = "/", PATH = "/bin" } or nil
	local exported = not releases.export_none_loses(release) or below(4) > 0
	for i = 0, fields.environment and exported and fields.spank_job_env and count - 1 or -1 do
		local name, value = env[i]:match("^(.-)=(.*)$")
		fields.environment[name] = value
	end
	if release >= 2302 then
		fields.argv = { [0] = "job.sh", "a b" }
	end
	if next(request) then
		request.CONFIG, request.ARRAY = "/etc/slurm/slurmk8s.toml", fields.array_inx
		request.UID, request.GID = string.format("%.0f", fields.user_id), string.format("%.0f", fields.group_id)
		request.ACCOUNT = fields.account ~= "" and fields.account or fields.default_account
	end
	if fields.script and not exported and request.K8S_REGISTER then
		request = nil
	end
	return fields, request, fields.script == BELOW
end

for _, release in ipairs(releases) do
	check.test("Slurm " .. release .. ": generated jobs become requests, and each answer is taken", function()
		local asked = 0
		for round = 1, ROUNDS do
			local fields, request, misread = generate(release)
			local code = one_of({ 0, 0, 2, 3, -6 })
			slurm_job_submit, slurm_job_modify = nil, nil
			fake.load(script, release, { code, one_of({ {}, { MESSAGE = "no, %s" } }) })
			local what = string.format("round %d: ", round)
			local job, written = releases.job_desc(fields)
			local answer = { pcall(slurm_job_submit, job, {}, fields.user_id) }
			assert(answer[1], what .. tostring(answer[2]))
			check.equal(#answer, 2, what .. "values")
			local complaint = releases.submit_complaint(answer[2])
			assert(not complaint, what .. tostring(complaint))
			local wanted = request and next(request) ~= nil
			check.equal(fake.calls, wanted and 1 or 0, what .. "calls")
			if wanted then
				asked = asked + 1
				check.equal(fake.called.kind .. " " .. fake.called.hook, "exec k8s_submit", what)
				check.same(fake.called.fields, request)
			end
			local refusal = (not request or wanted and code == 2) and "ESLURM_ACCESS_DENIED"
				or misread and "ESLURM_INVALID_BURST_BUFFER_REQUEST" or nil
			-- 22.05 has no name for the second one.
			check.equal(answer[2], refusal and (slurm[refusal] or slurm.ERROR) or slurm.SUCCESS, what .. "answer")
			check.equal(refusal ~= nil, #fake.told > 0, what .. "the user is told why")
			for name, text in pairs(written) do
				check.contains(text, " pool=dws", what .. name)
			end
			check.equal(slurm_job_modify(job, {}, {}, 0), slurm.SUCCESS, what .. "modify")
		end
		assert(asked > ROUNDS / 4, "the options of " .. asked .. " jobs")
	end)
end

check.test("an answer to a submission that a release does not take is noticed", function()
	for _, answer in ipairs({ "0", true, {}, 0.5, 4294967296 }) do
		assert(releases.submit_complaint(answer), tostring(answer))
	end
	assert(releases.submit_complaint(nil), "nil")
	assert(not releases.submit_complaint(-1) and not releases.submit_complaint(2074))
end)

os.exit(check.failed == 0 and 0 or 1)
