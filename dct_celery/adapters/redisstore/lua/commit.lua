-- Writes the results of one round of the dispatcher: makes chunks claimable and adds them to the
-- stream (so that a replay knows the plan), and notes how far attempts are journalled.
-- A second call with the same arguments changes nothing.
-- Returns 'ok', 'no-run' when the run was closed, or 'superseded' when the run has another
-- dispatcher.
local run_key = KEYS[1]
local acks_key = KEYS[2]     -- hash: chunk.attempt -> position
local events_key = KEYS[3]
-- KEYS[4...]: chunks (hash: payload, attempt, state, fence, worker, slot, lease (ms), token, avoid,
-- until)
local owner = ARGV[1]
local avoid_ms = ARGV[2]
local attempts = tonumber(ARGV[3])
local exhausted = ARGV[4]    -- '1': nothing more is planned than what is on offer now
-- ARGV[5...]: for each attempt its name ("chunk.attempt") and position
local first_chunk = 5 + 2 * attempts
local fields_each = 4
-- then for each chunk its id, attempt, payload, and the worker that must avoid it for avoid_ms, or
-- empty

local run = redis.call('HMGET', run_key, 'owner', 'epoch')
if not run[1] then return 'no-run' end
if run[1] ~= owner then return 'superseded' end
local ttl = redis.call('TTL', run_key)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', run_key, 'exhausted', exhausted)
for at = 5, first_chunk - 1, 2 do redis.call('HSET', acks_key, ARGV[at], ARGV[at + 1]) end
if attempts > 0 then redis.call('EXPIRE', acks_key, ttl) end
for i = 4, #KEYS do
  local at = first_chunk + (i - 4) * fields_each
  local chunk, attempt, payload, avoid = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if redis.call('HGET', KEYS[i], 'attempt') ~= attempt then
    redis.call('HSET', KEYS[i], 'payload', payload, 'attempt', attempt, 'state', 'queued',
      'fence', 0)
    if avoid ~= '' then redis.call('HSET', KEYS[i], 'avoid', avoid, 'until', now + avoid_ms) end
    redis.call('EXPIRE', KEYS[i], ttl)
    redis.call('HINCRBY', run_key, 'queued', 1)
    redis.call('XADD', events_key, '*', 'k', 'offered', 'e', run[2], 'c', chunk, 'a', attempt,
      'd', payload)
  end
end
if #KEYS > 3 then redis.call('EXPIRE', events_key, ttl) end
return 'ok'
