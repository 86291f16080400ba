-- Arguments of scripts about one user. Numbers are whole, in decimal digits, and within bounds;
-- tonumber alone would accept nan, 0x10 and 1e3.
-- uses: windows

local function whole(text, low, high)
  if not text or #text > 16 or not string.match(text, '^%-?%d+$') then
    return nil
  end
  local number = tonumber(text)
  return number >= low and number <= high and number or nil
end

local function is_id(text)
  return text ~= nil and #text == 16
end

-- Returns the time of a UUIDv7 in milliseconds, or nil for an id that carries no time.
local function id_time_ms(id)
  local ms, high, _, low = struct.unpack('>I6BBB', id)
  if high < 112 or high > 127 or low < 128 or low > 191 then
    return nil
  end
  return ms
end

local function invalid(problem)
  return redis.error_reply('INVALID ' .. problem)
end
