-- The flags of a spend, and the states of an idempotency key, as numbers of the wire.

-- A spend without sections has 23 bytes.
local SPEND_BYTES = 23
local RETRY, GIVEN, TEXT, KEY, HOLD, RECORDED, SHADOW, LIMIT_KEYS = 1, 2, 4, 8, 16, 32, 64, 128
local KEY_NONE, KEY_NEW, KEY_IN_FLIGHT, KEY_TAKEN_OVER, KEY_DONE = 0, 1, 2, 3, 4

local function has(flags, flag)
  return bit.band(flags, flag) > 0
end
