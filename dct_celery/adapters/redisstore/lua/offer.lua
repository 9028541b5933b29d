-- Makes a chunk claimable, and says so on the stream: who replays it learns what was planned. Offering the same attempt twice
-- changes nothing.
-- Returns 'ok', 'no-run' when the run was closed, or 'superseded' to a dispatcher that is not the run's any more.
local run_key = KEYS[1]
local chunk_key = KEYS[2]    -- hash: payload, attempt, state, fence, worker, slot, lease (ms), token
local events_key = KEYS[3]
local owner = ARGV[1]
local chunk = ARGV[2]
local attempt = ARGV[3]
local payload = ARGV[4]

local run = redis.call('HMGET', run_key, 'owner', 'epoch')
if not run[1] then return 'no-run' end
if run[1] ~= owner then return 'superseded' end
if redis.call('HGET', chunk_key, 'attempt') == attempt then
  return 'ok'
end
local ttl = redis.call('TTL', run_key)
redis.call('HSET', chunk_key, 'payload', payload, 'attempt', attempt, 'state', 'queued', 'fence', 0)
redis.call('EXPIRE', chunk_key, ttl)
redis.call('XADD', events_key, '*', 'k', 'offered', 'e', run[2], 'c', chunk, 'a', attempt, 'd', payload)
redis.call('EXPIRE', events_key, ttl)
return 'ok'
