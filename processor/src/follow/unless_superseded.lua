-- Does something to keys unless another rebuild has begun.
-- KEYS: the anchor hash, then the command's; ARGV: the epoch of this rebuild, the command.
-- Returns 1 if it was done.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call(ARGV[2], unpack(KEYS, 2))
return 1
