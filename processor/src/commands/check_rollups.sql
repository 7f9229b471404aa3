-- Object counts and users of days against the rows before the rollup marks, in one snapshot: how many
-- counts there are, and how many of each kind differ.
with rolled as (
    select e.object_type collate "C" as object_type, e.object_id collate "C" as object_id,
           e.event_type collate "C" as event_type, e.user_id collate "C" as user_id,
           (e.occurred_at at time zone 'utc')::date as day
      from events as e
      join rollup_marks as m
        on m.source = (e.src >> 44)::int and (e.src & ((1::bigint << 44) - 1)) < m.next_offset
), counted as (
    select object_type, object_id, event_type, count(*) as count
      from rolled where object_type is not null
     group by object_type, object_id, event_type
), wrong_counts as (
    select from counted as c
      full join object_counts as o using (object_type, object_id, event_type)
     where c.count is distinct from o.count
), wrong_users as (
    select from (select distinct day, user_id from rolled) as r
      full join daily_users as d using (day, user_id)
     where r.day is null or d.day is null
)
select (select count(*) from counted), (select count(*) from wrong_counts),
       (select count(*) from wrong_users)
