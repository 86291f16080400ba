-- How a hold ends: what is not needed of it goes back, and it is no longer open. What became of it
-- is remembered for a day. One whose time is over is ended by whoever comes first: its late
-- settlement or extension, a request of its user, or a sweep.

-- Gives back `amount` of the estimate, as far as it is left; returns how much. `change` carries id,
-- description and metadata of the refund.
local function give_back(account, epoch, now_us, hold, amount, change)
  local kept = redis.call('HMGET', KEYS[4], 'amount', 'total', 'allowance', 'period', change.id)
  -- A hold is opened with this key, and only a refund by hand makes it end: after a day. Then it
  -- is not known here what is left, so nothing goes back.
  if not kept[1] or kept[5] then
    return 0
  end
  local cost, refunded = tonumber(kept[1]), tonumber(kept[2])
  amount = math.min(amount, cost - refunded)
  if amount <= 0 then
    return 0
  end
  append(KEYS[1], KEYS[2], account, epoch, now_us, {
    id = change.id, user = hold.user, type = 'refund', amount = amount, refund_of = hold.id,
    allowance = to_allowance(
      account, cost - tonumber(kept[3]), refunded, amount, tonumber(kept[4])),
    description = change.description, metadata = change.metadata,
  })
  redis.call('HSET', KEYS[4], 'total', refunded + amount, change.id, amount)
  return amount
end

local function close_hold(hold, state)
  if hold.state == 'open' then
    -- Of a hold of nothing, the negative would be -0, which Redis 7.0 takes for no number.
    redis.call('HINCRBY', KEYS[1], 'h', 0 - hold.amount)
    redis.call('HINCRBY', KEYS[1], 'n', -1)
    redis.call('ZREM', KEYS[6], hold.id .. hold.user)
  end
  hold.state = state
  remember(KEYS[5], 'state', state, 'actual', hold.actual, 'refunded', hold.refunded,
    'charged', hold.charged, 'shortfall', hold.shortfall)
  redis.call('PEXPIRE', KEYS[4], MEMORY_MS)
  end_key(hold.id, 7, state == 'settled' or (state == 'expired' and hold.keep),
    hold.attempt)
end

-- Ends a hold that its owner has not settled; gives back what there is room for, unless it is kept.
local function lapse(account, epoch, now_us, hold, state, change)
  if not hold.keep then
    local amount = math.min(hold.amount, CREDITS_MAX - account.credits)
    hold.refunded = hold.refunded + give_back(account, epoch, now_us, hold, amount, change)
  end
  close_hold(hold, state)
end

-- The reply of every script that ends a hold.
local function tell(status, account, now_us, hold)
  return { status, account.credits, account.sequence, math.floor(now_us / 1000),
    account.allowance, hold.state, hold.refunded, hold.charged, hold.shortfall, hold.expires }
end
