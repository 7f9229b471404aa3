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
local key, arg = 2, 6
while key <= #KEYS do
    local top, counters, action = KEYS[key], tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
    -- Scores are what the counters say, all in one call: ZINCRBY for each takes a quarter longer.
    local add = {'ZADD', top}
    for i = 1, counters do
        local counter = KEYS[key + i]
        -- pcall: a script that errs keeps its earlier writes, so one bad key must not stop the rest.
        local sum = redis.pcall('INCRBY', counter, ARGV[arg + 1 + i])
        if type(sum) == 'number' then
            add[#add + 1] = sum
            add[#add + 1] = string.sub(counter, 1, -1 - action)
        else
            refused = refused + 1
        end
    end
    if #add > 2 then
        local added = redis.pcall(unpack(add))
        if type(added) == 'table' then refused = refused + (#add - 2) / 2 end
    end
    key, arg = key + 1 + counters, arg + 2 + counters
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[5])
return {'applied', refused}
