-- The idempotency key of a request that is over: it was served, or everything was given back.
-- uses: keys

-- Returns the lease of the transaction with an id, if it had a key. `first` is the generation where
-- it is likely, if that is known.
local function lease_of(account, id, first)
  first = first or 0
  for generation = first, first + 1 do
    local digest = redis.call('HGET', idempotency_key_hash(account, generation), 't' .. id)
    local lease = digest and find_lease(account, generation, digest)
    if lease and lease.id == id then
      return lease
    end
  end
  return nil
end

-- Returns whether another attempt holds the lease, or was served.
local function is_taken_over(lease, attempt_id)
  return lease ~= nil and lease.holder ~= random_half(attempt_id)
end

-- Notes that a request was served, by `attempt_id` where that is known.
local function complete_idempotency_key(account, lease, attempt_id)
  if attempt_id and lease.state ~= DONE then
    lease.holder = random_half(attempt_id)
  end
  lease.state = DONE
  save_lease(account.shard, lease)
end

-- Deletes the key of a deduct that was wholly given back, so that the request may be made again.
local function forget_idempotency_key(account, id)
  local lease = lease_of(account, id)
  if lease then
    write_later(account.shard, 'HDEL', lease.hash, 't' .. id, 'k' .. lease.digest)
  end
end
