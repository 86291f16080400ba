-- expire: ends a hold whose time is over: gives it back or keeps it, as was said when it began.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of the hold's deduct   5 hold   6 open holds
--        7, 8 hashes of idempotency keys
-- ARGV   1 hold id (16 bytes)   2 user id (16 bytes)   3 id of the refund
-- Reply  as of settle
--        status: allowed (it has ended now), or the first that holds of uninitialised,
--        unknown_hold, hold_closed (it had ended before), hold_open (its time is not over)
-- Appends one refund of what is left of the estimate, unless it is kept.
-- uses: arguments, clock, account, record, memory, giving, hold,
--       entry, finishing, closing

if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or #ARGV[3] ~= 16 then
  return invalid('ids: 16 bytes')
end
local now_us = time_us()
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
local hold = load_hold(ARGV[1])
if not epoch then
  return { 'uninitialised', 0, 0, math.floor(now_us / 1000), 0, '', 0, 0, 0, 0 }
elseif not account or not hold or hold.user ~= ARGV[2] then
  -- There is nothing to end, and no sweep is to find it due again.
  redis.call('ZREM', KEYS[6], ARGV[1] .. ARGV[2])
  -- The user is gone, and with it what was held.
  redis.call('PEXPIRE', KEYS[4], MEMORY_MS)
  redis.call('PEXPIRE', KEYS[5], MEMORY_MS)
  return { 'unknown_hold', 0, 0, math.floor(now_us / 1000), 0, '', 0, 0, 0, 0 }
elseif hold.state ~= 'open' then
  return tell('hold_closed', account, now_us, hold)
elseif now_us / 1000 < hold.expires then
  return tell('hold_open', account, now_us, hold)
end
lapse(account, epoch, now_us, hold, 'expired',
  { id = ARGV[3], description = 'the hold expired', metadata = '' })
return tell('allowed', account, now_us, hold)
