-- The window in which a retry is recognised by its id: a UUIDv7, whose first 48 bits are its time.

local ID_AGE_MS_MAX = 60000
local CLOCK_SKEW_MS_MAX = 5000

local function id_time_ms(id)
  if math.floor(string.byte(id, 7) / 16) ~= 7 then
    return nil
  end
  return struct.unpack('>I6', id)
end
