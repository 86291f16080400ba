-- end: ends a hold. It is settled by its actual cost: the rest goes back or, beyond the estimate,
-- more is taken. Or it is cancelled, so that all of it goes back. Or it has expired.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 settle, cancel or expire   2 hold id   3 id of its only record
--        4 actual cost (credits)   5 how far below zero it may take the balance (credits)
--        6 id of the attempt with an idempotency key that ends it, or empty
--        7 policy (see lib/policies)   8 description   9 metadata (JSON or empty)
-- Reply  {status, credits, 0, now (us), '', allowance left, state, refunded, charged, shortfall
--        (credits that could not be taken), expiry (Unix ms)}
--        status: allowed, repeated, or the first that applies of uninitialised, corrupt,
--        unknown_hold, conflict (it ended in another way), hold_expired, hold_closed and hold_open
--        (of expire), taken_over (to be cancelled, by another attempt with the key), out_of_range
-- Appends one refund of the unused part, or one deduct of the cost beyond the estimate,
--        after one add if a new period has begun. A hold that has just expired is given back or
--        kept. Any other refusal, and a repetition, append nothing.
-- uses: args, holds, policies, take

local MODES = { settle = 'settled', cancel = 'cancelled', expire = 'expired' }
local mode, hold_id, end_id, attempt_id = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local actual = whole(ARGV[4], 0, CREDITS_MAX)
local overdraft_max = whole(ARGV[5], 0, CREDITS_MAX)
local policies = read_policies(ARGV[7] or '')
if not MODES[mode] or not is_id(hold_id) or not is_id(end_id) then
  return invalid('settle, cancel or expire, and two ids of 16 bytes')
elseif not actual or not overdraft_max or not policies or #policies ~= 1 then
  return invalid('actual, overdraft or policy: whole numbers that are not negative')
end

local shard, account, problem = load_one(true)
local hold = not shard.problem and find_hold(shard, account, hold_id)
if shard.problem or problem == 'corrupt' then
  return reply_hold(problem, shard, account)
elseif not hold then
  if mode == 'expire' then
    -- The hold has nothing left to end, so no sweep must find it again.
    redis.call('ZREM', shard.base .. ':holds', hold_id .. string.sub(KEYS[3], -16))
    expire(deduct_redis_key(shard, hold_id), MEMORY_MS)
  end
  return reply_hold('unknown_hold', shard, account)
elseif mode ~= 'expire' and hold.state == 'expired' then
  return reply_hold('hold_expired', shard, account, hold)
elseif hold.state ~= 'open' then
  local is_same = hold.state == MODES[mode] and (hold.actual or 0) == actual
  local status = is_same and 'repeated' or 'conflict'
  return reply_hold(mode == 'expire' and 'hold_closed' or status, shard, account, hold)
elseif shard.now_ms >= hold.expires_ms then
  end_unsettled(account, hold, 'expired', expiry_of(end_id))
  problem = commit_one(shard, account)
  return reply_hold(problem or mode == 'expire' and 'allowed' or 'hold_expired', shard, account,
    hold)
elseif mode == 'expire' then
  return reply_hold('hold_open', shard, account, hold)
elseif mode == 'cancel' and attempt_id ~= ''
  and is_taken_over(lease_of(account, hold_id), attempt_id)
then
  return reply_hold('taken_over', shard, account, hold)
end

local text = pack_text(ARGV[8], ARGV[9])

-- Takes the cost beyond the estimate, as a charge would, down to the overdraft; returns whether the
-- balance stays in its range. A hold of 0 belongs to a user who is never refused: its end is a
-- deduct of 0, with the cost in its metadata.
local function take_beyond(amount)
  local added, start_ms, _, moved = next_period(account, policies[1], shard.now_ms)
  local credits = account.credits + added
  local charged = math.max(0, math.min(amount, credits + overdraft_max))
  if is_out_of_range(account, credits) then
    return false
  elseif charged > 0 or hold.cost == 0 then
    begin_period(account, added, start_ms, moved)
    local _, change = take(account, end_id, charged, text)
    remember_id(account, change, MEMORY_MS)
  end
  hold.charged, hold.shortfall = charged, amount - charged
  return true
end

local is_in_range
if mode == 'settle' and hold.cost == 0 then
  is_in_range = take_beyond(0)
elseif actual > hold.cost then
  -- An operator who refunds the whole estimate ends the hold: nothing more is taken.
  is_in_range = is_given_back(hold) or take_beyond(actual - hold.cost)
else
  is_in_range = account.credits + hold.cost - actual <= CREDITS_MAX
  if is_in_range then
    return_part(account, hold, hold.cost - actual, { id = end_id, text = text })
  end
end
if not is_in_range then
  return reply_hold('out_of_range', shard, account, hold)
end
hold.actual = actual
close_hold(account, hold, MODES[mode], attempt_id ~= '' and attempt_id or nil)
problem = commit_one(shard, account)
return reply_hold(problem or 'allowed', shard, account, hold)
