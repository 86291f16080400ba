-- Replies of the scripts that concern one user, and what these scripts begin and end with.
-- uses: account, records

-- Returns { status, credits, sequence, now (us), position, allowance left, ... }.
local function reply(status, shard, account, index, ...)
  local position = index and address(shard, index) or ''
  local credits, sequence, left = 0, 0, 0
  if account then
    credits, left = account.credits, account.allowance
    sequence = index and account.sequence or 0
  end
  return { status, credits, sequence, shard.now_us, position, left, ... }
end

-- Writes what was decided on one account. Returns 'corrupt' if the stream refuses its record.
local function commit_one(shard, account)
  commit({ shard }, { account }, pack_account)
  return shard.problem
end

-- A record that has waited for longer than a day is known neither by its id nor as a row: then no
-- refund and no grant is accepted. The margin is an hour.
local function is_backlogged(shard)
  local oldest = redis.call('XRANGE', shard.stream, '-', '+', 'COUNT', 1)[1]
  return oldest ~= nil and shard.ordinal > shard.stored
    and tonumber(string.match(oldest[1], '^%d+')) < shard.now_ms - BACKLOG_AGE_MS_MAX
end
