-- refund: gives a deduct back, wholly or in part, and records it in the same step.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of the deduct
--        5, 6 hashes of idempotency keys
-- ARGV   1 transaction id (16 bytes)   2 user id (16 bytes)   3 id of the deduct (16 bytes)
--        4 amount (credits > 0), or empty for all that is left   5 position of the deduct, or empty
--        6 the deduct's cost and 7 what is refunded of it (credits), by Postgres, or empty
--        8 description   9 metadata (JSON or empty)   10 what the deduct took from the allowance
--        (credits) and 11 in which period (Unix ms), by Postgres, or empty   12 id of the attempt
--        whose request is given back (16 bytes), or empty for a refund by hand
--        13 '1' if the transaction id is the caller's choice, and so may be taken
-- Reply  {status, credits, sequence, now (Unix ms), position, allowance left, amount refunded}
--        status: allowed, repeated, or the first that holds of uninitialised, unknown_user,
--        conflict, backlog, unknown_deduct, refund_exceeded, taken_over (by another attempt
--        with the idempotency key), out_of_range
-- Appends one refund that refers to the deduct if allowed; otherwise writes no record. When nothing
--        is left of the deduct, its idempotency key is forgotten: the request may be made again.
--        So it is if all was asked for and nothing was left, as of a deduct of 0.
--
-- The bound holds for good: within a day by the refunds key, later by what Postgres adds up.
-- uses: arguments, clock, account, record, chain, window, taken, memory, backlog, giving,
--       entry, finishing, takeover

local amount = ARGV[4] ~= '' and whole(ARGV[4], 1, CREDITS_MAX)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or #ARGV[3] ~= 16 then
  return invalid('ids: 16 bytes')
elseif amount == nil then
  return invalid('amount: a whole number of credits, more than 0')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
if not epoch or not account then
  return { epoch and 'unknown_user' or 'uninitialised', 0, 0, now_ms, '', 0, 0 }
end

local function refuse(status)
  return { status, account.credits, 0, now_ms, '', account.allowance, 0 }
end

local kept = redis.call('HMGET', KEYS[4], 'user', 'amount', 'total', 'allowance', 'period', ARGV[1])

-- Returns what is known of the deduct, from the nearest place that knows: cost, what is refunded of
-- it, what it took from the allowance, and in which period.
local function known_deduct()
  if kept[1] then
    -- Nobody is given what another user paid.
    return kept[1] == ARGV[2] and tonumber(kept[2]) or nil, tonumber(kept[3]),
      tonumber(kept[4] or 0), tonumber(kept[5] or 0)
  end
  -- An id without a time is what a settlement took beyond its estimate.
  local id_ms = id_time_ms(ARGV[3])
  local start = ARGV[5] ~= '' and ARGV[5] or account.last
  local record = find(KEYS[2], start, ARGV[3], id_ms and id_ms - CLOCK_SKEW_MS_MAX or 0)
  if record and record.kind == TYPE_CODES.deduct and record.user == ARGV[2] then
    return -record.amount, 0, -record.allowance, record.period
  end
  return whole(ARGV[6], 0, CREDITS_MAX), whole(ARGV[7], 0, CREDITS_MAX),
    whole(ARGV[10], 0, CREDITS_MAX) or 0, whole(ARGV[11], 0, TIME_MS_MAX) or 0
end

local earlier = kept[1] == ARGV[2] and kept[6]
if earlier then
  local same = not amount or tonumber(earlier) == amount
  return { same and 'repeated' or 'conflict', account.credits, 0, now_ms, '',
    account.allowance, tonumber(earlier) }
end
if ARGV[13] == '1' and is_taken(account) then
  return refuse('conflict')
end
local cost, refunded, taken, period = known_deduct()
if is_backlogged(KEYS[2], now_us) then
  return refuse('backlog')
elseif not cost or not refunded then
  return refuse('unknown_deduct')
end
amount = amount or cost - refunded
local is_taken_over = ARGV[12] ~= '' and is_anothers(entry_of(ARGV[3], 5), ARGV[12])
if amount <= 0 or refunded + amount > cost then
  if ARGV[4] == '' and refunded == cost and not is_taken_over then
    end_key(ARGV[3], 5, false)
  end
  return refuse('refund_exceeded')
elseif is_taken_over then
  return refuse('taken_over')
elseif account.credits + amount > CREDITS_MAX then
  return refuse('out_of_range')
end
local position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
  id = ARGV[1], user = ARGV[2], type = 'refund', amount = amount, refund_of = ARGV[3],
  allowance = to_allowance(account, cost - taken, refunded, amount, period),
  description = ARGV[8], metadata = ARGV[9],
})
remember(KEYS[4], 'user', ARGV[2], 'amount', cost, 'total', refunded + amount, 'allowance', taken,
  'period', string.format('%.0f', period), ARGV[1], amount)
if refunded + amount == cost then
  end_key(ARGV[3], 5, false)
end
return { 'allowed', account.credits, account.sequence, now_ms, position, account.allowance, amount }
