-- complete: notes that the request of an idempotency key has been served.
--
-- KEYS   1, 2 hashes of idempotency keys
-- ARGV   1 id of its charge or hold (16 bytes)
-- Reply  {status, 0, 0, now (Unix ms)}
--        status: completed, unknown (no key is remembered for the id)
-- Appends nothing. Doing it twice is doing it once.
-- uses: arguments, clock, entry, finishing

if #ARGV[1] ~= 16 then
  return invalid('id: 16 bytes')
end
local is_known = end_key(ARGV[1], 1, true)
return { is_known and 'completed' or 'unknown', 0, 0, math.floor(time_us() / 1000) }
