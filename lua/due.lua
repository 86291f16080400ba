-- due: names open holds of a shard whose time is over, the oldest first.
--
-- KEYS   1 open holds
-- ARGV   1 most holds to name
-- Reply  {status, 0, 0, now (Unix ms), holds: each the ids of hold and user (32 bytes)}
--        status: found
-- Appends nothing and writes nothing.
-- flags: no-writes
-- uses: arguments, clock

local count_max = whole(ARGV[1], 1, CREDITS_MAX)
if not count_max then
  return invalid('count: a whole number, more than 0')
end
local now_ms = math.floor(time_us() / 1000)
return { 'found', 0, 0, now_ms, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf',
  string.format('%.0f', now_ms), 'LIMIT', 0, count_max) }
