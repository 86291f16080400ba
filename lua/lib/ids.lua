-- Saves a record by its id if the id was not minted for it (a spend under a caller's id, a refund,
-- a grant, the end of a hold), or was minted long before. So its retry is recognised without a
-- search, and an id that would have a key is not searched for.
-- uses: records

local ID_FORMAT, ID_BYTES = '>Bc16i4i4I4i4I6c16', 55
local NO_ID = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
-- The shortest lifetime of a key.
local GIVEN_KEY_MS = GIVEN_ID_MS_MAX + ATTEMPT_MS_MAX

local function id_redis_key(shard, id)
  return shard.base .. 'i' .. id
end

-- Returns the saved record of an id; nil for none, false for a value that cannot be read.
local function recall_id(shard, id)
  local packed = redis.pcall('GET', id_redis_key(shard, id))
  if not packed then
    return nil
  elseif type(packed) ~= 'string' or #packed ~= ID_BYTES then
    return false
  end
  local known = {}
  known.kind, known.user, known.amount, known.credits, known.sequence, known.left, known.at_ms,
    known.refund_of = struct.unpack(ID_FORMAT, packed)
  return known
end

-- Saves the last record of an account by its id, for `ms` in the time of the shard, which stands
-- still while the clock of the server is behind it.
local function remember_id(account, change, ms)
  local shard = account.shard
  local ahead_ms = shard.now_ms - math.floor(time_us() / 1000)
  write_later(shard, 'SET', id_redis_key(shard, change.id), struct.pack(ID_FORMAT, change.kind,
    account.user, change.amount, account.credits, account.sequence, account.allowance,
    shard.now_ms, change.refund_of or NO_ID))
  expire_later(shard, id_redis_key(shard, change.id), ms + ahead_ms)
end
