-- erase: deletes the keys of deleted users, in one part of all keys.
--
-- KEYS   none: it scans all keys of the server, a part in each call, as SCAN does
-- ARGV   1 cursor, 0 at first   2 about how many keys to scan   3..n users, 16 bytes each
-- Reply  {cursor of the next part, 0 after the last one; how many keys it found}
-- Appends nothing. It is idempotent.
--
-- It finds accounts, shadow accounts and idempotency keys by their names; deducts, holds, ids and
-- alignments by their values; saved responses by the idempotency keys. It does not change
-- records, which are deleted when they are old. In a cluster it scans the slots of one primary. It
-- skips keys of another type, such as those that were overwritten by hand. It runs on a full Redis,
-- too.
-- flags: allow-oom,allow-cross-slot-keys
-- uses: args, ids

local count_max = whole(ARGV[2], 1, CREDITS_MAX)
if not string.match(ARGV[1] or '', '^%d+$') or not count_max then
  return invalid('cursor and count: whole numbers')
end
local users, found = {}, 0
for i = 3, #ARGV do
  users[ARGV[i]] = true
end

local function delete(name)
  redis.call('UNLINK', name)
  found = found + 1
end

-- Deletes the idempotency keys of a user, and all keys of the ids of their transactions.
local function delete_user_keys(base, name)
  for _, field in ipairs(redis.pcall('HKEYS', name)) do
    if #field == 17 and string.sub(field, 1, 1) == 't' then
      redis.call('UNLINK', base .. 'r' .. string.sub(field, 2))
    end
  end
  delete(name)
end

local function delete_deduct(base, name)
  local user, id = redis.pcall('HGET', name, 'user'), string.sub(name, -16)
  if type(user) == 'string' and users[user] then
    redis.pcall('ZREM', base .. ':holds', id .. user)
    delete(name)
  end
end

local function delete_alignment(name)
  local packed = redis.pcall('GET', name)
  if type(packed) == 'string' and users[string.sub(packed, 1, 16)] then
    delete(name)
  end
end

local function delete_id(name)
  local packed = redis.pcall('GET', name)
  if type(packed) == 'string' and #packed == ID_BYTES and users[string.sub(packed, 2, 17)] then
    delete(name)
  end
end

local page = redis.call('SCAN', ARGV[1], 'MATCH', 'fg:{*', 'COUNT', count_max)
for _, name in ipairs(page[2]) do
  local base, letter = string.match(name, '^(fg:{%d+})(.)')
  local is_named = users[string.sub(name, -16)]
  if letter == 'd' then
    delete_deduct(base, name)
  elseif letter == 'e' then
    delete_alignment(name)
  elseif letter == 'i' then
    delete_id(name)
  elseif letter == 'k' and is_named then
    delete_user_keys(base, name)
  elseif string.find('uvw', letter, 1, true) and is_named then
    delete(name)
  end
end
return { page[1], found }
