-- The idempotency key of a request that is over: it was served, or everything was given back.
-- uses: keys

-- Returns the entry of the transaction with an id, if it had a key.
local function entry_of(account, id)
  for turn = 0, 1 do
    local digest = redis.call('HGET', key_hash(account, turn), 't' .. id)
    local entry = digest and find_entry(account, turn, digest)
    if entry and entry.id == id then
      return entry
    end
  end
  return nil
end

-- Says whether another attempt than this one was the last to be let in, or was served.
local function is_taken_over(entry, attempt_id)
  return entry ~= nil and entry.holder ~= random_half(attempt_id)
end

-- Notes that a request was served, by `attempt_id` where that is known.
local function complete_key(account, entry, attempt_id)
  if attempt_id and entry.state ~= DONE then
    entry.holder = random_half(attempt_id)
  end
  entry.state = DONE
  save_entry(account.shard, entry)
end

-- Forgets the key of a deduct that was given back wholly, so that the request may be made again.
local function forget_key(account, id)
  local entry = entry_of(account, id)
  if entry then
    write_later(account.shard, 'HDEL', entry.hash, 't' .. id, 'k' .. entry.digest)
  end
end
