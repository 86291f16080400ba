-- Rate limits: all of them are checked before any is counted. domain/limit.py says what they mean.
-- A limit of the user's own is 11 bytes in the account. A limit by key, and a window, have a key.
-- uses: account
-- exports: read_states, refusing_limit, count_request, pack_states

local GCRA, GCRA_KEYED, WINDOW_KEYED = 1, 2, 3

-- Returns the arrival times in an account by the digests of their limits.
local function read_arrivals(account)
  local arrivals = {}
  for at = 1, #account.limits, LIMIT_BYTES do
    local digest, arrival_us = struct.unpack(LIMIT_FORMAT, account.limits, at)
    arrivals[digest] = arrival_us
  end
  return arrivals
end

-- Returns how far the requests so far are ahead of the steady rate, in microseconds. More than the
-- burst of a policy is the debt of an earlier one: then one request may come, and its debt is that
-- of this policy. So 10 a day that are used up do not block 1,000 a minute.
local function debt_us(limit, arrival_us, now_us)
  local ahead_us = math.max(0, (arrival_us or 0) - now_us)
  return ahead_us > limit.size * limit.span_us and (limit.size - 1) * limit.span_us or ahead_us
end

-- Returns how many requests may come now, and in how many milliseconds one more may.
local function gcra_state(limit, ahead_us)
  local used = math.min(math.ceil(ahead_us / limit.span_us), limit.size)
  local next_us = used > 0 and ahead_us - (used - 1) * limit.span_us or 0
  return limit.size - used, math.ceil(next_us / 1000)
end

-- Reads a window; returns how many requests lie in it and when the oldest leaves it, or nil.
local function read_window(limit, key, now_us)
  local after = string.format('(%.0f', now_us - limit.span_us)
  local used = redis.pcall('ZCOUNT', key, after, '+inf')
  if type(used) ~= 'number' then
    return nil
  end
  local oldest = redis.call('ZRANGEBYSCORE', key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return used, oldest[2] and tonumber(oldest[2]) + limit.span_us - now_us or 0
end

-- Reads the state of every limit of a spend; returns false where a key is of another type. A state
-- is { ahead_us } or { used, leaves_us }.
local function read_states(spend)
  local account, now_us = spend.account, spend.shard.now_us
  local arrivals = account.arrivals or read_arrivals(account)
  account.arrivals = arrivals
  local states = {}
  for i, limit in ipairs(spend.policy.limits) do
    local state, key = {}, spend.limit_keys[i]
    if limit.kind == GCRA then
      state.ahead_us = debt_us(limit, arrivals[limit.digest], now_us)
    elseif limit.kind == GCRA_KEYED then
      local arrival = redis.pcall('GET', key)
      if type(arrival) == 'table' then
        return false
      end
      state.ahead_us = debt_us(limit, tonumber(arrival or 0), now_us)
    else
      state.used, state.leaves_us = read_window(limit, key, now_us)
      if not state.used then
        return false
      end
    end
    states[i] = state
  end
  spend.states = states
  return true
end

local function limit_state(limit, state)
  if limit.kind == WINDOW_KEYED then
    return math.max(0, limit.size - state.used), math.ceil(state.leaves_us / 1000)
  end
  return gcra_state(limit, state.ahead_us)
end

-- Returns the number of the first limit that refuses, and for how many milliseconds; 0 for none.
local function refusing_limit(spend)
  for i, limit in ipairs(spend.policy.limits) do
    local remaining, next_ms = limit_state(limit, spend.states[i])
    if remaining == 0 then
      return i, next_ms
    end
  end
  return 0, 0
end

-- Writes the arrival times of an account, without those that have passed.
local function save_arrivals(account, now_us)
  local parts = {}
  for digest, arrival_us in pairs(account.arrivals) do
    if arrival_us > now_us then
      parts[#parts + 1] = struct.pack(LIMIT_FORMAT, digest, arrival_us)
    end
  end
  -- In the order of their digests, so that equal states are equal bytes.
  table.sort(parts)
  account.limits = table.concat(parts)
  account.is_changed = true
end

-- Counts a spend that is allowed for all of its limits.
local function count_request(spend)
  local account, shard, has_own = spend.account, spend.shard, false
  for i, limit in ipairs(spend.policy.limits) do
    local state, key = spend.states[i], spend.limit_keys[i]
    if limit.kind == WINDOW_KEYED then
      state.leaves_us = state.used > 0 and state.leaves_us or limit.span_us
      state.used = state.used + 1
      write_later(shard, 'ZREMRANGEBYSCORE', key, '-inf',
        string.format('%.0f', shard.now_us - limit.span_us))
      write_later(shard, 'ZADD', key, string.format('%.0f', shard.now_us), spend.id)
      expire_later(shard, key, math.ceil(limit.span_us / 1000))
    else
      state.ahead_us = state.ahead_us + limit.span_us
      if limit.kind == GCRA then
        account.arrivals[limit.digest] = shard.now_us + state.ahead_us
        has_own = true
      else
        write_later(shard, 'SET', key, string.format('%.0f', shard.now_us + state.ahead_us))
        expire_later(shard, key, math.ceil(state.ahead_us / 1000))
      end
    end
  end
  if has_own then
    save_arrivals(account, shard.now_us)
  end
end

-- Returns two numbers for each limit, packed: how many requests may come, and when one more may.
local function pack_states(spend)
  local parts = {}
  for i, limit in ipairs(spend.policy.limits) do
    local remaining, next_ms = 4294967295, 0
    if spend.states then
      remaining, next_ms = limit_state(limit, spend.states[i])
    end
    parts[i] = struct.pack('>I4I4', remaining, next_ms)
  end
  return table.concat(parts)
end
