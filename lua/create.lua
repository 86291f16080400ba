-- create: creates one shard of a ledger in an empty Redis.
--
-- KEYS   1 the state of the shard   2 its copy of the identity of the ledger
-- ARGV   1 epoch   2 1 for shard 0, whose call is the last, else 0
--        3... name and value of each field of the identity
-- Reply  {1}; {0}, without a change, if the shard has records or a newer epoch, a moved ledger has
--        given it up, or shard 0 has an identity already
-- Appends nothing. Each shard of a cluster is created by a call of its own. Nothing serves until
-- the identity of shard 0 is there. So calls may be repeated: a shard without records stays as it
-- is, or gets a newer epoch. In the first epoch the streams are complete from the beginning of
-- time, since nothing was charged before. In later epochs they are complete from now on.
-- uses: args, shard

local epoch, is_last = whole(ARGV[1], 1, SEQUENCE_MAX), whole(ARGV[2], 0, 1)
if not epoch or not is_last or #ARGV < 4 or #ARGV % 2 == 1 then
  return invalid('epoch, last: whole numbers; names and values of the identity')
end
local packed = redis.call('MGET', KEYS[1])[1]
local shard = read_shard(KEYS[1], '', packed, time_us())
local is_other = shard.problem == 'corrupt' or shard.problem and packed
if is_other or shard.ordinal > 0 or shard.epoch > epoch
  or redis.call('EXISTS', shard.base .. ':left') > 0
  or is_last == 1 and redis.call('EXISTS', KEYS[2]) > 0 then
  return { 0 }
end
if shard.epoch < epoch then
  local oldest_ms = epoch > 1 and shard.now_ms or 0
  redis.call('SET', KEYS[1], struct.pack(STATE_FORMAT, VERSION, epoch, 0, 0, 0, oldest_ms))
end
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return { 1 }
