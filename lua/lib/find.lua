-- Finds the deduct of a refund or a void, in the first source that knows it.
-- uses: deducts, ids, search

-- Returns the record of a UUIDv7 without a key of its own; or nil, and where a bounded search
-- continues. A minted attempt was charged near the time of its id, and until `until_ms`;
-- any other record has a key, unless that has run out or, if `is_lost`, cannot be read.
local function find_keyless(shard, id, id_ms, until_ms, is_lost, from)
  local first_ms = id_ms - MINTED_ID_AHEAD_MS_MAX
  local last_ms = math.min(id_ms + KEYLESS_MS_MAX, until_ms)
  local keyless_ms = is_lost and shard.now_ms or shard.now_ms - GIVEN_KEY_MS
  if id_ms - GIVEN_ID_AHEAD_MS_MAX <= keyless_ms then
    first_ms = id_ms - GIVEN_ID_AHEAD_MS_MAX
    last_ms = math.max(last_ms, math.min(id_ms + GIVEN_ID_MS_MAX, keyless_ms))
  end
  last_ms = math.min(last_ms, shard.now_ms)
  if first_ms > last_ms then
    return nil
  end
  return find_record(shard, id, id_ms, first_ms, last_ms, ENTRIES_MAX, from)
end

-- Returns the record at an address, such as 1700000000000-0/1, if it has the id.
local function record_at(shard, position, id)
  local entry_id = string.match(position, '^(%d+%-%d+)/%d+$')
  local entry = entry_id and read_stream_entries(shard, 'XRANGE', entry_id, entry_id)[1]
  return entry and find_in_stream_entry(entry, id)
end

-- Returns the record of an id: at its address, by its key, or near the time of the id if an attempt
-- was not charged after `until_ms`; or nil, and where a bounded search continues.
local function find_by_any(shard, id, position, until_ms, from)
  local record = position ~= '' and record_at(shard, position, id)
  if record then
    return record
  end
  local known, id_ms = recall_id(shard, id), id_time_ms(id)
  if known then
    return find_record(shard, id, known.at_ms, known.at_ms, known.at_ms, ENTRIES_MAX, from)
  elseif not id_ms then
    return nil
  end
  return find_keyless(shard, id, id_ms, until_ms, known == false, from)
end

-- Returns the record of another transaction with a caller's id that has no key. An id without a
-- time is not searched for: the drain finds it, since its row would be the second.
local function find_choice(shard, id, from)
  local id_ms = id_time_ms(id)
  if not id_ms then
    return nil
  end
  return find_keyless(shard, id, id_ms, shard.now_ms, false, from)
end
