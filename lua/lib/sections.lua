-- The rare parts of a packed spend. No error is raised: an incomplete part is nil.
-- uses: flags, keys

local HOLD_MS_MIN, HOLD_MS_MAX = 100, 86400000

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

-- Reads all parts; returns whether they are well-formed, and nothing follows.
local function read_sections(spend, packed)
  local flags, at = spend.flags, SPEND_BYTES + 1
  if has(flags, TEXT) then
    spend.text, at = read_text(packed, at)
  end
  if at and has(flags, KEY) then
    spend.key, at = read_idempotency_key(packed, at)
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
