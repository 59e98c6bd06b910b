-- spec.lua - reads the values of --k8s-register, --k8s-namespace and --k8s-import as
-- bridge/service does (spec.go, fields.go, names.go, import.go), to the letter of its
-- messages; lua/test/agree_test.go holds the two against each other. Every value is
-- hostile: its length is bounded first, and no pattern here goes back over a text.

local spec = {}

local MAX_BYTES, MAX_SERVICES, MAX_PORTS, MAX_LABELS, MAX_PATH = 8192, 64, 32, 16, 1024
local DNS_RULE = 'at most 63 lower-case letters, digits and "-", a letter or digit first and last'

-- The user's mistake: ends the work on a value, and is caught by spec.judged().
local function refuse(format, ...)
	error({ refusal = string.format(format, ...) }, 0)
end
spec.refuse = refuse

-- Calls f; returns its result, or nil and the line of a refusal. Other errors go on.
function spec.judged(f, ...)
	local ok, result = pcall(f, ...)
	if ok then
		return result
	elseif type(result) == "table" and result.refusal then
		return nil, result.refusal
	end
	error(result, 0)
end

-- Adds to a refusal what it is about.
local function about(format, subject, f, ...)
	local result, refusal = spec.judged(f, ...)
	if refusal then
		refuse(format .. ": %s", subject, refusal)
	end
	return result
end

-- In quotes, shortened: an error is one line for a person.
local function quote(text)
	if #text > 60 then
		text = text:sub(1, 57) .. "..."
	end
	return '"' .. text:gsub('[%z\1-\31"\\\127-\255]', function(c)
		return (c == '"' or c == "\\") and "\\" .. c or string.format("\\x%02x", c:byte())
	end) .. '"'
end

-- Both sides of the first separator, and whether there is one.
local function cut(text, separator)
	local at = text:find(separator, 1, true)
	if at then
		return text:sub(1, at - 1), text:sub(at + 1), true
	end
	return text, "", false
end

local function split(text, separator)
	local parts, first = {}, 1
	while true do
		local at = text:find(separator, first, true)
		parts[#parts + 1] = text:sub(first, (at or 0) - 1)
		if not at then
			return parts
		end
		first = at + 1
	end
end

-- Without spaces at both ends. A pattern for it would be slow on many spaces.
local function trim(text)
	local first, last = text:find("[^ ]") or #text + 1, #text
	while last >= first and text:byte(last) == 32 do
		last = last - 1
	end
	return text:sub(first, last)
end

local function one_of(value, choices)
	for choice in choices:gmatch("[^ ,]+") do
		if value == choice then
			return value
		end
	end
	refuse("%s is none of %s", quote(value), choices)
end

local function is_label(text)
	return #text <= 63 and text:find("^[a-z0-9]") and text:find("[a-z0-9]$") and not text:find("[^a-z0-9-]")
end
spec.is_label = is_label

-- The value, or the name in the key, of a label.
local function is_qualified(text)
	return #text <= 63 and text:find("^[A-Za-z0-9]") and text:find("[A-Za-z0-9]$") and not text:find("[^A-Za-z0-9_.-]")
end

local function check_name(name)
	if not is_label(name) or not name:find("^[a-z]") then
		refuse('name %s: at most 63 lower-case letters, digits and "-", a letter first', quote(name))
	end
	return name
end

local function check_namespace(name)
	if not is_label(name) then
		refuse("namespace %s: %s", quote(name), DNS_RULE)
	end
	return name
end

local function check_label_value(value)
	if value ~= "" and not is_qualified(value) then
		refuse("%s cannot be the value of a label", quote(value))
	end
	return value
end

local function check_label_key(key)
	local prefix, name, has = cut(key, "/")
	if not has then
		prefix, name = "", key
	end
	local fits = is_qualified(name) and #prefix <= 253
	for _, part in ipairs(has and fits and split(prefix, ".") or {}) do
		fits = fits and is_label(part)
	end
	if not fits then
		refuse("%s cannot be the key of a label", quote(key))
	end
	for _, domain in ipairs({ "kubernetes.io", "k8s.io", "slurmk8s.io" }) do
		if prefix == domain or prefix:sub(-#domain - 1) == "." .. domain then
			refuse("labels of %s are not the user's to set: %s", domain, quote(key))
		end
	end
end

local function is_number(text)
	return text ~= "" and not text:find("[^0-9]")
end

local function port_number(text)
	local n = is_number(text) and #text <= 5 and not text:find("^0") and tonumber(text)
	if not n or n > 65535 then
		refuse("%s is not a port from 1 to 65535", quote(text))
	end
	return n
end

-- [NAME:]PORT[:TARGET]
local function parse_port(text)
	local parts, port = split(text, ":"), { name = "" }
	if #parts > 1 and not is_number(parts[1]) then
		port.name = table.remove(parts, 1)
	end
	if #parts > 2 then
		refuse("%s has too many colons: a port is [NAME:]PORT[:TARGET]", quote(text))
	end
	port.port = port_number(parts[1])
	port.target = parts[2] and port_number(parts[2]) or port.port
	return port
end

local UNITS = { ns = 1, us = 1e3, ms = 1e6, s = 1e9, m = 60e9, h = 3600e9 } -- nanoseconds

-- "90", "90s", "1m30s", "1.5h": from a second to a day.
local function check_seconds(text)
	local rest, sum, fits = text:gsub("^%+", ""), 0, text ~= ""
	if is_number(text) then
		rest = text .. "s"
	end
	while fits and rest ~= "" do
		local number, unit = rest:match("^([0-9.]*)([a-z]*)")
		local whole, fraction = cut(number, ".")
		fits = UNITS[unit] and number:find("[0-9]") and not fraction:find(".", 1, true)
		if fits then
			fraction = fraction:sub(1, 18)
			-- With ".0" they are floating point numbers in each Lua, which do not wrap.
			sum = sum + tonumber("0" .. whole .. ".0") * UNITS[unit] +
				math.floor(tonumber("0" .. fraction .. ".0") * (UNITS[unit] / 10 ^ #fraction))
			rest = rest:sub(#number + #unit + 1)
		end
	end
	if not fits or sum < UNITS.s or sum > 24 * UNITS.h then
		refuse("%s is not a time from 1s to 24h", quote(text))
	end
end

-- An absolute path as path.Clean leaves it.
local function is_clean(path)
	for _, part in ipairs(path == "/" and {} or split(path:sub(2), "/")) do
		if part == "" or part == "." or part == ".." then
			return false
		end
	end
	return path:sub(1, 1) == "/"
end

local function parse_probe(text)
	local kind, rest, has = cut(text, ":")
	if not has and (kind == "tcp" or kind == "none") then
		return kind
	elseif kind == "http" and rest:sub(1, 1) == "/" and #rest <= MAX_PATH and not rest:find(" ", 1, true) then
		return text
	elseif kind == "file" then
		if #rest > MAX_PATH or not is_clean(rest) then
			refuse('%s is not an absolute path without ".."', quote(rest))
		end
		return text
	end
	refuse("%s is none of tcp, http:/PATH, file:/PATH, none", quote(text))
end

local REPEATS = { port = true, label = true }

local FIELDS = {
	name = function(s, v) s.name = v end,
	ns = function(s, v) s.namespace = check_namespace(v) end,
	app = function(s, v) s.app = check_label_value(v) end,
	port = function(s, v) s.ports[#s.ports + 1] = parse_port(v) end,
	type = function(s, v)
		if one_of(v, "external, internal") == "internal" then
			s.expose = "internal"
		end
	end,
	host = function(s, v) s.all_nodes = one_of(v, "batch, all") == "all" end,
	expose = function(s, v) s.expose = one_of(v, "clusterip, headless, nodeport, loadbalancer") end,
	endpoints = function(s, v) s.endpoints = one_of(v, "slice, both") == "both" end,
	ready = function(s, v) s.ready = parse_probe(v) end,
	["ready-timeout"] = function(_, v) check_seconds(v) end,
	label = function(s, v)
		local key, value, has = cut(v, "=")
		if not has then
			refuse("a label is label=KEY=VALUE")
		elseif s.labels[key] then
			refuse("label %s is there twice", quote(key))
		end
		check_label_key(key)
		s.labels[key] = check_label_value(value)
		s.label_count = s.label_count + 1
	end,
}
local KNOWN = "app, endpoints, expose, host, label, name, ns, port, ready, ready-timeout, type"

local function new_service(name, ports)
	return { name = name, namespace = "", app = "", ports = ports or {}, labels = {}, label_count = 0, given = {} }
end

-- KEY=VALUE,KEY=VALUE
local function read_fields(s, text)
	for _, part in ipairs(split(text, ",")) do
		local key, value, has = cut(part, "=")
		if not has then
			refuse("%s is not KEY=VALUE", quote(part))
		elseif not FIELDS[key] then
			refuse("unknown field %s, known are %s", quote(key), KNOWN)
		elseif s.given[key] and not REPEATS[key] then
			refuse("%s= is there twice", key)
		elseif key == "expose" and s.given.type and s.expose == "internal" or
			key == "type" and value == "internal" and s.given.expose then
			refuse("expose= is for type=external: an internal service is a cluster IP")
		end
		s.given[key] = true
		about("%s=", key, FIELDS[key], s, value)
	end
end

local function complete_ports(s)
	if #s.ports > MAX_PORTS then
		refuse("more than %d ports", MAX_PORTS)
	end
	local names, numbers = {}, {}
	for _, p in ipairs(s.ports) do
		if p.name == "" and #s.ports > 1 then
			p.name = "port-" .. p.port
		end
		if p.name ~= "" and not is_label(p.name) then
			refuse("port name %s: %s", quote(p.name), DNS_RULE)
		elseif numbers[p.port] or p.name ~= "" and names[p.name] then
			refuse("port %s is there twice", (p.name == "" and "" or p.name .. ":") .. p.port)
		end
		numbers[p.port], names[p.name] = true, true
	end
end

local function complete(s)
	check_name(s.name)
	complete_ports(s)
	if s.label_count > MAX_LABELS then
		refuse("more than %d labels", MAX_LABELS)
	elseif s.expose == "internal" then
		if s.app == "" then
			refuse("type=internal needs app=, the label of the pods that it selects")
		elseif s.all_nodes or s.endpoints or s.ready and s.ready ~= "none" then
			refuse("type=internal selects pods: host=, ready= and endpoints= are for type=external")
		end
	elseif s.app ~= "" then
		refuse("app= is for type=internal")
	elseif s.endpoints and s.all_nodes then
		refuse("endpoints=both has one writer and does not go with host=all")
	end
	s.ready = s.ready or s.expose == "internal" and "none" or "tcp"
	s.expose = s.expose or s.all_nodes and "headless" or "clusterip"
	return s
end

local function parse_short(part)
	local name, ports, has = cut(part, ":")
	if not has then
		local fits = is_label(name) and name:find("^[a-z]")
		refuse("no port: write NAME:PORT, for example %s:8888", fits and name or "jupyter")
	end
	local port = parse_port(ports)
	if port.name ~= "" then
		refuse("%s is not a port from 1 to 65535", quote(port.name))
	end
	return new_service(name, { port })
end

-- One service, or nil for "env": its variables are not all known before the script runs.
local function parse_service(part)
	local word, options = cut(part, ",")
	if part == "" then
		refuse("empty")
	elseif word == "env" then
		local s = new_service()
		if options ~= "" then
			read_fields(s, options)
		end
		for _, key in ipairs({ "name", "port" }) do
			if s.given[key] then
				refuse("%s= comes from the environment with env", key)
			end
		end
		return nil
	elseif word:find("=", 1, true) then
		local s = new_service()
		read_fields(s, part)
		for _, key in ipairs({ "name", "port" }) do
			if not s.given[key] then
				refuse("%s= is missing", key)
			end
		end
		return complete(s)
	elseif part == word then
		return complete(parse_short(part))
	end
	refuse("options need the long form, such as name=NAME,port=PORT")
end

local function check_text(option, text)
	if #text > MAX_BYTES then
		refuse("--%s: longer than %d KiB", option, MAX_BYTES / 1024)
	end
	local at = text:find("[^ -~]")
	if at then
		refuse("--%s: %s holds a character that cannot be in it (byte %d)", option, quote(text), at)
	end
end

-- The value of --k8s-register: a list of services.
function spec.services(text)
	if text == "" then
		refuse("--k8s-register: empty: write NAME:PORT, for example jupyter:8888")
	end
	check_text("k8s-register", text)
	local services, seen = {}, {}
	for _, part in ipairs(split(text, ";")) do
		part = trim(part)
		services[#services + 1] = about("--k8s-register: %s", quote(part), parse_service, part)
		if #services > MAX_SERVICES then
			refuse("--k8s-register: more than %d services", MAX_SERVICES)
		end
	end
	for _, s in ipairs(services) do
		local id = s.namespace .. "/" .. s.name
		if seen[id] then
			refuse("--k8s-register: the service %s is there twice", s.name)
		end
		seen[id] = true
	end
	return services
end

local function parse_import(part)
	local import, rest = { namespace = "" }, part
	local namespace, after, has = cut(part, "/")
	if has then
		import.namespace, rest = check_namespace(namespace), after
	end
	local name, port, has_port = cut(rest, ":")
	import.name = check_name(name)
	if has_port and not is_label(port) then
		refuse("port %s is neither a name nor a number", quote(port))
	end
	return import
end

-- The value of --k8s-import: a list of { namespace =, name = }.
function spec.imports(text)
	check_text("k8s-import", text)
	local imports = {}
	for part in text:gmatch("[^,;]+") do
		part = trim(part)
		imports[#imports + 1] = about("--k8s-import: %s", quote(part), parse_import, part)
		if #imports > MAX_SERVICES then
			refuse("--k8s-import: more than %d services", MAX_SERVICES)
		end
	end
	if #imports == 0 then
		refuse("--k8s-import: empty: write [NAMESPACE/]SERVICE[:PORT]")
	end
	return imports
end

-- The value of --k8s-namespace.
function spec.namespace(text)
	return about("--k8s-namespace%s", "", check_namespace, text)
end

return spec
