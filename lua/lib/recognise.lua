-- Recognises a retry of a spend, by its idempotency key or by its id.
-- uses: spends, search, keys, deducts, ids, answers

-- The most entries of a search, which cannot continue in another call. Beyond it the spend is
-- refused.
local SPEND_ENTRIES_MAX = 1024

-- Returns the answer to a request with a known key; nil if it must be decided. A request that was
-- not completed within its lease is taken over, by one request for each lease.
local function answer_known(lease, key, attempt_id, shard, is_late)
  if lease.fingerprint ~= key.fingerprint then
    return 'key_reused'
  elseif lease.state == DONE then
    return 'repeated', KEY_DONE
  elseif lease.holder == random_half(attempt_id) then
    -- The reply to this attempt was lost. Its own charge is found by its id.
    if lease.id == attempt_id then
      return nil
    end
    return 'repeated', KEY_TAKEN_OVER
  elseif shard.now_ms - lease.leased_ms < key.lease_ms then
    return 'repeated', KEY_IN_FLIGHT
  elseif is_late then
    return 'late'
  end
  lease.leased_ms, lease.holder = shard.now_ms, random_half(attempt_id)
  save_lease(shard, lease)
  return 'repeated', KEY_TAKEN_OVER
end

-- Returns the answer to a spend with a known id: that of the first one, or a conflict.
local function answer_earlier(spend, earlier)
  local is_same = earlier.user == spend.account.user and earlier.kind == KIND.deduct
    and earlier.amount == -spend.cost and (earlier.is_hold or false) == (spend.hold ~= nil)
  spend.earlier = earlier
  spend.key_state = is_same and spend.key and KEY_NEW or nil
  return is_same and 'repeated' or 'conflict'
end

-- Returns whether an id was voided, or its deduct given back wholly. A hold of 0 was neither.
local function is_voided(deduct)
  return deduct.state == 'cancelled'
    or is_given_back(deduct) and not (deduct.state and deduct.cost == 0)
end

-- Returns a hold from its deduct.
local function earlier_hold(deduct)
  return { user = deduct.user, kind = KIND.deduct, amount = -deduct.cost, is_hold = true,
    credits = deduct.credits, sequence = deduct.sequence, left = deduct.left,
    expires_ms = deduct.expires_ms, at_ms = deduct.opened_ms }
end

-- Returns whether an id is outside of the time in which it is certainly recognised. Its record may
-- outlive the memory of its refunds.
local function is_stale(spend, is_given)
  local age_ms = spend.shard.now_ms - spend.id_ms
  local ahead_ms = is_given and GIVEN_ID_AHEAD_MS_MAX or MINTED_ID_AHEAD_MS_MAX
  return age_ms > (is_given and GIVEN_ID_MS_MAX or MEMORY_MS) or -age_ms > ahead_ms
    or spend.id_ms - ahead_ms < spend.shard.oldest_ms
end

-- Returns the record of a minted attempt with the id; or nil, and whether the search reached its
-- bound.
local function find_minted(spend)
  local id_ms, now_ms = spend.id_ms, spend.shard.now_ms
  -- An attempt that was charged later has a key, until that expires.
  local is_keyed = now_ms - GIVEN_KEY_MS < id_ms
  local late_ms = is_keyed and KEYLESS_MS_MAX or ATTEMPT_MS_MAX
  local first_ms = id_ms - MINTED_ID_AHEAD_MS_MAX
  local last_ms = math.min(now_ms, id_ms + late_ms)
  if first_ms > last_ms then
    return nil
  end
  return find_record(spend.shard, spend.id, id_ms, first_ms, last_ms, SPEND_ENTRIES_MAX, '')
end

-- Returns the answer to a spend whose id may be known; nil if it is not.
local function find_by_id(spend)
  local shard, is_given = spend.shard, has(spend.flags, GIVEN)
  local deduct = find_deduct(shard, spend.id)
  spend.deduct = deduct
  if deduct == false then
    return 'corrupt'
  elseif deduct and is_voided(deduct) then
    return 'voided'
  elseif is_stale(spend, is_given) then
    return 'stale'
  elseif deduct and deduct.state then
    return answer_earlier(spend, earlier_hold(deduct))
  end
  local remembered = recall_id(shard, spend.id)
  if remembered ~= nil then
    return remembered and answer_earlier(spend, remembered) or 'corrupt'
  end
  local record, cut = find_minted(spend)
  if shard.problem or cut then
    return shard.problem or 'unresolved'
  end
  return record and answer_earlier(spend, record)
end

-- Returns the answer to a spend with a known idempotency key; nil if it is not known.
local function find_by_key(spend, is_late)
  local account, shard = spend.account, spend.shard
  local lease = recall_idempotency_key(account, spend.key)
  if not lease then
    return lease == false and 'corrupt' or nil
  end
  local status, state = answer_known(lease, spend.key, spend.id, shard, is_late)
  if status == 'repeated' then
    spend.earlier, spend.key_state = lease, state
    local deduct = spend.hold and find_deduct(shard, lease.id)
    lease.expires_ms = deduct and deduct.expires_ms
  end
  return status
end

-- Returns the answer to a retry, or nil for a new spend.
local function find_earlier(spend, is_late, deadline_ms)
  local account = spend.account
  if has(spend.flags, RETRY) then
    name_id(account, spend.id_ms)
  elseif has(spend.flags, GIVEN) then
    name_id(account, math.min(spend.id_ms, spend.shard.now_ms))
  end
  local status = spend.key and find_by_key(spend, is_late)
  if not status and spend.id_ms > account.named_ms and not has(spend.flags, RETRY + GIVEN) then
    return nil
  end
  if status then
    return status
  end
  status = find_by_id(spend)
  if status == 'repeated' and has(spend.flags, GIVEN)
    and not note_answer(spend.shard, spend.id, spend.earlier.at_ms, deadline_ms)
  then
    return 'corrupt'
  end
  return status
end
