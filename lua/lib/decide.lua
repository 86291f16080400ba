-- Decides on a spend, in the order of the refusals, and takes its cost.
-- uses: spends, take
-- uses rarely: recognise, limits, extras

-- Says whether nothing may be taken for a spend any more. It bounds the search for its id.
local function is_late(spend, deadline_ms)
  local now_ms = spend.shard.now_ms
  return now_ms > deadline_ms
    or now_ms - spend.id_ms > ATTEMPT_MS_MAX and not has(spend.flags, GIVEN)
end

-- Returns the first reason to refuse a spend that was not seen before, or nil.
local function find_refusal(spend, call)
  local account, shard, cost = spend.account, spend.shard, spend.cost
  if is_late(spend, call.deadline_ms) then
    return 'late'
  elseif pending_count(shard) >= call.pending_max then
    return 'backlog'
  elseif spend.key and extras().is_full(account, spend.key) then
    return 'too_many_keys'
  elseif spend.hold and account.holds_count >= spend.hold.open_max then
    return 'too_many_holds'
  elseif #spend.policy.limits > 0 then
    if not limits().read_states(spend) then
      return 'corrupt'
    end
    spend.limit, spend.wait_ms = limits().refusing_limit(spend)
    if spend.limit > 0 then
      return 'rate_limited'
    end
  end
  local credits = account.credits + spend.added
  if cost > 0 and credits < cost then
    return credits + account.held < cost and 'out_of_credits' or 'credits_held'
  end
  return is_out_of_range(account, credits) and 'out_of_range' or nil
end

-- Takes the cost of a spend that is allowed.
local function take_cost(spend)
  local account, cost = spend.account, spend.cost
  begin_period(account, spend.added, spend.start_ms, spend.moved)
  local change = { id = spend.id, text = spend.text, is_hold = spend.hold ~= nil }
  spend.index = take(account, cost, change)
  spend.sequence = account.sequence
  if #spend.policy.limits > 0 then
    limits().count_request(spend)
  end
  if spend.hold then
    spend.from_allowance = -change.allowance
    extras().open_hold(spend)
  end
  if spend.key then
    spend.key_state = KEY_NEW
    extras().keep_key(account, spend.key, spend.id, -cost)
  end
  if has(spend.flags, GIVEN) or account.shard.now_ms - spend.id_ms > KEYLESS_MS_MAX then
    extras().remember_id(account, change, GIVEN_ID_MS_MAX + ATTEMPT_MS_MAX)
  end
end

-- Decides on a spend that was not seen before; returns its refusal, or nil.
local function decide_anew(spend, call)
  local refusal = find_refusal(spend, call)
  if not refusal and (spend.cost > 0 or spend.hold or has(spend.flags, RECORDED)) then
    take_cost(spend)
  elseif refusal and refusal ~= 'corrupt' and has(spend.flags, RETRY) and not spend.deduct then
    -- The first attempt may still arrive, and must then be refused, too.
    extras().note_void(spend.shard, spend.id, spend.account.user)
  end
  return refusal
end

-- Says whether a spend may have been seen before. A fresh id that is newer than each id that was
-- ever named was not.
local function is_seen(spend)
  return has(spend.flags, RETRY + GIVEN + KEY) or spend.id_ms <= spend.account.named_ms
end

-- Decides on a spend whose account is known; returns its status.
local function decide(spend, call)
  local account, shard = spend.account, spend.shard
  spend.added, spend.start_ms, spend.resets_ms, spend.moved =
    next_period(account, spend.policy, shard.now_ms)
  local status
  if spend.shadow then
    status = extras().decide_shadow(spend)
  elseif spend.id_ms > shard.now_ms + LOOK_BACK_MS and not has(spend.flags, GIVEN) then
    status = 'ahead'
  else
    status = is_seen(spend) and recognise().find_earlier(spend, is_late(spend, call.deadline_ms))
      or decide_anew(spend, call) or 'allowed'
  end
  if spend.index == 0 then
    local credits = math.min(account.credits + spend.added, CREDITS_MAX)
    local answer = spend.earlier or { credits = credits, left = account.allowance + spend.moved }
    spend.credits, spend.sequence, spend.left = answer.credits, answer.sequence or 0, answer.left
  else
    spend.credits, spend.left = account.credits, account.allowance
  end
  return status
end
