-- Shows counters, their scores and the marks they stand at, all at one moment.
-- KEYS: the anchor hash, then per counter its key and its sorted set; one slot. ARGV: the members.
-- Returns the anchor's fields as pairs, and per counter its value and its score.
local values = {}
for i = 1, #ARGV do
    values[2 * i - 1] = tonumber(redis.call('GET', KEYS[2 * i]) or '0')
    values[2 * i] = tonumber(redis.call('ZSCORE', KEYS[2 * i + 1], ARGV[i]) or '0')
end
return {redis.call('HGETALL', KEYS[1]), values}
