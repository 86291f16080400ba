-- trim: deletes acknowledged records that are older than the window in which a retry needs them.
--
-- KEYS   1 stream
-- ARGV   1 consumer group   2 retention (ms)   3 most records to delete
-- Reply  {number of records deleted}
-- Appends nothing.
--
-- The boundary lies below every record that is not acknowledged: below the oldest pending one, and
-- right above the last one delivered. `~` deletes whole nodes, many at once; what is left of the
-- last node goes after them, since a record that stays for a day would be taken for a backlog.
-- MAXLEN, which would delete unread ones, is never used.
-- uses: arguments, clock

local retention_ms = whole(ARGV[2], 0, TIME_MS_MAX)
local count_max = whole(ARGV[3], 1, CREDITS_MAX)
if not retention_ms or not count_max then
  return invalid('retention or count: whole numbers that are not negative')
elseif redis.call('EXISTS', KEYS[1]) == 0 then
  return { 0 }
end

local function parts(id)
  local ms, n = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(n)
end

local function lower(a, b)
  local a_ms, a_n = parts(a)
  local b_ms, b_n = parts(b)
  return (a_ms < b_ms or (a_ms == b_ms and a_n < b_n)) and a or b
end

local delivered
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = {}
  for i = 1, #group, 2 do
    fields[group[i]] = group[i + 1]
  end
  if fields['name'] == ARGV[1] then
    delivered = fields['last-delivered-id']
  end
end
if not delivered then
  return { 0 }
end
local oldest_ms = math.max(0, math.floor(time_us() / 1000) - retention_ms)
local ms, n = parts(delivered)
local boundary = lower(string.format('%.0f-%.0f', ms, n + 1), string.format('%.0f-0', oldest_ms))
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
if pending[1] > 0 then
  boundary = lower(boundary, pending[2])
end
local deleted = redis.call('XTRIM', KEYS[1], 'MINID', '~', boundary, 'LIMIT', count_max)
if deleted < count_max then
  deleted = deleted + redis.call('XTRIM', KEYS[1], 'MINID', '=', boundary)
end
return { deleted }
