-- Gives the run to another dispatcher: at once when the caller knows that the previous one is dead,
-- else when that one has not reaped for the length of its lease.
-- Returns {'ok', epoch, incarnation}, {'none'}, {'closed'}, or {'held', ms until the next attempt}.
local run_key = KEYS[1]
local owner = ARGV[1]
local lease_ms = tonumber(ARGV[2])
local dead = ARGV[3]

local run = redis.call('HMGET', run_key, 'state', 'epoch', 'incarnation', 'reaped', 'owner')
if not run[1] then return {'none'} end
if run[1] == 'closed' then return {'closed'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = tonumber(run[4] or 0) + lease_ms - now
if dead ~= '1' and run[5] ~= owner and left > 0 then return {'held', math.min(left, lease_ms)} end
redis.call('HSET', run_key, 'owner', owner, 'reaped', now)
return {'ok', tonumber(run[2] or 1), run[3] or ''}
