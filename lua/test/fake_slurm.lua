-- fake_slurm.lua - what Slurm gives to burst_buffer.lua in each version, and a C
-- module that records what it is asked. Facts: burst_buffer_lua.c, slurm_lua.c.
local fake = {}

local unpack = table.unpack or unpack -- luacheck: ignore (5.1 has the global one)

-- The `slurm` table of a version such as 2205; its log lines go to fake.lines.
local function slurm_table(version)
	local slurm = {
		SUCCESS = 0, ERROR = -1, FAILURE = -1, NO_VAL = 4294967294,
		-- All that 22.05 has; from 23.02 on, every error number is there.
		ESLURM_ACCESS_DENIED = 2002, ESLURM_ACCOUNTING_POLICY = 2050, ESLURM_INVALID_ACCOUNT = 2045,
		ESLURM_INVALID_LICENSES = 2048, ESLURM_INVALID_NODE_COUNT = 2006,
		ESLURM_INVALID_TIME_LIMIT = 2051, ESLURM_JOB_MISSING_SIZE_SPECIFICATION = 2008,
		ESLURM_MISSING_TIME_LIMIT = 8000,
	}
	if version >= 2302 then
		slurm.ESLURM_INVALID_BURST_BUFFER_REQUEST = 2074
	end
	if version >= 2405 then
		slurm.SLURM_BB_BUSY = "BUSY"
	end
	for _, level in ipairs({ "error", "info", "verbose", "debug" }) do
		slurm["log_" .. level] = function(...) -- slurm.log(0, string.format(unpack({...})))
			fake.lines[#fake.lines + 1] = level .. ": " .. string.format(unpack({ ... }))
		end
	end
	slurm.log_user = function(...) -- in job_submit.lua only
		fake.told[#fake.told + 1] = string.format(unpack({ ... }))
	end
	return slurm
end

-- A job_info: an empty table with __index, which refuses keys that are no strings.
function fake.job_info(values)
	return setmetatable({}, { __index = function(_, key)
		assert(type(key) == "string", "job_info key")
		return values[key]
	end })
end

-- Load the script again as Slurm `version` would. `result` is what the module's
-- functions return: { code, reply }, or nil when the module cannot be loaded.
-- Afterwards fake.called is the module's last call, fake.lines the log, fake.told what the
-- user reads.
function fake.load(path, version, result)
	fake.called, fake.lines, fake.told, fake.calls = nil, {}, {}, 0
	slurm = slurm_table(version) -- luacheck: ignore
	local function record(kind)
		return function(target, hook, fields, timeout_ms)
			fake.calls = fake.calls + 1
			fake.called = { kind = kind, target = target, hook = hook, fields = fields, timeout_ms = timeout_ms }
			return result[1], result[2]
		end
	end
	package.loadlib = function(module, symbol) -- luacheck: ignore
		fake.module = module
		assert(symbol == "luaopen_slurmk8s")
		if not result then
			return nil, module .. ": cannot open shared object file", "open"
		end
		local now = 0
		return function()
			return { call = record("call"), exec = record("exec"), clock = function()
				now = now + 7
				return now
			end, mkdir = function(directory)
				os.execute("mkdir -m 700 '" .. directory .. "' 2>/dev/null")
			end }
		end
	end
	dofile(path)
end

-- What a hook returned, as Slurm takes it: 0 or -1, then nothing or a string.
function fake.returned(...)
	local count, code, text = select("#", ...), ...
	assert(count == 1 or count == 2, "returned " .. count .. " values")
	assert(code == 0 or code == -1, "returned " .. tostring(code))
	assert(count == 1 or type(text) == "string", "second value is a " .. type(text))
	assert(code == 0 or text, "an error without a message")
	return code, text
end

return fake
