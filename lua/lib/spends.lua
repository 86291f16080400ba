-- Reads the spends of a call. Each is an argument of its own, so that an ill-formed one does not
-- affect the others. adapters/redis/encoding.py packs them.
-- uses: args, flags, account, policies, records, sections

local SPEND_FORMAT = '>BBBi4c16'
-- An ill-formed spend.
local NO_SPEND = { flags = 0, policy = { limits = {} }, limit = 0, credits = 0, sequence = 0,
  left = 0, resets_ms = 0, wait_ms = 0, index = 0 }

-- Returns a spend; or `NO_SPEND` and 'invalid' if it is ill-formed.
local function read_spend(packed, account_key, shards, policies)
  if #packed < SPEND_BYTES then
    return NO_SPEND, 'invalid'
  end
  local flags, tag, number, cost, id = struct.unpack(SPEND_FORMAT, packed)
  local shard, policy, id_ms = shards[tag], policies[number], id_time_ms(id)
  if not shard or not policy or not id_ms or cost < 0
    or policy.keyed > 0 and not has(flags, LIMIT_KEYS)
    or string.sub(account_key, 1, #shard.base) ~= shard.base
  then
    return NO_SPEND, 'invalid'
  end
  -- An allowed spend without options fits into this table, which then never grows.
  local spend = { flags = flags, shard = shard, policy = policy, cost = cost, id = id,
    id_ms = id_ms, account = nil, renewal = nil, limit = 0, wait_ms = 0, credits = 0,
    sequence = 0, left = 0, resets_ms = 0, index = 0 }
  if flags == 0 and #packed == SPEND_BYTES or flags > 0 and read_sections(spend, packed) then
    return spend, nil
  end
  return NO_SPEND, 'invalid'
end
