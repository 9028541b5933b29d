-- Adds records to the stream under a lease, and extends it. A stale fence adds nothing and is
-- counted.
-- Returns 'ok', 'cancelled', 'lost', 'gone' (the store knows no such run or lease yet) or 'moved'
-- (the run has another epoch: nothing was written).
local run_key = KEYS[1]
local chunk_key = KEYS[2]
local leases_key = KEYS[3]
local events_key = KEYS[4]
local chunk = ARGV[1]
local fence = ARGV[2]
local attempt = ARGV[3]
local seq = ARGV[4]
local records = ARGV[5]
local lease_ms = tonumber(ARGV[6])

local epoch = redis.call('HGET', run_key, 'epoch')
if not epoch then return 'gone' end
if epoch ~= ARGV[7] then return 'moved' end
local held = redis.call('HMGET', chunk_key, 'state', 'fence', 'worker', 'slot')
if held[1] ~= 'leased' or held[2] ~= fence then
  -- Never issued here: a lagging replica has become the store, and the dispatcher will restore it.
  if tonumber(redis.call('HGET', run_key, 'fence') or 0) < tonumber(fence) then return 'gone' end
  redis.call('HINCRBY', run_key, 'refused', 1)
  return 'lost'
end
redis.call('XADD', events_key, '*', 'k', 'records', 'e', epoch, 'c', chunk, 'a', attempt,
  'f', fence, 'w', held[3], 's', held[4], 'q', seq, 'd', records)
local time = redis.call('TIME')
redis.call('ZADD', leases_key, time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms, chunk)
if redis.call('HGET', run_key, 'state') ~= 'open' then return 'cancelled' end
return 'ok'
