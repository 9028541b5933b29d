-- Takes the lease of a chunk. Only this script gives the right to run it; duplicates of a message
-- lose here.
-- A claim that is sent again because its answer was lost has the same token, and gets the same
-- answer.
-- A worker that should avoid the chunk is refused for a while. The stream says so, because the
-- message that it took is lost to the others.
-- Returns {'ok', fence, payload, epoch} or {reason}.
local run_key = KEYS[1]
local chunk_key = KEYS[2]
local leases_key = KEYS[3]   -- zset: chunk id -> end of lease, store's clock, ms
local events_key = KEYS[4]   -- stream
local chunk = ARGV[1]
local attempt = ARGV[2]
local lease_ms = tonumber(ARGV[3])
local worker = ARGV[4]
local slot = ARGV[5]
local token = ARGV[6]

local run = redis.call('HMGET', run_key, 'state', 'epoch')
if not run[1] then return {'no-run'} end
if run[1] ~= 'open' then return {'cancelled'} end
local fields = redis.call('HMGET', chunk_key, 'attempt', 'state', 'payload', 'token', 'fence',
  'avoid', 'until')
if not fields[1] then return {'unknown'} end
if fields[1] ~= attempt then return {'stale'} end
if fields[2] == 'leased' and fields[4] == token then
  return {'ok', tonumber(fields[5]), fields[3], run[2]}
end
if fields[2] == 'leased' then return {'held'} end
if fields[2] ~= 'queued' then return {'done'} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if fields[6] == worker and now < tonumber(fields[7]) then
  redis.call('XADD', events_key, '*', 'k', 'avoided', 'e', run[2], 'c', chunk, 'a', attempt,
    'f', 0, 'w', worker, 's', slot)
  redis.call('EXPIRE', events_key, redis.call('TTL', run_key))
  return {'avoid'}
end
local fence = redis.call('HINCRBY', run_key, 'fence', 1)
redis.call('HSET', chunk_key, 'state', 'leased', 'fence', fence, 'worker', worker, 'slot', slot,
  'lease', lease_ms, 'token', token)
redis.call('HINCRBY', run_key, 'queued', -1)
redis.call('ZADD', leases_key, now + lease_ms, chunk)
redis.call('EXPIRE', leases_key, redis.call('TTL', run_key))
redis.call('XADD', events_key, '*', 'k', 'claimed', 'e', run[2], 'c', chunk, 'a', attempt,
  'f', fence, 'w', worker, 's', slot, 'd', lease_ms)
redis.call('EXPIRE', events_key, redis.call('TTL', run_key))
return {'ok', fence, fields[3], run[2]}
