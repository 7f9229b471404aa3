-- Deltas that are folded.
delete from object_count_deltas where id = any($1)
