-- test_job_submit.lua TESTS SCRIPT DIRECTORY LUA: job_submit.lua as slurmctld runs it, against
-- a stand-in for Slurm. That it judges as the program does is bridge/policy/lua_test.go's.
local tests, script, directory, lua = ...
local check = dofile(tests .. "/check.lua")
check.prefix = lua .. ": job_submit: "

local config = directory .. "/slurmk8s.toml"
local OPTION = "_SLURM_SPANK_OPTION_slurmk8s_"
local ALICE = "[[services.allow]]\nusers = ['alice']\nnamespaces = ['physics']\nports = ['8000-8999']\n"

local told, logged -- what the user and the log were told

-- Loads the script anew as slurmctld would; `more` are fields of Slurm's table.
local function load(more)
	told, logged = {}, {}
	slurm_job_submit, slurm_job_modify = nil, nil
	local fields = { SUCCESS = 0, ERROR = -1, ESLURM_ACCESS_DENIED = 2002 }
	fields.log_user = function(format, ...) told[#told + 1] = string.format(format, ...) end
	fields.log_info = function(format, ...) logged[#logged + 1] = string.format(format, ...) end
	for key, value in pairs(more or {}) do
		fields[key] = value
	end
	slurm = fields -- luacheck: ignore
	local module = dofile(script)
	module.config = config
	return module
end

-- A job_desc: like Slurm's it has any field, and fails for a key that is no text.
local function job(fields)
	fields.user_id = fields.user_id or 1001
	if fields.user_name == nil then
		fields.user_name = "alice"
	end
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

local function refused(fields, part)
	told = {}
	check.equal(submit(fields), 2002, "return value")
	check.equal(#told, 1, "lines to the user")
	check.contains(told[1], part)
	check.equal(told[1]:find("%c"), nil, "control characters in " .. told[1])
	assert(#told[1] < 700, "one line for a person")
end

local function with_policy(text)
	check.write(config, text)
	return load()
end

check.test("a job without the options costs no file", function()
	os.remove(config)
	load()
	local open = io.open
	io.open = function() error("a file was opened") end -- luacheck: ignore
	local ok, why = pcall(function()
		accepted({ spank_job_env = spank("_SLURM_SPANK_OPTION_pyxis_image=x", "OTHER=1"), script = "#!/bin/sh",
			environment = { HOME = "/" } })
		accepted({})
		check.equal(#logged, 0, "lines in the log")
	end)
	io.open = open -- luacheck: ignore
	assert(ok, why)
end)

check.test("each source and each form of the options is judged", function()
	with_policy(ALICE)
	for _, prefix in ipairs({ "", "SPANK_", "SLURM_SPANK_" }) do
		local name = prefix .. OPTION .. "k8s_register"
		accepted({ spank_job_env = spank("A=1", name .. "=a:8888") })
		refused({ spank_job_env = spank("A=1", name .. "=a:22") },
			"service a: port 22 of the node is not allowed to user alice, but 8000-8999")
		refused({ spank_job_env = { [name] = "a:22" } }, "port 22")
		refused({ script = "#!/bin/sh", environment = { [name] = "a:22" } }, "port 22")
		refused({ spank_job_env = spank(name .. "=a:8888"), script = "x", environment = { [name] = "a:22" } }, "port 22")
	end
	refused({ spank_job_env = spank(OPTION .. "k8s_register=a:8888", OPTION .. "k8s_namespace=kube-system") },
		"service a: namespace kube-system: user alice may use physics")
	refused({ spank_job_env = spank(OPTION .. "k8s_namespace=../x") }, '--k8s-namespace: namespace "../x"')
	refused({ spank_job_env = spank(OPTION .. "k8s_import=kube-system/dns") },
		"namespace kube-system: user alice may use physics")
	refused({ spank_job_env = register("") }, "--k8s-register: empty")
	refused({ user_name = "bob", spank_job_env = register("a:8888") }, "user bob may not have services")
	local several = {}
	for i = 1, 5 do
		several[i] = OPTION .. "k8s_register=a:800" .. i
	end
	refused({ spank_job_env = several }, "more than 4 times")
end)

check.test("the environment of a job that is no batch job is not asked for", function()
	with_policy(ALICE)
	local desc = setmetatable({}, { __index = function(_, key)
		assert(key ~= "environment", "asked")
	end })
	check.equal(slurm_job_submit(desc, {}, 1001), 0)
	check.equal(#logged, 0, "lines in the log")
end)

check.test("a change of the file counts at once", function()
	with_policy(ALICE)
	local asks = { spank_job_env = register("a:8888") }
	accepted(asks)
	check.write(config, (ALICE:gsub("8000", "8900")))
	refused(asks, "port 8888")
	check.write(config, ALICE)
	accepted(asks)
end)

check.test("what cannot be known is accepted, and logged once", function()
	local bad = { spank_job_env = register("a:22") }
	local function lets_pass(part)
		for _ = 1, 3 do
			accepted(bad)
		end
		check.equal(#logged, 1, "lines in the log")
		check.contains(logged[1], part)
		refused({ spank_job_env = register("a") }, "no port") -- the syntax is known
	end
	os.remove(config)
	load()
	lets_pass("judged on the node only: " .. config .. ": ")
	with_policy("[services]\nx = 2026-01-01\n")
	lets_pass("is not understood here: line 2: a value that is not known here")
	with_policy("# " .. ("x"):rep(262144))
	lets_pass("larger than 256 KiB")
	load().config = directory
	lets_pass("irectory")
end)

check.test("whom a rule is for may be unknown", function()
	local asks = { spank_job_env = register("a:22") }
	local low = "namespaces = ['physics']\nports = ['1-1023']\n"
	with_policy("[[services.allow]]\ngroups = ['physics']\n" .. low .. ALICE)
	accepted(asks) -- perhaps alice is in the group
	with_policy("[[services.allow]]\naccounts = ['p1']\n" .. low)
	accepted(asks)
	for _, name in ipairs({ "account", "default_account" }) do
		accepted({ [name] = "p1", spank_job_env = asks.spank_job_env })
		accepted({ [name] = "P1", spank_job_env = asks.spank_job_env }) -- Slurm makes it lower case
		refused({ [name] = "p2", spank_job_env = asks.spank_job_env }, "may not have services")
	end
	with_policy((ALICE:gsub("8000", "22")))
	accepted({ user_name = false, spank_job_env = asks.spank_job_env })
	refused({ user_name = false, spank_job_env = register("name=a,port=9000,ns=physics") },
		"not allowed to user uid 1001")
	with_policy("[[services.allow]]\nusers = ['*']\nnamespaces = ['user-{user}']\n")
	accepted({ user_name = false, spank_job_env = register("a:22") }) -- in which namespace?
	accepted({ user_name = false, spank_job_env = register("name=a,port=8888,ns=user-carol") })
	refused({ user_name = false, spank_job_env = register("name=a,port=8888,ns=carol") },
		"may use user-{user}")
end)

check.test("the name and the account are looked up only if a rule needs them", function()
	with_policy("[[services.allow]]\nusers = ['*']\nnamespaces = ['physics']\n")
	local desc = setmetatable({}, { __index = function(_, key)
		assert(key == "spank_job_env" or key == "script" or key == "user_id", key)
		return key == "spank_job_env" and register("a:22") or nil
	end })
	check.equal(slurm_job_submit(desc, {}, 1001), 2002)
	check.equal(#logged, 1, "lines in the log")
	check.contains(logged[1], "refused a job")
end)

check.test("a refusal is in the log once, in one line", function()
	with_policy(ALICE)
	refused({ user_id = 7, spank_job_env = register("a:1\27[2J%s%n\n") },
		'holds a character that cannot be in it (byte 4)')
	check.equal(#logged, 1, "lines in the log")
	check.contains(logged[1], "slurmk8s: refused a job of uid 7, submitted by uid 7: --k8s-register")
	check.equal(logged[1]:find("%c"), nil, "control characters")
end)

check.test("nothing gets out as an error", function()
	with_policy(ALICE)
	for _, desc in ipairs({ {}, { spank_job_env = "text" }, { spank_job_env = { [0] = true } },
		{ spank_job_env = { [0] = {} } }, { script = "x", environment = 5 },
		{ spank_job_env = { [OPTION .. "k8s_register"] = 5 } } }) do
		check.equal(slurm_job_submit(desc, {}, 1001), 0)
	end
	check.equal(slurm_job_submit(setmetatable({}, { __index = function() error("no") end }), {}, 1), 0)
	check.equal(slurm_job_submit(nil, nil, nil), 0)
	assert(#logged >= 1, "nothing in the log")
	check.equal(slurm_job_modify(), 0)
	load({ ESLURM_ACCESS_DENIED = false })
	check.write(config, ALICE)
	check.equal(submit({ spank_job_env = register("a") }), -1, "where Slurm has not the error")
end)

check.test("a site's own job_submit.lua keeps its functions and calls check()", function()
	load()
	local mine = function() return 42 end
	slurm_job_submit, slurm_job_modify = mine, mine
	local module = dofile(script)
	module.config = config
	check.write(config, ALICE)
	check.equal(slurm_job_submit, mine)
	check.equal(slurm_job_modify, mine)
	check.equal(module.check(job({ spank_job_env = register("a:22") }), 1001), 2002)
	check.equal(module.check(job({ spank_job_env = register("a:8888") }), 1001), 0)
end)

-- slurmctld stands still meanwhile. Slow patterns would take seconds for these.
check.test("hostile values take no time", function()
	with_policy(("[[services.allow]]\nusers = ['alice']\nnamespaces = ['" .. ("*a"):rep(31) .. "']\n"):rep(100))
	local values = {}
	for _, size in ipairs({ 8190, 10240, 1048576 }) do
		for _, unit in ipairs({ "a", " ", ";", ":", ",", "=", "a:1;", "port=1,", "name=a,port=1,label=a=b,", "env,ns=a,", "%",
			"\255", "-", "1.", ". ", "/../" }) do
			values[#values + 1] = unit:rep(math.floor(size / #unit))
		end
	end
	for _, part in ipairs({ "ready-timeout=" .. ("1."):rep(4000), "ready-timeout=" .. ("9"):rep(8000),
		"label=" .. ("a."):rep(4000) .. "/a=b",
		"ready=file:" .. ("/."):rep(4000), "ns=" .. ("a"):rep(63), ("port=%d,"):rep(400):gsub("%%d", "80") }) do
		values[#values + 1] = "name=a,port=1," .. part
	end
	local slowest, start = 0, os.clock()
	for _, value in ipairs(values) do
		for _, option in ipairs({ "k8s_register", "k8s_namespace", "k8s_import" }) do
			local from = os.clock()
			submit({ spank_job_env = spank(OPTION .. option .. "=" .. value) })
			slowest = math.max(slowest, os.clock() - from)
		end
	end
	local many = {}
	for i = 0, 50000 do
		many[i] = "_SLURM_SPANK_OPTION_slurmk8s_k8s_registe" .. i .. "=" .. i
	end
	local from = os.clock()
	accepted({ spank_job_env = many })
	assert(os.clock() - from < 0.5, "50,000 variables")
	assert(slowest < 0.1, string.format("one took %.0f ms", slowest * 1000))
	return string.format("slowest %.1f ms, %d values in %.0f ms", slowest * 1000, #values * 3, (os.clock() - start) * 1000)
end)

-- Of 64 services and a policy of a usual size.
check.test("the price of a submission", function()
	with_policy(("# a comment of a usual length, as an administrator writes it\n"):rep(200) .. ALICE:rep(20))
	local fields = { spank_job_env = register("jupyter:8888"), script = "x", environment = {} }
	accepted(fields)
	local start, rounds = os.clock(), 200
	for _ = 1, rounds do
		submit(fields)
	end
	local again = (os.clock() - start) / rounds * 1000
	assert(again < 5, string.format("%.2f ms", again))
	start = os.clock()
	for i = 1, 20 do
		check.write(config, ALICE:rep(20) .. "# " .. i)
		submit(fields)
	end
	return string.format("%.3f ms; %.2f ms when the file changed", again, (os.clock() - start) / 20 * 1000)
end)

os.exit(check.failed == 0 and 0 or 1)
