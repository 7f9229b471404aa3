-- What is not folded yet and reaches into these slots ($1 inclusive, $2 exclusive).
select facts from statistics_deltas where slot_max >= $1 and slot_min < $2
