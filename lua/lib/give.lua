-- Gives credits back, first those that were spent last: bought credits, then the allowance.
-- uses: records, deducts, ids

-- Returns a deduct from its record.
local function deduct_of(record)
  return { id = record.id, user = record.user, cost = -record.amount, given_back = 0,
    allowance = -record.allowance, period_ms = record.period_ms }
end

-- Returns how much of a refund goes to the allowance. Of a cost of 10, of which the allowance paid
-- 6, a refund of 5 gives 4 to the bought credits and 1 to the allowance. If the period of the
-- deduct is over, the allowance was restored since, and all becomes bought credits.
local function allowance_part(account, deduct, amount)
  if account.period_ms == 0 or account.period_ms ~= deduct.period_ms then
    return 0
  end
  local bought = deduct.cost - deduct.allowance
  return amount - (math.min(deduct.given_back + amount, bought)
    - math.min(deduct.given_back, bought))
end

-- Gives an amount of a deduct back; `change` has id and text. The caller saves the deduct. Returns
-- the index of the record.
local function give_back(account, deduct, amount, change)
  change.kind = KIND.refund
  change.amount = amount
  change.allowance = allowance_part(account, deduct, amount)
  change.refund_of = deduct.id
  local index = append(account, change)
  deduct.given_back = deduct.given_back + amount
  remember_id(account, change, MEMORY_MS)
  return index
end
