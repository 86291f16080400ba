-- A record that has waited longer than its key lives (see memory) is known by neither the key nor a
-- row: then no refund and no credit is accepted. The margin to a day is an hour.

local BACKLOG_AGE_MS_MAX = 82800000

local function is_backlogged(stream_key, now_us)
  local oldest = redis.call('XRANGE', stream_key, '-', '+', 'COUNT', 1)[1]
  if not oldest then
    return false
  end
  local oldest_ms = tonumber(string.match(oldest[1], '^%d+'))
  return oldest_ms < now_us / 1000 - BACKLOG_AGE_MS_MAX
end
