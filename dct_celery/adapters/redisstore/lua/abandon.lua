-- Closes a run whose dispatcher has not reaped for so long that it is taken for abandoned.
local run_key = KEYS[1]
local silent_ms = tonumber(ARGV[1])

local run = redis.call('HMGET', run_key, 'state', 'reaped')
-- Without the time of the last reap it is the run of an earlier version, which we cannot judge.
if not run[1] or run[1] == 'closed' or not run[2] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now - tonumber(run[2]) < silent_ms then return 0 end
redis.call('HSET', run_key, 'state', 'closed')
return 1
