-- stored: notes how far the records of a shard are rows, and deletes old stored ones.
--
-- KEYS   1 state   2 stream
-- ARGV   1 epoch   2 ordinal of the last record that is a row with all before it   3 position of
--        its entry   4 retention (ms)   5 shortest retention (ms)   6 most entries with the longer
--        retention   7 most entries to delete
-- Reply  {ordinal that is stored, number of entries deleted}
-- Appends nothing.
--
-- It changes nothing if the shard is of another epoch or if that entry is not there: history has
-- changed, and the drain reads the stream again. It sets the ordinal even if that is lower than
-- before, so the next call corrects a late one. The entry at the position stays while another
-- follows it, and so do all entries after it. Entries before it are deleted once they are older
-- than the retention; if there are too many, once they are older than the shortest one. MAXLEN is
-- never used: it would delete entries that are not stored. The script runs on a full Redis, too,
-- which becomes less full by it.
-- flags: allow-oom
-- uses: args, shard

local epoch, ordinal = whole(ARGV[1], 0, SEQUENCE_MAX), whole(ARGV[2], 0, TIME_MS_MAX)
local position = string.match(ARGV[3] or '', '^%d+%-%d+$')
local retention_ms, least_ms = whole(ARGV[4], 0, TIME_MS_MAX), whole(ARGV[5], 0, TIME_MS_MAX)
local length_max, count_max = whole(ARGV[6], 0, CREDITS_MAX), whole(ARGV[7], 1, CREDITS_MAX)
if not (epoch and ordinal and position and retention_ms and least_ms and length_max and count_max)
then
  return invalid('epoch, ordinal, position, retentions or counts')
end
local shard = read_shard(KEYS[1], KEYS[2], redis.call('GET', KEYS[1]), time_us())
admit_closed(shard)
if shard.problem or shard.epoch ~= epoch then
  return { 0, 0 }
end
local following = redis.call('XRANGE', KEYS[2], position, '+', 'COUNT', 2)
if not following[1] or following[1][1] ~= position then
  return { shard.stored, 0 }
end
shard.stored = math.min(ordinal, shard.ordinal)

local function ms_of(entry_id)
  return tonumber(string.match(entry_id, '^%d+'))
end

-- Deletes stored entries that are older than `ms`, at most `limit`; returns how many.
local function trim(ms, limit)
  local boundary, first = shard.now_ms - ms, nil
  if following[2] then
    boundary = math.min(boundary, ms_of(following[2][1]))
    -- The drain compares this entry with its cursor, so it stays as long as another follows.
    first = boundary > ms_of(position) and position
  end
  boundary = math.max(0, boundary)
  first = first or string.format('%.0f-0', boundary)
  -- `~` deletes whole nodes at a time. The rest of the last node goes after them, since an entry
  -- that stays for a day would look like a backlog.
  local deleted = redis.call('XTRIM', KEYS[2], 'MINID', '~', first, 'LIMIT', limit)
  if deleted < limit then
    deleted = deleted + redis.call('XTRIM', KEYS[2], 'MINID', '=', first)
  end
  shard.oldest_ms = math.max(shard.oldest_ms, boundary)
  return deleted
end

local deleted = trim(retention_ms, count_max)
local excess = redis.call('XLEN', KEYS[2]) - length_max
if excess > 0 and least_ms < retention_ms then
  deleted = deleted + trim(least_ms, count_max)
end
redis.call('SET', KEYS[1], pack_state(shard, shard.last_us))
return { shard.stored, deleted }
