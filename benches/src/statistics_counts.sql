-- The object counts of all events, as their rollup has them.
insert into object_counts_by_partition (source, object_type, object_id, event_type, count)
select 1, object_type, object_id, event_type, count(*) from events group by 2, 3, 4
