-- create: makes a ledger of an empty Redis, in one step.
--
-- KEYS   1 the identity of the ledger   2... the states of its shards
-- ARGV   1 epoch   2... name and value of each mark
-- Reply  {1}; {0} if one of the keys is there, or a shard of theirs was given up by a ledger that
--        moved, and then nothing is changed
-- Appends nothing. In the first epoch nothing was charged before, so the streams are complete from
-- the beginning of time. Later they are complete from now on.
-- uses: args, shard

local epoch = whole(ARGV[1], 1, SEQUENCE_MAX)
if not epoch or #ARGV < 3 or #ARGV % 2 == 0 then
  return invalid('epoch: a whole number; names and values of the identity')
end
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key, string.sub(key, 1, -3) .. ':left') > 0 then
    return { 0 }
  end
end
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
local oldest_ms = epoch > 1 and math.floor(time_us() / 1000) or 0
local state = struct.pack(STATE_FORMAT, VERSION, epoch, 0, 0, 0, oldest_ms)
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], state)
end
return { 1 }
