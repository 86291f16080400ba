-- Rate limits: all are checked before any is taken from. domain/limit.py says what they mean.

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

-- Returns for how many microseconds a limit refuses; 0 or less if it allows. `arrival_us` is when
-- the next request would come, if all came at the steady rate.
local function limit_wait_us(limit, now_us)
  if limit.kind == 'gcra' then
    limit.arrival_us = math.max(tonumber(redis.call('GET', limit.key) or 0), now_us)
      + limit.interval_us
    return limit.arrival_us - limit.burst * limit.interval_us - now_us
  end
  local after = string.format('(%.0f', now_us - limit.period_us)
  local is_full = redis.call('ZCOUNT', limit.key, after, '+inf') >= limit.count
  local oldest = redis.call('ZRANGEBYSCORE', limit.key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return is_full and tonumber(oldest[2]) + limit.period_us - now_us or 0
end

-- Returns the number of the first limit that refuses, and for how many milliseconds.
local function refusing_limit(limits, now_us)
  for i, limit in ipairs(limits) do
    local wait_ms = math.ceil(limit_wait_us(limit, now_us) / 1000)
    if wait_ms > 0 then
      return i, wait_ms
    end
  end
  return 0, 0
end

local function take_limits(limits, now_us, id)
  for _, limit in ipairs(limits) do
    if limit.kind == 'gcra' then
      local lasts_ms = math.ceil((limit.arrival_us - now_us) / 1000)
      redis.call('SET', limit.key, string.format('%.0f', limit.arrival_us), 'PX', lasts_ms)
    else
      local gone = string.format('%.0f', now_us - limit.period_us)
      redis.call('ZREMRANGEBYSCORE', limit.key, '-inf', gone)
      redis.call('ZADD', limit.key, string.format('%.0f', now_us), id)
      redis.call('PEXPIRE', limit.key, math.ceil(limit.period_us / 1000))
    end
  end
end
