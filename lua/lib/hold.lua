-- A hold is credits that were taken for a cost that is known only later. KEYS[5] is its hash: user,
-- amount (the estimate), expires (Unix ms), keep ('1' if it is kept at its expiry), state, and what
-- became of it. KEYS[6] has the open holds of the shard, each with its user, by their expiry. The
-- hash of the user has h, the credits in its open holds, and n, how many these are.

local function load_hold(id)
  local fields = redis.call('HMGET', KEYS[5],
    'user', 'amount', 'expires', 'keep', 'state', 'actual', 'refunded', 'charged', 'shortfall')
  -- An open hold of a user who has none was one of an earlier life: the user was deleted since.
  local is_open = fields[5] == 'open'
  if not fields[1] or (is_open and tonumber(redis.call('HGET', KEYS[1], 'n') or 0) < 1) then
    return nil
  end
  return {
    id = id, user = fields[1], amount = tonumber(fields[2]), expires = tonumber(fields[3]),
    keep = fields[4] == '1', state = fields[5], actual = tonumber(fields[6] or 0),
    refunded = tonumber(fields[7] or 0), charged = tonumber(fields[8] or 0),
    shortfall = tonumber(fields[9] or 0),
  }
end
