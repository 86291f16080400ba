-- void: undoes a spend whose outcome is unknown, and whose caller got the answer "not charged".
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 id of the spend, a UUIDv7   2 id of the refund of a charge, and 3 of a hold
--        4 when the spend was sent, and 5 its deadline (Unix ms)   6 for an id of the caller's, the
--        deadline of its first sending (Unix ms), or 0   7 where a bounded search continues,
--        or empty   8 description
-- Reply  {status, credits, 0, now (us), position, allowance left, where the search continues}
--        status: refunded, refused, or the first that applies of uninitialised, corrupt, too_early,
--        forgotten (the user is unknown, or older records are deleted: if it was charged, there
--        is a row), kept, unresolved (the search reached its bound: call again from
--        there), out_of_range
-- Appends one refund of the whole spend if it had been taken. The id is refused from then on, and
--        its idempotency key is forgotten.
--
-- Before its deadline a spend may still arrive, so nothing is decided then; the same is true of a
-- charge that has been pending for longer than refunds are remembered. Call it again later. A spend
-- stands if another call got the answer, if it was settled or served, or its key was taken over.
-- uses: args, find, holds, answers

local id, refund_id, end_id = ARGV[1], ARGV[2], ARGV[3]
local asked_at_ms = whole(ARGV[4], 0, TIME_MS_MAX)
local deadline_ms = whole(ARGV[5], 0, TIME_MS_MAX)
local first_deadline_ms = whole(ARGV[6], 0, TIME_MS_MAX)
local id_ms = is_id(id) and id_time_ms(id)
if not id_ms or not is_id(refund_id) or not is_id(end_id) or not ARGV[8] then
  return invalid('three ids of 16 bytes, the first a UUIDv7, and 8 arguments')
elseif not asked_at_ms or not deadline_ms or not first_deadline_ms then
  return invalid('times: Unix milliseconds')
end

local shard, account, problem = load_one(true)
if shard.problem or problem == 'corrupt' then
  return reply(problem, shard, account, nil, '')
elseif shard.now_ms <= deadline_ms then
  return reply('too_early', shard, account, nil, '')
elseif not account then
  return reply('forgotten', shard, nil, nil, '')
end
name_id(account, math.min(id_ms, shard.now_ms + MINTED_ID_AHEAD_MS_MAX))
local text = pack_text(ARGV[8], '')
local answers = recall_answers(shard, id)

-- Returns the answers to other calls. Those to this call have the deadline of its first or last
-- sending; if the first is unknown, they lie between its start and its deadline.
local function answers_to_others()
  local left = {}
  for at = 1, #answers, ANSWER_TIME_BYTES do
    local at_ms, of_deadline_ms = struct.unpack(ANSWER_TIME_FORMAT, answers, at)
    local is_own = at_ms >= asked_at_ms and at_ms <= deadline_ms
    if first_deadline_ms > 0 then
      is_own = of_deadline_ms == first_deadline_ms or of_deadline_ms == deadline_ms
    end
    if not is_own then
      left[#left + 1] = string.sub(answers, at, at + ANSWER_TIME_BYTES - 1)
    end
  end
  return table.concat(left)
end

-- Returns whether another call got the answer to a spend that was charged at `charged_ms`, and
-- deletes the answers to this call.
local function is_answered_elsewhere(charged_ms)
  if not answers then
    return charged_ms < asked_at_ms or charged_ms > deadline_ms
  end
  local left = answers_to_others()
  if left ~= answers then
    save_answers(shard, id, left, MEMORY_MS)
  end
  return left ~= ''
end

-- Ends the hold with the id, and returns the answer.
local function void_hold(hold)
  local lease, change = lease_of(account, id), { id = end_id, text = text }
  local is_served = lease and lease.state == DONE and hold.state == 'open'
  if hold.state == 'cancelled' then
    return 'refunded'
  elseif hold.state == 'settled' or is_served or is_taken_over(lease, id)
    or is_answered_elsewhere(hold.opened_ms)
  then
    return 'kept'
  elseif hold.state == 'open' then
    end_unsettled(account, hold, 'cancelled', change)
    return 'refunded'
  elseif (hold.refunded or 0) == 0 then
    return_part(account, hold, hold.cost, change)
  end
  hold.state = 'cancelled'
  save_deduct(shard, hold)
  forget_idempotency_key(account, id)
  return 'refunded'
end

-- Gives back the charge whose record was found; returns the answer and the index of the refund.
local function undo(record)
  if record.amount < 0 and shard.now_ms - record.at_ms > BACKLOG_AGE_MS_MAX then
    return 'too_early'
  elseif account.credits - record.amount > CREDITS_MAX then
    return 'out_of_range'
  end
  local deduct = deduct_of(record)
  local index = deduct.cost > 0
    and give_back(account, deduct, deduct.cost, { id = refund_id, text = text }) or nil
  save_deduct(shard, deduct)
  forget_idempotency_key(account, id)
  return index and 'refunded' or 'refused', index
end

-- Undoes a charge, or refuses its id from now on. Returns the answer, the index of the refund, and
-- where a bounded search continues.
local function void_charge(deduct)
  if recall_id(shard, refund_id) then
    return 'refunded'
  elseif deduct and (deduct.cost == 0 or deduct.user ~= account.user) then
    return 'refused'
  end
  local lease = lease_of(account, id)
  if lease and (lease.state == DONE or is_taken_over(lease, id)) then
    return 'kept'
  end
  local record, cut = find_by_any(shard, id, '', deadline_ms, ARGV[7])
  if cut then
    return 'unresolved', nil, cut
  elseif record and (record.kind ~= KIND.deduct or record.user ~= account.user)
    or (record or answers) and is_answered_elsewhere(record and record.at_ms)
  then
    return 'kept'
  elseif deduct then
    -- Another call got the answer and refunded a part. The record of the refund names that call.
    return record and 'refused' or 'kept'
  elseif record then
    return undo(record)
  elseif id_ms - GIVEN_ID_AHEAD_MS_MAX < shard.oldest_ms then
    return 'forgotten'
  end
  note_void(shard, id, account.user)
  return 'refused'
end

local deduct = find_deduct(shard, id)
if deduct == false or answers == false then
  return reply('corrupt', shard, account, nil, '')
end
local is_hold = deduct and deduct.state and deduct.user == account.user
local status, index, cut = (is_hold and void_hold or void_charge)(deduct)
problem = commit_one(shard, account)
return reply(problem or status, shard, account, not problem and index or nil, cut or '')
