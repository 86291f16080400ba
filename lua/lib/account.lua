-- A user's hash: c credits, s sequence, l id of the user's latest record in the stream.

local function load_account(key)
  local fields = redis.call('HMGET', key, 'c', 's', 'l')
  if not fields[1] then
    return nil
  end
  return { credits = tonumber(fields[1]), sequence = tonumber(fields[2]), last = fields[3] }
end
