-- Records of transactions. All records of a call in a shard are one entry of its stream: a header,
-- then records, each beginning with its own size. adapters/redis/records.py reads them.
-- uses: shard

local KIND = { deduct = 1, add = 2, refund = 3, admin_adjustment = 4 }
local RECORD_FORMAT, RECORD_BYTES = '>I2BBc16c16i4i4I4', 48
local ALLOWANCE_FORMAT, TEXT_FORMAT = '>i4i4I6', '>I2c0I2c0'
local HAS_ALLOWANCE, HAS_REFERENCE, HAS_TEXT, IS_HOLD = 1, 2, 4, 8

-- Returns description and metadata in one string. An empty string means the default description.
local function pack_text(description, metadata)
  return struct.pack(TEXT_FORMAT, #description, description, #metadata, metadata)
end

-- Changes the account and adds the record of the change to its shard; returns its index.
-- `change`: id, kind, amount, allowance (the part of the amount that concerns the allowance), text
-- (see pack_text, or nil), refund_of (of a refund), is_hold.
local function append(account, change)
  local shard = account.shard
  local flags, tail = 0, ''
  account.credits = account.credits + change.amount
  account.sequence = account.sequence + 1
  account.allowance = account.allowance + change.allowance
  account.is_changed = true
  if account.period_ms > 0 then
    flags = HAS_ALLOWANCE
    tail = struct.pack(ALLOWANCE_FORMAT, change.allowance, account.allowance, account.period_ms)
  end
  if change.refund_of then
    flags = flags + HAS_REFERENCE
    tail = tail .. change.refund_of
  end
  if change.text then
    flags = flags + HAS_TEXT
    tail = tail .. change.text
  end
  if change.is_hold then
    flags = flags + IS_HOLD
  end
  shard.count = shard.count + 1
  shard.records[shard.count + 1] = struct.pack(RECORD_FORMAT, RECORD_BYTES + #tail, change.kind,
    flags, change.id, account.user, change.amount, account.credits, account.sequence) .. tail
  return shard.count
end
