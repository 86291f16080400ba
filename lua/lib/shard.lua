-- The state of a shard: one packed string, read and written with the accounts. Everything that a
-- script changes is collected in the shard and its accounts, and written by `commit` at the end.
-- uses: windows, clock

local STATE_FORMAT, STATE_BYTES = '>BI4I6I6I7I6', 30
local ENTRY_FORMAT, ENTRY_BYTES = '>BI4I6I2I7', 20
local VERSION = 1
-- The version of a closed shard.
local CLOSED = 129
local NONE = {}

-- Returns why a state cannot be read: 'uninitialised', 'corrupt', or nil.
local function state_problem(state_key, packed)
  if not packed then
    return redis.call('EXISTS', state_key) == 1 and 'corrupt' or 'uninitialised'
  end
  local version = string.byte(packed)
  if #packed ~= STATE_BYTES or version ~= VERSION and version ~= CLOSED then
    return 'corrupt'
  end
  return nil
end

-- Returns a shard. Its `problem` is nil, 'uninitialised' or 'corrupt'; a closed shard counts as
-- uninitialised. `entry` is the position of the entry that `commit` has written. Tables are
-- made with room for all their fields.
local function read_shard(state_key, stream_key, packed, clock_us)
  local problem = state_problem(state_key, packed)
  local version, epoch, ordinal, stored, last_us, oldest_ms = VERSION, 0, 0, 0, 0, 0
  if not problem then
    version, epoch, ordinal, stored, last_us, oldest_ms = struct.unpack(STATE_FORMAT, packed)
    problem = stored > ordinal and 'corrupt' or version == CLOSED and 'uninitialised' or nil
  end
  -- The clock of a server may step back; the records of a shard never do.
  local now_us = math.max(clock_us, last_us)
  return { key = state_key, stream = stream_key, base = string.sub(state_key, 1, -3),
    problem = problem, version = version, epoch = epoch, ordinal = ordinal, stored = stored,
    last_us = last_us, oldest_ms = oldest_ms, now_us = now_us, now_ms = math.floor(now_us / 1000),
    count = 0, records = { '', nil, nil, nil }, entry = nil, writes = nil, expiries = nil }
end

local function pack_state(shard, last_us)
  return struct.pack(STATE_FORMAT, shard.version, shard.epoch, shard.ordinal, shard.stored, last_us,
    shard.oldest_ms)
end

-- Clears the problem of a closed shard, so that holds and charges can end. Returns whether it was
-- closed.
local function admit_closed(shard)
  local is_closed = shard.version == CLOSED and shard.problem == 'uninitialised'
  if is_closed then
    shard.problem = nil
  end
  return is_closed
end

local function pending_count(shard)
  return shard.ordinal + shard.count - shard.stored
end

-- Queues a command for the end. It fails only if a key was overwritten, which must not affect the
-- answers to others.
local function write_later(shard, ...)
  shard.writes = shard.writes or {}
  shard.writes[#shard.writes + 1] = { ... }
end

local function expire_later(shard, key, ms)
  shard.expiries = shard.expiries or {}
  shard.expiries[#shard.expiries + 1] = { key, ms }
end

-- Appends the records of a shard as one entry. XADD is the one command that may fail after values
-- were computed, so it comes first: a shard whose stream refuses is corrupt, and nothing of it is
-- written.
local function append_stream_entry(shard)
  shard.records[1] = struct.pack(ENTRY_FORMAT, VERSION, shard.epoch, shard.ordinal + 1, shard.count,
    shard.now_us)
  local position = redis.pcall('XADD', shard.stream, string.format('%.0f-*', shard.now_ms), 'r',
    table.concat(shard.records))
  if type(position) ~= 'string' then
    shard.problem = 'corrupt'
    return
  end
  shard.entry = position
  shard.ordinal = shard.ordinal + shard.count
end

-- Writes everything that was decided: the records of each shard, then shards and accounts at once,
-- then keys that only few requests have. An account is { key, shard, is_changed, ... }.
local function commit(shards, accounts, pack_account)
  local values, n = {}, 0
  for _, shard in ipairs(shards) do
    if not shard.problem and shard.count > 0 then
      append_stream_entry(shard)
      if not shard.problem then
        values[n + 1] = shard.key
        values[n + 2] = pack_state(shard, shard.now_us)
        n = n + 2
      end
    end
  end
  for _, account in ipairs(accounts) do
    if account.is_changed and not account.shard.problem then
      values[n + 1], values[n + 2] = account.key, pack_account(account)
      n = n + 2
    end
  end
  if n > 0 then
    redis.call('MSET', unpack(values))
  end
  for _, shard in ipairs(shards) do
    if not shard.problem then
      for _, command in ipairs(shard.writes or NONE) do
        redis.pcall(unpack(command))
      end
      for _, expiry in ipairs(shard.expiries or NONE) do
        expire(expiry[1], expiry[2])
      end
    end
  end
end
