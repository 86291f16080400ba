-- Takes credits: a new period is begun first, then the cost is deducted, the allowance first.
-- uses: records, periods

-- The id of a top-up is derived from user and period, so that it is made once: a UUIDv5 (RFC 9562).
local TOP_UP_NAMESPACE = '\111\45\47\12\92\27\93\94\157\81\11\123\45\10\74\17'

local function top_up_id(user, period_ms)
  local digest = redis.sha1hex(TOP_UP_NAMESPACE .. 'allowance:' .. user
    .. string.format(':%.0f', period_ms))
  local bytes = {}
  for i = 1, 16 do
    bytes[i] = tonumber(string.sub(digest, 2 * i - 1, 2 * i), 16)
  end
  bytes[7] = bytes[7] % 16 + 80
  bytes[9] = bytes[9] % 64 + 128
  return string.char(unpack(bytes))
end

-- Begins a period; the arguments are the results of `next_period`.
local function begin_period(account, added, start_ms, moved)
  account.period_ms = start_ms
  if added > 0 then
    append(account, { id = top_up_id(account.user, start_ms), kind = KIND.add, amount = added,
      allowance = moved })
  end
end

-- Returns whether a change leaves the range of balances and sequences. Two records may be appended.
local function is_out_of_range(account, credits)
  return credits > CREDITS_MAX or credits < -CREDITS_MAX or account.sequence + 2 > SEQUENCE_MAX
end

-- Deducts a cost. Returns the index of its record, and the change.
local function take(account, id, cost, text, is_hold)
  local from_allowance = math.max(0, math.min(account.allowance, cost))
  local change = { id = id, kind = KIND.deduct, amount = -cost, allowance = -from_allowance,
    text = text, is_hold = is_hold }
  return append(account, change), change
end
