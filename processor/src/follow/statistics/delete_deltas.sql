-- Deltas that are folded.
delete from statistics_deltas where id = any($1)
