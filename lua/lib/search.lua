-- Searches the entries of a shard for the record of an id, from the time of the id outward. The
-- record is nearly always within milliseconds of it.
-- uses: records

local ALLOWANCE_BYTES = 14
-- A shard with 4,000 records a second writes about 250 entries in one, and 256 of these are read in
-- a millisecond.
local PAGE_LENGTH, ENTRIES_MAX = 16, 256

-- Reads the record at `at`; returns it and the position of the next one. Returns nil at the end of
-- the entry.
local function read_record(payload, at)
  if at + RECORD_BYTES > #payload + 1 then
    return nil
  end
  local size, kind, flags, id, user, amount, credits, sequence =
    struct.unpack(RECORD_FORMAT, payload, at)
  local has_allowance = flags % 2 == HAS_ALLOWANCE
  if size < RECORD_BYTES + (has_allowance and ALLOWANCE_BYTES or 0) or at + size > #payload + 1 then
    return nil
  end
  local record = { kind = kind, id = id, user = user, amount = amount, credits = credits,
    sequence = sequence, allowance = 0, left = 0, period_ms = 0,
    is_hold = flags % (2 * IS_HOLD) >= IS_HOLD }
  if flags % (2 * HAS_REFERENCE) >= HAS_REFERENCE then
    local reference_at = at + RECORD_BYTES + (has_allowance and ALLOWANCE_BYTES or 0)
    record.refund_of = string.sub(payload, reference_at, reference_at + 15)
  end
  if has_allowance then
    record.allowance, record.left, record.period_ms =
      struct.unpack(ALLOWANCE_FORMAT, payload, at + RECORD_BYTES)
  end
  return record, at + size
end

-- Returns the record of an id in an entry, with its position, or nil. Most entries are skipped
-- by one search for the random half of the id: its first bytes are in every record of its time.
local function find_in_stream_entry(entry, id)
  local payload = entry[2][2]
  if not payload or not string.find(payload, string.sub(id, 9), 1, true) then
    return nil
  end
  local record, next_at = read_record(payload, ENTRY_BYTES + 1)
  local index = 1
  while record and record.id ~= id do
    record, next_at = read_record(payload, next_at)
    index = index + 1
  end
  if record then
    record.position = string.format('%s/%d', entry[1], index)
    record.at_ms = tonumber(string.match(entry[1], '^%d+'))
  end
  return record
end

-- Reads entries of a shard, by XRANGE or XREVRANGE. A stream that cannot be read makes its shard
-- corrupt.
local function read_stream_entries(shard, command, first, last)
  local page = redis.pcall(command, shard.stream, first, last, 'COUNT', PAGE_LENGTH)
  if page.err then
    shard.problem = 'corrupt'
    return {}
  end
  return page
end

-- Returns whether a side before the time of an id has no entries. XREVRANGE would read the whole
-- stream if asked for entries before the first one (Redis 7).
local function is_before_all(shard, side)
  local oldest = redis.call('XRANGE', shard.stream, '-', '+', 'COUNT', 1)[1]
  if not oldest then
    return true
  end
  local ms, n = string.match(oldest[1], '(%d+)-(%d+)')
  local at_ms, at_n = string.match(side.at, '(%d+)-(%d+)')
  return tonumber(at_ms) < tonumber(ms) or at_ms == ms and tonumber(at_n) <= tonumber(n)
end

-- Searches the next entries on one side of the time of an id; returns the record, or nil. Notes how
-- far the side was searched, and whether it is done.
local function search_page(shard, id, side)
  if side.command == 'XREVRANGE' and not side.is_begun and is_before_all(shard, side) then
    side.is_over = true
    return nil
  end
  side.is_begun = true
  local page = read_stream_entries(shard, side.command, side.at, side.last)
  for _, entry in ipairs(page) do
    local record = find_in_stream_entry(entry, id)
    if record then
      return record
    end
  end
  side.is_over = #page < PAGE_LENGTH
  if #page > 0 then
    side.at = '(' .. page[#page][1]
  end
  return nil
end

-- Returns the record of an id between two times, in milliseconds, both included; or nil, and where
-- to continue if the search reached its bound: how far it went after and before `id_ms`.
-- `entries_max` is the most entries to read, and `from` where an earlier search stopped, or ''.
local function find_record(shard, id, id_ms, first_ms, last_ms, entries_max, from)
  local begin = string.format('%.0f-0', math.max(first_ms, math.min(id_ms, last_ms)))
  local after, before = string.match(from, '^(%(?%d+%-%d+) (%(%d+%-%d+)$')
  after = { command = 'XRANGE', at = after or begin, last = string.format('%.0f', last_ms) }
  before = { command = 'XREVRANGE', at = before or '(' .. begin,
    last = string.format('%.0f', first_ms) }
  local side, left = after, entries_max
  while left > 0 and not (after.is_over and before.is_over) do
    local record = search_page(shard, id, side)
    if record or shard.problem then
      return record
    end
    left = left - PAGE_LENGTH
    local other = side == after and before or after
    side = other.is_over and side or other
  end
  local is_cut = not (after.is_over and before.is_over)
  return nil, is_cut and after.at .. ' ' .. before.at or nil
end
