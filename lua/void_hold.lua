-- void_hold: ends a hold whose outcome is unknown to the caller, who has answered "not held".
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of the hold's deduct   5 hold   6 open holds
--        7, 8 hashes of idempotency keys
-- ARGV   1 hold id (16 bytes)   2 user id (16 bytes)   3 id of the refund
--        4 when the hold was asked for, and 5 its deadline (Unix ms)   6 description
-- Reply  as of settle
--        status: refunded, refused, or the first that holds of uninitialised, too_early,
--        unresolved, kept
-- Appends one refund of all that is left of the estimate; notes an id that took nothing as voided.
--
-- A hold is known by its own key for a day after its end; one that is older than the call that is
-- voided was answered to an earlier call, and one that is settled to some call: it is kept, as is
-- a charge that has the id, and a hold whose idempotency key was taken over or completed since.
-- uses: arguments, clock, account, record, chain, window, memory, giving, hold,
--       entry, finishing, takeover, closing

local asked_at_ms = whole(ARGV[4], 0, TIME_MS_MAX)
local deadline_ms = whole(ARGV[5], 0, TIME_MS_MAX)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or #ARGV[3] ~= 16 or not id_time_ms(ARGV[1]) then
  return invalid('ids: 16 bytes, of the hold a UUIDv7')
elseif not asked_at_ms or not deadline_ms then
  return invalid('times: Unix milliseconds')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
local hold = load_hold(ARGV[1])

-- Refuses an id that is no hold's from now on, unless it is a charge's.
local function spend()
  local noted = redis.call('HMGET', KEYS[4], 'user', 'amount', ARGV[3])
  if noted[3] then
    return 'refunded'
  elseif noted[1] then
    return noted[1] == ARGV[2] and tonumber(noted[2]) > 0 and 'kept' or 'refused'
  end
  local id_ms = id_time_ms(ARGV[1])
  local record, is_cut
  if account then
    record, is_cut = find(KEYS[2], account.last, ARGV[1], id_ms - CLOCK_SKEW_MS_MAX)
  end
  if is_cut or record then
    return is_cut and 'unresolved' or 'kept'
  elseif now_ms - id_ms <= ID_AGE_MS_MAX then
    remember(KEYS[4], 'user', ARGV[2], 'amount', 0, 'total', 0)
  end
  return 'refused'
end

if not epoch then
  return { 'uninitialised', 0, 0, now_ms }
elseif now_ms <= deadline_ms then
  return { 'too_early', 0, 0, now_ms }
elseif not account or not hold or hold.user ~= ARGV[2] then
  return { spend(), account and account.credits or 0, 0, now_ms }
elseif hold.state ~= 'cancelled' then
  local opened_at_ms = made_at_ms(redis.call('HGET', KEYS[5], 'position'))
  local entry = entry_of(ARGV[1], 7)
  local is_served = entry and entry.state == DONE and hold.state == 'open'
  if hold.state == 'settled' or opened_at_ms < asked_at_ms
    or is_served or is_anothers(entry, ARGV[1])
  then
    return tell('kept', account, now_us, hold)
  end
  hold.keep = false
  lapse(account, epoch, now_us, hold, 'cancelled',
    { id = ARGV[3], description = ARGV[6], metadata = '' })
end
return tell('refunded', account, now_us, hold)
