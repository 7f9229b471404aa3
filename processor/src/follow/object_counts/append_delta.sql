-- Appends what a source has counted: so many numbers of objects and event types, how often.
insert into object_count_deltas (pairs, objects, event_types, counts) values ($1, $2, $3, $4)
