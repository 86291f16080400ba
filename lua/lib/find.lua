-- Finds the deduct that a refund or a void is about, at the nearest place that knows it.
-- uses: deducts, ids, search

-- Returns the record of an id: at its address, at the time that is remembered of it, or at the
-- time that the id carries; or nil, and the entry from which a search that was cut short goes on.
local function find_by_any(shard, id, position, to_ms, from)
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
  local from_ms = math.max(id_ms - LOOK_BACK_MS, shard.oldest_ms)
  return find_record(shard, id, from_ms, math.min(to_ms, shard.now_ms), from ~= '' and from or nil)
end

-- Says whether a record carries an id that is the caller's choice. An id without a time is not
-- searched for: the drain finds it, since its row would be the second.
local function find_choice(shard, id, from)
  local id_ms = id_time_ms(id)
  if not id_ms then
    return nil
  end
  return find_record(shard, id, math.max(id_ms - LOOK_BACK_MS, shard.oldest_ms),
    math.min(id_ms + GIVEN_ID_MS_MAX, shard.now_ms), from ~= '' and from or nil)
end
