-- Remembers the idempotency key of what was taken just now, in the hash whose turn it is.

local IN_FLIGHT = 1

-- Returns the hash whose turn it is, and the turn.
local function hash_in_turn(key, now_ms)
  local turn = math.floor(now_ms / key.lifetime_ms)
  return KEYS[key.first + turn % 2], string.format('%.0f', turn)
end

-- Says whether there is no room for one more key; of fields there are two for each.
local function is_full(key, now_ms)
  if not key then
    return false
  end
  local hash, turn = hash_in_turn(key, now_ms)
  return redis.call('HGET', hash, 'g') == turn
    and redis.call('HLEN', hash) > 2 * key.count_max
end

local function keep_key(key, account, now_ms, amount)
  local hash, turn = hash_in_turn(key, now_ms)
  if redis.call('HGET', hash, 'g') ~= turn then
    redis.call('UNLINK', hash)
    redis.call('HSET', hash, 'g', turn)
    redis.call('PEXPIRE', hash, 2 * key.lifetime_ms)
  end
  redis.call('HSET', hash, 't' .. ARGV[1], key.digest)
  save_entry({ hash = hash, digest = key.digest, state = IN_FLIGHT, made = now_ms, leased = now_ms,
    fingerprint = key.fingerprint, holder = random_half(ARGV[1]), id = ARGV[1], amount = amount,
    credits = account.credits, sequence = account.sequence, left = account.allowance })
end
