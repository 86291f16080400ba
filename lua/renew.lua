-- renew: begins a new period of a user's allowance without a charge, for balances that are to be
-- current in Postgres while their users are idle.
--
-- KEYS   1 user   2 stream   3 epoch
-- ARGV   1 user id (16 bytes)   2 most records in the stream
--        3 to 5 allowance: amount and rollover (credits), period (see lib/allowance)
-- Reply  {status, credits, sequence, now (Unix ms), credits added}
--        status: renewed, or the first that holds of uninitialised, unknown_user, current (the
--        period lasts, was not touched, or none has begun: the first request begins it), backlog,
--        out_of_range
-- Appends one add, the one that the first charge of the period would have appended.
-- uses: arguments, clock, account, record, period, allowance, topup

local length_max = whole(ARGV[2], 1, CREDITS_MAX)
local allowance = parse_allowance(3)
if #ARGV[1] ~= 16 or not length_max then
  return invalid('user id: 16 bytes; length: a whole number, more than 0')
elseif not allowance then
  return invalid('allowance: whole numbers and a period')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
if not epoch or not account then
  return { epoch and 'unknown_user' or 'uninitialised', 0, 0, now_ms, 0 }
end
local began_ms = account.period
local top_up = renew(account, allowance, now_ms)
if not began_ms or top_up == 0 then
  return { 'current', account.credits, account.sequence, now_ms, 0 }
elseif redis.call('XLEN', KEYS[2]) >= length_max then
  return { 'backlog', account.credits, account.sequence, now_ms, 0 }
elseif account.credits + top_up > CREDITS_MAX then
  return { 'out_of_range', account.credits, account.sequence, now_ms, 0 }
end
restore(account, epoch, now_us, ARGV[1], top_up)
return { 'renewed', account.credits, account.sequence, now_ms, top_up }
