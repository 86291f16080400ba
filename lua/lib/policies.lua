-- The policies of a call: allowance, period and rate limits, as adapters/redis/encoding.py packs
-- them, one after another.
-- uses: periods

local POLICY_FORMAT, POLICY_BYTES = '>i4i4BI6B', 16
local RATE_FORMAT, RATE_BYTES = '>Bc4I4I7', 16

-- Returns the rate limits that begin at `at`, and how many of them have a key of their own. A limit
-- whose state is more than `full` allows no request: of a window, a number of requests; else a debt
-- (us).
local function read_limits(packed, at, count)
  local limits, keyed = {}, 0
  for i = 1, count do
    local kind, digest, size, span_us
    kind, digest, size, span_us, at = struct.unpack(RATE_FORMAT, packed, at)
    if kind < 1 or kind > 3 or size < 1 or span_us < 1 then
      return nil
    end
    keyed = keyed + (kind > 1 and 1 or 0)
    limits[i] = { kind = kind, digest = digest, size = size, span_us = span_us,
      full = kind == 3 and size - 1 or (size - 1) * span_us }
  end
  return limits, keyed
end

-- Returns all policies of an argument, or nil if it is ill-formed.
local function read_policies(packed)
  local policies, at = {}, 1
  while at + POLICY_BYTES <= #packed + 1 do
    local allowance, rollover, period, length_ms, count
    allowance, rollover, period, length_ms, count, at = struct.unpack(POLICY_FORMAT, packed, at)
    local is_known = allowance == 0 or (period >= DAY and period <= ROLLING)
    if allowance < 0 or rollover < 0 or not is_known or (period == ROLLING and length_ms < 1)
      or at + count * RATE_BYTES > #packed + 1
    then
      return nil
    end
    local limits, keyed = read_limits(packed, at, count)
    if not limits then
      return nil
    end
    policies[#policies + 1] = { allowance = allowance, rollover = rollover, period = period,
      length_ms = length_ms, limits = limits, keyed = keyed, ends = {} }
    at = at + count * RATE_BYTES
  end
  return at == #packed + 1 and policies or nil
end
