-- What becomes of the idempotency key of a transaction, if it had one, once its request is over.
-- Its hashes are the keys `first` and the one after it.

-- Returns the entry of a transaction, if its key is known.
local function entry_of(id, first)
  for i = first, first + 1 do
    local digest = redis.call('HGET', KEYS[i], 't' .. id)
    local entry = digest and load_entry(KEYS[i], digest)
    if entry and entry.id == id then
      return entry
    end
  end
  return nil
end

-- If it was served (by `attempt`, where that is known; the first that was counts), nothing is to be
-- served for the key again. If all was given back, the request may be made again. Returns whether
-- the key was known.
local function end_key(id, first, is_served, attempt)
  local entry = entry_of(id, first)
  if entry and is_served then
    if attempt and entry.state ~= DONE then
      entry.holder = random_half(attempt)
    end
    entry.state = DONE
    save_entry(entry)
  elseif entry then
    redis.call('HDEL', entry.hash, 't' .. id, 'k' .. entry.digest)
  end
  return entry ~= nil
end
