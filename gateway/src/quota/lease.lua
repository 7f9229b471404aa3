-- Leases a part of a subject's budget; the window begins with the first lease and ends with the key.
-- KEYS: what was leased of the budget.
-- ARGV: the budget, units needed, units wanted, units already spent without asking, window in ms.
-- Returns {units granted, units left, ms until the window ends}; 0 granted: less than needed is left.
-- The less is left, the smaller the lease: so little of a budget lies unused with one instance.
local budget, needed, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local leased = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[4])
local left, granted = math.max(0, budget - leased), 0
if left >= needed then
    granted = math.min(left, math.max(needed, math.min(wanted, math.ceil(left / 4))))
end
local ends = redis.call('PTTL', KEYS[1])
if ends < 0 then
    ends = tonumber(ARGV[5])
    redis.call('SET', KEYS[1], leased + granted, 'PX', ends)
else
    redis.call('SET', KEYS[1], leased + granted, 'KEEPTTL')
end
return {granted, left - granted, ends}
