-- collect: takes what a request owes that was served without a decision, as far as there is enough,
-- and records it in the same step. It begins a new period as a charge does.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of this transaction id
--        5, 6 hashes of idempotency keys, if the request had a key
-- ARGV   1 transaction id (16 bytes)   2 user id (16 bytes)   3 what it owes (credits)
--        4 '1' if it is recorded even if it owes nothing; if not, 0 is a peek
--        5 description   6 metadata (a JSON object)   7 to 9 allowance (see lib/allowance)
--        10 and on: the idempotency key (see lib/idempotency)
-- Reply  {status, credits, sequence, now (Unix ms), position, allowance left, amount taken, less
--        what was given back of it since}
--        status: allowed, repeated (as what was collected before, or served by its key), or the
--        first that holds of uninitialised, unknown_user, conflict, backlog, out_of_range
-- Appends if allowed: one add that restores the allowance, if a new period has begun and it was
--        touched; then one deduct of what could be taken, though that is 0. What was not there is
--        `shortfall` in its metadata. A refusal, a repetition and a peek write nothing.
-- uses: arguments, clock, account, record, memory, backlog, period, allowance, topup, entry,
--       idempotency, keeping, finishing

local owed = whole(ARGV[3], 0, CREDITS_MAX)
local allowance = parse_allowance(7)
local key = parse_key(5, 10)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 then
  return invalid('ids: 16 bytes')
elseif not owed or not allowance or key == false then
  return invalid('owed, allowance or idempotency key: whole numbers that are not negative')
elseif string.sub(ARGV[6], 1, 1) ~= '{' or string.sub(ARGV[6], -1) ~= '}' or #ARGV[6] < 3 then
  return invalid('metadata: a JSON object that is not empty')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
if not epoch or not account then
  return { epoch and 'unknown_user' or 'uninitialised', 0, 0, now_ms, '', 0, 0 }
end

local function answer(status)
  return { status, account.credits, 0, now_ms, '', account.allowance, 0 }
end

local kept = redis.call('HMGET', KEYS[4],
  'user', 'amount', 'credits', 'sequence', 'position', 'left', 'total')
if kept[1] then
  return { kept[1] == ARGV[2] and 'repeated' or 'conflict', tonumber(kept[3]), tonumber(kept[4]),
    now_ms, kept[5], tonumber(kept[6]), tonumber(kept[2]) - tonumber(kept[7]) }
end
local entry = key and recall(key, now_ms)
if entry and entry.fingerprint == key.fingerprint then
  return answer('repeated')
elseif is_backlogged(KEYS[2], now_us) then
  return answer('backlog')
elseif owed == 0 and ARGV[4] ~= '1' then
  return answer('allowed')
end

local top_up = renew(account, allowance, now_ms)
if account.credits + top_up > CREDITS_MAX then
  return answer('out_of_range')
end
restore(account, epoch, now_us, ARGV[2], top_up)
local taken = math.max(0, math.min(owed, account.credits))
local from_allowance = math.min(account.allowance, taken)
local metadata = ARGV[6]
if taken < owed then
  metadata = string.format('%s, "shortfall": %.0f}', string.sub(metadata, 1, -2), owed - taken)
end
local position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
  id = ARGV[1], user = ARGV[2], type = 'deduct', amount = -taken, allowance = -from_allowance,
  description = ARGV[5], metadata = metadata,
})
-- What is remembered of it is what its refund looks for, too.
remember(KEYS[4], 'user', ARGV[2], 'amount', taken, 'total', 0, 'allowance', from_allowance,
  'period', string.format('%.0f', account.period or 0), 'credits', account.credits,
  'sequence', account.sequence, 'position', position, 'left', account.allowance)
if key and not entry and not is_full(key, now_ms) then
  keep_key(key, account, now_ms, -taken)
  end_key(ARGV[1], key.first, true)
end
return { 'allowed', account.credits, account.sequence, now_ms, position, account.allowance, taken }
