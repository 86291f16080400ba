-- The callers that were told of one charge or hold: each time (Unix ms) at which an attempt with its
-- id was answered as allowed, kept from the first retry with a caller's id on. A void takes back
-- the answers of its own call, so that a charge is undone only when no other call was told of it.
-- uses: records

local TIME_FORMAT, TIME_BYTES = '>I6', 6
-- Of more answers, the newest are kept.
local ANSWERS_MAX = 64

local function answers_key(shard, id)
  return shard.base .. 'a' .. id
end

-- Returns the packed times of the answers; nil where only the first one was given, false for a value
-- that cannot be read.
local function recall_answers(shard, id)
  local packed = redis.pcall('GET', answers_key(shard, id))
  if not packed then
    return nil
  end
  return type(packed) == 'string' and #packed % TIME_BYTES == 0 and packed or false
end

local function save_answers(shard, id, packed)
  write_later(shard, 'SET', answers_key(shard, id), packed)
  expire_later(shard, answers_key(shard, id), MEMORY_MS)
end

-- Notes that a retry is answered as the first attempt was, which was charged at `first_ms`. An answer
-- after the deadline of its call counts as given at the deadline, since a void of the call takes back
-- no later ones. Returns whether the earlier answers can be read.
local function note_answer(shard, id, first_ms, deadline_ms)
  local packed = recall_answers(shard, id)
  if packed == false then
    return false
  end
  packed = (packed or struct.pack(TIME_FORMAT, first_ms))
    .. struct.pack(TIME_FORMAT, math.min(shard.now_ms, deadline_ms))
  save_answers(shard, id, string.sub(packed, -ANSWERS_MAX * TIME_BYTES))
  return true
end

-- Returns the answers without those that were given between two times, both included.
local function answers_without(packed, from_ms, until_ms)
  local left = {}
  for at = 1, #packed, TIME_BYTES do
    local answered_ms = struct.unpack(TIME_FORMAT, packed, at)
    if answered_ms < from_ms or answered_ms > until_ms then
      left[#left + 1] = string.sub(packed, at, at + TIME_BYTES - 1)
    end
  end
  return table.concat(left)
end
