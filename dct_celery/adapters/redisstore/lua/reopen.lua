-- Restores a run that the store has lost completely or in part, under a new epoch. Leases that its
-- dispatcher knows of go on: their holders only have to send again what is not acknowledged.
-- Everything else of the run is deleted.
-- A call that is sent again because its answer was lost changes nothing: slots may have written
-- since.
-- Returns 1, or 0 when the run has another owner.
local run_key = KEYS[1]
local leases_key = KEYS[2]
local events_key = KEYS[3]
local acks_key = KEYS[4]
-- KEYS[5...]: chunks
local owner = ARGV[1]
local epoch = tonumber(ARGV[2])
local incarnation = ARGV[3]
local ttl_seconds = ARGV[4]
local run = cjson.decode(ARGV[5])   -- state, reason, spec, manifest, fence, refused
local acks = cjson.decode(ARGV[6])  -- chunk.attempt -> position
local fields_each = 7
-- ARGV[7...]: for each chunk its id, payload, attempt, state, fence, holder (JSON: worker, slot),
-- lease (ms)

local before = redis.call('HMGET', run_key, 'owner', 'epoch')
if before[1] == owner and tonumber(before[2]) == epoch then return 1 end
-- The owner knows its own epoch: a greater one in the store is not genuine.
if before[1] and before[1] ~= owner then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', run_key, leases_key, events_key, acks_key)
redis.call('HSET', run_key, 'owner', owner, 'epoch', epoch, 'incarnation', incarnation,
  'reaped', now)
for name, value in pairs(run) do redis.call('HSET', run_key, name, value) end
redis.call('EXPIRE', run_key, ttl_seconds)
for name, position in pairs(acks) do redis.call('HSET', acks_key, name, position) end
redis.call('EXPIRE', acks_key, ttl_seconds)
for i = 5, #KEYS do
  local at = 7 + (i - 5) * fields_each
  local holder = cjson.decode(ARGV[at + 5])
  redis.call('DEL', KEYS[i])
  redis.call('HSET', KEYS[i], 'payload', ARGV[at + 1], 'attempt', ARGV[at + 2],
    'state', ARGV[at + 3], 'fence', ARGV[at + 4], 'worker', holder[1], 'slot', holder[2],
    'lease', ARGV[at + 6], 'token', '')
  redis.call('EXPIRE', KEYS[i], ttl_seconds)
  if ARGV[at + 3] == 'queued' then redis.call('HINCRBY', run_key, 'queued', 1) end
  -- For a replay from the store alone; the dispatcher knows these.
  redis.call('XADD', events_key, '*', 'k', 'offered', 'e', epoch, 'c', ARGV[at],
    'a', ARGV[at + 2], 'd', ARGV[at + 1])
  if ARGV[at + 3] == 'leased' then
    redis.call('ZADD', leases_key, now + tonumber(ARGV[at + 6]), ARGV[at])
    redis.call('XADD', events_key, '*', 'k', 'claimed', 'e', epoch, 'c', ARGV[at],
      'a', ARGV[at + 2], 'f', ARGV[at + 4], 'w', holder[1], 's', holder[2], 'd', ARGV[at + 6])
  end
end
redis.call('EXPIRE', leases_key, ttl_seconds)
redis.call('EXPIRE', events_key, ttl_seconds)
return 1
