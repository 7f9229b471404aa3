-- Stores the answer of a request, unless another has claimed it meanwhile.
-- KEYS: the request's entry. ARGV: who answered it, fingerprint of its content, the answer, lifetime
-- in ms. An entry that is gone (the claim ran out, Redis forgot) is made again.
-- Returns 1 when it is stored, else 0.
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'answer', ARGV[3])
redis.call('HDEL', KEYS[1], 'owner')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
