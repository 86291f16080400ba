-- A refund and a credit come with an id of their own, ARGV[1]. No record may carry it already: the
-- second row of one id would be a dead letter. Whatever a retry of theirs is known by comes first.

-- An id without a time is no charge's, and not searched for.
local function is_taken(account)
  local id_ms = id_time_ms(ARGV[1])
  return id_ms and find(KEYS[2], account.last, ARGV[1], id_ms - CLOCK_SKEW_MS_MAX) ~= nil
end
