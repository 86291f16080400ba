-- The answers about one charge or hold with an id of the caller's: for each its time, and the
-- deadline of its call (Unix ms), 12 bytes. A void deletes the answers to its own call, and
-- undoes the charge only if no other call got an answer.
-- uses: records

local ANSWER_TIME_FORMAT, ANSWER_TIME_BYTES = '>I6I6', 12
-- The most answers; the newest stay.
local ANSWERS_MAX = 64

local function answers_redis_key(shard, id)
  return shard.base .. 'a' .. id
end

-- Returns the packed answers; nil for none, false for a value that cannot be read.
local function recall_answers(shard, id)
  local packed = redis.pcall('GET', answers_redis_key(shard, id))
  if not packed then
    return nil
  end
  return type(packed) == 'string' and #packed % ANSWER_TIME_BYTES == 0 and packed or false
end

local function save_answers(shard, id, packed, ms)
  write_later(shard, 'SET', answers_redis_key(shard, id), packed)
  expire_later(shard, answers_redis_key(shard, id), ms)
end

-- Packs an answer. An answer after the deadline of its call gets the time of the deadline, since a
-- void of the call deletes no later ones.
local function pack_answer_time(at_ms, deadline_ms)
  return struct.pack(ANSWER_TIME_FORMAT, math.min(at_ms, deadline_ms), deadline_ms)
end

-- Notes the answer to a retry of an attempt that was charged at `first_ms`. Returns whether the
-- earlier answers can be read.
local function note_answer(shard, id, first_ms, deadline_ms)
  local packed = recall_answers(shard, id)
  if packed == false then
    return false
  end
  packed = (packed or pack_answer_time(first_ms, first_ms))
    .. pack_answer_time(shard.now_ms, deadline_ms)
  save_answers(shard, id, string.sub(packed, -ANSWERS_MAX * ANSWER_TIME_BYTES), MEMORY_MS)
  return true
end
