-- close: closes a shard to new changes, opens it again, or gives it up.
--
-- KEYS   1 state   2 stream
-- ARGV   1 close, open, or give_up
-- Reply  {status, pending records, open holds}
--        status: done, or the first that applies of uninitialised, corrupt, unfinished (to be given
--        up, but not closed, or with such records or holds)
-- Appends nothing. A closed shard refuses charges, holds and credits. Refunds, voids and ends of
-- holds still pass. A shard that was given up has no state, and refuses everything. Its accounts
-- are left; a key tells `create` about them, even if the ledger then has another shard count.
-- uses: args, shard

local VERSIONS = { close = CLOSED, open = VERSION, give_up = CLOSED }
local mode = ARGV[1]
if not VERSIONS[mode] then
  return invalid('close, open or give_up')
end
local shard = read_shard(KEYS[1], KEYS[2], redis.call('GET', KEYS[1]), time_us())
local was_closed = admit_closed(shard)
if shard.problem then
  return { shard.problem, 0, 0 }
end
local pending = pending_count(shard)
local holds = redis.call('ZCOUNT', shard.base .. ':holds', '-inf', '+inf')
if mode ~= 'give_up' then
  shard.version = VERSIONS[mode]
  redis.call('SET', KEYS[1], pack_state(shard, shard.last_us))
elseif not was_closed or pending > 0 or holds > 0 then
  return { 'unfinished', pending, holds }
else
  redis.call('SET', shard.base .. ':left', shard.epoch)
  redis.call('UNLINK', KEYS[1])
end
return { 'done', pending, holds }
