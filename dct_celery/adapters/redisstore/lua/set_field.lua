-- Sets a field of the run. Not for a run that the store has lost: a key with this field alone would
-- never expire.
-- Returns 1, or 0 when the run no longer exists.
local run_key = KEYS[1]
local name = ARGV[1]
local value = ARGV[2]

if redis.call('EXISTS', run_key) == 0 then return 0 end
redis.call('HSET', run_key, name, value)
return 1
