-- charge: takes credits from a user, if there are enough, and records it in the same step. The
-- first charge of a new period restores the user's allowance before, with a record of its own.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of this transaction id   5 and on: rate limits;
--        then two hashes of idempotency keys, if there is one
-- ARGV   1 transaction id, a UUIDv7 (16 bytes)   2 user id (16 bytes)   3 cost (credits)
--        4 deadline (Unix ms)   5 '1' if the id was minted for this attempt, '0' if it is a retry
--        6 most records in the stream   7 description   8 metadata (JSON or empty)
--        9 '1' if a cost of 0 is recorded, '0' if it is a peek
--        10 to 12 allowance: amount and rollover (credits), period (see lib/allowance)
--        13 and on: rate limits (see lib/limits); then the idempotency key (see lib/idempotency)
-- Reply  {status, credits, sequence, now (Unix ms), position, allowance left, next period (ms),
--        number of the rate limit that refuses, for how long (ms), state of the idempotency key,
--        id (16 bytes) and amount of the first charge with that key; then, once limits have been
--        looked at, for each: how many requests may come now, and in how many ms one more may}
--        status: allowed, repeated, or the first that holds of uninitialised, unknown_user,
--        key_reused, voided, stale, unresolved, conflict, late, backlog, too_many_keys,
--        rate_limited, out_of_credits, credits_held (with what lies in the user's open holds there
--        are enough), out_of_range
-- Appends if allowed: one add that restores the allowance, if a new period has begun and it was
--        touched; then one deduct of -cost. A refusal and a peek write nothing.
--
-- A retry that finds its first attempt is answered with that attempt's result even after its
-- deadline, so that `late` always means: not charged, and never will be.
-- uses: arguments, clock, account, record, chain, window, attempt, period, allowance, topup,
--       limits, taking, entry, idempotency, recognising, keeping

local cost = whole(ARGV[3], 0, CREDITS_MAX)
local deadline_ms = whole(ARGV[4], 0, TIME_MS_MAX)
local length_max = whole(ARGV[6], 1, CREDITS_MAX)
local allowance = parse_allowance(10)
local limits, next_key, next_argument = parse_limits(5, 13)
local key = limits and parse_key(next_key, next_argument)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or not id_time_ms(ARGV[1]) then
  return invalid('transaction id: a UUIDv7 of 16 bytes, and a user id of 16 bytes')
elseif not cost or not deadline_ms or not length_max then
  return invalid('cost, deadline or length: whole numbers that are not negative')
elseif not allowance then
  return invalid('allowance: whole numbers and a period')
elseif not limits then
  return invalid('limit: gcra or window, and whole numbers from 1 on')
elseif key == false then
  return invalid('idempotency key: two hashes, two digests, and whole numbers')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
if not epoch or not account then
  local status = epoch and 'unknown_user' or 'uninitialised'
  return { status, 0, 0, now_ms, '', 0, 0, 0, 0, '', '', 0 }
end
local top_up, resets_ms = renew(account, allowance, now_ms)

local function refuse(status)
  return { status, account.credits + top_up, 0, now_ms, '',
    account.allowance + account.moves, resets_ms, 0, 0, '', '', 0 }
end

local known, first, key_state = recognise(key, now_ms, deadline_ms)
if first then
  return { known, first.credits, first.sequence, now_ms, '', first.left, resets_ms, 0, 0,
    key_state, first.id, first.amount }
elseif known then
  return refuse(known)
end

if is_given_back() then
  return refuse('voided')
elseif is_stale(now_ms) then
  return refuse('stale')
end
local record, is_cut = find_earlier(account)
if is_cut then
  return refuse('unresolved')
elseif record then
  local same = record.kind == TYPE_CODES.deduct and record.amount == -cost
  return { same and 'repeated' or 'conflict', record.credits, record.sequence, now_ms,
    record.position, record.allowance_left, resets_ms, 0, 0, key and 'new' or '', '', 0 }
end

if now_ms > deadline_ms then
  return refuse('late')
elseif redis.call('XLEN', KEYS[2]) >= length_max then
  return refuse('backlog')
elseif is_full(key, now_ms) then
  return refuse('too_many_keys')
end
local limit, wait_ms = refusing_limit(limits, now_us)
if limit > 0 then
  local reply = refuse('rate_limited')
  reply[8], reply[9] = limit, wait_ms
  return tell_limits(reply, limits)
end
local refusal = check_credits(account.credits + top_up, cost)
if refusal then
  return tell_limits(refuse(refusal), limits)
elseif cost == 0 and ARGV[9] ~= '1' then
  return tell_limits(refuse('allowed'), limits)
end
restore(account, epoch, now_us, ARGV[2], top_up)
local position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
  id = ARGV[1], user = ARGV[2], type = 'deduct', amount = -cost,
  allowance = -math.min(account.allowance, cost), description = ARGV[7], metadata = ARGV[8],
})
take_limits(limits, now_us, ARGV[1])
if key then
  keep_key(key, account, now_ms, -cost)
end
return tell_limits({ 'allowed', account.credits, account.sequence, now_ms, position,
  account.allowance, resets_ms, 0, 0, key and 'new' or '', '', 0 }, limits)
