-- An account: one packed string of 34 bytes, and 11 more for each rate limit of the user's own.
-- `named_ms` is the time of the newest id that a retry, a void or a caller has named: a newer
-- minted id was never used before, and is not searched for.
-- uses: shard

local ACCOUNT_FORMAT, ACCOUNT_BYTES = '>BBi4I4I6i4I6I6I2', 34
local LIMIT_BYTES = 11

-- Returns an account, or nil if the value does not have this version.
local function read_account(shard, key, packed)
  if #packed < ACCOUNT_BYTES or (#packed - ACCOUNT_BYTES) % LIMIT_BYTES ~= 0 then
    return nil
  end
  local version, flags, credits, sequence, named_ms, allowance, period_ms, held, holds_count =
    struct.unpack(ACCOUNT_FORMAT, packed)
  if version ~= VERSION or flags ~= 0 then
    return nil
  end
  return { shard = shard, key = key, user = string.sub(key, -16), credits = credits,
    sequence = sequence, named_ms = named_ms, allowance = allowance, period_ms = period_ms,
    held = held, holds_count = holds_count, is_changed = false, arrivals = nil, is_read = nil,
    limits = #packed > ACCOUNT_BYTES and string.sub(packed, ACCOUNT_BYTES + 1) or '' }
end

-- Returns a new account.
local function new_account(shard, key, credits)
  return { shard = shard, key = key, user = string.sub(key, -16), credits = credits, sequence = 0,
    named_ms = shard.now_ms, allowance = 0, period_ms = 0, held = 0, holds_count = 0, limits = '',
    is_changed = false }
end

local function pack_account(account)
  return struct.pack(ACCOUNT_FORMAT, VERSION, 0, account.credits, account.sequence,
    account.named_ms, account.allowance, account.period_ms, account.held, account.holds_count)
    .. account.limits
end

-- Returns the account in a reply of MGET, or nil and 'unknown_user' or 'corrupt'.
-- MGET answers nil for a key of another type, too.
local function find_account(shard, key, packed)
  if packed then
    local account = read_account(shard, key, packed)
    return account, not account and 'corrupt' or nil
  end
  return nil, redis.call('EXISTS', key) == 1 and 'corrupt' or 'unknown_user'
end

-- Notes that an id was named by a retry, a void or a caller: one attempt with it may still come.
local function name_id(account, id_ms)
  if id_ms > account.named_ms then
    account.named_ms = id_ms
    account.is_changed = true
  end
end
