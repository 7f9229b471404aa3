-- Ends a rebuild: sets every mark and makes the epoch live.
-- KEYS: the anchor hash. ARGV: the epoch, then sources and their marks.
-- Returns 1, or 0 when another rebuild has begun.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'state', 'live')
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
