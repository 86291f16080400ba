-- create: creates a ledger in an empty Redis, in one step.
--
-- KEYS   1 the identity of the ledger   2... the states of its shards
-- ARGV   1 epoch   2... name and value of each field of the identity
-- Reply  {1}; {0}, without a change, if one of the keys exists, or a moved ledger has given up one
--        of these shards
-- Appends nothing. In the first epoch the streams are complete from the beginning of time, since
-- nothing was charged before. In later epochs they are complete from now on.
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
