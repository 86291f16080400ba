-- Periods of an allowance, in Unix milliseconds, as domain/period.py and domain/policy.py say.
-- uses: windows

local DAY_MS, WEEK_MS = 86400000, 604800000
-- 1970 began on a Thursday, three days after a Monday.
local THURSDAY_MS = 259200000
local DAY, WEEK, MONTH, ROLLING = 1, 2, 3, 4

-- Days from 1970-01-01 to the first of a month, in the proleptic Gregorian calendar; years are
-- counted from March, so that the leap day is the last one of a year.
local function days_to_month(year, month)
  local from_march = (month + 9) % 12
  year = year - math.floor(from_march / 10)
  local leap_days = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return 365 * year + leap_days + math.floor((306 * from_march + 5) / 10) - 719468
end

local function month_at(time_ms)
  local day = math.floor(time_ms / DAY_MS)
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
  local ends = month == 12 and days_to_month(year + 1, 1) or days_to_month(year, month + 1)
  return days_to_month(year, month) * DAY_MS, ends * DAY_MS
end

-- Returns start and end of the period of a policy that contains a time. `anchor_ms` is the start of
-- an earlier rolling period.
local function period_at(policy, time_ms, anchor_ms)
  if policy.period == DAY then
    local start_ms = math.floor(time_ms / DAY_MS) * DAY_MS
    return start_ms, start_ms + DAY_MS
  elseif policy.period == WEEK then
    local start_ms = math.floor((time_ms + THURSDAY_MS) / WEEK_MS) * WEEK_MS - THURSDAY_MS
    return start_ms, start_ms + WEEK_MS
  elseif policy.period == MONTH then
    return month_at(time_ms)
  end
  local start_ms = time_ms - (time_ms - anchor_ms) % policy.length_ms
  return start_ms, start_ms + policy.length_ms
end

-- Returns how a new period changes an account: the credits that it adds, the start of the period,
-- its end, and the change of the allowance. If none begins: 0 credits and the period of the
-- account. It changes nothing.
--
-- An allowance of 10, of which 4 are left, gets 6. With a rollover of 3 it gets 9. If the
-- balance is 1, because an overdraft has spent 3 of the 4, only 1 counts as left, and 9 are added:
-- so a debt is paid once, and not again in each period.
local function next_period(account, policy, now_ms)
  local started_ms = account.period_ms
  if policy.allowance == 0 then
    return 0, started_ms, 0, 0
  end
  if started_ms > 0 then
    local ends_ms = policy.ends[started_ms]
    if not ends_ms then
      local _
      _, ends_ms = period_at(policy, started_ms, started_ms)
      policy.ends[started_ms] = ends_ms
    end
    if now_ms < ends_ms then
      return 0, started_ms, ends_ms, 0
    end
  end
  local start_ms, ends_ms = period_at(policy, now_ms, started_ms > 0 and started_ms or now_ms)
  local left = math.max(0, math.min(account.allowance, account.credits))
  local added = math.max(0, policy.allowance + math.min(left, policy.rollover) - left)
  return added, start_ms, ends_ms, added > 0 and left + added - account.allowance or 0
end
