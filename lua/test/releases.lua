-- releases.lua - what each release of Slurm passes to the hooks of burst_buffer.lua, and what it
-- takes from them. Facts: burst_buffer_lua.c of each.
local releases = { 2205, 2302, 2311, 2405, 2411, 2505, 2511, 2605 }

-- The arguments by the release from which on they are passed; before the first, the hook is not
-- called. All are strings but job_info.
local JOB, JOB_INFO = "job_id script", "job_id script uid gid job_info"
local STAGE = { [2205] = JOB, [2302] = JOB_INFO }
local ARGUMENTS = {
	slurm_bb_job_process = { [2205] = "script", [2302] = "script uid gid job_info" },
	slurm_bb_pools = { [2205] = "" },
	slurm_bb_setup = { [2205] = "job_id uid gid pool size script", [2302] = "job_id uid gid pool size script job_info" },
	slurm_bb_data_in = STAGE,
	slurm_bb_test_data_in = { [2405] = JOB_INFO },
	slurm_bb_real_size = { [2205] = "job_id", [2302] = "job_id uid gid job_info" },
	slurm_bb_paths = { [2205] = "job_id script path", [2302] = "job_id script path uid gid job_info" },
	slurm_bb_pre_run = STAGE,
	slurm_bb_post_run = STAGE,
	slurm_bb_data_out = STAGE,
	slurm_bb_test_data_out = { [2405] = JOB_INFO },
	slurm_bb_job_teardown = { [2205] = "job_id script hurry", [2302] = "job_id script hurry uid gid" },
	slurm_bb_get_status = { [2205] = "word word", [2302] = "uid gid word word" },
}

-- The names of the hooks, sorted.
releases.hooks = {}
for hook in pairs(ARGUMENTS) do
	table.insert(releases.hooks, hook)
end
table.sort(releases.hooks)

-- The names of a hook's arguments, or nil where the release does not call it.
function releases.arguments(hook, release)
	local since, words = 0, nil
	for from, text in pairs(ARGUMENTS[hook]) do
		if from <= release and from > since then
			since, words = from, text
		end
	end
	if not words then
		return nil
	end
	local names = {}
	for name in words:gmatch("%S+") do
		names[#names + 1] = name
	end
	return names
end

-- Why a release does not take what a hook returned, or nil.
function releases.complaint(hook, release, ...)
	local count, code, text = select("#", ...), ...
	if count > 2 or count == 2 and type(text) ~= "string" then
		return "a second value that is no string" -- _handle_lua_return
	elseif code ~= 0 and code ~= -1 then
		return "a code that is lost in an exit status"
	elseif code == -1 then
		return not text and "a failure without a reason" or nil
	elseif hook == "slurm_bb_real_size" and (text or release < 2405) and tonumber(text or "") ~= 0 then
		return "a size that is discarded, or changes the job's"
	elseif text == "BUSY" and not hook:find("^slurm_bb_test_data_") then
		return "BUSY, which is success here"
	elseif hook == "slurm_bb_pools" and text and not text:find('^{"pools":%[.*%]}%s*$') then
		return "pools that are not in the form of burst_buffer.conf(5)"
	elseif hook == "slurm_bb_get_status" and not text then
		return "an empty status"
	end
	return nil
end

-- A job_desc as job_submit.lua gets it in all these releases, and what is written into it. It
-- has any field, and a field that is not set is nil. spank_job_env is a list that begins with 0.
-- Numbers are doubles. environment is a batch job's only: to read that of another one is an
-- error in the log. From 23.02 on there is argv too. Facts: job_submit_lua.c of each.
function releases.job_desc(fields)
	local written = {}
	return setmetatable({}, {
		__index = function(_, key)
			assert(type(key) == "string", "key of job_desc")
			assert(key ~= "environment" or fields.environment, "environment of a job that has none")
			return fields[key]
		end,
		__newindex = function(_, key, value)
			assert(key == "script" or key == "burst_buffer", "nobody asked for another " .. tostring(key))
			assert(type(value) == "string", "value of " .. key)
			fields[key], written[key] = value, value
		end,
	}), written
end

-- Does sbatch --export=NONE leave a job's options out of its environment? They are in
-- spank_job_env nevertheless. Fact: CHANGELOG of 23.11.
function releases.export_none_loses(release)
	return release < 2311
end

-- Why Slurm does not take what slurm_job_submit returned, or nil. What is no number counts as
-- success in all releases, and a fraction is cut off.
function releases.submit_complaint(code)
	if type(code) ~= "number" then
		return "an answer that is no number: the job is accepted"
	elseif code % 1 ~= 0 or code < -1 or code > 9999 then
		return "an answer that is no error number of Slurm"
	end
	return nil
end

return releases
