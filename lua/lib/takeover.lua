-- An attempt that was slower than the lease has lost its charge to the one that has taken over.

-- Says whether another attempt than `attempt` was the last to be let in, or was served.
local function is_anothers(entry, attempt)
  return entry ~= nil and entry.holder ~= random_half(attempt)
end
