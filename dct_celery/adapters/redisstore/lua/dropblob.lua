-- Removes a blob whose content does not match its name, unless it was replaced since it was read.
-- KEYS[1] the blob; ARGV[1] its first bytes, as they were read.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == 'none' then
  return 0
end
if kind == 'string' and redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
