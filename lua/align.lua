-- align: aligns a live balance with its ledger by a measured drift. Without a type the
-- balance changes by the amount, and no record is made. With a type the balance stays, and a record
-- of the negated amount changes the ledger. Charges go on meanwhile, since amounts are only added.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 id of the alignment   2 id of the user's last one when the amount was measured, or empty
--        3 epoch   4 deadline (Unix ms), in an hour at most   5 '1' if there was no account that
--        could be read: one is made   6 amount (credits, of either sign)   7 the part of it that
--        concerns the allowance   8 least sequence   9 start of the period of the allowance
--        (Unix ms), 0 for none   10 type of the record, or empty to change the balance
--        11 description   12 metadata (JSON or empty)
-- Reply  {status, credits, sequence, now (us), address, allowance left, credits before, sequence
--        before}
--        status: aligned, repeated (the first answer again, for a day), or the first that applies
--        of uninitialised, corrupt, conflict, epoch (not the same), late, changed (another
--        alignment came first, or the account was lost or made since: measure again), out_of_range
-- Appends one record of the negated amount if a type is given and the amount is not 0.
-- uses: args, reply, take

local ALIGNED_FORMAT, ALIGNED_BYTES = '>c16i6i4I4i4I4i4', 42
local DEADLINE_MS_MAX = 3600000

local id, kind = ARGV[1], KIND[ARGV[10]]
local epoch, deadline_ms = whole(ARGV[3], 0, SEQUENCE_MAX), whole(ARGV[4], 0, TIME_MS_MAX)
local amount = whole(ARGV[6], -2 * CREDITS_MAX, 2 * CREDITS_MAX)
local allowance = whole(ARGV[7], -2 * CREDITS_MAX, 2 * CREDITS_MAX)
local sequence_min = whole(ARGV[8], 0, SEQUENCE_MAX)
local period_ms = whole(ARGV[9], 0, TIME_MS_MAX)
local is_missing, is_recorded = ARGV[5] == '1', ARGV[10] ~= ''
if not is_id(id) or not ARGV[12] then
  return invalid('an id of 16 bytes, and 12 arguments')
elseif not (epoch and deadline_ms and amount and allowance and sequence_min and period_ms) then
  return invalid('epoch, deadline, amounts, sequence and period: whole numbers')
elseif is_recorded and (is_missing or math.abs(amount) > CREDITS_MAX
  or not (kind == KIND.admin_adjustment or kind == KIND.add and amount <= 0))
then
  return invalid('a record: of an account that is there, an add or an admin_adjustment')
end

local shard, account = load_one()
local user = string.sub(KEYS[3], -16)
local id_name, last_name = shard.base .. 'e' .. id, shard.base .. 'v' .. user
local before = { credits = 0, sequence = 0, allowance = 0 }
if account then
  before = { credits = account.credits, sequence = account.sequence,
    allowance = account.allowance }
end
local function refuse(status)
  return { status, before.credits, before.sequence, shard.now_us, '', before.allowance,
    before.credits, before.sequence }
end
if shard.problem then
  return refuse(shard.problem)
end

-- Returns the answer to a call that was made before, or nil.
local function earlier()
  local packed = redis.pcall('GET', id_name)
  if not packed then
    return nil
  elseif type(packed) ~= 'string' or #packed ~= ALIGNED_BYTES then
    return refuse('corrupt')
  end
  local owner, known, credits, sequence, left, sequence_before, credits_before
  owner, known, credits, sequence, left, sequence_before, credits_before =
    struct.unpack(ALIGNED_FORMAT, packed)
  if owner ~= user or known ~= amount then
    return refuse('conflict')
  end
  return { 'repeated', credits, sequence, shard.now_us, '', left, credits_before,
    sequence_before }
end

-- Returns the status that refuses the alignment, or nil.
local function refusal()
  local last = redis.pcall('GET', last_name) or ''
  if shard.epoch ~= epoch then
    return 'epoch'
  elseif shard.now_ms > deadline_ms or deadline_ms > shard.now_ms + DEADLINE_MS_MAX then
    return 'late'
  elseif last ~= ARGV[2] or (account ~= nil) == is_missing then
    return 'changed'
  end
  account = account or new_account(shard, KEYS[3], 0)
  account.sequence = math.max(account.sequence, sequence_min)
  local change = is_recorded and 0 or amount
  return is_out_of_range(account, account.credits + change) and 'out_of_range' or nil
end

local told = earlier()
if told then
  return told
end
local problem = refusal()
if problem then
  return refuse(problem)
end
account.credits, account.allowance = account.credits + amount, account.allowance + allowance
account.period_ms, account.is_changed = math.max(account.period_ms, period_ms), true
local index
if is_recorded and amount ~= 0 then
  -- The record subtracts from the account the amount that was added, so the balance stays.
  index = append(account, { id = id, kind = kind, amount = -amount, allowance = -allowance,
    text = pack_text(ARGV[11], ARGV[12]) })
elseif is_recorded then
  account.allowance = account.allowance - allowance
end
write_later(shard, 'SET', id_name, struct.pack(ALIGNED_FORMAT, user, amount, account.credits,
  account.sequence, account.allowance, before.sequence, before.credits))
write_later(shard, 'SET', last_name, id)
expire_later(shard, id_name, MEMORY_MS)
expire_later(shard, last_name, MEMORY_MS)
problem = commit_one(shard, account)
if problem then
  return refuse(problem)
end
return { 'aligned', account.credits, account.sequence, shard.now_us,
  index and address(shard, index) or '', account.allowance, before.credits, before.sequence }
