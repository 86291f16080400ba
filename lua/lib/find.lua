-- Finds the deduct that a refund or a void is about, at the nearest place that knows it.
-- uses: deducts, ids, search

-- Looks for the record of a UUIDv7 that may be minted, or given by a caller whose clock is ahead:
-- first where nearly all are. Returns the record; or nil, and the entry from which to go on.
local function find_in_window(shard, id, id_ms, from)
  local split_ms = id_ms - LOOK_BACK_MS
  local record, cut
  if from == '' or tonumber(string.match(from, '^%d+')) >= split_ms then
    local to_ms = math.min(id_ms + GIVEN_ID_MS_MAX, shard.now_ms)
    record, cut = find_record(shard, id, split_ms, to_ms, from ~= '' and '(' .. from or nil)
    from = ''
  end
  if record or cut then
    return record, cut
  end
  return find_record(shard, id, id_ms - GIVEN_ID_AHEAD_MS_MAX, split_ms,
    from ~= '' and '(' .. from or nil)
end

-- Returns the record of an id: at its address, at the time that is remembered of it, or at the
-- time that the id carries; or nil, and the entry from which a search that was cut short goes on.
local function find_by_any(shard, id, position, from)
  local record = position ~= '' and record_at(shard, position, id)
  if record then
    return record
  end
  local known, id_ms = recall_id(shard, id), id_time_ms(id)
  if known then
    return find_record(shard, id, known.at_ms, known.at_ms)
  elseif not id_ms then
    return nil
  end
  return find_in_window(shard, id, id_ms, from)
end

-- Returns the record of an id that is the caller's choice, if another one has it. An id without a
-- time is not searched for: the drain finds it, since its row would be the second.
local function find_choice(shard, id, from)
  local id_ms = id_time_ms(id)
  if not id_ms then
    return nil
  end
  return find_in_window(shard, id, id_ms, from)
end
