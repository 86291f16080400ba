-- A user's hash: c credits, s sequence, l id of the user's latest record in the stream, a what is
-- left of the allowance (part of c), p when the period of that allowance began (Unix ms);
-- h and n as lib/hold says.

local function load_account(key)
  local fields = redis.call('HMGET', key, 'c', 's', 'l', 'a', 'p')
  if not fields[1] then
    return nil
  end
  return {
    credits = tonumber(fields[1]), sequence = tonumber(fields[2]), last = fields[3],
    allowance = tonumber(fields[4] or 0), period = fields[5] and tonumber(fields[5]),
  }
end
