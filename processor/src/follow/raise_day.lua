-- Shows the users of a day, unless a later answer is there already.
-- KEYS: the anchor hash, the day's key; one slot.
-- ARGV: epoch, users.
-- Returns "shown", or "stale" (another epoch, or it is being rebuilt).
local epoch, state = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'state'))
if epoch ~= ARGV[1] or state ~= 'live' then return 'stale' end
local users = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[2]) > users then redis.call('SET', KEYS[2], ARGV[2]) end
return 'shown'
