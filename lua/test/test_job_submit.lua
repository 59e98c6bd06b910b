-- test_job_submit.lua TESTS SCRIPT STATE_DIR LUA: job_submit.lua as slurmctld runs it, against
-- stand-ins for Slurm and for the C module. How options are judged is the program's:
-- bridge/hook/job_submit_test.go.
local tests, script, state, lua = ...
local check = dofile(tests .. "/check.lua")
check.prefix = lua .. ": job_submit: "

local OPTION = "_SLURM_SPANK_OPTION_slurmk8s_"

local told, logged -- what the user and the log were told
local asked -- the requests that the program was given
local now, takes, answer -- the clock, how long the program takes, what it answers

-- Loads the script again as slurmctld would; `more` are fields of Slurm's table.
local function load(more)
	told, logged, asked = {}, {}, {}
	now, takes, answer = 0, 5, { 0, {} }
	slurm_job_submit, slurm_job_modify = nil, nil
	local fields = { SUCCESS = 0, ERROR = -1, ESLURM_ACCESS_DENIED = 2002,
		ESLURM_INVALID_BURST_BUFFER_REQUEST = 2074 }
	fields.log_user = function(format, ...) told[#told + 1] = string.format(format, ...) end
	fields.log_info = function(format, ...) logged[#logged + 1] = string.format(format, ...) end
	for key, value in pairs(more or {}) do
		fields[key] = value
	end
	slurm = fields -- luacheck: ignore
	package.loadlib = function(path, symbol) -- luacheck: ignore
		check.equal(path, "/usr/lib/slurmk8s/slurmk8s_lua.so", "module")
		check.equal(symbol, "luaopen_slurmk8s")
		return function()
			return {
				clock = function() return now end,
				exec = function(program, hook, request, timeout_ms)
					check.equal(program .. " " .. hook, "/usr/bin/slurmk8s k8s_submit")
					check.equal(timeout_ms, 2000, "timeout")
					asked[#asked + 1] = request
					now = now + takes
					return answer[1], answer[2]
				end,
			}
		end
	end
	return dofile(script)
end

-- A job_desc: like Slurm's it has any field, and fails for a key that is no text.
local function job(fields)
	fields.user_id, fields.group_id = fields.user_id or 1001, fields.group_id or 100
	return setmetatable({}, { __index = function(_, key)
		assert(type(key) == "string", "key of job_desc")
		return fields[key]
	end })
end

-- As Slurm gives it: a list that begins with 0.
local function spank(...)
	local env = {}
	for i, entry in ipairs({ ... }) do
		env[i - 1] = entry
	end
	return env
end

local function register(value)
	return spank(OPTION .. "k8s_register=" .. value)
end

local function submit(fields)
	return slurm_job_submit(job(fields), {}, fields.user_id or 1001)
end

local function accepted(fields)
	told = {}
	check.equal(submit(fields), 0, told[1] or "return value")
	check.equal(#told, 0, "lines to the user")
end

local function refused(fields, part, code)
	told = {}
	check.equal(submit(fields), code or 2002, "return value")
	check.equal(#told, 1, "lines to the user")
	check.contains(told[1], part)
	check.equal(told[1]:find("%c"), nil, "control characters in " .. told[1])
end

check.test("a job without the options costs nothing", function()
	load()
	package.loadlib = function() error("the module was loaded") end -- luacheck: ignore
	accepted({ spank_job_env = spank("_SLURM_SPANK_OPTION_pyxis_image=x", "OTHER=1"), script = "#!/bin/sh",
		environment = { HOME = "/" } })
	accepted({})
	check.equal(#logged, 0, "lines in the log")
end)

check.test("the program is told who submits and each option, from each source", function()
	local request = { CONFIG = "/etc/slurm/slurmk8s.toml", UID = "1001", GID = "100", K8S_REGISTER = "a:1" }
	for _, prefix in ipairs({ "", "SPANK_", "SLURM_SPANK_" }) do
		local name = prefix .. OPTION .. "k8s_register"
		for _, fields in ipairs({ { spank_job_env = spank("A=1", name .. "=a:1") }, { spank_job_env = { [name] = "a:1" } },
			{ script = "#!/bin/sh", environment = { [name] = "a:1" } } }) do
			load()
			accepted(fields)
			check.equal(#asked, 1, "calls")
			check.same(asked[1], request)
		end
	end
	load()
	accepted({ account = "p1", default_account = "p2", user_id = 4294967293, spank_job_env = spank(
		OPTION .. "k8s_namespace=n", OPTION .. "k8s_import=x", OPTION .. "k8s_nodes=lend",
		OPTION .. "k8s_evict_grace=5", OPTION .. "k8s_evict_timeout=9:fail") })
	check.same(asked[1], { CONFIG = request.CONFIG, UID = "4294967293", GID = "100", ACCOUNT = "p1", K8S_NAMESPACE = "n",
		K8S_IMPORT = "x", K8S_NODES = "lend", K8S_EVICT_GRACE = "5", K8S_EVICT_TIMEOUT = "9:fail" })
	accepted({ account = "", default_account = "p2", spank_job_env = register("a:1") })
	check.equal(asked[2].ACCOUNT, "p2")
	accepted({ array_inx = "0-3%1", spank_job_env = register("a:1") })
	check.equal(asked[3].ARRAY, "0-3%1")
end)

check.test("values that differ between the sources are all judged", function()
	load()
	local name = OPTION .. "k8s_register"
	accepted({
		spank_job_env = spank(name .. "=a:1", "SPANK_" .. name .. "=a:2"), script = "x", environment = { [name] = "a:1" },
	})
	local values = { asked[1].K8S_REGISTER, asked[1].K8S_REGISTER_2, asked[1].K8S_REGISTER_3 }
	table.sort(values)
	check.equal(table.concat(values, " "), "a:1 a:2")
	local several = {}
	for i = 1, 5 do
		several[i] = name .. "=a:800" .. i
	end
	refused({ spank_job_env = several }, "--k8s-register: given more than 4 times")
	check.equal(#asked, 1, "calls")
end)

check.test("a batch job whose script would not get an option is refused", function()
	load()
	local name = OPTION .. "k8s_register"
	local lost = "--k8s-register is missing in the job's environment, and its batch script would not get it: "
		.. "add _SLURM_SPANK_OPTION_slurmk8s_k8s_register there"
	for _, case in ipairs({
		{ { script = "x", environment = { HOME = "/" } }, lost },
		{ { script = "x", environment = { [OPTION .. "k8s_import"] = "db" } }, lost },
		{ { script = "x", environment = { [name] = "a:1" } } },
		{ { script = "x", environment = { ["SLURM_SPANK_" .. name] = "a:1" } } }, -- sbatch --export=NONE of 22.05
		{ {} }, -- srun, salloc
	}) do
		case[1].spank_job_env = spank(name .. "=a:1")
		if case[2] then
			refused(case[1], case[2])
		else
			accepted(case[1])
		end
	end
	accepted({ spank_job_env = spank(OPTION .. "k8s_nodes=keep"), script = "x", environment = {} })
	check.equal(#asked, 4, "calls")
end)

check.test("the environment of a job that is no batch job is not asked for", function()
	load()
	local desc = setmetatable({}, { __index = function(_, key)
		assert(key ~= "environment", "asked")
	end })
	check.equal(slurm_job_submit(desc, {}, 1001), 0)
	check.equal(#logged, 0, "lines in the log")
end)

check.test("a refusal is told to the user, and once to the log, in one line", function()
	load()
	answer = { 2, { MESSAGE = "service a: port 22 \27[2J%s%n\n is not allowed" } }
	refused({ user_id = 7, spank_job_env = register("a:22") }, "slurmk8s: service a: port 22  [2J%s%n  is not allowed")
	check.equal(#logged, 1, "lines in the log")
	check.contains(logged[1], "slurmk8s: refused a job of uid 7, submitted by uid 7: service a: port 22")
	check.equal(logged[1]:find("%c"), nil, "control characters")
	load({ ESLURM_ACCESS_DENIED = false })
	answer = { 2, { MESSAGE = "no" } }
	check.equal(submit({ spank_job_env = register("a:22") }), -1, "where Slurm has not the error")
end)

-- Slurm pushes a uid as a C double; Lua 5.3 and 5.4 write such a number as 1001.0.
check.test("a uid is written as an integer, whatever number Slurm makes of it", function()
	load()
	answer = { 2, { MESSAGE = "no" } }
	refused({ user_id = 1001 / 1, spank_job_env = register("a:22") }, "no")
	refused({ user_id = 4294967293 / 1, spank_job_env = register("a:22") }, "no")
	check.contains(logged[1], "refused a job of uid 1001, submitted by uid 1001: no")
	check.contains(logged[2], "refused a job of uid 4294967293, submitted by uid 4294967293: no")
	check.equal(slurm_job_submit(job({ spank_job_env = register("a:22") }), {}, nil), 2002)
	check.contains(logged[3], "submitted by uid unknown: no")
end)

check.test("what cannot be judged is accepted, and logged once", function()
	for _, case in ipairs({
		{ { 0, { MESSAGE = "checked on the node only: /etc/x: line 2" } },
			"slurmk8s: checked on the node only: /etc/x: line 2" },
		{ { 3, { MESSAGE = "called without UID" } }, "slurmk8s: a job is checked on the node only: called without UID" },
		{ { -7, { MESSAGE = "/usr/bin/slurmk8s: cannot be run" } }, "checked on the node only: /usr/bin/slurmk8s" },
	}) do
		load()
		answer = case[1]
		for _ = 1, 3 do
			accepted({ spank_job_env = register("a:22") })
		end
		check.equal(#asked, 3, "calls")
		check.equal(#logged, 1, "lines in the log")
		check.contains(logged[1], case[2])
	end
	load()
	package.loadlib = function() return nil, "no such file", "open" end -- luacheck: ignore
	accepted({ spank_job_env = register("a:22") })
	check.contains(logged[1], "checked on the node only: cannot load its Lua module: no such file")
end)

check.test("a program that hangs costs one deadline, not one for each job", function()
	load()
	takes, answer = 2001, { -6, { MESSAGE = "slurmk8s: /usr/bin/slurmk8s: timed out after 2000 ms" } }
	for _ = 1, 100 do
		accepted({ spank_job_env = register("a:22") })
	end
	check.equal(#asked, 1, "calls")
	check.equal(#logged, 2, "lines in the log")
	check.contains(logged[1], "a check held slurmctld for 2001 ms: jobs are checked on the node only for the next 30 s")
	check.contains(logged[2], "timed out")
	now, takes, answer = now + 30000, 5, { 2, { MESSAGE = "no" } }
	refused({ spank_job_env = register("a:22") }, "no")
	refused({ spank_job_env = register("a:22") }, "no")
end)

check.test("a slow refusal is a refusal", function()
	load()
	takes, answer = 1500, { 2, { MESSAGE = "no" } }
	refused({ spank_job_env = register("a:22") }, "no")
	accepted({ spank_job_env = register("a:22") })
end)

check.test("nothing gets out as an error", function()
	load()
	for _, desc in ipairs({ {}, { spank_job_env = "text" }, { spank_job_env = { [0] = true } },
		{ spank_job_env = { [0] = {} } }, { script = "x", environment = 5 },
		{ spank_job_env = { [OPTION .. "k8s_register"] = 5 } } }) do
		check.equal(slurm_job_submit(desc, {}, 1001), 0)
	end
	check.equal(slurm_job_submit(setmetatable({}, { __index = function() error("no") end }), {}, 1), 0)
	check.equal(slurm_job_submit(nil, nil, nil), 0)
	assert(#logged >= 1, "nothing in the log")
	check.equal(#asked, 0, "calls")
	check.equal(slurm_job_modify(), 0)
end)

check.test("a site's own job_submit.lua keeps its functions and calls check()", function()
	load()
	local mine = function() return 42 end
	slurm_job_submit, slurm_job_modify = mine, mine
	local module = dofile(script)
	check.equal(slurm_job_submit, mine)
	check.equal(slurm_job_modify, mine)
	module.config = "/etc/other.toml"
	answer = { 2, { MESSAGE = "no" } }
	check.equal(module.check(job({ spank_job_env = register("a:22") }), 1001), 2002)
	check.equal(asked[1].CONFIG, "/etc/other.toml")
end)

-- The script of a job after its submission, and the lines that its user was told.
local function script_of(text, field)
	told = {}
	local desc = job({ [field or "script"] = text })
	check.equal(slurm_job_submit(desc, {}, 1001), 0, told[1] or "return value")
	return desc[field or "script"]
end

local function pools_are(text)
	os.remove(state .. "/pools.json")
	if text then
		check.write(state .. "/pools.json", text)
	end
end

check.test("a directive with a capacity gets a pool that Slurm knows", function()
	load()
	pools_are(nil)
	for _, case in ipairs({
		{ "#DW jobdw type=xfs capacity=200GB name=s1", "#DW jobdw type=xfs capacity=200GB pool=dws name=s1" },
		{ "#DW jobdw type=xfs name=s1 capacity=1.5TB", "#DW jobdw type=xfs name=s1 capacity=1.5TB pool=dws" },
		{ "#DW jobdw capacity=7TiB pool=sm_pool name=x", "#DW jobdw capacity=7TiB pool=dws name=x" },
		{ "#DW jobdw capacity=7TiB name=x pool=wlm_pool", "#DW jobdw capacity=7TiB name=x pool=dws" },
		{ "#DW jobdw capacity=7TiB pool= name=x", "#DW jobdw capacity=7TiB pool=dws name=x" },
		-- For Slurm the name of a pool ends at a space.
		{ "#DW jobdw capacity=7TiB pool=dws\tname=x", "#DW jobdw capacity=7TiB pool=dws \tname=x" },
		{ "#DW jobdw capacity=7TiB\tname=x", "#DW jobdw capacity=7TiB pool=dws \tname=x" },
		{ "#DW jobdw capacity=7TiB\r", "#DW jobdw capacity=7TiB pool=dws \r" },
		-- Continued lines are one directive.
		{ "#DW jobdw \\\n#DW capacity=5GB \\\n#DW name=x", "#DW jobdw \\\n#DW capacity=5GB pool=dws \\\n#DW name=x" },
		{ "#DW jobdw capacity=5GB\\\n\n#DW name=x pool=y", "#DW jobdw capacity=5GB\\\n\n#DW name=x pool=dws" },
		{ "#DW jobdw capacity=5GB\\\n#DW name=x", "#DW jobdw capacity=5GB pool=dws\\\n#DW name=x" },
		{ "#DW create_persistent capacity=1GB name=p\n# c\n\n#DW jobdw capacity=2GB pool=x name=s",
			"#DW create_persistent capacity=1GB pool=dws name=p\n# c\n\n#DW jobdw capacity=2GB pool=dws name=s" },
	}) do
		check.equal(script_of("#!/bin/sh\n" .. case[1] .. "\ndate\n"), "#!/bin/sh\n" .. case[2] .. "\ndate\n")
		check.equal(#told, 0, told[1] or "lines to the user")
		check.equal(script_of(case[1]), case[2], "without an end of line")
		check.equal(script_of(case[1], "burst_buffer"), case[2], "--bb")
	end
	check.equal(#asked, 0, "calls")
end)

check.test("a script that Slurm takes as it is stays as it is", function()
	load()
	pools_are(nil)
	for _, text in ipairs({ "#DW jobdw capacity=7TiB pool=dws name=x", "#DW jobdw type=xfs name=x", "#DW swap 10GB",
		"#DW jobdw capacity=7TiB mypool=x", "#dw is not used here", "# DW is not used, nor is", "#BB is nothing\n",
		"#SBATCH -n 1", "", "\n\n" }) do
		local desc = setmetatable({}, {
			__index = function(_, key) return key == "script" and "#!/bin/sh\n" .. text or nil end,
			__newindex = function(_, key) error("set " .. key) end,
		})
		told = {}
		check.equal(slurm_job_submit(desc, {}, 1001), 0, text)
		check.equal(#told, 0, told[1] or "lines to the user")
	end
	check.equal(#logged, 0, logged[1] or "lines in the log")
end)

check.test("Slurm leaves the directive of a bundle alone", function()
	load()
	pools_are('{"pools":[{"id":"flash"},{"id":"disk"}]}')
	for _, case in ipairs({
		{ "#DW bundle argo p.disk-capacity=5Gi x=capacity=1", "#DW bundle argo p.disk-capacity%%3D5Gi x=capacity%%3D1" },
		{ "#DW\tbundle argo \\\n#DW p.capacity=5Gi\n#DW jobdw capacity=1GB pool=disk",
			"#DW\tbundle argo \\\n#DW p.capacity%%3D5Gi\n#DW jobdw capacity=1GB pool=disk" },
		{ "#DW bundle aok pool=x", "#DW bundle aok pool=x" },
		{ "#DW bundle aok x=a%2Cb%20c%25%2C name=n-%j", "#DW bundle aok x=a%%2Cb%%20c%%25%%2C name=n-%j" },
		{ "#DW bundle aok x=a%%2Cb%%25%2C", "#DW bundle aok x=a%%2Cb%%25%%2C" },
	}) do
		check.equal(script_of("#!/bin/sh\n" .. case[1] .. "\ndate\n"), "#!/bin/sh\n" .. case[2] .. "\ndate\n")
		check.equal(script_of(case[1], "burst_buffer"), case[2], "--bb")
	end
	local desc = job({ spank_job_env = spank(OPTION .. "k8s_bundle=argo,p.capacity=5Gi") })
	check.equal(slurm_job_submit(desc, {}, 1001), 0, told[1] or "return value")
	check.equal(desc.burst_buffer, "#DW bundle argo p.capacity%%3D5Gi")
end)

check.test("a site's own pools are those of its pools.json", function()
	load()
	local one, several = '{"pools":[{"id":"lustre","quantity":1}]}', '{"pools":[{"id" : "flash"}, {"id":"disk"}]}'
	for _, case in ipairs({
		{ one, "#DW jobdw capacity=1GB", "#DW jobdw capacity=1GB pool=lustre" },
		{ one, "#DW jobdw capacity=1GB pool=lustre", "#DW jobdw capacity=1GB pool=lustre" },
		{ several, "#DW jobdw capacity=1GB pool=disk", "#DW jobdw capacity=1GB pool=disk" },
		{ '[{"id":"a"},{"id":"dws"}]', "#DW jobdw capacity=1GB pool=b", "#DW jobdw capacity=1GB pool=dws" },
		{ "", "#DW jobdw capacity=1GB", "#DW jobdw capacity=1GB" },
	}) do
		pools_are(case[1])
		check.equal(script_of(case[2]), case[3])
	end
	pools_are(several)
	local advice = ": write pool= and one of flash, disk"
	refused({ script = "#!/bin/sh\n#DW jobdw capacity=1GB" }, "line 2: capacity= needs a pool" .. advice, 2074)
	refused({ script = "#DW jobdw pool=sm capacity=1GB" }, "line 1: there is no pool sm" .. advice, 2074)
	pools_are(nil)
end)

local ABOVE = "write #DW above the first command, which is in line 2"

check.test("a line that looks like a directive and is none is told", function()
	load()
	pools_are(nil)
	for _, case in ipairs({
		{ "# DW jobdw type=xfs", 'line 2: "# DW jobdw type=xfs" is not read: write #DW' },
		{ "#\tdw persistentdw name=p", 'line 2: "# dw persistentdw name=p" is not read: write #DW' },
		{ "#BB create_persistent name=p", 'line 2: "#BB create_persistent name=p" is not read: write #DW' },
		{ "date\n\n  #DW jobdw name=x", 'line 4: "  #DW jobdw name=x" is not read: ' .. ABOVE },
		{ "date\n#dw stage_in", 'line 3: "#dw stage_in" is not read: ' .. ABOVE },
		-- What is written to another script is not this one's.
		{ "cat >x <<END\n#DW jobdw name=x\nEND", 'line 3: "#DW jobdw name=x" is not read: ' .. ABOVE },
	}) do
		local text = "#!/bin/sh\n" .. case[1]
		check.equal(script_of(text), text)
		check.equal(#told, 1, "lines to the user")
		check.equal(told[1], "slurmk8s: " .. case[2])
	end
	script_of("#!/bin/sh\n" .. ("# DW jobdw\n"):rep(100))
	check.equal(#told, 5, "lines to the user")
end)

check.test("a job whose storage is surely meant but would be missing is refused", function()
	load()
	for _, case in ipairs({
		{ "#dw jobdw type=xfs", 'line 2: "#dw jobdw type=xfs" is not read: write #DW' },
		{ "#Dw copy_in source=x", 'line 2: "#Dw copy_in source=x" is not read: write #DW' },
		{ "date\n#DW jobdw name=x", 'line 3: "#DW jobdw name=x" is not read: ' .. ABOVE },
		{ "set -e\n# x\n#DW  create_persistent\r", 'line 4: "#DW  create_persistent " is not read: write #DW above' },
	}) do
		refused({ script = "#!/bin/sh\n" .. case[1] }, case[2], 2074)
	end
	load({ ESLURM_INVALID_BURST_BUFFER_REQUEST = false })
	refused({ script = "#dw jobdw" }, "line 1", -1)
end)

check.test("a site's own word for directives counts", function()
	load()
	local module = dofile(script)
	module.directive = "BB_LUA2"
	slurm_job_submit = module.check and function(desc, _, uid) return module.check(desc, uid) end
	check.equal(script_of("#BB_LUA2 jobdw capacity=1GB"), "#BB_LUA2 jobdw capacity=1GB pool=dws")
	script_of("#DW jobdw capacity=1GB")
	check.equal(told[1], 'slurmk8s: line 1: "#DW jobdw capacity=1GB" is not read: write #BB_LUA2')
	refused({ script = "#bb_lua2 jobdw" }, "write #BB_LUA2", 2074)
	module.directive = ""
	check.equal(script_of("#!/bin/sh\n#dw jobdw\n#DW jobdw capacity=1GB"), "#!/bin/sh\n#dw jobdw\n#DW jobdw capacity=1GB")
end)

-- Submits a job with --k8s-bundle=value and returns the text of --bb that it has then.
local function bundles_of(value, fields)
	fields = fields or {}
	fields.spank_job_env = spank(OPTION .. "k8s_bundle=" .. value)
	fields.user_id, fields.group_id = 1001, 100
	local desc = setmetatable({}, { __index = fields, __newindex = function(_, key, text) fields[key] = text end })
	check.equal(slurm_job_submit(desc, {}, 1001), 0, told[1] or "return value")
	return fields.burst_buffer
end

check.test("--k8s-bundle becomes directives, beside those of --bb", function()
	load()
	check.equal(bundles_of("aok"), "#DW bundle aok")
	check.equal(bundles_of("aok,locales=2,name=a%20b;exporter,as=e"),
		"#DW bundle aok locales=2 name=a%%20b\n#DW bundle exporter as=e")
	check.equal(bundles_of("aok", { burst_buffer = "#DW jobdw name=x" }), "#DW jobdw name=x\n#DW bundle aok")
	check.equal(asked[1].K8S_BUNDLE, "aok")
end)

check.test("only the first component of a heterogeneous job gets the bundle", function()
	load()
	check.equal(bundles_of("aok", { het_job_offset = 0 }), "#DW bundle aok")
	check.equal(bundles_of("aok", { het_job_offset = 4294967294 }), "#DW bundle aok")
	check.equal(bundles_of("aok", { het_job_offset = 1 }), nil)
end)

check.test("a bundle that cannot be a directive is refused", function()
	load()
	local function refused_bundle(value, part)
		refused({ spank_job_env = spank(OPTION .. "k8s_bundle=" .. value) }, part, 2074)
	end
	refused_bundle("aok,name=a b", "--k8s-bundle: has a blank or control character")
	refused_bundle("aok\nrm -rf /", "--k8s-bundle: has a blank or control character")
	local module = dofile(script)
	module.directive = ""
	slurm_job_submit = function(desc, _, uid) return module.check(desc, uid) end
	refused_bundle("aok", "this cluster has no directives")
	local two = spank(OPTION .. "k8s_bundle=a", "SPANK_" .. OPTION .. "k8s_bundle=b")
	refused({ spank_job_env = two }, "given with two values", 2074)
end)

-- slurmctld stands still meanwhile.
check.test("how much of a script is looked at is bounded", function()
	load()
	local text = "#DW jobdw capacity=1GB\n" .. ("#\n"):rep(2000000)
	check.equal(script_of(text), text)
	check.contains(logged[1], "a job's directives are left as they are: more than 5000 lines of comments")
	script_of("date\n" .. ("#dw x\n"):rep(600000) .. "#DW jobdw")
	check.equal(#told, 0, "lines to the user")
end)

-- slurmctld stands still meanwhile.
check.test("what the program is given is bounded, whatever a job has", function()
	load()
	accepted({ spank_job_env = register(("a:1;"):rep(250000)) })
	check.equal(#asked[1].K8S_REGISTER, 16384, "bytes")
	local many = {}
	for i = 0, 50000 do
		many[i] = OPTION .. "k8s_registe" .. i .. "=" .. i
	end
	accepted({ spank_job_env = many })
	check.equal(#asked, 1, "calls")
end)

os.exit(check.failed == 0 and 0 or 1)
