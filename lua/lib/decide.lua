-- Decides on a spend, in the order of the refusals, and takes its cost.
-- uses: spends, take, recognise, limits, extras

-- Returns whether the deadline of a spend is over. This bounds the search for its id.
local function is_late(spend, deadline_ms)
  local now_ms = spend.shard.now_ms
  return now_ms > deadline_ms
    or now_ms - spend.id_ms > ATTEMPT_MS_MAX and not has(spend.flags, GIVEN)
end

-- Returns how a new period changes the account; nil if none begins. It changes nothing.
local function find_renewal(account, policy, now_ms)
  local added, start_ms, ends_ms, moved = next_period(account, policy, now_ms)
  if start_ms == account.period_ms then
    return nil, ends_ms
  end
  return { added = added, start_ms = start_ms, moved = moved }, ends_ms
end

-- Returns the first reason to refuse a new spend, or nil.
local function find_refusal(spend, call)
  local account, shard, cost = spend.account, spend.shard, spend.cost
  if is_late(spend, call.deadline_ms) then
    return 'late'
  elseif pending_count(shard) >= call.pending_max then
    return 'backlog'
  elseif spend.key and is_full(account, spend.key) then
    return 'too_many_keys'
  elseif spend.hold and account.holds_count >= spend.hold.open_max then
    return 'too_many_holds'
  elseif spend.policy.limits[1] then
    if not check_limits(spend) then
      return 'corrupt'
    elseif spend.limit > 0 then
      return 'rate_limited'
    end
  end
  local credits = account.credits + (spend.renewal and spend.renewal.added or 0)
  if cost > 0 and credits < cost then
    return credits + account.held < cost and 'out_of_credits' or 'credits_held'
  end
  return is_out_of_range(account, credits) and 'out_of_range' or nil
end

-- Takes the cost of a spend that is allowed.
local function take_cost(spend, deadline_ms)
  local account, renewal = spend.account, spend.renewal
  if renewal then
    begin_period(account, renewal.added, renewal.start_ms, renewal.moved)
  end
  local index, change = take(account, spend.id, spend.cost, spend.text, spend.hold ~= nil)
  spend.index, spend.sequence = index, account.sequence
  if spend.states then
    count_request(spend)
  end
  if spend.flags > 0 or spend.shard.now_ms - spend.id_ms > KEYLESS_MS_MAX then
    save_options(spend, change, deadline_ms)
  end
end

-- Decides on a new spend; returns its refusal, or nil.
local function decide_anew(spend, call)
  local refusal = find_refusal(spend, call)
  if not refusal and (spend.cost > 0 or has(spend.flags, HOLD + RECORDED)) then
    take_cost(spend, call.deadline_ms)
  elseif refusal and refusal ~= 'corrupt' and has(spend.flags, RETRY) and not spend.deduct then
    -- The first attempt may still arrive, and must then be refused, too.
    note_void(spend.shard, spend.id, spend.account.user)
  end
  return refusal
end

-- Returns whether a spend may be a retry. A minted id that is newer than each id that was ever
-- named is not.
local function is_seen(spend)
  return spend.id_ms <= spend.account.named_ms or has(spend.flags, RETRY + GIVEN + KEY)
end

-- Sets the balance in the answer to a spend without a record.
local function tell_balance(spend, account)
  local earlier, renewal = spend.earlier, spend.renewal
  if earlier then
    spend.credits, spend.sequence, spend.left = earlier.credits, earlier.sequence or 0, earlier.left
  else
    spend.credits = math.min(account.credits + (renewal and renewal.added or 0), CREDITS_MAX)
    spend.left = account.allowance + (renewal and renewal.moved or 0)
  end
end

-- Decides on a spend whose account is known; returns its status.
local function decide(spend, call)
  local account, shard, policy = spend.account, spend.shard, spend.policy
  if policy.allowance > 0 then
    spend.renewal, spend.resets_ms = find_renewal(account, policy, shard.now_ms)
  end
  local status
  if spend.shadow then
    status = decide_shadow(spend)
  elseif spend.id_ms > shard.now_ms + MINTED_ID_AHEAD_MS_MAX and not has(spend.flags, GIVEN) then
    status = 'ahead'
  else
    local deadline_ms = call.deadline_ms
    status = is_seen(spend) and find_earlier(spend, is_late(spend, deadline_ms), deadline_ms)
      or decide_anew(spend, call) or 'allowed'
  end
  if spend.index == 0 then
    tell_balance(spend, account)
  else
    spend.credits, spend.left = account.credits, account.allowance
  end
  return status
end
