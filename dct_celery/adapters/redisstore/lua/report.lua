-- Adds a worker's report about the run to the stream. A late one must not create a stream that
-- outlives the run.
-- Returns 1, or 0 when the run no longer exists.
local run_key = KEYS[1]
local events_key = KEYS[2]
local worker = ARGV[1]
local message = ARGV[2]

local ttl = redis.call('TTL', run_key)
if ttl < 0 then return 0 end
local epoch = redis.call('HGET', run_key, 'epoch') or 1
redis.call('XADD', events_key, '*', 'k', 'report', 'e', epoch, 'w', worker, 'd', message)
redis.call('EXPIRE', events_key, ttl)
return 1
