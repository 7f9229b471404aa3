-- Adds to the counts of one source ($1): object types, object ids, event types, counts.
insert into object_counts_by_partition as counts (source, object_type, object_id, event_type, count)
select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::bigint[])
on conflict (object_type, object_id, event_type, source)
do update set count = counts.count + excluded.count
