-- extend: moves the expiry of an open hold.
--
-- KEYS   1 state   2 stream   3 account
-- ARGV   1 hold id   2 id of the refund, if it has expired   3 lifetime from now on (ms)
-- Reply  as of end
--        status: allowed, or the first that applies of uninitialised, corrupt, unknown_hold,
--        hold_expired, hold_closed, too_long (it would be open for more than a day)
-- Appends nothing, unless the hold has just expired and is given back.
-- uses: args, holds

local TTL_MS_MIN, AGE_MS_MAX = 100, 86400000
local hold_id, end_id = ARGV[1], ARGV[2]
local ttl_ms = whole(ARGV[3], TTL_MS_MIN, AGE_MS_MAX)
if not is_id(hold_id) or not is_id(end_id) or not ttl_ms then
  return invalid('two ids of 16 bytes, and a lifetime from 100 ms to a day')
end

local shard, account, problem = load_one()
local hold = not shard.problem and find_hold(shard, account, hold_id)
if shard.problem or problem == 'corrupt' then
  return reply_hold(problem, shard, account)
elseif not hold then
  return reply_hold('unknown_hold', shard, account)
elseif hold.state == 'open' and shard.now_ms >= hold.expires_ms then
  end_unsettled(account, hold, 'expired', expiry_of(end_id))
  problem = commit_one(shard, account)
end
if hold.state ~= 'open' then
  local status = hold.state == 'expired' and 'hold_expired' or 'hold_closed'
  return reply_hold(problem or status, shard, account, hold)
elseif shard.now_ms + ttl_ms > hold.opened_ms + AGE_MS_MAX then
  return reply_hold('too_long', shard, account, hold)
end
hold.expires_ms = shard.now_ms + ttl_ms
save_deduct(shard, hold)
write_later(shard, 'ZADD', shard.base .. ':holds', string.format('%.0f', hold.expires_ms),
  hold.id .. hold.user)
problem = commit_one(shard, account)
return reply_hold(problem or 'allowed', shard, account, hold)
