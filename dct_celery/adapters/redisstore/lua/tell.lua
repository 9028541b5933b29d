-- What a worker reports of the run as a whole. Said too late it must not make a stream that outlives the run.
-- Returns 1, or 0 when the run is forgotten.
local run_key = KEYS[1]
local events_key = KEYS[2]
local worker = ARGV[1]
local message = ARGV[2]

local ttl = redis.call('TTL', run_key)
if ttl < 0 then return 0 end
redis.call('XADD', events_key, '*', 'k', 'report', 'e', redis.call('HGET', run_key, 'epoch') or 1, 'w', worker, 'd', message)
redis.call('EXPIRE', events_key, ttl)
return 1
