-- Writes the markers of ids that a committed transaction holds.
-- KEYS: the namespace (generation, day, layer); its buckets share its slot.
-- ARGV: lifetime in seconds, then 16-byte ids.
for i = 2, #ARGV do
    local id = ARGV[i]
    local bucket = KEYS[1] .. ':' .. string.byte(id, 15) * 256 + string.byte(id, 16)
    if redis.call('HSET', bucket, id, '') == 1 and redis.call('HLEN', bucket) == 1 then
        redis.call('EXPIRE', bucket, ARGV[1])
    end
end
return #ARGV - 1
