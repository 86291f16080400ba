-- What a refund gives back goes where it was taken from: to bought credits first, since they were
-- spent last. The rest goes to the allowance, if its period still lasts; if not, the allowance has
-- been restored since, and the user keeps the credits as if it had bought them.

-- Returns how much of a refund of `amount` concerns the allowance. `bought` is what the deduct took
-- from bought credits, `refunded` what had been given back of it before.
local function to_allowance(account, bought, refunded, amount, period)
  if not account.period or account.period ~= period then
    return 0
  end
  return amount - (math.min(refunded + amount, bought) - math.min(refunded, bought))
end
