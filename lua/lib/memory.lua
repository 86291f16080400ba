-- A refund, void or credit is known by a key of its own for a day, and from Postgres once it is a
-- row.

local MEMORY_MS = 86400000

local function remember(key, ...)
  redis.call('HSET', key, ...)
  redis.call('PEXPIRE', key, MEMORY_MS)
end
