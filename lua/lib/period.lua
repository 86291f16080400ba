-- Periods of an allowance, in Unix milliseconds. domain/period.py is the specification.

local DAY_MS = 86400000
local WEEK_MS = 604800000
-- 1970 began on a Thursday, three days after a Monday.
local THURSDAY_MS = 259200000

-- Days from 1970-01-01 to the first of a month, in the proleptic Gregorian calendar; years are
-- counted from March, so that the leap day is the last one of a year.
local function days_to_month(year, month)
  local from_march = (month + 9) % 12
  year = year - math.floor(from_march / 10)
  local leap_days = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return 365 * year + leap_days + math.floor((306 * from_march + 5) / 10) - 719468
end

-- Returns the year and the month of a time.
local function month_of(now_ms)
  local day = math.floor(now_ms / DAY_MS)
  local year = 1970 + math.floor(day / 365.2425)
  if days_to_month(year + 1, 1) <= day then
    year = year + 1
  elseif days_to_month(year, 1) > day then
    year = year - 1
  end
  local month = 12
  while days_to_month(year, month) > day do
    month = month - 1
  end
  return year, month
end

-- Returns start and end of the period that contains `now_ms`. `anchor_ms` is the start of an
-- earlier rolling period.
local function period_at(kind, length_ms, now_ms, anchor_ms)
  if kind == 'day' then
    local start_ms = math.floor(now_ms / DAY_MS) * DAY_MS
    return start_ms, start_ms + DAY_MS
  elseif kind == 'week' then
    local start_ms = math.floor((now_ms + THURSDAY_MS) / WEEK_MS) * WEEK_MS - THURSDAY_MS
    return start_ms, start_ms + WEEK_MS
  elseif kind == 'month' then
    local year, month = month_of(now_ms)
    local ends = month == 12 and days_to_month(year + 1, 1) or days_to_month(year, month + 1)
    return days_to_month(year, month) * DAY_MS, ends * DAY_MS
  end
  local start_ms = now_ms - (now_ms - anchor_ms) % length_ms
  return start_ms, start_ms + length_ms
end
