-- Rate limits: all are checked before any is taken from, see lib/taking. domain/limit.py says what
-- they mean.

-- Reads from `at` on how many limits there are, and four arguments for each: kind (gcra or window),
-- count, period (ms), burst. Their keys are those from `first` on. Returns nil if ill-formed, and
-- which key and which argument come next.
local function parse_limits(first, at)
  local limits, total = {}, whole(ARGV[at], 0, #KEYS - first + 1)
  for i = 1, total or 0 do
    local kind = ARGV[at + 1]
    local count = whole(ARGV[at + 2], 1, CREDITS_MAX)
    local period_ms = whole(ARGV[at + 3], 1, TIME_MS_MAX)
    local burst = whole(ARGV[at + 4], 1, CREDITS_MAX)
    if not (kind == 'gcra' or kind == 'window') or not count or not period_ms or not burst then
      return nil
    end
    limits[i] = { key = KEYS[first + i - 1], kind = kind, count = count, burst = burst,
      period_us = period_ms * 1000, interval_us = math.floor(period_ms * 1000 / count) }
    at = at + 4
  end
  return total and limits, first + (total or 0), at + 1
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

-- Reads how all limits stand: of gcra, how far the requests so far are ahead of the steady rate; of
-- a window, how many lie in it, and when the oldest leaves it. Returns the number of the first that
-- refuses, and for how many milliseconds.
local function refusing_limit(limits, now_us)
  local refusing, wait_ms = 0, 0
  for i, limit in ipairs(limits) do
    if limit.kind == 'gcra' then
      limit.ahead_us = math.max(0, tonumber(redis.call('GET', limit.key) or 0) - now_us)
    else
      local after = string.format('(%.0f', now_us - limit.period_us)
      limit.used = redis.call('ZCOUNT', limit.key, after, '+inf')
      local oldest =
        redis.call('ZRANGEBYSCORE', limit.key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      limit.leaves_us = oldest[2] and tonumber(oldest[2]) + limit.period_us - now_us or 0
    end
    local remaining, next_ms = limit_state(limit)
    if remaining == 0 and refusing == 0 then
      refusing, wait_ms = i, next_ms
    end
  end
  return refusing, wait_ms
end
