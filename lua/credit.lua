-- credit: adds credits or adjusts a balance by hand, and records it in the same step.
--
-- KEYS   1 user   2 stream   3 epoch   4 receipt of this transaction id
-- ARGV   1 transaction id (16 bytes)   2 user id (16 bytes)   3 type: add or admin_adjustment
--        4 amount (credits; > 0 to add, not 0 to adjust)   5 '1' if the balance may become negative
--        6 description   7 metadata (JSON or empty)
-- Reply  {status, credits, sequence, now (Unix ms), position, allowance left}
--        status: allowed, repeated, or the first that holds of uninitialised, unknown_user,
--        conflict, backlog, out_of_range, out_of_credits
-- Appends one record of the type and amount if allowed; otherwise writes nothing.
-- uses: arguments, clock, account, record, chain, window, taken, memory, backlog

local kind = ARGV[3]
local amount = whole(ARGV[4], -CREDITS_MAX, CREDITS_MAX)
if #ARGV[1] ~= 16 or #ARGV[2] ~= 16 then
  return invalid('ids: 16 bytes')
elseif kind ~= 'add' and kind ~= 'admin_adjustment' then
  return invalid('type: add or admin_adjustment')
elseif not amount or amount == 0 or (kind == 'add' and amount < 0) then
  return invalid('amount: a whole number, more than 0 to add, not 0 to adjust')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[3])
local account = load_account(KEYS[1])
if not epoch or not account then
  return { epoch and 'unknown_user' or 'uninitialised', 0, 0, now_ms, '', 0 }
end

local receipt = redis.call('HMGET', KEYS[4],
  'user', 'amount', 'credits', 'sequence', 'position', 'left', 'type')
if receipt[1] then
  local same = receipt[1] == ARGV[2] and tonumber(receipt[2]) == amount and receipt[7] == kind
  return { same and 'repeated' or 'conflict', tonumber(receipt[3]), tonumber(receipt[4]), now_ms,
    receipt[5], tonumber(receipt[6]) }
end

local after = account.credits + amount
local refusal
if is_taken(account) then
  refusal = 'conflict'
elseif is_backlogged(KEYS[2], now_us) then
  refusal = 'backlog'
elseif after > CREDITS_MAX or after < -CREDITS_MAX then
  refusal = 'out_of_range'
elseif amount < 0 and after < 0 and ARGV[5] ~= '1' then
  refusal = 'out_of_credits'
end
if refusal then
  return { refusal, account.credits, 0, now_ms, '', account.allowance }
end
local position = append(KEYS[1], KEYS[2], account, epoch, now_us, {
  id = ARGV[1], user = ARGV[2], type = kind, amount = amount,
  description = ARGV[6], metadata = ARGV[7],
})
remember(KEYS[4], 'user', ARGV[2], 'amount', ARGV[4], 'credits', account.credits,
  'sequence', account.sequence, 'position', position, 'left', account.allowance, 'type', kind)
return { 'allowed', account.credits, account.sequence, now_ms, position, account.allowance }
