-- A worker or a run registers as alive until a moment on the store's clock.
-- Returns 1.
local members_key = KEYS[1]   -- zset: name -> alive until, ms
local info_key = KEYS[2]      -- hash: name -> JSON
local horizons_key = KEYS[3]  -- hash: name -> ms that it asked for; see present.lua
local name = ARGV[1]
local horizon_ms = tonumber(ARGV[2])
local info = ARGV[3]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', members_key, now + horizon_ms, name)
redis.call('HSET', info_key, name, info)
redis.call('HSET', horizons_key, name, horizon_ms)
redis.call('EXPIRE', members_key, 86400)
redis.call('EXPIRE', info_key, 86400)
redis.call('EXPIRE', horizons_key, 86400)
return 1
