-- What a charge and a hold ask before they take. ARGV[5] is '1' if the transaction id was minted
-- for this attempt, '0' if it may be a retry; KEYS[4] are the refunds of that id.

local function is_retry()
  return ARGV[5] ~= '1'
end

local function is_stale(now_ms)
  local id_ms = id_time_ms(ARGV[1])
  return is_retry() and (id_ms < now_ms - ID_AGE_MS_MAX or id_ms > now_ms + CLOCK_SKEW_MS_MAX)
end

local function is_given_back()
  local refunds = is_retry() and redis.call('HMGET', KEYS[4], 'amount', 'total') or {}
  return refunds[1] and tonumber(refunds[2]) >= tonumber(refunds[1])
end

-- Looks for a record that carries the id; returns as `find` does. Even a first attempt can arrive
-- after its retry. But where the user has no record since its id was minted, as is usual, there is
-- nothing to look for.
local function find_earlier(account)
  local oldest_ms = id_time_ms(ARGV[1]) - (is_retry() and CLOCK_SKEW_MS_MAX or 0)
  if made_at_ms(account.last) < oldest_ms then
    return nil, false
  end
  return find(KEYS[2], account.last, ARGV[1], oldest_ms)
end

-- Returns why a cost cannot be taken, or nil. What lies in the user's open holds may come back.
local function check_credits(credits, cost)
  if cost > 0 and credits < cost then
    local held = tonumber(redis.call('HGET', KEYS[1], 'h') or 0)
    return credits + held < cost and 'out_of_credits' or 'credits_held'
  end
  return credits > CREDITS_MAX and 'out_of_range' or nil
end
