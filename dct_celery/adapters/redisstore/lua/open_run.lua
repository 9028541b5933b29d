-- Opens a run, once. A second dispatcher with the same run id is refused; a call that is sent again
-- because its answer was lost is not.
-- Returns 1 when opened, 0 when the id is taken.
-- hash: owner, epoch, incarnation, state, spec, nonce, fence, refused, reaped (store's clock, ms),
-- queued (chunks on offer), exhausted ('1': no more than these are planned)
local run_key = KEYS[1]
local owner = ARGV[1]
local spec = ARGV[2]
local ttl_seconds = ARGV[3]
local incarnation = ARGV[4]
local nonce = ARGV[5]

if redis.call('EXISTS', run_key) == 1 then
  return redis.call('HGET', run_key, 'owner') == owner and 1 or 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', run_key, 'owner', owner, 'epoch', 1, 'incarnation', incarnation, 'state', 'open',
  'spec', spec, 'nonce', nonce, 'fence', 0, 'refused', 0, 'reaped', now)
redis.call('EXPIRE', run_key, ttl_seconds)
return 1
