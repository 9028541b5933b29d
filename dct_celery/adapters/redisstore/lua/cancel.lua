-- Stops a run: no more claims; holders learn of it when they renew. The first reason is kept.
-- Returns 1 when the run was open.
local run_key = KEYS[1]
local reason = ARGV[1]

if redis.call('HGET', run_key, 'state') ~= 'open' then
  return 0
end
redis.call('HSET', run_key, 'state', 'cancelled', 'reason', reason)
return 1
