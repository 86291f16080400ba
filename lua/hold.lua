-- hold: takes an estimate from a user, if there is enough, and records it in the same step; what
-- it really costs is settled later, see settle. A new period restores the allowance, as in charge.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of this transaction id   5 hold   6 open holds
--        7 and on: rate limits; then two hashes of idempotency keys, if there is one
-- ARGV   1 transaction id, a UUIDv7 (16 bytes)   2 user id (16 bytes)   3 estimate (credits; 0 for
--        a user who is never refused)   4 deadline (Unix ms)   5 '1' if the id was minted for this
--        call, '0' if it may be a retry   6 most records in the stream   7 description
--        8 metadata (JSON or empty)   9 lifetime (ms)   10 '1' if it is kept at its expiry
--        11 most open holds of the user   12 to 14 allowance (see lib/allowance)
--        15 and on: rate limits (see lib/limits); then the idempotency key (see lib/idempotency)
-- Reply  {status, credits, sequence, now (Unix ms), position, allowance left, next period (ms),
--        number of the rate limit that refuses, for how long (ms), state of the idempotency key,
--        id (16 bytes) and amount of the first hold with that key, expiry (Unix ms); then, once
--        limits have been looked at, two numbers for each, as of charge}
--        status: allowed, repeated, or the first that holds of uninitialised, unknown_user,
--        key_reused, voided, conflict, stale, unresolved, late, backlog, too_many_keys,
--        too_many_holds, rate_limited, out_of_credits, credits_held, out_of_range
-- Appends if allowed: one add that restores the allowance, if a new period has begun; then one
--        deduct of -estimate. A refusal writes nothing.
--
-- Unlike a charge, which is known for a minute by its record, a hold is known by a key of its own:
-- so it is recognised, or found in conflict, before the age of its id is looked at.
-- uses: arguments, clock, account, record, chain, window, attempt, period, allowance, topup,
--       limits, taking, entry, idempotency, recognising, keeping, hold, opening

local TTL_MS_MIN = 100
local TTL_MS_MAX = 86400000

local estimate = whole(ARGV[3], 0, CREDITS_MAX)
local deadline_ms = whole(ARGV[4], 0, TIME_MS_MAX)
local length_max = whole(ARGV[6], 1, CREDITS_MAX)
local ttl_ms = whole(ARGV[9], TTL_MS_MIN, TTL_MS_MAX)
local holds_max = whole(ARGV[11], 1, CREDITS_MAX)
local allowance = parse_allowance(12)
local limits, next_key, next_argument = parse_limits(7, 15)
local key = limits and parse_key(next_key, next_argument)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or not id_time_ms(ARGV[1]) then
  return invalid('transaction id: a UUIDv7 of 16 bytes, and a user id of 16 bytes')
elseif not estimate or not deadline_ms or not length_max or not holds_max then
  return invalid('estimate, deadline, length or holds: whole numbers that are not negative')
elseif not ttl_ms or not allowance then
  return invalid('lifetime: from 100 ms to a day; allowance: whole numbers and a period')
elseif not limits or key == false then
  return invalid('limit or idempotency key: see charge')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
if not epoch or not account then
  local status = epoch and 'unknown_user' or 'uninitialised'
  return { status, 0, 0, now_ms, '', 0, 0, 0, 0, '', '', 0, 0 }
end
local top_up, resets_ms = renew(account, allowance, now_ms)

local function refuse(status)
  return { status, account.credits + top_up, 0, now_ms, '',
    account.allowance + account.moves, resets_ms, 0, 0, '', '', 0, 0 }
end

local known, first, key_state = recognise(key, now_ms, deadline_ms)
if first then
  return { known, first.credits, first.sequence, now_ms, '', first.left, resets_ms, 0, 0,
    key_state, first.id, first.amount, 0 }
elseif known then
  return refuse(known)
end

local earlier = load_hold(ARGV[1])
if (earlier and earlier.state == 'cancelled') or is_given_back() then
  return refuse('voided')
elseif earlier and (earlier.user ~= ARGV[2] or earlier.amount ~= estimate) then
  return refuse('conflict')
elseif earlier then
  local reply = redis.call('HMGET', KEYS[5], 'credits', 'sequence', 'position', 'left')
  return { 'repeated', tonumber(reply[1]), tonumber(reply[2]), now_ms, reply[3],
    tonumber(reply[4]), resets_ms, 0, 0, key and 'new' or '', '', 0, earlier.expires }
elseif is_stale(now_ms) then
  return refuse('stale')
end
-- Only a charge with this id is left to be looked for.
local record, is_cut = find_earlier(account)
if is_cut or record then
  return refuse(is_cut and 'unresolved' or 'conflict')
end

if now_ms > deadline_ms then
  return refuse('late')
elseif redis.call('XLEN', KEYS[2]) >= length_max then
  return refuse('backlog')
elseif is_full(key, now_ms) then
  return refuse('too_many_keys')
elseif tonumber(redis.call('HGET', KEYS[1], 'n') or 0) >= holds_max then
  return refuse('too_many_holds')
end
local limit, wait_ms = refusing_limit(limits, now_us)
if limit > 0 then
  local reply = refuse('rate_limited')
  reply[8], reply[9] = limit, wait_ms
  return tell_limits(reply, limits)
end
local refusal = check_credits(account.credits + top_up, estimate)
if refusal then
  return tell_limits(refuse(refusal), limits)
end
restore(account, epoch, now_us, ARGV[2], top_up)
local taken = math.min(account.allowance, estimate)
local position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
  id = ARGV[1], user = ARGV[2], type = 'deduct', amount = -estimate, allowance = -taken,
  description = ARGV[7], metadata = ARGV[8],
})
open_hold(account, position, estimate, taken, now_ms, now_ms + ttl_ms)
take_limits(limits, now_us, ARGV[1])
if key then
  keep_key(key, account, now_ms, -estimate)
end
return tell_limits({ 'allowed', account.credits, account.sequence, now_ms, position,
  account.allowance, resets_ms, 0, 0, key and 'new' or '', '', 0, now_ms + ttl_ms }, limits)
