-- refund: gives a deduct back, wholly or in part, and records it in the same step.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 id of the refund   2 id of the deduct   3 amount (credits > 0), or empty for all that is
--        left   4 address of the deduct, or empty   5 where a bounded search continues,
--        or empty   6 to 9 the deduct from Postgres, or empty: cost, refunded amount, its part of
--        the allowance (credits), and the start of its period (Unix ms)
--        10 id of the attempt whose request is given back, or empty for an operator
--        11 '1' if the id of the refund is the caller's choice   12 description
--        13 metadata (JSON or empty)
-- Reply  {status, credits, sequence, now (us), address, allowance left, amount refunded, where the
--        search continues}
--        status: allowed, repeated, or the first that applies of uninitialised, corrupt,
--        unknown_user, conflict, unresolved (the search reached its bound: call again from there),
--        backlog, unknown_deduct, refund_exceeded, taken_over (by another attempt with the
--        idempotency key), out_of_range
-- Appends one refund that refers to the deduct if allowed. When nothing is left of the deduct, its
--        idempotency key is forgotten: the request may be made again.
--
-- Refunds never exceed the deduct: within a day by its hash, later by the sum in Postgres.
-- uses: args, find, give, key_ends, reply, take

local id, deduct_id, position, from = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local is_all, attempt_id = ARGV[3] == '', ARGV[10]
local amount = not is_all and whole(ARGV[3], 1, CREDITS_MAX)
if not is_id(id) or not is_id(deduct_id) or not position or not from or not ARGV[13] then
  return invalid('two ids of 16 bytes, and 13 arguments')
elseif amount == nil then
  return invalid('amount: a whole number of credits, more than 0')
end

local shard, account, problem = load_one(true)
if problem then
  return reply(problem, shard, account, nil, 0, '')
end
local function refuse(status, go_on)
  return reply(status, shard, account, nil, 0, go_on or '')
end

local known, id_cut = recall_id(shard, id), nil
-- Two ids are searched for; the position where to continue shows which of them.
local choice_from = string.match(from, '^c(.*)$') or from == '' and from
if known == nil and ARGV[11] == '1' and choice_from then
  -- A record has been pending for longer than ids are remembered: this one, or another.
  known, id_cut = find_choice(shard, id, choice_from)
  from = ''
end
if known then
  local is_same = known.kind == KIND.refund and known.user == account.user
    and known.refund_of == deduct_id and (is_all or known.amount == amount)
  local told = reply(is_same and 'repeated' or 'conflict', shard, account, nil, known.amount, '')
  told[2], told[3], told[6] = known.credits, known.sequence, known.left
  return told
elseif known == false then
  return refuse('corrupt')
elseif id_cut then
  return refuse('unresolved', 'c' .. id_cut)
end

-- Returns the deduct from the first source that knows it, or where the search continues. Refunds
-- of the last day are in its hash, so a row needs no search.
local function known_deduct()
  local deduct = find_deduct(shard, deduct_id)
  if deduct ~= nil then
    return deduct
  end
  local cost, given_back = whole(ARGV[6], 0, CREDITS_MAX), whole(ARGV[7], 0, CREDITS_MAX)
  if cost and given_back then
    return { id = deduct_id, user = account.user, cost = cost, given_back = given_back,
      allowance = whole(ARGV[8], 0, CREDITS_MAX) or 0,
      period_ms = whole(ARGV[9], 0, TIME_MS_MAX) or 0 }
  end
  local record, cut = find_by_any(shard, deduct_id, position, shard.now_ms, from)
  if cut then
    return nil, cut
  end
  return record and record.kind == KIND.deduct and deduct_of(record) or nil
end

local deduct, cut = known_deduct()
if deduct == false or shard.problem then
  return refuse('corrupt')
elseif cut then
  return refuse('unresolved', cut)
elseif is_backlogged(shard) then
  return refuse('backlog')
elseif not deduct or deduct.user ~= account.user then
  -- A user is never refunded the deduct of another user.
  return refuse('unknown_deduct')
end
amount = amount or deduct.cost - deduct.given_back
local is_other = attempt_id ~= '' and is_taken_over(lease_of(account, deduct_id), attempt_id)
if amount <= 0 or deduct.given_back + amount > deduct.cost then
  if is_all and is_given_back(deduct) and not is_other then
    forget_idempotency_key(account, deduct_id)
    commit_one(shard, account)
  end
  return refuse('refund_exceeded')
elseif is_other then
  return refuse('taken_over')
elseif is_out_of_range(account, account.credits + amount) then
  return refuse('out_of_range')
end
local index = give_back(account, deduct, amount, { id = id, text = pack_text(ARGV[12], ARGV[13]) })
save_deduct(shard, deduct)
if is_given_back(deduct) then
  forget_idempotency_key(account, deduct_id)
end
problem = commit_one(shard, account)
return reply(problem or 'allowed', shard, account, not problem and index or nil, amount, '')
