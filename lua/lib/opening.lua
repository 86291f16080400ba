-- Notes a hold that has just been taken: see lib/hold for what is kept of it.

local function open_hold(account, position, estimate, taken, now_ms, expires_ms)
  local expires = string.format('%.0f', expires_ms)
  redis.call('HSET', KEYS[5], 'user', ARGV[2], 'amount', estimate, 'expires', expires,
    'opened', string.format('%.0f', now_ms), 'keep', ARGV[10], 'state', 'open',
    'credits', account.credits, 'sequence', account.sequence, 'position', position,
    'left', account.allowance)
  if estimate > 0 then
    -- The bound of all refunds of this deduct, which must not be forgotten while the hold is open.
    redis.call('HSET', KEYS[4], 'user', ARGV[2], 'amount', estimate, 'total', 0,
      'allowance', taken, 'period', string.format('%.0f', account.period or 0))
  end
  redis.call('ZADD', KEYS[6], expires, ARGV[1] .. ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'h', estimate)
  redis.call('HINCRBY', KEYS[1], 'n', 1)
end
