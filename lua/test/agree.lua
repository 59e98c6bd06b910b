-- agree.lua PARTS FILE: what lua/job_submit makes of the cases in FILE, for
-- bridge/policy/lua_test.go, which compares it with the program's own answers. A case is
-- a line of words in hexadecimal, its answer a line.
-- luacheck: globals toml spec policy
local parts, cases = ...
toml = dofile(parts .. "/toml.lua")
spec = dofile(parts .. "/spec.lua")
policy = dofile(parts .. "/policy.lua")

local function canonical(s)
	local words = { "name=" .. s.name }
	for _, p in ipairs(s.ports) do
		words[#words + 1] = "port=" .. (p.name == "" and "" or p.name .. ":") .. p.port .. ":" .. p.target
	end
	if s.namespace ~= "" then
		words[#words + 1] = "ns=" .. s.namespace
	end
	if s.expose == "internal" then
		words[#words + 1] = "type=internal,app=" .. s.app
	else
		words[#words + 1] = "host=" .. (s.all_nodes and "all" or "batch")
		words[#words + 1] = "expose=" .. s.expose
		words[#words + 1] = "ready=" .. s.ready
	end
	if s.endpoints then
		words[#words + 1] = "endpoints=both"
	end
	local keys = {}
	for key in pairs(s.labels) do
		keys[#keys + 1] = key
	end
	table.sort(keys)
	for _, key in ipairs(keys) do
		words[#words + 1] = "label=" .. key .. "=" .. s.labels[key]
	end
	return table.concat(words, ",")
end

local answers = {}

function answers.services(text)
	local all = {}
	for i, s in ipairs(spec.services(text)) do
		all[i] = canonical(s)
	end
	return table.concat(all, ";")
end

function answers.imports(text)
	local all = {}
	for i, import in ipairs(spec.imports(text)) do
		all[i] = import.namespace .. "/" .. import.name
	end
	return table.concat(all, ";")
end

-- "" of user and account: not known.
function answers.admit(config, user, account, register, import, namespace)
	local rules, why = policy.read(config)
	if not rules then
		return "unknown: " .. why
	end
	namespace = namespace == "" and "" or spec.namespace(namespace)
	policy.admit(rules, { uid = 7, name = user ~= "" and user or nil, account = account ~= "" and account or nil },
		register == "" and {} or spec.services(register), import == "" and {} or spec.imports(import), namespace)
	return "admitted"
end

for line in io.lines(cases) do
	local words = {}
	for word in (line .. " "):gmatch("([^ ]*) ") do
		words[#words + 1] = (word:gsub("..", function(hex) return string.char(tonumber(hex, 16)) end))
	end
	local answer, refusal = spec.judged(answers[words[1]], words[2], words[3], words[4], words[5], words[6], words[7])
	print(refusal and "refused: " .. refusal or answer)
end
