-- The later fate of a deduct: refunded in part or wholly, voided, or a hold. One hash holds all of
-- it, and all scripts write it by this fragment.
--
-- An id that was voided before it was charged is a deduct of 0, wholly given back.
-- uses: records

-- Field, name here, and whether it is a number: first for every deduct, then for every hold, then
-- optional ones.
local DEDUCT_FIELDS = {
  { 'user', 'user' }, { 'cost', 'cost', true }, { 'given_back', 'given_back', true },
  { 'allowance', 'allowance', true }, { 'period', 'period_ms', true },
  { 'state', 'state' }, { 'keep', 'keep', true }, { 'opened', 'opened_ms', true },
  { 'expires', 'expires_ms', true }, { 'credits', 'credits', true },
  { 'sequence', 'sequence', true }, { 'left', 'left', true },
  { 'actual', 'actual', true }, { 'refunded', 'refunded', true },
  { 'charged', 'charged', true }, { 'shortfall', 'shortfall', true },
}
local OF_DEDUCTS, STATE, OF_HOLDS = 5, 6, 12

local function deduct_redis_key(shard, id)
  return shard.base .. 'd' .. id
end

-- Returns a deduct; nil for none, false for a value that cannot be read. A hold has a `state`.
local function find_deduct(shard, id)
  local names = {}
  for i, field in ipairs(DEDUCT_FIELDS) do
    names[i] = field[1]
  end
  local values = redis.pcall('HMGET', deduct_redis_key(shard, id), unpack(names))
  if values.err then
    return false
  elseif not values[1] then
    return nil
  end
  local deduct, needed = { id = id }, values[STATE] and OF_HOLDS or OF_DEDUCTS
  for i, field in ipairs(DEDUCT_FIELDS) do
    local value = values[i]
    if value and field[3] then
      value = tonumber(value)
    end
    if not value and (values[i] or i <= needed) then
      return false
    end
    deduct[field[2]] = value or nil
  end
  return deduct
end

-- Writes a deduct. It lives for a day after its last change, and while its hold is open.
local function save_deduct(shard, deduct)
  local key, values = deduct_redis_key(shard, deduct.id), {}
  for _, field in ipairs(DEDUCT_FIELDS) do
    local value = deduct[field[2]]
    if value then
      values[#values + 1] = field[1]
      values[#values + 1] = field[3] and string.format('%.0f', value) or value
    end
  end
  write_later(shard, 'HSET', key, unpack(values))
  if deduct.state == 'open' then
    write_later(shard, 'PERSIST', key)
  else
    expire_later(shard, key, MEMORY_MS)
  end
end

-- Notes that an id is refused from now on.
local function note_void(shard, id, user)
  save_deduct(shard, { id = id, user = user, cost = 0, given_back = 0, allowance = 0,
    period_ms = 0 })
end

local function is_given_back(deduct)
  return deduct.given_back >= deduct.cost
end
