-- Recognises a spend that was seen before: by its idempotency key, or by its id.
-- uses: spends, search, keys, deducts, ids
-- exports: find_earlier

-- Returns how a request is answered whose key is known; nil if it is to be decided. A request that
-- was not completed within its lease is taken over, by one request for each lease.
local function answer_known(entry, key, attempt_id, shard, deadline_ms)
  if entry.fingerprint ~= key.fingerprint then
    return 'key_reused'
  elseif entry.state == DONE then
    return 'repeated', KEY_DONE
  elseif entry.holder == random_half(attempt_id) then
    -- The reply to this very attempt was lost. Its own charge is found by its id.
    if entry.id == attempt_id then
      return nil
    end
    return 'repeated', KEY_TAKEN_OVER
  elseif shard.now_ms - entry.leased_ms < key.lease_ms then
    return 'repeated', KEY_IN_FLIGHT
  elseif shard.now_ms > deadline_ms then
    return 'late'
  end
  entry.leased_ms, entry.holder = shard.now_ms, random_half(attempt_id)
  save_entry(shard, entry)
  return 'repeated', KEY_TAKEN_OVER
end

-- Returns how a spend is answered whose id is known: as the first one was, or as a conflict.
local function answer_earlier(spend, earlier)
  local is_same = earlier.user == spend.account.user and earlier.kind == KIND.deduct
    and earlier.amount == -spend.cost and (earlier.is_hold or false) == (spend.hold ~= nil)
  spend.earlier = earlier
  return is_same and 'repeated' or 'conflict'
end

-- The same for a deduct that has a hash: a hold, or one of which something was given back.
local function answer_deduct(spend, deduct)
  if deduct.state == 'cancelled' or not deduct.state and is_given_back(deduct) then
    return 'voided'
  elseif deduct.state then
    return answer_earlier(spend, { user = deduct.user, kind = KIND.deduct, amount = -deduct.cost,
      is_hold = true, credits = deduct.credits, sequence = deduct.sequence, left = deduct.left,
      expires_ms = deduct.expires_ms })
  end
  return nil
end

-- Says whether an id lies outside the time in which it is recognised for certain.
local function is_stale(spend)
  local now_ms = spend.shard.now_ms
  return spend.id_ms - LOOK_BACK_MS < spend.shard.oldest_ms
    or has(spend.flags, GIVEN) and (now_ms - spend.id_ms > GIVEN_ID_MS_MAX
      or spend.id_ms - now_ms > GIVEN_ID_AHEAD_MS_MAX)
end

-- Looks for the record of a minted id, among those that an attempt with it can have written.
local function find_by_time(spend)
  local shard = spend.shard
  local from_ms = math.max(spend.id_ms - LOOK_BACK_MS, shard.oldest_ms)
  local to_ms = math.min(shard.now_ms, spend.id_ms + ATTEMPT_MS_MAX)
  local record, cut = find_record(shard, spend.id, from_ms, to_ms)
  if shard.problem or cut then
    return shard.problem or 'unresolved'
  end
  return record and answer_earlier(spend, record)
end

-- Returns how a spend is answered whose id may have been seen before; nil if it has not been.
local function find_by_id(spend)
  local shard, is_given = spend.shard, has(spend.flags, GIVEN)
  local deduct = find_deduct(shard, spend.id)
  local status = deduct and answer_deduct(spend, deduct)
  if deduct == false or status then
    return status or 'corrupt'
  elseif has(spend.flags, RETRY + GIVEN) and is_stale(spend) then
    return 'stale'
  end
  local remembered = is_given and recall_id(shard, spend.id) or nil
  if remembered then
    return answer_earlier(spend, remembered)
  end
  return find_by_time(spend)
end

-- Returns how a spend is answered that was seen before, or nil.
local function find_earlier(spend, deadline_ms)
  local account, shard = spend.account, spend.shard
  if spend.key then
    local entry, status = recall_key(account, spend.key), nil
    if entry == false then
      return 'corrupt'
    elseif entry then
      status, spend.key_state = answer_known(entry, spend.key, spend.id, shard, deadline_ms)
    end
    if status then
      spend.earlier = status == 'repeated' and entry or nil
      return status
    end
  end
  if has(spend.flags, RETRY) then
    name_id(account, spend.id_ms)
  elseif has(spend.flags, GIVEN) then
    name_id(account, math.min(spend.id_ms, shard.now_ms))
  elseif spend.id_ms > account.named_ms then
    return nil
  end
  return find_by_id(spend)
end
