-- Adds to the counts of one source ($1): numbers of objects and event types, counts.
insert into object_counts_by_partition as counts (source, object, event_type, count)
select $1, * from unnest($2::int[], $3::int[], $4::bigint[])
on conflict (object, event_type, source) do update set count = counts.count + excluded.count
