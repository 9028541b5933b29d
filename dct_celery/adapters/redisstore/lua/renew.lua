-- Extends a lease. Only its holder can; any other caller learns that it is lost.
-- Returns 'ok', 'cancelled' (the lease is extended, but the slot should stop), 'lost', or 'gone'
-- (the store knows no such run or lease: it is over, or the store was wiped and will be restored).
local run_key = KEYS[1]
local chunk_key = KEYS[2]
local leases_key = KEYS[3]
local chunk = ARGV[1]
local fence = ARGV[2]
local lease_ms = tonumber(ARGV[3])

local run = redis.call('HMGET', run_key, 'state')
if not run[1] then return 'gone' end
local held = redis.call('HMGET', chunk_key, 'state', 'fence')
if held[1] ~= 'leased' or held[2] ~= fence then
  -- Never issued here: a lagging replica has become the store, and the dispatcher will restore it.
  if tonumber(redis.call('HGET', run_key, 'fence') or 0) < tonumber(fence) then return 'gone' end
  redis.call('HINCRBY', run_key, 'refused', 1)
  return 'lost'
end
local time = redis.call('TIME')
redis.call('ZADD', leases_key, time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms, chunk)
redis.call('EXPIRE', chunk_key, redis.call('TTL', run_key))
if run[1] ~= 'open' then return 'cancelled' end
return 'ok'
