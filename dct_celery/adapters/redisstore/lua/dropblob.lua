-- Removes a blob that does not hold what its name says, unless it has been replaced since it was read.
-- KEYS[1] the blob; ARGV[1] how it begins, as it was read.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == 'none' then
  return 0
end
if kind == 'string' and redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
