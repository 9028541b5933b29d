-- Makes a chunk claimable. Offering the same attempt twice changes nothing.
-- Returns 'ok', or 'no-run' when the run was closed.
local run_key = KEYS[1]
local chunk_key = KEYS[2]    -- hash: payload, attempt, state, fence, worker, slot, lease (ms), token
local attempt = ARGV[1]
local payload = ARGV[2]

if redis.call('EXISTS', run_key) == 0 then
  return 'no-run'
end
if redis.call('HGET', chunk_key, 'attempt') == attempt then
  return 'ok'
end
redis.call('HSET', chunk_key, 'payload', payload, 'attempt', attempt, 'state', 'queued', 'fence', 0)
redis.call('EXPIRE', chunk_key, redis.call('TTL', run_key))
return 'ok'
