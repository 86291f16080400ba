-- settle: ends a hold by what it really cost: the rest goes back or, beyond the estimate, more is
-- taken. Or cancels it, so that all of it goes back.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of the hold's deduct   5 hold   6 open holds
--        7, 8 hashes of idempotency keys
-- ARGV   1 hold id (16 bytes)   2 user id (16 bytes)   3 id of the one record that may come of it
--        4 actual cost (credits), or empty to cancel   5 how far below zero it may take the balance
--        6 description   7 metadata (JSON or empty)   8 to 10 allowance (see lib/allowance)
--        11 id of the attempt that ends it (16 bytes), or empty where there was no idempotency key
-- Reply  {status, credits, sequence, now (Unix ms), allowance left, state, refunded, charged,
--        shortfall (what could not be taken), expiry (Unix ms)}
--        status: allowed, repeated, or the first that holds of uninitialised, unknown_hold,
--        conflict (it ended in another way), hold_expired, taken_over (to be cancelled by
--        another attempt with the idempotency key), out_of_range
-- Appends one refund of what is not needed, or one deduct of what is needed beyond the estimate,
--        after one add if a new period has begun. A hold that has just expired is given back or
--        kept (see lib/closing); any other refusal, and a repetition, write nothing.
-- uses: arguments, clock, account, record, memory, giving, period, allowance, topup, hold,
--       entry, finishing, takeover, closing

local actual = ARGV[4] ~= '' and whole(ARGV[4], 0, CREDITS_MAX)
local overdraft_max = whole(ARGV[5], 0, CREDITS_MAX)
local allowance = parse_allowance(8)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or #ARGV[3] ~= 16 then
  return invalid('ids: 16 bytes')
elseif actual == nil or not overdraft_max or not allowance then
  return invalid('actual, overdraft or allowance: whole numbers that are not negative')
end

local now_us = time_us()
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
local hold = load_hold(ARGV[1])
if not epoch or not account or not hold or hold.user ~= ARGV[2] then
  return { epoch and 'unknown_hold' or 'uninitialised', account and account.credits or 0, 0,
    math.floor(now_us / 1000), account and account.allowance or 0, '', 0, 0, 0, 0 }
end

local ends_as = actual and 'settled' or 'cancelled'
if hold.state == 'expired' then
  return tell('hold_expired', account, now_us, hold)
elseif hold.state ~= 'open' then
  local is_same = hold.state == ends_as and hold.actual == (actual or 0)
  return tell(is_same and 'repeated' or 'conflict', account, now_us, hold)
elseif now_us / 1000 >= hold.expires then
  lapse(account, epoch, now_us, hold, 'expired',
    { id = ARGV[3], description = 'the hold expired', metadata = '' })
  return tell('hold_expired', account, now_us, hold)
elseif not actual and ARGV[11] ~= '' and is_anothers(entry_of(ARGV[1], 7), ARGV[11]) then
  return tell('taken_over', account, now_us, hold)
end

local change = { id = ARGV[3], user = ARGV[2], type = 'deduct',
  description = ARGV[6], metadata = ARGV[7] }

-- Takes what the estimate lacks, as a charge would, and no more than the overdraft lets it.
local function collect(amount)
  local top_up = renew(account, allowance, math.floor(now_us / 1000))
  if account.credits + top_up > CREDITS_MAX then
    return false
  end
  local charged = math.max(0, math.min(amount, account.credits + top_up + overdraft_max))
  if charged > 0 or hold.amount == 0 then
    restore(account, epoch, now_us, ARGV[2], top_up)
    change.amount = -charged
    change.allowance = -math.min(account.allowance, charged)
    append(KEYS[1], KEYS[2], account, epoch, now_us, change)
  end
  hold.charged, hold.shortfall = charged, amount - charged
  return true
end

hold.actual = actual or 0
hold.attempt = ARGV[11] ~= '' and ARGV[11] or nil
if hold.amount == 0 and actual then
  -- The user is never refused: the cost is in the metadata of a deduct of 0.
  collect(0)
elseif hold.actual > hold.amount then
  local refunds = redis.call('HMGET', KEYS[4], 'amount', 'total')
  -- Who has given the estimate back by hand has ended the hold: nothing more is taken.
  local is_returned = refunds[1] and tonumber(refunds[2]) >= tonumber(refunds[1])
  if not is_returned and not collect(hold.actual - hold.amount) then
    return tell('out_of_range', account, now_us, hold)
  end
elseif account.credits + hold.amount - hold.actual > CREDITS_MAX then
  return tell('out_of_range', account, now_us, hold)
else
  hold.refunded = give_back(account, epoch, now_us, hold, hold.amount - hold.actual, change)
end
close_hold(hold, ends_as)
return tell('allowed', account, now_us, hold)
