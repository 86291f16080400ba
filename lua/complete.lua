-- complete: notes that the request of an idempotency key was served, and saves its response for
-- retries, if there is one.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 id of its spend   2 response, or empty   3 its lifetime (ms)
--        4 id of the attempt that was served: the same, or the one that has taken over
-- Reply  {status, 0, 0, now (us), '', 0}
--        status: completed, or the first that applies of uninitialised, corrupt, unknown (no key is
--        known for the id, and nothing is saved)
-- Appends nothing. It is idempotent.
-- uses: args, key_ends, reply

local lifetime_ms = whole(ARGV[3], 1, TIME_MS_MAX)
if not is_id(ARGV[1]) or not is_id(ARGV[4]) or not lifetime_ms then
  return invalid('ids of 16 bytes, and milliseconds')
end
local shard, account, problem = load_one(true)
-- A request is nearly always completed in the generation in which it was charged.
local lease = account and lease_of(account, ARGV[1], math.floor(shard.now_ms / lifetime_ms))
if not lease then
  return reply(problem == 'unknown_user' and 'unknown' or problem or 'unknown', shard)
end
complete_idempotency_key(account, lease, ARGV[4])
if ARGV[2] ~= '' then
  local kept = shard.base .. 'r' .. ARGV[1]
  write_later(shard, 'SET', kept, ARGV[2])
  expire_later(shard, kept, lifetime_ms)
end
commit_one(shard, account)
return reply('completed', shard)
