-- extend: moves the expiry of an open hold.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of the hold's deduct   5 hold   6 open holds
--        7, 8 hashes of idempotency keys
-- ARGV   1 hold id (16 bytes)   2 user id (16 bytes)   3 id of the refund if it has expired
--        4 lifetime from now on (ms)
-- Reply  as of settle
--        status: allowed, or the first that holds of uninitialised, unknown_hold, hold_expired,
--        hold_closed, too_long (it would be open for more than a day, and is left as it was)
-- Appends nothing, unless the hold has just expired and is given back (see lib/closing).
-- uses: arguments, clock, account, record, memory, giving, hold,
--       entry, finishing, closing

local TTL_MS_MIN = 100
local AGE_MS_MAX = 86400000

local ttl_ms = whole(ARGV[4], TTL_MS_MIN, AGE_MS_MAX)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or #ARGV[3] ~= 16 then
  return invalid('ids: 16 bytes')
elseif not ttl_ms then
  return invalid('lifetime: from 100 ms to a day')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
local hold = load_hold(ARGV[1])
if not epoch or not account or not hold or hold.user ~= ARGV[2] then
  return { epoch and 'unknown_hold' or 'uninitialised', account and account.credits or 0, 0,
    now_ms, account and account.allowance or 0, '', 0, 0, 0, 0 }
elseif hold.state == 'open' and now_ms >= hold.expires then
  lapse(account, epoch, now_us, hold, 'expired',
    { id = ARGV[3], description = 'the hold expired', metadata = '' })
end
if hold.state ~= 'open' then
  local status = hold.state == 'expired' and 'hold_expired' or 'hold_closed'
  return tell(status, account, now_us, hold)
elseif now_ms + ttl_ms > tonumber(redis.call('HGET', KEYS[5], 'opened')) + AGE_MS_MAX then
  return tell('too_long', account, now_us, hold)
end
hold.expires = now_ms + ttl_ms
local expires = string.format('%.0f', hold.expires)
redis.call('HSET', KEYS[5], 'expires', expires)
redis.call('ZADD', KEYS[6], expires, ARGV[1] .. ARGV[2])
return tell('allowed', account, now_us, hold)
