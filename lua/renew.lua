-- renew: begins a new period of a user's allowance without a charge, so that balances of idle users
-- are current in Postgres.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 most pending records of a shard   2 policy (see lib/policies)
-- Reply  {status, credits, sequence, now (us), address, allowance left, credits added}
--        status: renewed, or the first that applies of uninitialised, corrupt, unknown_user,
--        current (the period is not over, was not used, or has not begun, which the first request
--        does), backlog, out_of_range
-- Appends one add, the one that the first charge of the period would have appended.
-- uses: args, policies, reply, take

local pending_max = whole(ARGV[1], 1, CREDITS_MAX)
local policies = read_policies(ARGV[2] or '')
if not pending_max or not policies or #policies ~= 1 then
  return invalid('pending records: a whole number, more than 0; policy: see lib/policies')
end
local shard, account, problem = load_one()
if problem then
  return reply(problem, shard, account, nil, 0)
end
local has_begun = account.period_ms > 0
local added, start_ms, _, moved = next_period(account, policies[1], shard.now_ms)
local refusal
if not has_begun or added == 0 then
  refusal = 'current'
elseif pending_count(shard) >= pending_max then
  refusal = 'backlog'
elseif is_out_of_range(account, account.credits + added) then
  refusal = 'out_of_range'
end
if refusal then
  return reply(refusal, shard, account, nil, 0)
end
begin_period(account, added, start_ms, moved)
problem = commit_one(shard, account)
return reply(problem or 'renewed', shard, account, not problem and 1 or nil, added)
