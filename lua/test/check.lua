-- check.lua - the test harness: check.test() runs one behaviour, prints one line.
local check = { failed = 0 }

-- Run fn; it fails by error(), and may return a note for the line.
function check.test(name, fn)
	local ok, result = pcall(fn)
	if ok then
		print("ok - " .. check.prefix .. name .. (result and " (" .. result .. ")" or ""))
	else
		check.failed = check.failed + 1
		print("not ok - " .. check.prefix .. name .. ": " .. tostring(result))
	end
end

function check.equal(got, want, what)
	if got ~= want then
		error(string.format("%s: got %q, want %q", what or "value", tostring(got), tostring(want)), 2)
	end
end

function check.contains(text, part)
	if not tostring(text):find(part, 1, true) then
		error(string.format("%q does not contain %q", tostring(text), part), 2)
	end
end

-- Tables of strings with equal keys and values.
function check.same(got, want)
	for key, value in pairs(want) do
		check.equal(got[key], value, key)
	end
	for key, value in pairs(got) do
		check.equal(value, want[key], key)
	end
end

function check.read(path)
	local file = assert(io.open(path, "r"))
	local text = file:read("*a")
	file:close()
	return text
end

function check.write(path, text)
	local file = assert(io.open(path, "w"))
	assert(file:write(text))
	assert(file:close())
end

-- The pid of this process, and its children's, zombies among them.
function check.pid()
	return check.read("/proc/self/stat"):match("^%d+")
end

function check.children()
	local pid = check.pid()
	return (check.read("/proc/" .. pid .. "/task/" .. pid .. "/children"):gsub("%s+$", ""))
end

-- The open descriptors of this process, as one sorted line. They are listed into a file: a pipe
-- of popen() would be one of them, for as long as popen() needs to close its end.
function check.descriptors()
	local path = os.tmpname()
	os.execute("ls /proc/" .. check.pid() .. "/fd | sort -n | tr '\\n' ' ' >" .. path)
	local text = check.read(path)
	os.remove(path)
	return text
end

return check
