-- The oldest deltas, with so many counts ($1) and those of one more.
select id, objects, event_types, counts
  from (select *, sum(pairs) over (order by id) - pairs as before from object_count_deltas) as d
 where before < $1
