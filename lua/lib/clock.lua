-- The time of Redis. Tests replace this fragment.

local function time_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function expire(key, ms)
  redis.call('PEXPIRE', key, ms)
end
