-- install: takes over the durable balance of a user that Redis sees for the first time.
--
-- KEYS   1 user   2 epoch
-- ARGV   1 credits   2 sequence   3 the epoch in which Postgres says they hold
--        4 what is left of the allowance (credits)   5 when its period began (Unix ms), or empty
-- Reply  {status, credits, sequence, now (Unix ms), epoch}
--        status: installed, present (and nothing is changed), uninitialised, epoch (not the same)
-- Appends nothing: the rows that make up the balance are in Postgres already.
-- uses: arguments, clock, account

local credits = whole(ARGV[1], -CREDITS_MAX, CREDITS_MAX)
local sequence = whole(ARGV[2], 0, TIME_MS_MAX)
local left = whole(ARGV[4], -CREDITS_MAX, CREDITS_MAX)
local period = ARGV[5] ~= '' and whole(ARGV[5], 0, TIME_MS_MAX)
if not credits or not sequence or not left or period == nil then
  return invalid('credits, sequence, allowance or period: whole numbers')
end
local now_ms = math.floor(time_us() / 1000)
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  return { 'uninitialised', 0, 0, now_ms, 0 }
elseif epoch ~= ARGV[3] then
  return { 'epoch', 0, 0, now_ms, tonumber(epoch) }
end
local account = load_account(KEYS[1])
if account then
  return { 'present', account.credits, account.sequence, now_ms, tonumber(epoch) }
end
redis.call('HSET', KEYS[1], 'c', ARGV[1], 's', ARGV[2], 'l', '0-0')
if period then
  redis.call('HSET', KEYS[1], 'a', ARGV[4], 'p', ARGV[5])
end
return { 'installed', credits, sequence, now_ms, tonumber(epoch) }
