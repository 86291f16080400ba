-- An idempotency key stands for one request of a user. Two hashes of the user take turns, each for
-- one lifetime, so that keys go without a search, and how many there are is known. In a hash are g,
-- the turn that it belongs to; k.. the entry of a key, by its digest; and t.. the digest, by the id
-- of the transaction. An entry of up to 64 bytes keeps small hashes in their compact form: it has
-- half of the fingerprint, and of the attempt that holds the lease the random half of its id.

local ENTRY_FORMAT = '>BI6I6c8c8c16i4i4I6i4'
local DONE = 2

local function random_half(id)
  return string.sub(id, 9)
end

local function load_entry(hash, digest)
  local packed = redis.call('HGET', hash, 'k' .. digest)
  if not packed then
    return nil
  end
  local entry = { hash = hash, digest = digest }
  entry.state, entry.made, entry.leased, entry.fingerprint, entry.holder, entry.id, entry.amount,
    entry.credits, entry.sequence, entry.left = struct.unpack(ENTRY_FORMAT, packed)
  return entry
end

local function save_entry(entry)
  redis.call('HSET', entry.hash, 'k' .. entry.digest, struct.pack(ENTRY_FORMAT, entry.state,
    entry.made, entry.leased, entry.fingerprint, entry.holder, entry.id, entry.amount,
    entry.credits, entry.sequence, entry.left))
end
