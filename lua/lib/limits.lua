-- Rate limits: all of them are checked before any is counted. domain/limit.py says what they mean.
-- A limit of the user's own is 11 bytes in the account. A limit by key, and a window, have a key.
-- uses: arrivals

local GCRA, GCRA_KEYED, WINDOW_KEYED = 1, 2, 3
local LIMIT_STATE_FORMAT, NOT_CHECKED = '>I4I4', 4294967295

-- Reads a window; returns its number of requests and when the oldest one leaves it, or nil.
local function read_window(limit, key, now_us)
  local after = string.format('(%.0f', now_us - limit.span_us)
  local used = redis.pcall('ZCOUNT', key, after, '+inf')
  if type(used) ~= 'number' then
    return nil
  end
  local oldest = redis.call('ZRANGEBYSCORE', key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return used, oldest[2] and tonumber(oldest[2]) + limit.span_us - now_us or 0
end

-- Returns how many requests a limit allows now, and the milliseconds until one more.
local function limit_state(spend, i, limit)
  local state = spend.states[i]
  if limit.kind == WINDOW_KEYED then
    return math.max(0, limit.size - state), math.ceil(spend.leaves_us[i] / 1000)
  end
  return gcra_state(limit, state)
end

-- Returns the state of a limit that has a key; nil if the key is of another type.
local function read_keyed(spend, i, limit)
  local key, now_us = spend.limit_keys[i], spend.shard.now_us
  if limit.kind == WINDOW_KEYED then
    local used, leaves_us = read_window(limit, key, now_us)
    spend.leaves_us = spend.leaves_us or {}
    spend.leaves_us[i] = leaves_us
    return used
  end
  local arrival = redis.pcall('GET', key)
  return type(arrival) ~= 'table' and debt_us(tonumber(arrival or 0), now_us) or nil
end

-- Reads the state of every limit of a spend, and notes the first one that refuses it, and its wait
-- (ms). Returns false if a key is of another type. The state of a limit by arrival is its debt
-- (us). The state of a window is its number of requests; `leaves_us` is when the oldest one leaves.
local function check_limits(spend)
  local account, now_us = spend.account, spend.shard.now_us
  local arrivals = account.arrivals or read_arrivals(account)
  local states, limits, refusing = {}, spend.policy.limits, nil
  account.arrivals = arrivals
  for i = 1, #limits do
    local state
    local limit = limits[i]
    if limit.kind == GCRA then
      state = debt_us(arrivals[arrival_index(arrivals, limit.digest, i)], now_us)
    else
      state = read_keyed(spend, i, limit)
      if not state then
        return false
      end
    end
    states[i] = state
    if state > limit.full then
      refusing = refusing or i
    end
  end
  -- If one cannot be read, none is returned.
  spend.states = states
  if refusing then
    local _, wait_ms = limit_state(spend, refusing, limits[refusing])
    spend.limit, spend.wait_ms = refusing, wait_ms
  end
  return true
end

-- Counts a request in a window.
local function count_in_window(spend, i, limit, key)
  local shard = spend.shard
  if spend.states[i] == 0 then
    spend.leaves_us[i] = limit.span_us
  end
  spend.states[i] = spend.states[i] + 1
  write_later(shard, 'ZREMRANGEBYSCORE', key, '-inf',
    string.format('%.0f', shard.now_us - limit.span_us))
  write_later(shard, 'ZADD', key, string.format('%.0f', shard.now_us), spend.id)
  expire_later(shard, key, math.ceil(limit.span_us / 1000))
end

-- Counts a spend that is allowed for all of its limits.
local function count_request(spend)
  local account, shard, states, has_own = spend.account, spend.shard, spend.states, false
  local limits, arrivals = spend.policy.limits, account.arrivals
  for i = 1, #limits do
    local limit = limits[i]
    if limit.kind == WINDOW_KEYED then
      count_in_window(spend, i, limit, spend.limit_keys[i])
    else
      states[i] = states[i] + limit.span_us
      if limit.kind == GCRA then
        local at = arrival_index(arrivals, limit.digest, i)
        arrivals[at - 1], arrivals[at] = limit.digest, shard.now_us + states[i]
        has_own = true
      else
        local key = spend.limit_keys[i]
        write_later(shard, 'SET', key, string.format('%.0f', shard.now_us + states[i]))
        expire_later(shard, key, math.ceil(states[i] / 1000))
      end
    end
  end
  if has_own then
    save_arrivals(account, shard.now_us)
  end
end

-- Returns two numbers for each limit, packed: allowed requests, and the wait for one more.
local function pack_states(spend)
  local packed, limits = '', spend.policy.limits
  for i = 1, #limits do
    local remaining, next_ms = NOT_CHECKED, 0
    if spend.states then
      remaining, next_ms = limit_state(spend, i, limits[i])
    end
    packed = packed .. struct.pack(LIMIT_STATE_FORMAT, remaining, next_ms)
  end
  return packed
end
