-- Makes a chunk claimable, and says so on the stream: who replays it learns what was planned. Offering the same attempt twice
-- changes nothing.
-- Returns 'ok', 'no-run' when the run was closed, or 'superseded' to a dispatcher that is not the run's any more.
local run_key = KEYS[1]
local chunk_key = KEYS[2]    -- hash: payload, attempt, state, fence, worker, slot, lease (ms), token, avoid, until
local events_key = KEYS[3]
local owner = ARGV[1]
local chunk = ARGV[2]
local attempt = ARGV[3]
local payload = ARGV[4]
local avoid = ARGV[5]        -- worker that leaves it to others for so many ms; empty for none
local avoid_ms = ARGV[6]

local run = redis.call('HMGET', run_key, 'owner', 'epoch')
if not run[1] then return 'no-run' end
if run[1] ~= owner then return 'superseded' end
if redis.call('HGET', chunk_key, 'attempt') == attempt then
  return 'ok'
end
local ttl = redis.call('TTL', run_key)
redis.call('HSET', chunk_key, 'payload', payload, 'attempt', attempt, 'state', 'queued', 'fence', 0)
if avoid ~= '' then
  local time = redis.call('TIME')
  redis.call('HSET', chunk_key, 'avoid', avoid, 'until', time[1] * 1000 + math.floor(time[2] / 1000) + avoid_ms)
end
redis.call('EXPIRE', chunk_key, ttl)
redis.call('XADD', events_key, '*', 'k', 'offered', 'e', run[2], 'c', chunk, 'a', attempt, 'd', payload)
redis.call('EXPIRE', events_key, ttl)
return 'ok'
