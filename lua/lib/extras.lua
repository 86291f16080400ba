-- The rare parts of spends: a hold, an idempotency key, a caller's id, a shadow balance, and the
-- answers about them.
-- uses: spends, keys, deducts, ids, limits, answers

local NO_RENEWAL = { added = 0, moved = 0 }

-- Opens the hold of a spend that was made just now by a change.
local function open_hold(spend, change)
  local account, shard, hold = spend.account, spend.shard, spend.hold
  spend.expires_ms = shard.now_ms + hold.ttl_ms
  account.held = account.held + spend.cost
  account.holds_count = account.holds_count + 1
  save_deduct(shard, { id = spend.id, user = account.user, cost = spend.cost, given_back = 0,
    allowance = -change.allowance, period_ms = account.period_ms, state = 'open',
    keep = hold.keep, opened_ms = shard.now_ms, expires_ms = spend.expires_ms,
    credits = account.credits, sequence = account.sequence, left = account.allowance })
  write_later(shard, 'ZADD', shard.base .. ':holds', string.format('%.0f', spend.expires_ms),
    spend.id .. account.user)
end

-- Saves the rare parts of a spend that was made just now by a change.
local function save_options(spend, change, deadline_ms)
  local account, shard = spend.account, spend.shard
  if spend.hold then
    open_hold(spend, change)
  end
  if spend.key then
    spend.key_state = KEY_NEW
    save_idempotency_key(account, spend.key, spend.id, -spend.cost)
  end
  if has(spend.flags, GIVEN) or spend.shard.now_ms - spend.id_ms > KEYLESS_MS_MAX then
    remember_id(account, change, GIVEN_KEY_MS)
  end
  if has(spend.flags, GIVEN) then
    save_answers(shard, spend.id, pack_answer_time(shard.now_ms, deadline_ms), GIVEN_KEY_MS)
  end
end

-- Decides on a shadow balance, and counts the verdict; returns the status.
local function decide_shadow(spend)
  local account, shard, cost = spend.account, spend.shard, spend.cost
  local renewal = spend.renewal or NO_RENEWAL
  local credits = math.min(account.credits + renewal.added, CREDITS_MAX)
  local has_limits = spend.policy.limits[1] ~= nil
  local status = 'allowed'
  if has_limits and not check_limits(spend) then
    return 'corrupt'
  elseif spend.limit > 0 then
    status = 'rate_limited'
  elseif cost > 0 and credits < cost then
    status = 'out_of_credits'
  end
  if cost == 0 then
    return status
  elseif status == 'allowed' then
    account.credits = credits - cost
    account.allowance = math.max(0, account.allowance + renewal.moved - cost)
    account.period_ms = spend.renewal and renewal.start_ms or account.period_ms
    account.is_changed, spend.renewal = true, nil
    if has_limits then
      count_request(spend)
    end
    expire_later(shard, account.key, SHADOW_MS)
  end
  write_later(shard, 'HINCRBY', shard.base .. 'c' .. spend.shadow, status, 1)
  return status
end

-- Packs the details of the answer.
local function pack_details(spend)
  local parts, first = '', spend.earlier
  if spend.policy.limits[1] then
    parts = pack_states(spend)
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
