-- read: returns a user's live balance, as a charge would find it now.
--
-- KEYS   1 user   2 epoch
-- ARGV   1 to 3 allowance: amount and rollover (credits), period (see lib/allowance)
-- Reply  {status, credits, sequence, now (Unix ms), epoch, allowance left, period start and end,
--        credits in open holds}
--        status: found, or the first that holds of uninitialised, unknown_user
-- Appends nothing and writes nothing: a new period is reckoned with, and begun by a charge.
-- flags: no-writes
-- uses: arguments, clock, account, period, allowance

local allowance = parse_allowance(1)
if not allowance then
  return invalid('allowance: whole numbers and a period')
end
local now_ms = math.floor(time_us() / 1000)
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  return { 'uninitialised', 0, 0, now_ms, 0, 0, 0, 0, 0 }
end
local account = load_account(KEYS[1])
if not account then
  return { 'unknown_user', 0, 0, now_ms, tonumber(epoch), 0, 0, 0, 0 }
end
local top_up, ends_ms = renew(account, allowance, now_ms)
return { 'found', account.credits + top_up, account.sequence, now_ms, tonumber(epoch),
  account.allowance + account.moves, account.period or 0, ends_ms,
  tonumber(redis.call('HGET', KEYS[1], 'h') or 0) }
