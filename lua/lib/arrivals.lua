-- Rate limits by arrival (GCRA). A limit of the user's own is 11 bytes in the account: the digest
-- of its name and numbers, and the theoretical arrival time (us) of its next request. See
-- domain/limit.py.
-- uses: account

local ARRIVAL = 'c4I7'
-- The formats of arrival times, by their number.
local ARRIVALS_FORMATS = { [0] = '>' }

local function arrivals_format(count)
  local format = ARRIVALS_FORMATS[count]
  if not format then
    format = '>' .. string.rep(ARRIVAL, count)
    ARRIVALS_FORMATS[count] = format
  end
  return format
end

-- Returns the arrival times in an account: digest and time of one limit after another.
local function read_arrivals(account)
  local count = #account.limits / LIMIT_BYTES
  local arrivals = { struct.unpack(arrivals_format(count), account.limits) }
  -- The last value is the position of a next one.
  arrivals[2 * count + 1] = nil
  return arrivals
end

-- Returns the index of the arrival time of limit `i` of a policy, or where to add it. An account
-- usually has the limits of its policy, in their order.
local function arrival_index(arrivals, digest, i)
  if arrivals[2 * i - 1] == digest then
    return 2 * i
  end
  i = 1
  while arrivals[i] and arrivals[i] ~= digest do
    i = i + 2
  end
  return i + 1
end

-- Returns how far the requests so far are ahead of the steady rate, in microseconds.
local function debt_us(arrival_us, now_us)
  local ahead_us = (arrival_us or 0) - now_us
  return ahead_us > 0 and ahead_us or 0
end

-- Returns how many requests are allowed now, and the milliseconds until one more is.
local function gcra_state(limit, ahead_us)
  local used = ahead_us > limit.full and limit.size or math.ceil(ahead_us / limit.span_us)
  local next_us = used > 0 and ahead_us - (used - 1) * limit.span_us or 0
  return limit.size - used, math.ceil(next_us / 1000)
end

-- Writes the arrival times of an account, without those that have passed.
local function save_arrivals(account, now_us)
  local arrivals, n = account.arrivals, 0
  local count = #arrivals
  for i = 2, count, 2 do
    if arrivals[i] > now_us then
      arrivals[n + 1], arrivals[n + 2] = arrivals[i - 1], arrivals[i]
      n = n + 2
    end
  end
  for i = n + 1, count do
    arrivals[i] = nil
  end
  account.is_changed = true
  account.limits = struct.pack(arrivals_format(n / 2), unpack(arrivals))
end
