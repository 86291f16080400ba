-- The id of a top-up stands for user and period, so that it can be made once: a UUIDv5 (RFC 9562).
local TOP_UP_NAMESPACE = '\111\45\47\12\92\27\93\94\157\81\11\123\45\10\74\17'

local function top_up_id(user, period)
  local digest = redis.sha1hex(TOP_UP_NAMESPACE .. 'allowance:' .. user
    .. string.format(':%.0f', period))
  local bytes = {}
  for i = 1, 16 do
    bytes[i] = tonumber(string.sub(digest, 2 * i - 1, 2 * i), 16)
  end
  bytes[7] = bytes[7] % 16 + 80
  bytes[9] = bytes[9] % 64 + 128
  return string.char(unpack(bytes))
end

-- Adds what `renew` has found that a new period adds, if anything.
local function restore(account, epoch, now_us, user, amount)
  if amount > 0 then
    append(KEYS[1], KEYS[2], account, epoch, now_us, {
      id = top_up_id(user, account.period), user = user, type = 'add', amount = amount,
      allowance = account.moves, description = 'allowance', metadata = '',
    })
  end
end
