-- Idempotency keys. A key stands for one request of a user. A user has two hashes, which alternate
-- with each lifetime of a key, a generation. So keys expire without a search, and their number is
-- bounded. A hash holds `g`, its generation; `k<digest>`, the lease of a key; `t<id>`, the digest
-- by the transaction id.
-- A lease of up to 64 bytes keeps a small hash in its compact form.
-- uses: account

local KEY_FORMAT, KEY_BYTES = '>BI6I6c8c8c16i4i4I4i4', 61
local IN_FLIGHT, DONE = 1, 2

-- Reads a key from a packed spend; returns it and the position of the next part, or nil.
local function read_idempotency_key(packed, at)
  if at + 39 > #packed then
    return nil
  end
  local key = {}
  key.digest, key.fingerprint, key.lifetime_ms, key.lease_ms, key.count_max, at =
    struct.unpack('>c16c8I6I6I4', packed, at)
  if key.lifetime_ms < 1000 or key.count_max < 1 then
    return nil
  end
  return key, at
end

local function random_half(id)
  return string.sub(id, 9)
end

local function idempotency_key_hash(account, generation)
  return account.shard.base .. 'k' .. generation % 2 .. account.user
end

local function find_lease(account, generation, digest)
  local hash = idempotency_key_hash(account, generation)
  local packed = redis.pcall('HGET', hash, 'k' .. digest)
  if not packed then
    return nil
  elseif type(packed) ~= 'string' or #packed ~= KEY_BYTES then
    return false
  end
  local lease = { hash = hash, digest = digest }
  lease.state, lease.made_ms, lease.leased_ms, lease.fingerprint, lease.holder, lease.id,
    lease.amount, lease.credits, lease.sequence, lease.left = struct.unpack(KEY_FORMAT, packed)
  return lease
end

local function save_lease(shard, lease)
  write_later(shard, 'HSET', lease.hash, 'k' .. lease.digest, struct.pack(KEY_FORMAT, lease.state,
    lease.made_ms, lease.leased_ms, lease.fingerprint, lease.holder, lease.id, lease.amount,
    lease.credits, lease.sequence, lease.left))
end

-- Returns the lease of a key whose lifetime is not over; nil for none, false for a value that
-- cannot be read.
local function recall_idempotency_key(account, key)
  for generation = 0, 1 do
    local lease = find_lease(account, generation, key.digest)
    if lease == false then
      return false
    elseif lease and account.shard.now_ms - lease.made_ms < key.lifetime_ms then
      return lease
    end
  end
  return nil
end

-- Returns the current generation, and whether its hash belongs to it. A Redis key of another type
-- does not.
local function current_generation(account, key)
  local generation = math.floor(account.shard.now_ms / key.lifetime_ms)
  local begun = redis.pcall('HGET', idempotency_key_hash(account, generation), 'g')
  return generation, begun == string.format('%.0f', generation)
end

-- Returns whether there is no room for one more key. A key takes two fields.
local function is_full(account, key)
  local generation, is_begun = current_generation(account, key)
  return is_begun
    and redis.call('HLEN', idempotency_key_hash(account, generation)) > 2 * key.count_max
end

-- Saves a key for the deduct that was made just now.
local function save_idempotency_key(account, key, id, amount)
  local shard = account.shard
  local generation, is_begun = current_generation(account, key)
  local hash = idempotency_key_hash(account, generation)
  if not is_begun then
    write_later(shard, 'UNLINK', hash)
    write_later(shard, 'HSET', hash, 'g', string.format('%.0f', generation))
    expire_later(shard, hash, 2 * key.lifetime_ms)
  end
  local lease = { hash = hash, digest = key.digest, state = IN_FLIGHT, made_ms = shard.now_ms,
    leased_ms = shard.now_ms, fingerprint = key.fingerprint, holder = random_half(id), id = id,
    amount = amount, credits = account.credits, sequence = account.sequence,
    left = account.allowance }
  write_later(shard, 'HSET', hash, 't' .. id, key.digest)
  save_lease(shard, lease)
  return lease
end
