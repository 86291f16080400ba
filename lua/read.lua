-- read: returns a user's live balance, as a charge would find it now.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 policy (see lib/policies)
-- Reply  {status, credits, sequence, now (us), '', allowance left, epoch, start and end of the
--        period (Unix ms), credits in open holds}
--        status: found, or the first that applies of uninitialised, corrupt, unknown_user
-- Appends nothing and writes nothing: only a charge begins a new period.
-- flags: no-writes
-- uses: args, policies, reply

local policies = read_policies(ARGV[1] or '')
if not policies or #policies ~= 1 then
  return invalid('policy: see lib/policies')
end
local shard, account, problem = load_one(true)
if problem then
  return reply(problem, shard, nil, nil, shard.epoch or 0, 0, 0, 0)
end
local added, start_ms, ends_ms, moved = next_period(account, policies[1], shard.now_ms)
return { 'found', account.credits + added, account.sequence, shard.now_us, '',
  account.allowance + moved, shard.epoch, start_ms, ends_ms, account.held }
