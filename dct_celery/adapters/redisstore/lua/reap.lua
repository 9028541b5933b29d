-- Ends every lease that expired on the store's clock. What was streamed before is kept; later
-- writes are refused.
-- The lease clock stands still while the store takes no writes, since no holder can renew then.
-- Each reap notes its time before all other writes: out of memory or read-only, the script ends
-- there. A gap between two notes moves the deadlines on by its length, but never beyond a whole
-- lease from now: if only the reaper was away, the dead must not be kept for long. The same bound
-- holds after the clock was set back, as a failover may do.
-- Keys of chunks are not known before the zset is read, so the caller passes their prefix, which
-- has the hash tag.
-- A reap also shows that the dispatcher lives: `adopt` gives the run to another one when the last
-- reap is long ago.
-- Returns {ids of the chunks, state of the run, the order to cancel it}, an empty list when there is
-- no such run, or 'superseded' when the run has another dispatcher.
local run_key = KEYS[1]
local leases_key = KEYS[2]
local events_key = KEYS[3]
local owner = ARGV[1]
local chunk_prefix = ARGV[2]
local stall_ms = tonumber(ARGV[3])

local run = redis.call('HMGET', run_key, 'owner', 'epoch', 'state', 'reason')
if not run[1] then return {} end
if run[1] ~= owner then return 'superseded' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gap = now - tonumber(redis.call('HGET', run_key, 'reaped') or now)
redis.call('HSET', run_key, 'reaped', now)
if gap > stall_ms or gap < 0 then
  local leases = redis.call('ZRANGE', leases_key, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local lease_ms = tonumber(redis.call('HGET', chunk_prefix .. leases[i], 'lease') or math.huge)
    local deadline = math.min(leases[i + 1] + math.max(gap, 0), now + lease_ms)
    redis.call('ZADD', leases_key, deadline, leases[i])
  end
end

local expired = redis.call('ZRANGEBYSCORE', leases_key, '-inf', now, 'LIMIT', 0, 100)
for _, chunk in ipairs(expired) do
  local chunk_key = chunk_prefix .. chunk
  local held = redis.call('HMGET', chunk_key, 'attempt', 'fence', 'worker', 'slot')
  redis.call('HSET', chunk_key, 'state', 'expired')
  redis.call('ZREM', leases_key, chunk)
  redis.call('XADD', events_key, '*', 'k', 'expired', 'e', run[2], 'c', chunk, 'a', held[1],
    'f', held[2], 'w', held[3], 's', held[4])
end
return {expired, run[3], run[4]}
