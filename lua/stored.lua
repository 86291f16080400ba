-- stored: notes how far the records of a shard are rows, and deletes old ones that are.
--
-- KEYS   1 state   2 stream
-- ARGV   1 consumer group   2 retention (ms)   3 most entries to delete
-- Reply  {ordinal of the last record that is stored with all before it, number of entries deleted}
-- Appends nothing.
--
-- The records before the oldest entry that is not acknowledged are stored. An entry is deleted when
-- it is stored and older than the retention. MAXLEN, which would delete unread ones, is never used.
-- It runs on a full Redis, too: that is how it becomes less full.
-- flags: allow-oom
-- uses: args, shard

local retention_ms = whole(ARGV[2], 0, TIME_MS_MAX)
local count_max = whole(ARGV[3], 1, CREDITS_MAX)
if not retention_ms or not count_max then
  return invalid('retention or count: whole numbers that are not negative')
end
local shard = read_shard(KEYS[1], KEYS[2], redis.call('GET', KEYS[1]), time_us())
if shard.problem then
  return { 0, 0 }
end

-- Returns the id of the last entry that was delivered to the group; nil without a group.
local function last_delivered()
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
    local fields = {}
    for i = 1, #group, 2 do
      fields[group[i]] = group[i + 1]
    end
    if fields['name'] == ARGV[1] then
      return fields['last-delivered-id']
    end
  end
  return nil
end

-- Returns the oldest entry that is not acknowledged; nil if there is none.
local function oldest_pending(delivered)
  local pending = redis.call('XPENDING', KEYS[2], ARGV[1])
  if pending[1] > 0 then
    return redis.call('XRANGE', KEYS[2], pending[2], '+', 'COUNT', 1)[1]
  end
  return redis.call('XRANGE', KEYS[2], '(' .. delivered, '+', 'COUNT', 1)[1]
end

local delivered = redis.call('EXISTS', KEYS[2]) == 1 and last_delivered()
if not delivered then
  return { shard.stored, 0 }
end
local oldest = oldest_pending(delivered)
local keep_ms = math.max(0, shard.now_ms - retention_ms)
if oldest then
  local payload = oldest[2][2] or ''
  -- What cannot be read becomes a dead letter. Until then it is not known which records are before.
  if string.byte(payload) == VERSION and #payload >= ENTRY_BYTES then
    local _, _, first = struct.unpack(ENTRY_FORMAT, payload)
    shard.stored = math.min(first - 1, shard.ordinal)
  end
  keep_ms = math.min(keep_ms, tonumber(string.match(oldest[1], '^%d+')))
else
  shard.stored = shard.ordinal
end
-- `~` deletes whole nodes at a time. The rest of the last node goes after them, since an entry that
-- stays for a day would be taken for a backlog.
local boundary = string.format('%.0f-0', keep_ms)
local deleted = redis.call('XTRIM', KEYS[2], 'MINID', '~', boundary, 'LIMIT', count_max)
if deleted < count_max then
  deleted = deleted + redis.call('XTRIM', KEYS[2], 'MINID', '=', boundary)
end
shard.oldest_ms = math.max(shard.oldest_ms, keep_ms)
redis.call('SET', KEYS[1], struct.pack(STATE_FORMAT, VERSION, shard.epoch, shard.ordinal,
  shard.stored, shard.last_us, shard.oldest_ms))
return { shard.stored, deleted }
