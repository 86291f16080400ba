-- observe: decides on a shadow balance as charge does on a real one, and counts the answer. Nothing
-- that is real is touched.
--
-- KEYS   1 shadow of a user under a policy   2 counts of the policy   3 and on: rate limits
-- ARGV   1 transaction id (16 bytes)   2 cost (credits)   3 '1' to decide; '0' to correct what was
--        decided before: then the cost, which may be negative, is taken, and nothing is counted
--        4 starting credits   5 to 7 allowance: amount and rollover (credits), period
--        8 and on: rate limits (see lib/limits)
-- Reply  {status, credits, 0, now (Unix ms), '', allowance left, next period (ms), number of the
--        rate limit that would refuse, for how long (ms)}
--        status: allowed, or the first that holds of rate_limited, out_of_credits
-- Appends nothing. A shadow that nobody has asked for in 35 days begins anew.
-- uses: arguments, clock, period, allowance, limits

local SHADOW_MS = 3024000000

local is_decided = ARGV[3] == '1'
local cost = whole(ARGV[2], is_decided and 0 or -CREDITS_MAX, CREDITS_MAX)
local starting_credits = whole(ARGV[4], 0, CREDITS_MAX)
local allowance = parse_allowance(5)
local limits = parse_limits(3, 8)
if #ARGV[1] ~= 16 or not cost or not starting_credits then
  return invalid('id: 16 bytes; cost and starting credits: whole numbers')
elseif not allowance or not limits then
  return invalid('allowance or limit: see charge')
end

local now_us = time_us()
local now_ms = math.floor(now_us / 1000)
local fields = redis.call('HMGET', KEYS[1], 'c', 'a', 'p')
local shadow = { credits = tonumber(fields[1] or starting_credits),
  allowance = tonumber(fields[2] or 0), period = fields[3] and tonumber(fields[3]) }
local top_up, resets_ms = renew(shadow, allowance, now_ms)
shadow.credits = math.min(shadow.credits + top_up, CREDITS_MAX)
shadow.allowance = shadow.allowance + shadow.moves

local status, limit, wait_ms = 'allowed', 0, 0
if is_decided then
  limit, wait_ms = refusing_limit(limits, now_us)
  if limit > 0 then
    status = 'rate_limited'
  elseif cost > 0 and shadow.credits < cost then
    status = 'out_of_credits'
  end
  if cost > 0 then
    redis.call('HINCRBY', KEYS[2], status, 1)
  end
end
if status == 'allowed' and cost ~= 0 then
  shadow.credits = math.min(shadow.credits - cost, CREDITS_MAX)
  shadow.allowance = math.max(0, shadow.allowance - math.max(0, cost))
  redis.call('HSET', KEYS[1], 'c', string.format('%.0f', shadow.credits),
    'a', string.format('%.0f', shadow.allowance))
  if shadow.period then
    redis.call('HSET', KEYS[1], 'p', string.format('%.0f', shadow.period))
  end
  redis.call('PEXPIRE', KEYS[1], SHADOW_MS)
  take_limits(is_decided and limits or {}, now_us, ARGV[1])
end
return { status, shadow.credits, 0, now_ms, '', shadow.allowance, resets_ms, limit, wait_ms }
