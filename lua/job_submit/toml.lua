-- toml.lua - reads the part of TOML that slurmk8s.toml is written in. What it does not
-- know it refuses as a whole: half a policy must not be taken for one. It may take what
-- the program refuses, since a node with such a file refuses every job by itself.
--
-- Known: comments, tables, lists of tables, keys (bare, quoted, dotted), texts in one
-- line, whole numbers in decimal, true and false, lists, tables in one line.

local toml = {}

local LIST = {} -- the metatable of lists, which tells them from tables
local MAX_DEPTH = 16 -- of brackets

function toml.is_list(value)
	return getmetatable(value) == LIST
end

local function fail(r, what)
	local _, lines = r.text:sub(1, r.at - 1):gsub("\n", "")
	error({ unknown = string.format("line %d: %s", lines + 1, what) }, 0)
end

-- Returns what matches the pattern here, and goes behind it; nil if nothing does.
local function take(r, pattern)
	local first, last = r.text:find("^" .. pattern, r.at)
	if first then
		r.at = last + 1
		return r.text:sub(first, last)
	end
end

local function skip_blanks(r)
	take(r, "[ \t]+")
end

-- Blanks, ends of lines and comments.
local function skip_lines(r)
	while take(r, "[ \t\r\n]+") or take(r, "#[^\n]*") do end
end

local function expect(r, pattern, what)
	if not take(r, pattern) then
		fail(r, "expected " .. what)
	end
end

local ESCAPES = { b = "\b", t = "\t", n = "\n", f = "\f", r = "\r", ['"'] = '"', ["\\"] = "\\" }

local function basic_text(r)
	local parts = {}
	expect(r, '"', "a text")
	while true do
		parts[#parts + 1] = take(r, '[^"\\%c]+')
		if take(r, '"') then
			return table.concat(parts)
		elseif take(r, "\\") then
			parts[#parts + 1] = ESCAPES[take(r, '[btnfr"\\]')] or fail(r, "an escape that is not known here")
		else
			fail(r, "a text without an end in its line")
		end
	end
end

local function text(r)
	local quotes = r.text:sub(r.at, r.at + 2)
	if quotes == '"""' or quotes == "'''" then
		fail(r, "a text of several lines, which is not known here")
	end
	if quotes:sub(1, 1) == '"' then
		return basic_text(r)
	end
	local literal = take(r, "'[^'%c]*'") or fail(r, "a text without an end in its line")
	return literal:sub(2, -2)
end

-- Returns the parts of a dotted key.
local function key(r)
	local parts = {}
	repeat
		skip_blanks(r)
		parts[#parts + 1] = take(r, "[A-Za-z0-9_-]+") or text(r)
		skip_blanks(r)
	until not take(r, "%.")
	return parts
end

local pair -- below

local function list(r, depth, value)
	local all = setmetatable({}, LIST)
	skip_lines(r)
	while not take(r, "%]") do
		all[#all + 1] = value(r, depth + 1)
		skip_lines(r)
		if not take(r, ",") then
			expect(r, "%]", '"," or "]"')
			return all
		end
		skip_lines(r)
	end
	return all
end

local function inline_table(r, depth)
	local all = {}
	skip_blanks(r)
	if take(r, "}") then
		return all
	end
	repeat
		pair(r, all, depth + 1)
		skip_blanks(r)
	until not take(r, ",")
	expect(r, "}", '"," or "}"')
	return all
end

local function value(r, depth)
	if depth > MAX_DEPTH then
		fail(r, "brackets are nested too deeply")
	end
	local start = r.text:sub(r.at, r.at)
	if start == '"' or start == "'" then
		return text(r)
	elseif take(r, "%[") then
		return list(r, depth, value)
	elseif take(r, "{") then
		return inline_table(r, depth)
	end
	local word = take(r, "[A-Za-z0-9_.:+-]+") or fail(r, "expected a value")
	if word == "true" or word == "false" then
		return word == "true"
	elseif #word <= 15 and (word:find("^[+-]?[1-9]%d*$") or word:find("^[+-]?0$")) then
		return tonumber((word:gsub("^%+", "")))
	end
	fail(r, "a value that is not known here")
end

-- Returns the table below `parent`, which is made if it is not there.
local function below(r, parent, name)
	local child = parent[name]
	if child == nil then
		child = {}
		parent[name] = child
	elseif toml.is_list(child) then
		child = child[#child]
	end
	if type(child) ~= "table" or toml.is_list(child) then
		fail(r, "a key that has a value already")
	end
	return child
end

-- KEY = VALUE
pair = function(r, parent, depth)
	local parts = key(r)
	for i = 1, #parts - 1 do
		parent = below(r, parent, parts[i])
	end
	expect(r, "=", '"="')
	skip_blanks(r)
	local name = parts[#parts]
	if parent[name] ~= nil then
		fail(r, "a key that is there twice")
	end
	parent[name] = value(r, depth)
end

-- [a.b] and [[a.b]]; returns the table that the next lines are for.
local function header(r, root, defined)
	local of_list = take(r, "%[%[") ~= nil
	if not of_list then
		expect(r, "%[", '"["')
	end
	local parts = key(r)
	expect(r, of_list and "%]%]" or "%]", 'the end of "["')
	local parent = root
	for i = 1, #parts - 1 do
		parent = below(r, parent, parts[i])
	end
	local name = parts[#parts]
	if not of_list then
		local child = below(r, parent, name)
		if defined[child] or toml.is_list(parent[name]) then
			fail(r, "a table that is there twice")
		end
		defined[child] = true
		return child
	end
	local tables = parent[name] or setmetatable({}, LIST)
	if not defined[tables] and parent[name] ~= nil then
		fail(r, "a key that has a value already")
	end
	parent[name], defined[tables] = tables, true
	tables[#tables + 1] = {}
	return tables[#tables]
end

-- Returns the tables of a text, or nil and why it is not understood.
function toml.parse(content)
	local r = { text = content, at = 1 }
	local ok, result = pcall(function()
		local root, defined = {}, {}
		local current = root
		skip_lines(r)
		while r.at <= #r.text do
			if r.text:sub(r.at, r.at) == "[" then
				current = header(r, root, defined)
			else
				pair(r, current, 1)
			end
			skip_blanks(r)
			take(r, "#[^\n]*")
			if r.at <= #r.text then
				expect(r, "\r?\n", "the end of the line")
			end
			skip_lines(r)
		end
		return root
	end)
	if ok then
		return result
	elseif type(result) == "table" and result.unknown then
		return nil, result.unknown
	end
	error(result, 0)
end

return toml
