-- Keys of rollups are compared byte by byte: nobody reads them in a language's order, and the upserts
-- behind every event compare them a dozen times.
drop view object_counts;
alter table object_counts_by_partition
    alter column object_type type text collate "C",
    alter column object_id   type text collate "C",
    alter column event_type  type text collate "C";
create view object_counts as
select object_type, object_id, event_type, sum(count)::bigint as count
  from object_counts_by_partition
 group by object_type, object_id, event_type;

alter table daily_users alter column user_id type text collate "C";
