-- The first of objects by count, then by name: numbers, counts, how many.
select o.object_type, o.object_id, counted.count
  from unnest($1::int[], $2::bigint[]) as counted (no, count)
  join objects as o using (no)
 order by counted.count desc, o.object_type, o.object_id
 limit $3
