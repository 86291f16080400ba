-- What a charge or a hold does with its idempotency key: recognise it first, keep it last
-- (see lib/keeping).

-- Reads five arguments from `at` on: digest and fingerprint (16 bytes each), lifetime (ms), lease
-- (ms), most keys of one turn. The hashes are the keys `first` and the one after it. Returns false
-- if ill-formed, nil if there is none.
local function parse_key(first, at)
  if not KEYS[first] then
    return nil
  end
  local key = { digest = ARGV[at], fingerprint = ARGV[at + 1], first = first,
    lifetime_ms = whole(ARGV[at + 2], 1000, TIME_MS_MAX),
    lease_ms = whole(ARGV[at + 3], 0, TIME_MS_MAX),
    count_max = whole(ARGV[at + 4], 1, CREDITS_MAX) }
  return KEYS[first + 1] and #(key.digest or '') == 16 and #(key.fingerprint or '') == 16
    and key.lifetime_ms and key.lease_ms and key.count_max and key or false
end

-- Returns the entry of a key that still counts, if there is one.
local function recall(key, now_ms)
  for i = key.first, key.first + 1 do
    local entry = load_entry(KEYS[i], key.digest)
    if entry and now_ms - entry.made < key.lifetime_ms then
      return entry
    end
  end
  return nil
end

-- Returns the status of a request whose key is known, its entry, and where the first request
-- stands; nil if this one is to be decided. The retry of one call is known by its transaction id.
-- One that was not completed in time is taken over, by one request for each lease.
local function recognise(key, now_ms, deadline_ms)
  local entry = key and recall(key, now_ms)
  if not entry then
    return nil
  elseif entry.fingerprint ~= key.fingerprint then
    return 'key_reused'
  elseif entry.id == ARGV[1] then
    return nil
  elseif entry.state == DONE then
    return 'repeated', entry, 'done'
  elseif now_ms - entry.leased < key.lease_ms then
    return 'repeated', entry, 'in_flight'
  elseif now_ms > deadline_ms then
    return 'late'
  end
  entry.leased = now_ms
  save_entry(entry)
  return 'repeated', entry, 'taken_over'
end
