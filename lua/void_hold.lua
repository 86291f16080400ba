-- void_hold: ends a hold whose outcome is unknown to the caller, who has answered "not held".
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of the hold's deduct   5 hold   6 open holds
-- ARGV   1 hold id (16 bytes)   2 user id (16 bytes)   3 id of the refund
--        4 the hold's deadline (Unix ms)   5 description
-- Reply  as of settle
--        status: refunded, refused, or the first that holds of uninitialised, too_early
-- Appends one refund of all that is left of the estimate; notes an id that took nothing as voided.
--
-- A hold is known by its own key for a day after its end, so none needs to be looked for.
-- uses: arguments, clock, account, record, memory, giving, hold, closing

local deadline_ms = whole(ARGV[4], 0, TIME_MS_MAX)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or #ARGV[3] ~= 16 then
  return invalid('ids: 16 bytes')
elseif not deadline_ms then
  return invalid('deadline: Unix milliseconds')
end
local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
local hold = load_hold(ARGV[1])
if not epoch then
  return { 'uninitialised', 0, 0, now_ms }
elseif now_ms <= deadline_ms then
  return { 'too_early', 0, 0, now_ms }
elseif not account or not hold or hold.user ~= ARGV[2] then
  if redis.call('EXISTS', KEYS[4]) == 0 then
    remember(KEYS[4], 'amount', 0, 'total', 0)
  end
  return { 'refused', account and account.credits or 0, 0, now_ms }
elseif hold.state ~= 'cancelled' then
  hold.keep = false
  lapse(account, epoch, now_us, hold, 'cancelled',
    { id = ARGV[3], description = ARGV[5], metadata = '' })
end
return tell('refunded', account, now_us, hold)
