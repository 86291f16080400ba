-- An allowance comes back with the first charge of a new period. domain/policy.py says how much.

-- Reads three arguments from `at` on: amount (0 for none), rollover, and the period: its kind, and
-- of a rolling one its length, such as `month` or `rolling:3600000`. Returns nil if ill-formed.
local function parse_allowance(at)
  local amount = whole(ARGV[at], 0, CREDITS_MAX)
  local rollover = whole(ARGV[at + 1], 0, CREDITS_MAX)
  local kind, length = string.match(ARGV[at + 2] or '', '^(%l+):?(%d*)$')
  local length_ms = whole(length ~= '' and length or '0', 0, TIME_MS_MAX)
  local known = kind == 'day' or kind == 'week' or kind == 'month'
    or (kind == 'rolling' and length_ms and length_ms > 0)
  if not amount or not rollover or (amount > 0 and not known) then
    return nil
  end
  return { amount = amount, rollover = rollover, kind = kind, length_ms = length_ms }
end

-- Moves the account into the period of `now_ms`; returns what that adds, and the period's end,
-- both 0 where the policy has no allowance. Nothing is written here. A period never moves back.
-- `account.moves` is what that does to the allowance: as much as is added, less what was left of it
-- without credits behind it, because of a debt. So a debt is paid once, and not in each period.
local function renew(account, allowance, now_ms)
  account.moves = 0
  if allowance.amount == 0 then
    return 0, 0
  end
  local started = account.period
  if started then
    local _, ends = period_at(allowance.kind, allowance.length_ms, started, started)
    if now_ms < ends then
      return 0, ends
    end
  end
  local starts, ends = period_at(allowance.kind, allowance.length_ms, now_ms, started or now_ms)
  account.period = starts
  local left = math.max(0, math.min(account.allowance, account.credits))
  local top_up = math.max(0, allowance.amount + math.min(left, allowance.rollover) - left)
  if top_up > 0 then
    account.moves = left + top_up - account.allowance
  end
  return top_up, ends
end
