-- Whether readers have much ($1 counts) to add by themselves, or something that has waited for so many
-- seconds ($2).
select coalesce(sum(pairs) >= $1 or count(*) >= 1000
                or min(added_at) <= now() - make_interval(secs => $2), false)
  from object_count_deltas
