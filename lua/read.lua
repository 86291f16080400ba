-- read: returns a user's live balance.
--
-- KEYS   1 user   2 epoch
-- ARGV   none
-- Reply  {status, credits, sequence, now (Unix ms), epoch}
--        status: found, or the first that holds of uninitialised, unknown_user
-- Appends nothing and writes nothing.
-- flags: no-writes
-- uses: clock, account

local now_ms = math.floor(time_us() / 1000)
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  return { 'uninitialised', 0, 0, now_ms, 0 }
end
local account = load_account(KEYS[1])
if not account then
  return { 'unknown_user', 0, 0, now_ms, tonumber(epoch) }
end
return { 'found', account.credits, account.sequence, now_ms, tonumber(epoch) }
