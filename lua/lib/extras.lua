-- What few spends have beside their cost: a hold, an idempotency key, an id of the caller's, a
-- shadow balance, and the answers about them.
-- uses: spends, keys, deducts, ids
-- uses rarely: limits
-- exports: is_full, open_hold, keep_key, remember_id, note_void, decide_shadow,
-- pack_details

-- Opens the hold of a spend that was taken just now.
local function open_hold(spend)
  local account, shard, hold = spend.account, spend.shard, spend.hold
  spend.expires_ms = shard.now_ms + hold.ttl_ms
  account.held = account.held + spend.cost
  account.holds_count = account.holds_count + 1
  save_deduct(shard, { id = spend.id, user = account.user, cost = spend.cost, given_back = 0,
    allowance = spend.from_allowance, period_ms = account.period_ms, state = 'open',
    keep = hold.keep, opened_ms = shard.now_ms, expires_ms = spend.expires_ms,
    credits = account.credits, sequence = account.sequence, left = account.allowance })
  write_later(shard, 'ZADD', shard.base .. ':holds', string.format('%.0f', spend.expires_ms),
    spend.id .. account.user)
end

-- Decides on a shadow balance alone, and counts the answer; returns the status.
local function decide_shadow(spend)
  local account, shard, cost = spend.account, spend.shard, spend.cost
  local credits = math.min(account.credits + spend.added, CREDITS_MAX)
  local has_limits = #spend.policy.limits > 0
  spend.added = credits - account.credits
  local status = 'allowed'
  if has_limits and not limits().read_states(spend) then
    return 'corrupt'
  elseif has_limits then
    spend.limit, spend.wait_ms = limits().refusing_limit(spend)
  end
  if spend.limit > 0 then
    status = 'rate_limited'
  elseif cost > 0 and credits < cost then
    status = 'out_of_credits'
  end
  if cost == 0 then
    return status
  elseif status == 'allowed' then
    account.credits = credits - cost
    account.allowance = math.max(0, account.allowance + spend.moved - cost)
    account.period_ms, spend.added, spend.moved = spend.start_ms, 0, 0
    account.is_changed = true
    if has_limits then
      limits().count_request(spend)
    end
    expire_later(shard, account.key, SHADOW_MS)
  end
  write_later(shard, 'HINCRBY', shard.base .. 'c' .. spend.shadow, status, 1)
  return status
end

-- Returns what only few spends ask for.
local function pack_details(spend)
  local parts, first = '', spend.earlier
  if #spend.policy.limits > 0 then
    parts = limits().pack_states(spend)
  end
  if spend.key then
    local is_first = spend.key_state == KEY_NEW or not first or not first.id
    parts = parts .. struct.pack('>Bc16i4', spend.key_state or KEY_NONE,
      is_first and NO_ID or first.id, is_first and 0 or first.amount)
  end
  if spend.hold then
    parts = parts .. struct.pack('>I6', spend.expires_ms or first and first.expires_ms or 0)
  end
  return parts
end
