-- Looks a transaction up among the user's records that are still in the stream, latest first.

local LOOKBACK_MAX = 10000
local HEADER_FORMAT = '>BBc16c16i4i4I8I4I8I8I4i4i4I8'

local function parse(entry)
  local _, kind, id, user, amount, credits, sequence, _, _, ms, n, allowance, left, period =
    struct.unpack(HEADER_FORMAT, entry[2][2])
  return {
    kind = kind, id = id, user = user, amount = amount, credits = credits, sequence = sequence,
    previous = string.format('%.0f-%.0f', ms, n), position = entry[1],
    allowance = allowance, allowance_left = left, period = period,
  }
end

local function made_at_ms(position)
  return tonumber(string.match(position, '^%d+'))
end

-- Returns the record, or nil and whether the search was cut short by its bound. No record made
-- before `oldest_ms` can carry the id. Ids of a stream never go back, as a clock may.
local function find(stream_key, position, id, oldest_ms)
  for _ = 1, LOOKBACK_MAX do
    local entry = redis.call('XRANGE', stream_key, position, position)[1]
    if not entry then
      return nil, false
    end
    local record = parse(entry)
    if record.id == id then
      return record, false
    elseif made_at_ms(record.position) < oldest_ms then
      return nil, false
    end
    position = record.previous
  end
  return nil, true
end
