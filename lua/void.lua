-- void: settles a charge whose outcome is unknown to the caller, who has answered "not charged".
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of the charge's transaction id
--        5, 6 hashes of idempotency keys
-- ARGV   1 id of the charge, a UUIDv7 (16 bytes)   2 user id (16 bytes)   3 id of the refund
--        4 when the charge was asked for, and 5 its deadline (Unix ms)   6 description
-- Reply  {status, 0, 0, now (Unix ms), position}
--        status: refunded, refused, or the first that holds of uninitialised, too_early,
--        unresolved, kept, out_of_range (for the credits that have come since)
-- Appends one refund of the whole charge if it had been made; notes the id as voided either way,
--        and forgets its idempotency key.
--
-- Before its deadline a charge may still arrive, so nothing is decided then. After it the charge
-- script refuses by the deadline, and a retry with a later deadline by the note left here. A
-- charge that is older than the call that is voided was answered to an earlier call: it is kept,
-- whatever has been refunded of it since. So is one whose idempotency key was taken over since, or
-- whose request was served.
-- uses: arguments, clock, account, record, chain, window, memory, giving,
--       entry, finishing, takeover

local asked_at_ms = whole(ARGV[4], 0, TIME_MS_MAX)
local deadline_ms = whole(ARGV[5], 0, TIME_MS_MAX)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or #ARGV[3] ~= 16 or not id_time_ms(ARGV[1]) then
  return invalid('ids: 16 bytes, of the charge a UUIDv7')
elseif not asked_at_ms or not deadline_ms then
  return invalid('times: Unix milliseconds')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
if not epoch then
  return { 'uninitialised', 0, 0, now_ms, '' }
elseif now_ms <= deadline_ms then
  return { 'too_early', 0, 0, now_ms, '' }
end
local kept = redis.call('HMGET', KEYS[4], 'user', 'amount', ARGV[3])
local is_charge = kept[1] == ARGV[2] and tonumber(kept[2]) > 0
if kept[1] and (kept[3] or not is_charge) then
  return { kept[3] and 'refunded' or 'refused', 0, 0, now_ms, '' }
end
local entry = entry_of(ARGV[1], 5)
if entry and (entry.state == DONE or is_anothers(entry, ARGV[1])) then
  return { 'kept', 0, 0, now_ms, '' }
end

local account = load_account(KEYS[1])
local record, is_cut
if account then
  local oldest_ms = id_time_ms(ARGV[1]) - CLOCK_SKEW_MS_MAX
  record, is_cut = find(KEYS[2], account.last, ARGV[1], oldest_ms)
end
if is_cut then
  return { 'unresolved', 0, 0, now_ms, '' }
elseif record
  and (record.kind ~= TYPE_CODES.deduct or made_at_ms(record.position) < asked_at_ms)
then
  return { 'kept', 0, 0, now_ms, '' }
elseif is_charge then
  -- Somebody who was told of it refunded some of it. Only its record says that it is this call's.
  return { record and 'refused' or 'kept', 0, 0, now_ms, '' }
elseif not record and now_ms - id_time_ms(ARGV[1]) > ID_AGE_MS_MAX then
  -- Its record may be a row by now, for which the caller asks Postgres; its age refuses a retry.
  return { 'refused', 0, 0, now_ms, '' }
end

if record and account.credits - record.amount > CREDITS_MAX then
  return { 'out_of_range', 0, 0, now_ms, '' }
end
local status, position, cost = 'refused', '', 0
if record and record.amount < 0 then
  cost = -record.amount
  status = 'refunded'
  position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
    id = ARGV[3], user = ARGV[2], type = 'refund', amount = cost, refund_of = ARGV[1],
    allowance = to_allowance(account, cost + record.allowance, 0, cost, record.period),
    description = ARGV[6], metadata = '',
  })
  redis.call('HSET', KEYS[4], ARGV[3], cost)
end
remember(KEYS[4], 'user', ARGV[2], 'amount', cost, 'total', cost)
end_key(ARGV[1], 5, false)
return { status, 0, 0, now_ms, position }
