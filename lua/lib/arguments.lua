-- Arguments are text. A number is whole, in plain decimal digits, and lies within named bounds:
-- tonumber alone would accept nan, 0x10 and 1e3, and a negative cost would mint credits.

local CREDITS_MAX = 2147483647
local TIME_MS_MAX = 281474976710655

local function whole(text, low, high)
  if not text or #text > 16 or not string.match(text, '^%-?%d+$') then
    return nil
  end
  local number = tonumber(text)
  if number < low or number > high then
    return nil
  end
  return number
end

local function invalid(what)
  return redis.error_reply('INVALID ' .. what)
end
