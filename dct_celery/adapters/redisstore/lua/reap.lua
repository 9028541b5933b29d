-- Ends every lease that ran out on the store's clock. What was streamed before stands; later writes are refused.
-- KEYS[3..] are not known before the zset is read, so the caller passes the prefix of chunk keys, which share the hash tag.
-- Returns the ids of the chunks.
local leases_key = KEYS[1]
local events_key = KEYS[2]
local chunk_prefix = ARGV[1]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expired = redis.call('ZRANGEBYSCORE', leases_key, '-inf', now, 'LIMIT', 0, 100)
for _, chunk in ipairs(expired) do
  local chunk_key = chunk_prefix .. chunk
  local held = redis.call('HMGET', chunk_key, 'attempt', 'fence', 'worker', 'slot')
  redis.call('HSET', chunk_key, 'state', 'expired')
  redis.call('ZREM', leases_key, chunk)
  redis.call('XADD', events_key, '*', 'k', 'expired', 'c', chunk, 'a', held[1], 'f', held[2], 'w', held[3], 's', held[4])
end
return expired
