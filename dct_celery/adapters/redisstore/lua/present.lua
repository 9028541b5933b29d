-- Who is alive on the store's clock. The dead are forgotten on the way.
-- Returns a flat list: name, JSON, name, JSON ...
local members_key = KEYS[1]
local info_key = KEYS[2]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', members_key, '-inf', now)) do
  redis.call('HDEL', info_key, name)
end
redis.call('ZREMRANGEBYSCORE', members_key, '-inf', now)
local result = {}
for _, name in ipairs(redis.call('ZRANGE', members_key, 0, -1)) do
  result[#result + 1] = name
  result[#result + 1] = redis.call('HGET', info_key, name) or '{}'
end
return result
