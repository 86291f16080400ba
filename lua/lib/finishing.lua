-- What becomes of the idempotency key of a transaction, if it had one, once its request is over.
-- Its hashes are the keys `first` and the one after it.

-- If it was served, nothing is to be served for the key again; if all was given back, the request
-- may be made again. Returns whether the key was known.
local function end_key(id, first, is_served)
  for i = first, first + 1 do
    local digest = redis.call('HGET', KEYS[i], 't' .. id)
    local entry = digest and load_entry(KEYS[i], digest)
    if entry and entry.id == id and is_served then
      entry.state = DONE
      save_entry(entry)
      return true
    elseif entry and entry.id == id then
      redis.call('HDEL', KEYS[i], 't' .. id, 'k' .. digest)
      return true
    end
  end
  return false
end
