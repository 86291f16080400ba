-- collect: charges a request that was served without a decision, as far as the credits go,
-- and records it in the same step. It begins a new period as a charge does.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 transaction id   2 cost (credits)   3 '1' if a cost of 0 is recorded; else 0 is a peek
--        4 policy (see lib/policies)   5 idempotency key `>c16c8I6I6I4` (see lib/spends), or empty
--        6 description   7 metadata (a JSON object)
-- Reply  {status, credits, sequence, now (us), address, allowance left, amount charged, less the
--        amount that was given back of it since}
--        status: allowed, repeated (it was collected before, or served by its key), or the first
--        that applies of uninitialised, corrupt, unknown_user, conflict, backlog, out_of_range
-- Appends if allowed: one add, if a new period has begun and its allowance was touched; then one
--        deduct of the amount that could be charged, which may be 0. The rest is `shortfall` in its
--        metadata.
-- uses: args, policies, keys, key_ends, deducts, ids, reply, take

local id, cost = ARGV[1], whole(ARGV[2], 0, CREDITS_MAX)
local policies, metadata = read_policies(ARGV[4] or ''), ARGV[7] or ''
local key = ARGV[5] ~= '' and read_idempotency_key(ARGV[5] or '', 1)
if not is_id(id) or not cost or not policies or #policies ~= 1 or key == nil then
  return invalid('an id of 16 bytes; cost, policy and key: whole numbers')
elseif string.sub(metadata, 1, 1) ~= '{' or string.sub(metadata, -1) ~= '}' or #metadata < 3 then
  return invalid('metadata: a JSON object that is not empty')
end

local shard, account, problem = load_one()
local function answer(status, amount)
  return reply(status, shard, account, nil, amount or 0)
end
if problem then
  return answer(problem)
end

local known, deduct = recall_id(shard, id), find_deduct(shard, id)
local lease = key and recall_idempotency_key(account, key) or nil
if known == false or deduct == false then
  return answer('corrupt')
elseif known then
  local is_same = known.kind == KIND.deduct and known.user == account.user
  local told = answer(is_same and 'repeated' or 'conflict',
    -known.amount - (deduct and deduct.given_back or 0))
  told[2], told[3], told[6] = known.credits, known.sequence, known.left
  return told
elseif lease and lease.fingerprint == key.fingerprint then
  return answer('repeated')
elseif is_backlogged(shard) then
  return answer('backlog')
elseif cost == 0 and ARGV[3] ~= '1' then
  return answer('allowed')
end

local added, start_ms, _, moved = next_period(account, policies[1], shard.now_ms)
if is_out_of_range(account, account.credits + added) then
  return answer('out_of_range')
end
begin_period(account, added, start_ms, moved)
local charged = math.max(0, math.min(cost, account.credits))
if charged < cost then
  metadata = string.format('%s, "shortfall": %.0f}', string.sub(metadata, 1, -2), cost - charged)
end
local index, change = take(account, id, charged, pack_text(ARGV[6], metadata))
remember_id(account, change, MEMORY_MS)
if key and not lease and not is_full(account, key) then
  complete_idempotency_key(account, save_idempotency_key(account, key, id, -charged))
end
problem = commit_one(shard, account)
return reply(problem or 'allowed', shard, account, not problem and index or nil, charged)
