-- void: undoes a spend whose outcome is unknown to its caller, who was answered "not charged".
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 id of the spend, a UUIDv7   2 id of the refund   3 when the spend was sent, and 4 its
--        deadline (Unix ms)   5 entry from which an earlier search goes on, or empty
--        6 description
-- Reply  {status, credits, 0, now (us), position, allowance left, entry from which to go on}
--        status: refunded, refused, or the first that holds of uninitialised, corrupt, too_early,
--        kept, unresolved (the search was cut short: ask again from that entry), out_of_range
-- Appends one refund of the whole spend if it had been taken. The id is refused from then on, and
--        its idempotency key is forgotten.
--
-- Before its deadline a spend may still arrive, so nothing is decided then. A spend that is older
-- than the call that is voided was answered to an earlier call: it is kept. So is one that was
-- settled, that was served, or whose idempotency key was taken over.
-- uses: args, find, holds

local id, refund_id = ARGV[1], ARGV[2]
local asked_at_ms = whole(ARGV[3], 0, TIME_MS_MAX)
local deadline_ms = whole(ARGV[4], 0, TIME_MS_MAX)
if not is_id(id) or not is_id(refund_id) or not id_time_ms(id) then
  return invalid('ids of 16 bytes, the first a UUIDv7')
elseif not asked_at_ms or not deadline_ms then
  return invalid('times: Unix milliseconds')
end

local shard, account, problem = load_one()
if shard.problem or problem == 'corrupt' then
  return reply(problem, shard, account, nil, '')
elseif shard.now_ms <= deadline_ms then
  return reply('too_early', shard, account, nil, '')
end
if account then
  name_id(account, math.min(id_time_ms(id), shard.now_ms))
end
local change = { id = refund_id, text = pack_text(ARGV[6], '') }
local user = string.sub(KEYS[3], -16)

-- Returns how the void of an open or ended hold is answered.
local function void_hold(hold)
  local entry = entry_of(account, id)
  local is_served = entry and entry.state == DONE and hold.state == 'open'
  if hold.state == 'cancelled' then
    return 'refunded'
  elseif hold.state == 'settled' or hold.opened_ms < asked_at_ms or is_served
    or is_taken_over(entry, id)
  then
    return 'kept'
  elseif hold.state == 'expired' then
    return_part(account, hold, hold.cost, change)
    save_deduct(shard, hold)
  else
    end_unsettled(account, hold, 'cancelled', change)
  end
  return 'refunded'
end

-- Returns how the void of a charge is answered, the index of its refund, and where to go on.
local function void_charge(deduct)
  if recall_id(shard, refund_id) then
    return 'refunded'
  elseif deduct and (deduct.cost == 0 or deduct.user ~= user) then
    return 'refused'
  end
  local entry = account and entry_of(account, id)
  if entry and (entry.state == DONE or is_taken_over(entry, id)) then
    return 'kept'
  end
  local record, cut = find_by_any(shard, id, '', deadline_ms, ARGV[5])
  if cut then
    return 'unresolved', nil, cut
  elseif record and (record.kind ~= KIND.deduct or record.at_ms < asked_at_ms) then
    return 'kept'
  elseif deduct then
    -- A part was refunded by a caller who was told of it. The record tells which call that was.
    return record and 'refused' or 'kept'
  elseif record and record.user ~= user then
    return 'refused'
  elseif record and account and account.credits - record.amount > CREDITS_MAX then
    return 'out_of_range'
  elseif record and record.amount < 0 and account then
    deduct = deduct_of(record)
    local index = give_back(account, deduct, deduct.cost, change)
    save_deduct(shard, deduct)
    forget_key(account, id)
    return 'refunded', index
  elseif shard.now_ms - id_time_ms(id) <= GIVEN_ID_MS_MAX then
    -- An older id is refused by its age. Its record may be a row by now, and Postgres is asked.
    note_void(shard, id, user)
  end
  return 'refused'
end

local deduct = find_deduct(shard, id)
local status, index, cut
if deduct == false then
  return reply('corrupt', shard, account, nil, '')
elseif deduct and deduct.state and account and deduct.user == user then
  status = void_hold(deduct)
else
  status, index, cut = void_charge(deduct)
end
problem = commit_one(shard, account)
return reply(problem or status, shard, account, not problem and index or nil, cut or '')
