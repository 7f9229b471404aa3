-- Gives a claim up: the request had no answer worth keeping, and may be sent again at once.
-- KEYS: the request's entry. ARGV: who claimed it.
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
