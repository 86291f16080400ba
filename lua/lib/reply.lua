-- The common start, end and reply of scripts about one user.
-- uses: account, records

-- Reads the one account of a script: KEYS are state, stream and account. Returns shard and account;
-- if the account is nil, the third value has the reason. With `takes_closed` a closed shard is no
-- problem: for scripts that end something, or that only read.
local function load_one(takes_closed)
  local values = redis.call('MGET', KEYS[1], KEYS[3])
  local shard = read_shard(KEYS[1], KEYS[2], values[1], time_us())
  if takes_closed then
    admit_closed(shard)
  end
  if shard.problem then
    return shard, nil, shard.problem
  end
  local account, problem = find_account(shard, KEYS[3], values[2])
  return shard, account, problem
end

-- Returns the address of a record by its index, after `commit` has written its entry.
local function address(shard, index)
  return shard.entry .. '/' .. index
end

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

-- Writes the changes of one account. Returns 'corrupt' if the stream refuses its record.
local function commit_one(shard, account)
  commit({ shard }, { account }, pack_account)
  return shard.problem
end

-- A record that has been pending for longer than a day is known neither by its id nor as a row:
-- then no refund and no grant is accepted. The margin is an hour. Entries that old are rare, so the
-- first entry nearly always decides.
local function is_backlogged(shard)
  local before = string.format('(%.0f-0', shard.now_ms - BACKLOG_AGE_MS_MAX)
  if shard.ordinal == shard.stored then
    return false
  end
  for _, entry in ipairs(redis.call('XRANGE', shard.stream, '-', before, 'COUNT', 1024)) do
    local payload = entry[2][2] or ''
    if #payload >= ENTRY_BYTES then
      local _, _, first, count = struct.unpack(ENTRY_FORMAT, payload)
      if first + count - 1 > shard.stored then
        return true
      end
    end
  end
  return false
end
