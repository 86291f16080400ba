-- install: installs the durable balance of a user that Redis does not know.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 credits   2 sequence   3 their epoch in Postgres
--        4 rest of the allowance (credits)   5 start of its period (Unix ms), 0 for none
-- Reply  {status, credits, sequence, now (us), '', allowance left, epoch}
--        status: installed, or the first that applies of uninitialised, epoch (not the same),
--        corrupt, present (without a change)
-- Appends nothing: the rows of the balance are already in Postgres.
-- uses: args, reply

local credits = whole(ARGV[1], -CREDITS_MAX, CREDITS_MAX)
local sequence = whole(ARGV[2], 0, SEQUENCE_MAX)
local epoch = whole(ARGV[3], 0, SEQUENCE_MAX)
local allowance = whole(ARGV[4], -CREDITS_MAX, CREDITS_MAX)
local period_ms = whole(ARGV[5], 0, TIME_MS_MAX)
if not credits or not sequence or not epoch or not allowance or not period_ms then
  return invalid('credits, sequence, epoch, allowance and period: whole numbers')
end
local shard, account, problem = load_one(true)
if shard.problem then
  return reply(shard.problem, shard, nil, nil, 0)
elseif shard.epoch ~= epoch then
  return reply('epoch', shard, nil, nil, shard.epoch)
elseif problem == 'corrupt' or account then
  return reply(problem or 'present', shard, account, nil, epoch)
end
account = new_account(shard, KEYS[3], credits)
account.sequence, account.allowance, account.period_ms = sequence, allowance, period_ms
account.is_changed = true
commit_one(shard, account)
return reply('installed', shard, account, nil, epoch)
