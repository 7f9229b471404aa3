-- Claims a request that nobody has answered yet, or tells what became of it.
-- KEYS: the request's entry. ARGV: who claims it, fingerprint of its content, ms the claim holds.
-- Returns "claimed", "running" (claimed by another), "other" (another content under the same key),
-- or "answered" with the answer. A claim ends by itself when its owner dies.
local fingerprint, answer = unpack(redis.call('HMGET', KEYS[1], 'fingerprint', 'answer'))
if not fingerprint then
    redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'owner', ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return {'claimed'}
end
if fingerprint ~= ARGV[2] then return {'other'} end
if answer then return {'answered', answer} end
return {'running'}
