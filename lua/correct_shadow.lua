-- correct_shadow: adds to a shadow balance a cost that was observed but not incurred.
--
-- KEYS   1 state   2 stream   3 shadow account
-- ARGV   1 amount (credits, of either sign)   2 starting credits
-- Reply  {status, credits, 0, now (us), '', allowance left}
--        status: corrected, or the first that applies of uninitialised, corrupt
-- Appends nothing.
-- uses: args, reply

local amount = whole(ARGV[1], -CREDITS_MAX, CREDITS_MAX)
local starting_credits = whole(ARGV[2], 0, CREDITS_MAX)
if not amount or not starting_credits then
  return invalid('amount and starting credits: whole numbers')
end
local shard, account, problem = load_one()
if shard.problem or problem == 'corrupt' then
  return reply(problem, shard)
end
account = account or new_account(shard, KEYS[3], starting_credits)
account.credits = math.max(-CREDITS_MAX, math.min(account.credits + amount, CREDITS_MAX))
account.allowance = math.max(0, account.allowance + math.min(0, amount))
account.is_changed = true
expire_later(shard, account.key, SHADOW_MS)
commit_one(shard, account)
return reply('corrected', shard, account)
