-- spend: takes the costs of many requests at once, each if there are enough credits, and records
-- each in the same step. A charge is a hold that is settled at once, so both are spends.
--
-- KEYS   1..n streams   n+1..2n states of the same shards   2n+i account of spend i; in a cluster,
--        last, the guard of the shard, which never exists
-- ARGV   1 head `>BBI6I4`: version 1, number n of shards, deadline (Unix ms), most pending records
--        of a shard   2 policies (see lib/policies)   2+i spend i (see lib/spends)
-- Reply  one string: `>BB` 1 and n; for each shard `>I7I6I4`: its time (us), and the entry of its
--        records (ms and number, 0 for none); for each spend `>BBi4I4i4I6I4I2B`: status, number of
--        the limit that refuses, credits, sequence, allowance left, start of the next period (ms),
--        wait (ms), index of its record in the entry, size of its details; then the details of
--        each spend: for each of its limits `>I4I4` remaining (4294967295 if not read) and wait
--        (ms); of its idempotency key `>Bc16i4` state, id and amount of the first spend; of its
--        hold `>I6` expiry (ms)
--        status: see STATUS, whose refusals stand in the order in which they are checked (only
--        `invalid` is checked first). lib/decide and lib/recognise check most of them
-- Appends for each spend that is allowed: one add, if a new period has begun and its allowance was
--        touched; then one deduct. A refusal, a repetition and a peek append nothing.
--
-- A spend or an account that cannot be read does not affect the other spends of the call.
-- No error is raised after the first write. The second spend of a user in a call sees the balance
-- after the first one. Only one spend of a user in a call may read keys besides the account.
--
-- It is a Redis function, since it runs for each decision: code outside of `spend` runs once, when
-- the library is loaded. Running it in each call would take half of the time of a call with one
-- spend.
-- function: spend
-- uses: decide

local STATUS = { allowed = 1, repeated = 2, uninitialised = 3, corrupt = 4, unknown_user = 5,
  ahead = 6, key_reused = 7, voided = 8, stale = 9, unresolved = 10, conflict = 11, late = 12,
  backlog = 13, too_many_keys = 14, too_many_holds = 15, rate_limited = 16, out_of_credits = 17,
  credits_held = 18, out_of_range = 19, invalid = 20 }
local HEAD_FORMAT, HEAD_BYTES = '>BBI6I4', 12
local ANSWER_FORMAT = '>BBi4I4i4I6I4I2B'
-- A spend with one of these flags reads keys that do not show the writes of this call.
local READS_KEYS = RETRY + GIVEN + KEY + LIMIT_KEYS

-- Returns the values that all spends of a call share; or nil and an error.
local function read_call(keys, args)
  if #args < 2 or #args[1] ~= HEAD_BYTES then
    return nil, invalid('head: 12 bytes')
  end
  local version, shards_count, deadline_ms, pending_max = struct.unpack(HEAD_FORMAT, args[1])
  local call = { deadline_ms = deadline_ms, pending_max = pending_max, shards = {}, accounts = {},
    by_key = {}, policies = read_policies(args[2]), count = #args - 2 }
  local last = 2 * shards_count + call.count
  if version ~= 1 or #keys < last or #keys > last + 1 then
    return nil, invalid('head: version 1, and the keys of all shards and accounts')
  elseif not call.policies then
    return nil, invalid('policies: see lib/policies')
  end
  call.values = redis.call('MGET', unpack(keys, shards_count + 1, last))
  local clock_us = time_us()
  for t = 1, shards_count do
    call.shards[t] = read_shard(keys[shards_count + t], keys[t], call.values[t], clock_us)
  end
  return call, nil
end

-- Finds the account of a spend, one for all spends of its user; returns why there is none.
local function find_spender(call, spend, key, packed)
  local account = call.by_key[key]
  if not account then
    local problem
    account, problem = find_account(spend.shard, key, packed)
    if problem == 'unknown_user' and spend.shadow then
      account = new_account(spend.shard, key, spend.starting_credits)
    end
    if not account then
      return problem
    end
    call.by_key[key] = account
    call.accounts[#call.accounts + 1] = account
  end
  if spend.flags > 0 and has(spend.flags, READS_KEYS) then
    if account.is_read then
      return 'invalid'
    end
    account.is_read = true
  end
  spend.account = account
  return nil
end

local function pack_answer(spend, status, details)
  return struct.pack(ANSWER_FORMAT, STATUS[status], spend.limit, spend.credits, spend.sequence,
    spend.left, spend.resets_ms, spend.wait_ms, spend.index, #details)
end

-- Packs the part of the reply that precedes all spends.
local function pack_shard(shard)
  local ms, n = 0, 0
  if shard.entry then
    ms, n = shard.now_ms, tonumber(string.match(shard.entry, '%-(%d+)'))
  end
  return struct.pack('>I7I6I4', shard.now_us, ms, n)
end

-- Replaces the answers to spends of a shard whose stream refused their records.
local function refuse_all(shard, spends, answers, details)
  for i, spend in ipairs(spends) do
    if spend.shard == shard then
      spend.limit, spend.index = 0, 0
      answers[i] = pack_answer(spend, shard.problem, details[i])
    end
  end
end

local function spend(keys, args)
  local call, failure = read_call(keys, args)
  if not call then
    return failure
  end
  local shards, values = call.shards, call.values
  local spends, answers, details = {}, {}, {}
  for i = 1, call.count do
    local key = keys[2 * #shards + i]
    local one, problem = read_spend(args[2 + i], key, shards, call.policies)
    local status = problem or one.shard.problem or find_spender(call, one, key, values[#shards + i])
      or decide(one, call)
    local has_details = one.flags > 0 or one.policy.limits[1]
    spends[i], details[i] = one, has_details and pack_details(one) or ''
    answers[i] = pack_answer(one, status, details[i])
  end
  commit(shards, call.accounts, pack_account)

  local head = { struct.pack('>BB', 1, #shards) }
  for t, shard in ipairs(shards) do
    head[t + 1] = pack_shard(shard)
    if shard.problem then
      refuse_all(shard, spends, answers, details)
    end
  end
  return table.concat(head) .. table.concat(answers) .. table.concat(details)
end
