-- Adds one range of offsets of a source to the counters, unless it is there already.
-- KEYS: the anchor hash (epoch, state, marks), then per sum a counter and its sorted set; one slot.
-- ARGV: epoch, source, the offset the source began at, from, to; then per sum a count and a member.
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
for i = 2, #KEYS, 2 do
    local count, member = ARGV[i + 4], ARGV[i + 5]
    apply('INCRBY', KEYS[i], count)
    apply('ZINCRBY', KEYS[i + 1], count, member)
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[5])
return {'applied', refused}
