-- Which of the ids have a marker.
-- KEYS: the namespace (generation, day, layer); its buckets share its slot.
-- ARGV: ids of 16 bytes, one after the other: as an argument each they cost more than the look-up.
-- The last two bytes choose the bucket: in time-ordered ids the first would fill one after the other.
-- Returns the positions of those found, from 1.
local ids, found = ARGV[1], {}
for i = 1, #ids / 16 do
    local id = string.sub(ids, i * 16 - 15, i * 16)
    local bucket = KEYS[1] .. ':' .. string.byte(id, 15) * 256 + string.byte(id, 16)
    if redis.call('HEXISTS', bucket, id) == 1 then found[#found + 1] = i end
end
return found
