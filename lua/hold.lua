-- hold: takes an estimate from a user, if there is enough, and records it in the same step; what
-- it really costs is settled later, see settle. A new period restores the allowance, as in charge.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of this transaction id   5 hold   6 open holds
-- ARGV   1 transaction id, a UUIDv7 (16 bytes)   2 user id (16 bytes)   3 estimate (credits; 0 for
--        a user who is never refused)   4 deadline (Unix ms)   5 '1' if the id was minted for this
--        call, '0' if it may be a retry   6 most records in the stream   7 description
--        8 metadata (JSON or empty)   9 lifetime (ms)   10 '1' if it is kept at its expiry
--        11 most open holds of the user   12 to 14 allowance (see lib/allowance)
-- Reply  {status, credits, sequence, now (Unix ms), position, allowance left, next period (ms),
--        expiry (Unix ms)}
--        status: allowed, repeated, or the first that holds of uninitialised, unknown_user, stale,
--        voided, unresolved, conflict, late, backlog, too_many_holds, out_of_credits, credits_held,
--        out_of_range
-- Appends if allowed: one add that restores the allowance, if a new period has begun; then one
--        deduct of -estimate. A refusal writes nothing.
-- uses: arguments, clock, account, record, chain, window, period, allowance, topup, hold

local TTL_MS_MIN = 100
local TTL_MS_MAX = 86400000

local estimate = whole(ARGV[3], 0, CREDITS_MAX)
local deadline_ms = whole(ARGV[4], 0, TIME_MS_MAX)
local length_max = whole(ARGV[6], 1, CREDITS_MAX)
local ttl_ms = whole(ARGV[9], TTL_MS_MIN, TTL_MS_MAX)
local holds_max = whole(ARGV[11], 1, CREDITS_MAX)
local allowance = parse_allowance(12)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or not id_time_ms(ARGV[1]) then
  return invalid('transaction id: a UUIDv7 of 16 bytes, and a user id of 16 bytes')
elseif not estimate or not deadline_ms or not length_max or not holds_max then
  return invalid('estimate, deadline, length or holds: whole numbers that are not negative')
elseif not ttl_ms or not allowance then
  return invalid('lifetime: from 100 ms to a day; allowance: whole numbers and a period')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
if not epoch or not account then
  return { epoch and 'unknown_user' or 'uninitialised', 0, 0, now_ms, '', 0, 0, 0 }
end
local top_up, resets_ms = renew(account, allowance, now_ms)

local function refuse(status)
  return { status, account.credits + top_up, 0, now_ms, '',
    account.allowance + account.moves, resets_ms, 0 }
end

local id_ms = id_time_ms(ARGV[1])
local oldest_ms = id_ms
if ARGV[5] ~= '1' then
  if id_ms < now_ms - ID_AGE_MS_MAX or id_ms > now_ms + CLOCK_SKEW_MS_MAX then
    return refuse('stale')
  end
  local refunds = redis.call('HMGET', KEYS[4], 'amount', 'total')
  if refunds[1] and tonumber(refunds[2]) >= tonumber(refunds[1]) then
    return refuse('voided')
  end
  oldest_ms = id_ms - CLOCK_SKEW_MS_MAX
end
-- Even a first attempt can arrive after its retry. A hold is known by its own key, and only a
-- charge that has its id has to be looked for, where the user has a record since it was minted.
local earlier = load_hold(ARGV[1])
if earlier and earlier.state == 'cancelled' then
  return refuse('voided')
elseif earlier and (earlier.user ~= ARGV[2] or earlier.amount ~= estimate) then
  return refuse('conflict')
elseif earlier then
  local first = redis.call('HMGET', KEYS[5], 'credits', 'sequence', 'position', 'left')
  return { 'repeated', tonumber(first[1]), tonumber(first[2]), now_ms, first[3],
    tonumber(first[4]), resets_ms, earlier.expires }
elseif made_at_ms(account.last) >= oldest_ms then
  local record, is_cut = find(KEYS[2], account.last, ARGV[1], oldest_ms)
  if is_cut or record then
    return refuse(is_cut and 'unresolved' or 'conflict')
  end
end

local counts = redis.call('HMGET', KEYS[1], 'h', 'n')
local held, holds = tonumber(counts[1] or 0), tonumber(counts[2] or 0)
if now_ms > deadline_ms then
  return refuse('late')
elseif redis.call('XLEN', KEYS[2]) >= length_max then
  return refuse('backlog')
elseif holds >= holds_max then
  return refuse('too_many_holds')
elseif estimate > 0 and account.credits + top_up < estimate then
  return refuse(account.credits + top_up + held < estimate and 'out_of_credits' or 'credits_held')
elseif account.credits + top_up > CREDITS_MAX then
  return refuse('out_of_range')
end
restore(account, epoch, now_us, ARGV[2], top_up)
local taken = math.min(account.allowance, estimate)
local position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
  id = ARGV[1], user = ARGV[2], type = 'deduct', amount = -estimate, allowance = -taken,
  description = ARGV[7], metadata = ARGV[8],
})
local expires = string.format('%.0f', now_ms + ttl_ms)
redis.call('HSET', KEYS[5], 'user', ARGV[2], 'amount', estimate, 'expires', expires,
  'opened', string.format('%.0f', now_ms), 'keep', ARGV[10], 'state', 'open',
  'credits', account.credits, 'sequence', account.sequence, 'position', position,
  'left', account.allowance)
if estimate > 0 then
  -- The bound of all refunds of this deduct, which must not be forgotten while the hold is open.
  redis.call('HSET', KEYS[4], 'amount', estimate, 'total', 0, 'allowance', taken,
    'period', string.format('%.0f', account.period or 0))
end
redis.call('ZADD', KEYS[6], expires, ARGV[1] .. ARGV[2])
redis.call('HINCRBY', KEYS[1], 'h', estimate)
redis.call('HINCRBY', KEYS[1], 'n', 1)
return { 'allowed', account.credits, account.sequence, now_ms, position, account.allowance,
  resets_ms, now_ms + ttl_ms }
