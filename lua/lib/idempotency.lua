-- What a request does with its idempotency key: recognise it first (see lib/recognising), keep it
-- last (see lib/keeping).

-- Reads five arguments from `at` on: digest and fingerprint (16 bytes each), lifetime (ms), lease
-- (ms), most keys of one turn. The hashes are the keys `first` and the one after it. Returns false
-- if ill-formed, nil if there is none.
local function parse_key(first, at)
  if not KEYS[first] then
    return nil
  end
  local fingerprint = ARGV[at + 1] or ''
  local key = { digest = ARGV[at], fingerprint = string.sub(fingerprint, 1, 8), first = first,
    lifetime_ms = whole(ARGV[at + 2], 1000, TIME_MS_MAX),
    lease_ms = whole(ARGV[at + 3], 0, TIME_MS_MAX),
    count_max = whole(ARGV[at + 4], 1, CREDITS_MAX) }
  return KEYS[first + 1] and #(key.digest or '') == 16 and #fingerprint == 16
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
