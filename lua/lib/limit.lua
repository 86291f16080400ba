-- One rate limit: how it stands, and what a request takes from it. domain/limit.py says what it means.

-- Reads how a limit stands. Of gcra: how far the requests so far are ahead of the steady rate. Of a
-- window: how many lie in it, and when the oldest leaves it.
local function read_limit(limit, now_us)
  if limit.kind == 'gcra' then
    limit.ahead_us = math.max(0, tonumber(redis.call('GET', limit.key) or 0) - now_us)
    return
  end
  local after = string.format('(%.0f', now_us - limit.period_us)
  limit.used = redis.call('ZCOUNT', limit.key, after, '+inf')
  local oldest = redis.call('ZRANGEBYSCORE', limit.key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  limit.leaves_us = oldest[2] and tonumber(oldest[2]) + limit.period_us - now_us or 0
end

-- Returns how many requests may come now, and in how many milliseconds one more may; 0 if all may.
local function limit_state(limit)
  if limit.kind == 'window' then
    return math.max(0, limit.count - limit.used), math.ceil(limit.leaves_us / 1000)
  end
  local used = math.min(math.ceil(limit.ahead_us / limit.interval_us), limit.burst)
  local next_us = used > 0 and limit.ahead_us - (used - 1) * limit.interval_us or 0
  return limit.burst - used, math.ceil(next_us / 1000)
end

local function take_limit(limit, now_us, id)
  if limit.kind == 'gcra' then
    limit.ahead_us = limit.ahead_us + limit.interval_us
    redis.call('SET', limit.key, string.format('%.0f', now_us + limit.ahead_us),
      'PX', math.ceil(limit.ahead_us / 1000))
    return
  end
  limit.leaves_us = limit.used > 0 and limit.leaves_us or limit.period_us
  limit.used = limit.used + 1
  redis.call('ZREMRANGEBYSCORE', limit.key, '-inf',
    string.format('%.0f', now_us - limit.period_us))
  redis.call('ZADD', limit.key, string.format('%.0f', now_us), id)
  redis.call('PEXPIRE', limit.key, math.ceil(limit.period_us / 1000))
end
