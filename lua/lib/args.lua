-- Arguments of the scripts that concern one user. A number is whole, in plain decimal digits, and
-- lies within named bounds: tonumber alone would accept nan, 0x10 and 1e3.
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
  local high, low = string.byte(id, 7, 9), string.byte(id, 9)
  if high < 112 or high > 127 or low < 128 or low > 191 then
    return nil
  end
  return (struct.unpack('>I6', id))
end

local function invalid(problem)
  return redis.error_reply('INVALID ' .. problem)
end
