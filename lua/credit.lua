-- credit: adds credits or adjusts a balance, and records it in the same step.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 transaction id   2 add or admin_adjustment   3 amount (credits; > 0 to add, not 0 to
--        adjust)   4 '1' if the balance may become negative   5 where a bounded search continues,
--        or empty   6 description   7 metadata (JSON or empty)
-- Reply  {status, credits, sequence, now (us), address, allowance left, where the search continues}
--        status: allowed, repeated, or the first that applies of uninitialised, corrupt,
--        unknown_user, conflict, unresolved (the search reached its bound: call again from there),
--        backlog, out_of_range, out_of_credits
-- Appends one record of the kind and amount if allowed.
-- uses: args, find, reply, take

local id, kind, from = ARGV[1], KIND[ARGV[2]], ARGV[5]
local amount = whole(ARGV[3], -CREDITS_MAX, CREDITS_MAX)
if not is_id(id) or (kind ~= KIND.add and kind ~= KIND.admin_adjustment) or not ARGV[7] then
  return invalid('an id of 16 bytes, add or admin_adjustment, and 7 arguments')
elseif not amount or amount == 0 or (kind == KIND.add and amount < 0) then
  return invalid('amount: a whole number, more than 0 to add, not 0 to adjust')
end

local shard, account, problem = load_one()
if problem then
  return reply(problem, shard, account, nil, '')
end
local known, cut = recall_id(shard, id), nil
if known == nil then
  -- A record has been pending for longer than ids are remembered: this one, or another.
  known, cut = find_choice(shard, id, from)
end
if known then
  local is_same = known.kind == kind and known.user == account.user and known.amount == amount
  local answer = reply(is_same and 'repeated' or 'conflict', shard, account, nil, '')
  answer[2], answer[3], answer[6] = known.credits, known.sequence, known.left
  return answer
elseif known == false then
  return reply('corrupt', shard, account, nil, '')
end

local after, refusal = account.credits + amount, nil
if shard.problem then
  refusal = 'corrupt'
elseif cut then
  refusal = 'unresolved'
elseif is_backlogged(shard) then
  refusal = 'backlog'
elseif is_out_of_range(account, after) then
  refusal = 'out_of_range'
elseif amount < 0 and after < 0 and ARGV[4] ~= '1' then
  refusal = 'out_of_credits'
end
if refusal then
  return reply(refusal, shard, account, nil, cut or '')
end
local change = { id = id, kind = kind, amount = amount, allowance = 0,
  text = pack_text(ARGV[6], ARGV[7]) }
local index = append(account, change)
remember_id(account, change, MEMORY_MS)
problem = commit_one(shard, account)
return reply(problem or 'allowed', shard, account, not problem and index or nil, '')
