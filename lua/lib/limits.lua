-- Rate limits: all are checked before any is taken from.

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

-- Reads all limits; returns the number of the first that refuses, and for how many milliseconds.
local function refusing_limit(limits, now_us)
  local refusing, wait_ms = 0, 0
  for i, limit in ipairs(limits) do
    read_limit(limit, now_us)
    local remaining, next_ms = limit_state(limit)
    if remaining == 0 and refusing == 0 then
      refusing, wait_ms = i, next_ms
    end
  end
  return refusing, wait_ms
end

local function take_limits(limits, now_us, id)
  for _, limit in ipairs(limits) do
    take_limit(limit, now_us, id)
  end
end

-- Appends to a reply two numbers for each limit, which has been read: see limit_state.
local function tell_limits(reply, limits)
  for _, limit in ipairs(limits) do
    local remaining, next_ms = limit_state(limit)
    reply[#reply + 1] = remaining
    reply[#reply + 1] = next_ms
  end
  return reply
end
