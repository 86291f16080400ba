-- A refund and a credit come with an id of their own, ARGV[1]. No record may carry it already: the
-- second row of one id would be a dead letter. Whatever a retry of theirs is known by comes first.

-- An id without a time may be that of any record: the search ends with the stream, or at its bound.
local function is_taken(account)
  local id_ms = id_time_ms(ARGV[1])
  local oldest_ms = id_ms and id_ms - CLOCK_SKEW_MS_MAX or 0
  return find(KEYS[2], account.last, ARGV[1], oldest_ms) ~= nil
end
