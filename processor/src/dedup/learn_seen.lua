-- Writes the markers of ids that a committed transaction holds.
-- KEYS: the namespace (generation, day, layer); its buckets share its slot.
-- ARGV: ids of 16 bytes, one after the other; lifetime in seconds.
local ids = ARGV[1]
for i = 1, #ids / 16 do
    local id = string.sub(ids, i * 16 - 15, i * 16)
    local bucket = KEYS[1] .. ':' .. string.byte(id, 15) * 256 + string.byte(id, 16)
    if redis.call('HSET', bucket, id, '') == 1 and redis.call('HLEN', bucket) == 1 then
        redis.call('EXPIRE', bucket, ARGV[2])
    end
end
return #ids / 16
