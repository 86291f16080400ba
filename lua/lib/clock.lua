-- TIME is the only clock. It stands still while a script runs.

local function time_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
