-- Prolongs a lease. Only its holder can; everybody else learns that it is lost.
-- Returns 'ok', 'cancelled' (the lease is prolonged, but the slot should stop) or 'lost'.
local run_key = KEYS[1]
local chunk_key = KEYS[2]
local leases_key = KEYS[3]
local chunk = ARGV[1]
local fence = ARGV[2]
local lease_ms = tonumber(ARGV[3])

local held = redis.call('HMGET', chunk_key, 'state', 'fence')
if held[1] ~= 'leased' or held[2] ~= fence then
  -- Not after the run is forgotten: the counter alone would be a key without an end.
  if redis.call('EXISTS', run_key) == 1 then redis.call('HINCRBY', run_key, 'refused', 1) end
  return 'lost'
end
local time = redis.call('TIME')
redis.call('ZADD', leases_key, time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms, chunk)
if redis.call('HGET', run_key, 'state') ~= 'open' then return 'cancelled' end
return 'ok'
