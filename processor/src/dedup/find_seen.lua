-- Which of the ids have a marker.
-- KEYS: the namespace (generation, day, layer); its buckets share its slot.
-- ARGV: 16-byte ids. The last two bytes choose the bucket: in time-ordered ids the first would
-- fill one bucket after the other.
-- Returns the positions of those found.
local found = {}
for i = 1, #ARGV do
    local id = ARGV[i]
    local bucket = KEYS[1] .. ':' .. string.byte(id, 15) * 256 + string.byte(id, 16)
    if redis.call('HEXISTS', bucket, id) == 1 then found[#found + 1] = i end
end
return found
