-- charge: takes credits from a user, if there are enough, and records it in the same step.
--
-- KEYS   1 user   2 stream   3 epoch   4 refunds of this transaction id
-- ARGV   1 transaction id, a UUIDv7 (16 bytes)   2 user id (16 bytes)   3 cost (credits)
--        4 deadline (Unix ms)   5 '1' if the id was minted for this attempt, '0' if it is a retry
--        6 most records in the stream   7 description   8 metadata (JSON or empty)
-- Reply  {status, credits, sequence, now (Unix ms), position}
--        status: allowed, repeated, or the first that holds of uninitialised, unknown_user, stale,
--        voided, unresolved, conflict, late, backlog, out_of_credits
-- Appends one deduct of -cost if allowed; otherwise writes nothing.
--
-- A retry that finds its first attempt is answered with that attempt's result even after its
-- deadline, so that `late` always means: not charged, and never will be.
-- uses: arguments, clock, account, record, chain, window

local cost = whole(ARGV[3], 0, CREDITS_MAX)
local deadline_ms = whole(ARGV[4], 0, TIME_MS_MAX)
local length_max = whole(ARGV[6], 1, CREDITS_MAX)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 or not id_time_ms(ARGV[1]) then
  return invalid('transaction id: a UUIDv7 of 16 bytes, and a user id of 16 bytes')
elseif not cost or not deadline_ms or not length_max then
  return invalid('cost, deadline or length: whole numbers that are not negative')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
if not epoch then
  return { 'uninitialised', 0, 0, now_ms, '' }
end
local account = load_account(KEYS[1])
if not account then
  return { 'unknown_user', 0, 0, now_ms, '' }
end

local function refuse(status)
  return { status, account.credits, 0, now_ms, '' }
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
-- Even a first attempt can arrive after its retry. But where the user has no record since its id
-- was minted, as is usual, there is nothing to look for.
if made_at_ms(account.last) >= oldest_ms then
  local record, is_cut = find(KEYS[2], account.last, ARGV[1], oldest_ms)
  if is_cut then
    return refuse('unresolved')
  elseif record then
    local same = record.kind == TYPE_CODES.deduct and record.amount == -cost
    return { same and 'repeated' or 'conflict', record.credits, record.sequence, now_ms,
      record.position }
  end
end

if now_ms > deadline_ms then
  return refuse('late')
elseif redis.call('XLEN', KEYS[2]) >= length_max then
  return refuse('backlog')
elseif account.credits < cost then
  return refuse('out_of_credits')
end
local position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
  id = ARGV[1], user = ARGV[2], type = 'deduct', amount = -cost,
  description = ARGV[7], metadata = ARGV[8],
})
return { 'allowed', account.credits, account.sequence, now_ms, position }
