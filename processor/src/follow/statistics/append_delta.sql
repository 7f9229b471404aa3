-- Appends what a source adds: how many events, the first and last slot, and the packed facts.
insert into statistics_deltas (events, slot_min, slot_max, facts) values ($1, $2, $3, $4)
