-- Does something to keys unless another rebuild has begun.
-- KEYS: the anchor hash, then the command's; ARGV: the epoch of this rebuild, the command, then the
-- value of each key, where it takes one.
-- Returns 1 if it was done.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local words = {}
for i = 2, #KEYS do
    words[#words + 1] = KEYS[i]
    words[#words + 1] = ARGV[i + 1]
end
redis.call(ARGV[2], unpack(words))
return 1
