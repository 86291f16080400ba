-- Looks for the record of an id among the entries of its shard that were written at its time.
-- uses: records

local ALLOWANCE_BYTES = 14
local PAGE_LENGTH, ENTRIES_MAX = 64, 1024

-- Reads the record that begins at `at`; returns it, and where the next one begins. Returns nil at
-- the end of the entry.
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
  if has_allowance then
    record.allowance, record.left, record.period_ms =
      struct.unpack(ALLOWANCE_FORMAT, payload, at + RECORD_BYTES)
  end
  return record, at + size
end

-- Returns the record of an id in an entry, with its position, or nil. Most entries are passed over
-- by one comparison of bytes.
local function find_in_entry(entry, id)
  local payload = entry[2][2]
  if not payload or not string.find(payload, id, 1, true) then
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

-- Reads entries of a shard. A stream that cannot be read makes its shard corrupt.
local function read_entries(shard, first, last, count)
  local page = redis.pcall('XRANGE', shard.stream, first, last, 'COUNT', count)
  if page.err then
    shard.problem = 'corrupt'
    return {}
  end
  return page
end

-- Returns the record of an id between two times, in milliseconds; or nil, and the entry from which
-- to go on where the search was cut short by its bound. `from` is where to begin instead, or nil.
local function find_record(shard, id, from_ms, to_ms, from)
  local start = from or string.format('%.0f', from_ms)
  local last = string.format('%.0f', to_ms)
  for _ = 1, ENTRIES_MAX / PAGE_LENGTH do
    local page = read_entries(shard, start, last, PAGE_LENGTH)
    for _, entry in ipairs(page) do
      local record = find_in_entry(entry, id)
      if record then
        return record, nil
      end
    end
    if #page < PAGE_LENGTH then
      return nil, nil
    end
    start = '(' .. page[PAGE_LENGTH][1]
  end
  return nil, string.sub(start, 2)
end

-- Returns the record at an address, such as 1700000000000-0/1, if it has the id.
local function record_at(shard, position, id)
  local entry_id = string.match(position, '^(%d+%-%d+)/%d+$')
  local entry = entry_id and read_entries(shard, entry_id, entry_id, 1)[1]
  return entry and find_in_entry(entry, id)
end
