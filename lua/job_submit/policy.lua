-- policy.lua - judges services by [services] of slurmk8s.toml, as bridge/policy does. Where
-- slurmctld cannot know whether a rule is for a user (Unix groups may be in LDAP; the
-- account may be set later) it takes the rule for theirs: the node judges again, and
-- what it would allow must not be refused here.

local policy = {}

-- The defaults of slurmconf/services.go, and the types of what the file may say.
local FORBIDDEN_PORTS = { "10250", "10255", "6443", "2379", "2380", "6817-6819" }
local RULE = {
	users = {}, groups = {}, accounts = {}, namespaces = {}, names = { "*" }, ports = { "1024-65535" },
	expose = { "clusterip", "headless" }, max_services = 8,
}

local function unknown(format, ...)
	error({ unknown = string.format(format, ...) }, 0)
end

local function texts(value, key)
	if not toml.is_list(value) then
		unknown("%s is not a list", key)
	end
	for _, item in ipairs(value) do
		if type(item) ~= "string" then
			unknown("%s is not a list of texts", key)
		end
	end
	return value
end

-- "8888" or "8000-8999"
local function ranges(list, key)
	local all = {}
	for _, text in ipairs(list) do
		local first, last = text:match("^(%d+)%-?(%d*)$")
		if not first or #text > 11 then
			unknown("%s has %s, which is no range of ports", key, text)
		end
		all[#all + 1] = { tonumber(first), tonumber(last ~= "" and last or first) }
	end
	return all
end

-- What a text of slurmk8s.toml says about services: { forbidden =, rules = }, and whether
-- the name and the account of a user matter. An error with `unknown` says why not.
local function read(content)
	local tree, why = toml.parse(content)
	if not tree then
		unknown("%s", why)
	end
	local services = tree.services or {}
	local allow = services.allow or {}
	if type(services) ~= "table" or type(allow) ~= "table" then
		unknown("services is not a table")
	end
	local forbidden = services.forbidden_ports and texts(services.forbidden_ports, "forbidden_ports") or FORBIDDEN_PORTS
	local cfg = { forbidden = ranges(forbidden, "forbidden_ports"), rules = {} }
	for i, given in ipairs(allow) do
		local rule = {}
		for key, default in pairs(RULE) do
			rule[key] = given[key] == nil and default or given[key]
			if key == "max_services" then
				if type(rule[key]) ~= "number" then
					unknown("services.allow[%d].%s is not a number", i, key)
				end
			elseif rule[key] ~= default then
				texts(rule[key], key)
			end
		end
		cfg.by_user = cfg.by_user or next(rule.users) ~= nil and table.concat(rule.users) ~= "*" or
			(table.concat(rule.namespaces) .. table.concat(rule.names)):find("{user}", 1, true) ~= nil
		cfg.by_account = cfg.by_account or next(rule.accounts) ~= nil
		rule.ports_text, rule.ports = table.concat(rule.ports, ", "), ranges(rule.ports, "ports")
		cfg.rules[i] = rule
	end
	return cfg
end

-- Returns what a text of slurmk8s.toml says, or nil and why it is not understood.
function policy.read(content)
	local ok, result = pcall(read, content)
	if ok then
		return result
	elseif type(result) == "table" and result.unknown then
		return nil, result.unknown
	end
	error(result, 0)
end

local function contains(list, item)
	for _, other in ipairs(list) do
		if other == item then
			return true
		end
	end
	return false
end

-- May the rule be for the user, and is that sure? `who` is { uid =, name =, account = };
-- name and account are nil if not known.
local function may_apply(rule, who)
	if contains(rule.users, "*") or who.name and contains(rule.users, who.name) then
		return true, true
	elseif #rule.groups > 0 or not who.name and #rule.users > 0 or not who.account and #rule.accounts > 0 then
		return true, false
	end
	local mine = who.account and (contains(rule.accounts, who.account) or contains(rule.accounts, who.account:lower()))
	return mine, mine
end

-- Puts the user's name into a pattern; nil if no Kubernetes name can hold it. Of a user
-- without a known name any name may be theirs.
local function expand(pattern, who)
	if not pattern:find("{user}", 1, true) then
		return pattern
	elseif not who.name then
		return (pattern:gsub("{user}", "*"))
	elseif spec.is_label(who.name) then
		return (pattern:gsub("{user}", who.name)) -- a label has no "%"
	end
end

-- Does the text match a pattern in which "*" is any text?
local function glob(pattern, text)
	local p, t, star, mark = 1, 1, nil, nil
	while t <= #text do
		local c = pattern:sub(p, p)
		if c == "*" then
			star, mark, p = p, t, p + 1
		elseif c == text:sub(t, t) then
			p, t = p + 1, t + 1
		elseif star then
			mark = mark + 1
			p, t = star + 1, mark
		else
			return false
		end
	end
	return not pattern:find("[^*]", p)
end

local function matches_any(patterns, text, who)
	for _, pattern in ipairs(patterns) do
		local expanded = expand(pattern, who)
		if expanded and glob(expanded, text) then
			return true
		end
	end
	return false
end

local function in_ranges(list, port)
	for _, range in ipairs(list) do
		if range[1] <= port and port <= range[2] then
			return true
		end
	end
	return false
end

-- The patterns of a list for a person to read.
local function readable(patterns, who)
	local all = {}
	for _, pattern in ipairs(patterns) do
		all[#all + 1] = who.name and expand(pattern, who) or not who.name and pattern or nil
	end
	return table.concat(all, ", ")
end

local function name_of(who)
	return who.name or "uid " .. tostring(who.uid)
end

-- "namespace x: user alice may use physics, user-alice"
local function namespaces_of(rules, namespace, who)
	local all = {}
	for _, rule in ipairs(rules) do
		for _, pattern in ipairs(rule.namespaces) do
			if all[#all] ~= pattern then
				all[#all + 1] = pattern
			end
		end
	end
	return string.format("namespace %s: user %s may use %s", namespace, name_of(who), readable(all, who))
end

-- How far a rule goes with a service (5: all of it is allowed), and what stops it.
local function judge(cfg, rule, s, who)
	if not matches_any(rule.namespaces, s.namespace, who) then
		return 1
	elseif not matches_any(rule.names, s.name, who) then
		return 2, string.format("user %s may use the names %s in namespace %s", name_of(who), readable(rule.names, who),
			s.namespace)
	elseif not contains(rule.expose, s.expose) then
		local what = s.expose == "internal" and "type=internal" or "expose=" .. s.expose
		return 3, string.format("%s is not allowed to user %s in namespace %s, but %s", what, name_of(who), s.namespace,
			table.concat(rule.expose, ", "))
	elseif s.expose == "internal" then
		return 5 -- its ports are those of pods
	end
	for _, port in ipairs(s.ports) do
		if in_ranges(cfg.forbidden, port.target) then
			return 4, string.format("port %d of the node is a service of the system", port.target)
		elseif not in_ranges(rule.ports, port.target) then
			return 4, string.format("port %d of the node is not allowed to user %s, but %s", port.target, name_of(who),
				rule.ports_text)
		end
	end
	return 5
end

local function admit(cfg, rules, s, who)
	local furthest, reason = 0, nil
	for _, rule in ipairs(rules) do
		local stage, why = judge(cfg, rule, s, who)
		if stage == 5 then
			return
		elseif stage > furthest then
			furthest, reason = stage, why
		end
	end
	if furthest == 1 then
		reason = namespaces_of(rules, s.namespace, who)
	end
	spec.refuse("service %s: %s", s.name, reason)
end

-- What a job gets that names no namespace; nil if the user's name is needed and not known.
local function default_namespace(rules, asked, who)
	if asked ~= "" then
		return asked
	end
	for _, rule in ipairs(rules) do
		for _, pattern in ipairs(rule.namespaces) do
			local name = expand(pattern, who)
			if name and not name:find("*", 1, true) then
				return name
			elseif pattern:find("{user}", 1, true) and not who.name then
				return nil
			end
		end
	end
	return "default"
end

-- Refuses (spec.refuse) services or imports that no rule of `cfg` allows. `namespace` is
-- that of --k8s-namespace, or "".
function policy.admit(cfg, who, services, imports, namespace)
	local rules, all_sure = {}, true
	for _, rule in ipairs(cfg.rules) do
		local applies, sure = may_apply(rule, who)
		if applies then
			rules[#rules + 1] = rule
			all_sure = all_sure and sure
		end
	end
	if #cfg.rules == 0 then
		spec.refuse("services are not open on this cluster: the administrator opens them with [[services.allow]] in " ..
			"slurmk8s.toml")
	elseif #rules == 0 then
		spec.refuse("user %s may not have services: no [[services.allow]] of slurmk8s.toml is for them", name_of(who))
	end
	-- The first rule gives the namespace. Where it may not be the user's, a service without
	-- one of its own is left to the node.
	local default = (all_sure or namespace ~= "") and default_namespace(rules, namespace, who)
	local seen, most = {}, 0
	for _, s in ipairs(services) do
		s.namespace = s.namespace ~= "" and s.namespace or default
		if s.namespace then
			admit(cfg, rules, s, who)
			local id = s.namespace .. "/" .. s.name
			if seen[id] then
				spec.refuse("service %s is there twice", id)
			end
			seen[id] = true
		end
	end
	for _, rule in ipairs(rules) do
		most = math.max(most, rule.max_services)
	end
	if #services > most then
		spec.refuse("a job of user %s may have %d services, not %d", name_of(who), most, #services)
	end
	for _, import in ipairs(imports) do
		local from = import.namespace ~= "" and import.namespace or default
		local open = not from
		for _, rule in ipairs(rules) do
			open = open or matches_any(rule.namespaces, from, who)
		end
		if not open then
			spec.refuse("%s", namespaces_of(rules, from, who))
		end
	end
end

return policy
