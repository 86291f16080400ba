-- complete: notes that the request of an idempotency key has been served, and keeps its response
-- for those who ask again, if there is one to keep.
--
-- KEYS   1, 2 hashes of idempotency keys   3 stored response
-- ARGV   1 id of its charge or hold (16 bytes)   2 response, or empty   3 how long to keep it (ms)
--        4 id of the attempt that was served: the same, or that which has taken over (16 bytes)
-- Reply  {status, 0, 0, now (Unix ms)}
--        status: completed, unknown (no key is remembered for the id, and nothing is kept)
-- Appends nothing. Doing it twice is doing it once.
-- uses: arguments, clock, entry, finishing

local keep_ms = whole(ARGV[3], 1, TIME_MS_MAX)
if #ARGV[1] ~= 16 or #(ARGV[4] or '') ~= 16 or not keep_ms then
  return invalid('ids: 16 bytes; how long: milliseconds')
end
local is_known = end_key(ARGV[1], 1, true, ARGV[4])
if is_known and ARGV[2] ~= '' then
  redis.call('SET', KEYS[3], ARGV[2], 'PX', keep_ms)
end
return { is_known and 'completed' or 'unknown', 0, 0, math.floor(time_us() / 1000) }
