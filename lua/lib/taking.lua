-- What a request takes from rate limits, and what it is told of them. They have been read, see
-- lib/limits.

local function take_limits(limits, now_us, id)
  for _, limit in ipairs(limits) do
    if limit.kind == 'gcra' then
      limit.ahead_us = limit.ahead_us + limit.interval_us
      local arrival = string.format('%.0f', now_us + limit.ahead_us)
      redis.call('SET', limit.key, arrival, 'PX', math.ceil(limit.ahead_us / 1000))
    else
      limit.leaves_us = limit.used > 0 and limit.leaves_us or limit.period_us
      limit.used = limit.used + 1
      local gone = string.format('%.0f', now_us - limit.period_us)
      redis.call('ZREMRANGEBYSCORE', limit.key, '-inf', gone)
      redis.call('ZADD', limit.key, string.format('%.0f', now_us), id)
      redis.call('PEXPIRE', limit.key, math.ceil(limit.period_us / 1000))
    end
  end
end

-- Appends to a reply how each limit stands now: two numbers, see limit_state.
local function tell_limits(reply, limits)
  for _, limit in ipairs(limits) do
    local remaining, next_ms = limit_state(limit)
    reply[#reply + 1] = remaining
    reply[#reply + 1] = next_ms
  end
  return reply
end
