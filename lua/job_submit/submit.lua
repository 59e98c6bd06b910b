-- submit.lua - the checks of --k8s-register, --k8s-namespace and --k8s-import when a job is
-- submitted, whatever submits it: slurmrestd's jobs never saw the SPANK plugin. What is
-- refused here saves a wait; the protection is the node, which judges with authority.
--
-- It runs in slurmctld under its locks: it reads one local file, and that only for a job
-- with one of the options; it starts nothing, asks nobody, and never raises an error.
-- What it cannot know (a file that cannot be read, Unix groups) it lets pass, and says so
-- in slurmctld's log, once.
--
-- By itself, JobSubmitPlugins=lua with this file as job_submit.lua; or in a site's own:
--
--	local slurmk8s = dofile("@SHAREDIR@/job_submit.lua")
--	function slurm_job_submit(job_desc, part_list, submit_uid)
--		...                             -- first what sets the account
--		return slurmk8s.check(job_desc, submit_uid)
--	end

local slurmk8s = { config = "@SYSCONFDIR@/slurmk8s.toml" }

local MAX_CONFIG_BYTES = 262144
local MAX_VALUES = 4 -- of one option: each source has one, and they agree

-- The options as Slurm names them in spank_job_env and in the environment of a batch job.
local OPTIONS = { "k8s_register", "k8s_namespace", "k8s_import" }
local NAMES = {}
for _, option in ipairs(OPTIONS) do
	for _, prefix in ipairs({ "", "SPANK_", "SLURM_SPANK_" }) do
		NAMES[prefix .. "_SLURM_SPANK_OPTION_slurmk8s_" .. option] = option
	end
end
local LONGEST_NAME = 64

-- One line for the log or the user: slurm.log_* take a format.
local function say(write, format, ...)
	write("%s", "slurmk8s: " .. (string.format(format, ...):gsub("%c", " ")))
end

local said = {}
local function say_once(format, ...)
	local line = string.format(format, ...)
	if said[format] ~= line then
		said[format] = line
		say(slurm.log_info, "%s", line)
	end
end

local cache = {} -- the text of the file when it was last read, and what it says

-- Returns what slurmk8s.toml says now, or nil. It is read each time: pure Lua cannot ask
-- when a file was changed.
local function site_policy()
	local file, why = io.open(slurmk8s.config, "rb")
	local content
	if file then
		content, why = file:read(MAX_CONFIG_BYTES + 1)
		file:close()
	end
	if content and #content > MAX_CONFIG_BYTES then
		content, why = nil, string.format("it is larger than %d KiB", MAX_CONFIG_BYTES / 1024)
	end
	if not content then
		say_once("jobs are judged on the node only: %s: %s", slurmk8s.config, why or "it is empty")
		return nil
	end
	if cache.content ~= content then
		cache.content = content
		cache.policy, cache.why = policy.read(content)
	end
	if not cache.policy then
		say_once("jobs are judged on the node only: %s is not understood here: %s", slurmk8s.config, cache.why)
	end
	return cache.policy
end

local function add(given, option, value)
	local values = given[option]
	if not values then
		values = {}
		given[option] = values
	end
	for _, other in ipairs(values) do
		if other == value then
			return
		end
	end
	if #values >= MAX_VALUES then
		spec.refuse("--%s is there more than %d times", (option:gsub("_", "-")), MAX_VALUES)
	end
	values[#values + 1] = value
end

-- The values of the options that a job was given, by option.
local function options_of(job_desc)
	local given = {}
	for key, entry in pairs(job_desc.spank_job_env or {}) do
		local name, value = key, entry -- NAME = value, or a list of "NAME=value"
		if type(key) == "number" then
			local at = entry:sub(1, LONGEST_NAME):find("=", 1, true) or 0
			name, value = entry:sub(1, at - 1), entry:sub(at + 1)
		end
		if NAMES[name] then
			add(given, NAMES[name], value)
		end
	end
	-- Slurm has the environment of batch jobs only, and grumbles about that of others.
	local environment = job_desc.script and job_desc.environment
	for name, option in pairs(environment and NAMES or {}) do
		local value = environment[name]
		if value then
			add(given, option, value)
		end
	end
	return given
end

local function known(text)
	return type(text) == "string" and text ~= "" and text or nil
end

-- Raises spec.refuse()'s error for a job that is refused.
local function judge(job_desc)
	local given = options_of(job_desc)
	if not next(given) then
		return
	end
	local namespaces, services, imports = {}, {}, {}
	for _, text in ipairs(given.k8s_namespace or {}) do
		namespaces[#namespaces + 1] = text == "" and "" or spec.namespace(text)
	end
	for _, text in ipairs(given.k8s_register or {}) do
		services[#services + 1] = spec.services(text)
	end
	for _, text in ipairs(given.k8s_import or {}) do
		imports[#imports + 1] = spec.imports(text)
	end
	local rules = site_policy()
	if not rules or #services + #imports == 0 then
		return
	end
	-- Slurm looks both up when it is asked for them: only if a rule has to do with them.
	local who = { uid = job_desc.user_id }
	who.name = rules.by_user and known(job_desc.user_name) or nil
	who.account = rules.by_account and (known(job_desc.account) or known(job_desc.default_account)) or nil
	for _, namespace in ipairs(next(namespaces) and namespaces or { "" }) do
		for _, text in ipairs(given.k8s_register or {}) do -- anew: admit() writes into them
			policy.admit(rules, who, spec.services(text), {}, namespace)
		end
		for _, list in ipairs(imports) do
			policy.admit(rules, who, {}, list, namespace)
		end
	end
end

-- Judges the options of a job that is being submitted. Returns slurm.SUCCESS, or an error
-- for Slurm after having told the user and the log why.
function slurmk8s.check(job_desc, submit_uid)
	local ok, problem, refusal = pcall(spec.judged, judge, job_desc)
	if not ok then
		say_once("a job is judged on the node only: %s", tostring(problem))
	elseif refusal then
		say(slurm.log_user, "%s", refusal)
		say(slurm.log_info, "refused a job of uid %s, submitted by uid %s: %s", tostring(job_desc.user_id),
			tostring(submit_uid), refusal)
		return slurm.ESLURM_ACCESS_DENIED or slurm.ERROR
	end
	return slurm.SUCCESS
end

-- By itself. A site's own functions stay as they are.
if slurm_job_submit == nil then
	function slurm_job_submit(job_desc, _, submit_uid)
		return slurmk8s.check(job_desc, submit_uid)
	end
end
if slurm_job_modify == nil then
	function slurm_job_modify()
		return slurm.SUCCESS
	end
end

return slurmk8s
