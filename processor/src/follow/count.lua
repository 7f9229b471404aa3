-- Adds one range of offsets of a source to the counters, unless it is there already.
-- KEYS: the anchor hash (epoch, state, marks), then per action a sorted set and its counters; one slot.
-- ARGV: epoch, source, the offset the source began at, from, to; then per action how many counters, how
--       many bytes their keys have after the member, and the counts.
-- Returns "applied" (with how many sums a key of another type refused), "done" (counted before),
-- "gap" (something before it is missing) or "stale" (another epoch, or it is being rebuilt).
local epoch, state, mark = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'state', ARGV[2]))
if epoch ~= ARGV[1] or state ~= 'live' then return {'stale', 0} end
mark = tonumber(mark or ARGV[3])
if mark >= tonumber(ARGV[5]) then return {'done', 0} end
if mark ~= tonumber(ARGV[4]) then return {'gap', 0} end
local refused = 0
-- pcall: a script that errs keeps its earlier writes, so one bad key must not stop the rest.
local function apply(...)
    local answer = redis.pcall(...)
    if type(answer) == 'table' and answer.err then refused = refused + 1 end
end
local key, arg = 2, 6
while key <= #KEYS do
    local top, counters, action = KEYS[key], tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
    for i = 1, counters do
        local counter, count = KEYS[key + i], ARGV[arg + 1 + i]
        apply('INCRBY', counter, count)
        apply('ZINCRBY', top, count, string.sub(counter, 1, -1 - action))
    end
    key, arg = key + 1 + counters, arg + 2 + counters
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[5])
return {'applied', refused}
