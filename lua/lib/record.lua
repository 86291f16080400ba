-- A record is binary, a third of the size of text fields; its first byte is the version of the
-- layout, which adapters/redis/records.py reads. Each record names the user's previous one, so that
-- a user's latest records form a chain through the stream: the memory by which a retry is known.

local TYPE_CODES = { deduct = 1, add = 2, refund = 3, admin_adjustment = 4 }
local RECORD_FORMAT = '>BBc16c16i4i4I8I4I8I8I4i4i4I8c16I2c0I4c0'
local NO_ID = string.rep('\0', 16)

-- Appends the change to the stream, then makes it; returns the record's id in the stream.
-- `change` carries id, user, type, amount, description, metadata; of a refund, refund_of; and
-- allowance, how much of the amount concerns the allowance, where it does.
local function append(user_key, stream_key, account, epoch, now_us, change)
  local ms, n = string.match(account.last, '^(%d+)%-(%d+)$')
  account.credits = account.credits + change.amount
  account.sequence = account.sequence + 1
  account.allowance = account.allowance + (change.allowance or 0)
  local record = struct.pack(
    RECORD_FORMAT, 2, TYPE_CODES[change.type], change.id, change.user, change.amount,
    account.credits, account.sequence, tonumber(epoch), now_us, tonumber(ms), tonumber(n),
    change.allowance or 0, account.allowance, account.period or 0,
    change.refund_of or NO_ID, #change.description, change.description,
    #change.metadata, change.metadata
  )
  account.last = redis.call('XADD', stream_key, '*', 'r', record)
  local fields = { 'c', string.format('%.0f', account.credits),
    's', string.format('%.0f', account.sequence), 'l', account.last }
  if account.period then
    fields[7], fields[8] = 'a', string.format('%.0f', account.allowance)
    fields[9], fields[10] = 'p', string.format('%.0f', account.period)
  end
  redis.call('HSET', user_key, unpack(fields))
  return account.last
end
