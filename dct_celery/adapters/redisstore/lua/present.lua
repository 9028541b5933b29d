-- Lists the members that are alive on the store's clock, and removes the dead.
-- The clock of life stands still while the store takes no writes, since no member can beat then.
-- Each call that tends the list first notes its time: where that is refused (out of memory,
-- read-only), all members stay. A gap between two notes moves all deadlines on by its length, but
-- never beyond a whole horizon from now; nothing was decided meanwhile.
-- A call that does not tend (ARGV[1] = '0') changes nothing: where no process tends the list, a gap
-- entry nothing about the store.
-- A deadline more than a day away is not ours and counts as passed; an entry longer than ARGV[3]
-- bytes is returned as empty.
-- Returns a flat list: the time (ms), name, entry, name ...; only the time if ARGV[2] = '0'.
local members_key = KEYS[1]   -- zset: name -> alive until, ms
local info_key = KEYS[2]      -- hash: name -> what it says of itself
local horizons_key = KEYS[3]  -- hash: name -> ms that it asked for; '' -> time of the last note
local stall_ms = tonumber(ARGV[1])
local longest = tonumber(ARGV[3])
local most_ms = 86400000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local from = '(' .. now
if stall_ms > 0 then
  local gap = now - (tonumber(redis.call('HGET', horizons_key, '') or now) or now)
  local note = redis.pcall('HSET', horizons_key, '', now)
  if type(note) == 'table' and note.err then
    from = '-inf'
  else
    redis.call('EXPIRE', horizons_key, 86400)
    if gap > stall_ms or gap < 0 then
      local members = redis.call('ZRANGE', members_key, 0, -1, 'WITHSCORES')
      for i = 1, #members, 2 do
        local horizon_ms = tonumber(redis.call('HGET', horizons_key, members[i]) or 0) or 0
        local deadline = math.min(members[i + 1] + math.max(gap, 0), now + horizon_ms)
        redis.call('ZADD', members_key, deadline, members[i])
      end
    end
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', members_key, '-inf', now)) do
      redis.call('HDEL', info_key, name)
      redis.call('HDEL', horizons_key, name)
    end
    redis.call('ZREMRANGEBYSCORE', members_key, '-inf', now)
    redis.call('ZREMRANGEBYSCORE', members_key, now + most_ms, '+inf')
  end
end
local result = {now}
if ARGV[2] == '0' then return result end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', members_key, from, '+inf')) do
  local entry = ''
  if redis.call('HSTRLEN', info_key, name) <= longest then
    entry = redis.call('HGET', info_key, name) or ''
  end
  result[#result + 1] = name
  result[#result + 1] = entry
end
return result
