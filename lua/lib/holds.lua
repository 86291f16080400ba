-- The end of a hold: its unused part is given back, and it is no longer open. A hold that has
-- expired is ended by its settlement or extension, a request of its user, or a sweep, whichever is
-- first.
-- uses: give, key_ends, reply

-- Returns the hold with an id, or nil. An open hold of a user who has none belonged to an earlier
-- user with the same id, who was deleted.
local function find_hold(shard, account, id)
  local hold = find_deduct(shard, id)
  if not hold or not hold.state or not account or hold.user ~= account.user
    or (hold.state == 'open' and account.holds_count < 1)
  then
    return nil
  end
  return hold
end

-- Notes the end of a hold; `attempt_id` is the attempt with its idempotency key that ended it.
local function close_hold(account, hold, state, attempt_id)
  local shard = account.shard
  account.held = math.max(0, account.held - hold.cost)
  account.holds_count = math.max(0, account.holds_count - 1)
  account.is_changed = true
  write_later(shard, 'ZREM', shard.base .. ':holds', hold.id .. hold.user)
  hold.state = state
  save_deduct(shard, hold)
  local lease = lease_of(account, hold.id)
  if lease and (state == 'settled' or state == 'expired' and hold.keep == 1) then
    complete_idempotency_key(account, lease, attempt_id)
  elseif lease then
    forget_idempotency_key(account, hold.id)
  end
end

-- Gives back an amount of a hold, at most what is left of it and fits into the balance.
local function return_part(account, hold, amount, change)
  amount = math.min(amount, hold.cost - hold.given_back, CREDITS_MAX - account.credits)
  if amount > 0 then
    give_back(account, hold, amount, change)
    hold.refunded = (hold.refunded or 0) + amount
  end
end

-- Ends a hold without a settlement: as 'expired', or as 'cancelled' by a void.
local function end_unsettled(account, hold, state, change)
  if state == 'cancelled' or hold.keep == 0 then
    return_part(account, hold, hold.cost, change)
  end
  close_hold(account, hold, state)
end

local function expiry_of(end_id)
  return { id = end_id, text = pack_text('the hold expired', '') }
end

-- The reply of every script that ends a hold.
local function reply_hold(status, shard, account, hold)
  hold = hold or {}
  return reply(status, shard, account, nil, hold.state or '', hold.refunded or 0,
    hold.charged or 0, hold.shortfall or 0, hold.expires_ms or 0)
end
