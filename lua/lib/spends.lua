-- Reads the spends of a call. Each is an argument of its own, so that one that is ill-formed leaves
-- the others as they are. adapters/redis/encoding.py packs them.
-- uses: args, account, policies, records

local SPEND_FORMAT, SPEND_BYTES = '>BBBi4c16', 23
local RETRY, GIVEN, TEXT, KEY, HOLD, RECORDED, SHADOW, LIMIT_KEYS = 1, 2, 4, 8, 16, 32, 64, 128
local NO_KEYS = {}
local HOLD_MS_MIN, HOLD_MS_MAX = 100, 86400000

local function has(flags, flag)
  return bit.band(flags, flag) > 0
end

local function read_key(packed, at)
  if at + 43 > #packed then
    return nil
  end
  local key = {}
  key.digest, key.fingerprint, key.lifetime_ms, key.lease_ms, key.count_max, at =
    struct.unpack('>c16c8I6I6I4', packed, at)
  if key.lifetime_ms < 1000 or key.count_max < 1 then
    return nil
  end
  return key, at
end

local function read_text(packed, at)
  if at + 3 > #packed then
    return nil
  end
  local description = struct.unpack('>I2', packed, at)
  local metadata_at = at + 2 + description
  if metadata_at + 1 > #packed then
    return nil
  end
  local next_at = metadata_at + 2 + struct.unpack('>I2', packed, metadata_at)
  if next_at > #packed + 1 then
    return nil
  end
  return string.sub(packed, at, next_at - 1), next_at
end

local function read_hold(packed, at)
  if at + 8 > #packed then
    return nil
  end
  local hold = {}
  hold.ttl_ms, hold.keep, hold.open_max, at = struct.unpack('>I4BI4', packed, at)
  if hold.ttl_ms < HOLD_MS_MIN or hold.ttl_ms > HOLD_MS_MAX or hold.keep > 1 then
    return nil
  end
  return hold, at
end

local function read_limit_keys(spend, packed, at)
  spend.limit_keys = {}
  for i, limit in ipairs(spend.policy.limits) do
    if limit.kind > 1 then
      if at + 15 > #packed then
        return nil
      end
      spend.limit_keys[i] = spend.shard.base .. 'l' .. string.sub(packed, at, at + 15)
      at = at + 16
    end
  end
  return at
end

-- Reads what few spends have; returns whether all of it is well-formed.
local function read_sections(spend, packed)
  local flags, at = spend.flags, SPEND_BYTES + 1
  if has(flags, TEXT) then
    spend.text, at = read_text(packed, at)
  end
  if at and has(flags, KEY) then
    spend.key, at = read_key(packed, at)
  end
  if at and has(flags, HOLD) then
    spend.hold, at = read_hold(packed, at)
  end
  if at and has(flags, SHADOW) then
    if at + 11 > #packed then
      return false
    end
    spend.starting_credits, spend.shadow, at = struct.unpack('>i4c8', packed, at)
  end
  if at and has(flags, LIMIT_KEYS) then
    at = read_limit_keys(spend, packed, at)
  end
  return at == #packed + 1
end

-- Returns a spend. Its `refusal` is 'invalid' if it is ill-formed.
local function read_spend(packed, account_key, shards, policies)
  if #packed < SPEND_BYTES then
    return { refusal = 'invalid', limit = 0, credits = 0, sequence = 0, left = 0, resets_ms = 0,
      wait_ms = 0, index = 0 }
  end
  local flags, tag, number, cost, id = struct.unpack(SPEND_FORMAT, packed)
  local shard, policy, id_ms = shards[tag], policies[number], id_time_ms(id)
  local spend = { flags = flags, shard = shard, policy = policy, cost = cost, id = id,
    id_ms = id_ms, limit_keys = NO_KEYS, limit = 0, credits = 0, sequence = 0, left = 0,
    resets_ms = 0, wait_ms = 0, index = 0, added = 0, start_ms = 0, moved = 0, account = nil }
  local is_whole = shard and policy and id_ms and cost >= 0
    and (policy.keyed == 0 or has(flags, LIMIT_KEYS))
    and string.sub(account_key, 1, #shard.base) == shard.base
    and (flags == 0 and #packed == SPEND_BYTES or flags > 0 and read_sections(spend, packed))
  spend.refusal = not is_whole and 'invalid' or nil
  spend.has_details = is_whole and (#policy.limits > 0 or has(flags, KEY + HOLD))
  return spend
end
