-- What a charge or a hold answers where its idempotency key is known.

-- Returns the status of a request whose key is known, its entry, and where the first request
-- stands; nil if this one is to be decided. The retry of one call is known by its transaction id,
-- as long as it holds the lease. One that was not completed in time is taken over, by one request
-- for each lease.
local function recognise(key, now_ms, deadline_ms)
  local entry = key and recall(key, now_ms)
  if not entry then
    return nil
  elseif entry.fingerprint ~= key.fingerprint then
    return 'key_reused'
  elseif entry.state == DONE then
    return 'repeated', entry, 'done'
  elseif entry.holder == random_half(ARGV[1]) then
    -- The reply to its first attempt was lost.
    if entry.id == ARGV[1] then
      return nil
    end
    return 'repeated', entry, 'taken_over'
  elseif now_ms - entry.leased < key.lease_ms then
    return 'repeated', entry, 'in_flight'
  elseif now_ms > deadline_ms then
    return 'late'
  end
  entry.leased, entry.holder = now_ms, random_half(ARGV[1])
  save_entry(entry)
  return 'repeated', entry, 'taken_over'
end
