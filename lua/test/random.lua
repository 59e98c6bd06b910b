-- random.lua - the same numbers in each version of Lua.
local random = {}

local seed = 20221
function random.below(limit)
	seed = (seed * 16807) % 2147483647
	return seed % limit
end

-- One of the values of a list.
function random.one_of(values)
	return values[1 + random.below(#values)]
end

return random
