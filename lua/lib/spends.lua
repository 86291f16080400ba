-- Reads the spends of a call. Each is an argument of its own, so that one that is ill-formed leaves
-- the others as they are. adapters/redis/encoding.py packs them.
-- uses: args, flags, account, policies, records
-- uses rarely: sections

local SPEND_FORMAT = '>BBBi4c16'
local NO_KEYS = {}

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
  if is_whole then
    is_whole = flags == 0 and #packed == SPEND_BYTES
      or flags > 0 and sections().read_sections(spend, packed)
  end
  spend.refusal = not is_whole and 'invalid' or nil
  spend.has_details = is_whole and (#policy.limits > 0 or has(flags, KEY + HOLD))
  return spend
end
