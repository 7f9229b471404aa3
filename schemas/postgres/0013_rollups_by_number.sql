-- Rollups by the numbers that statistics give to names: an upsert by a key of integers costs half of one by names,
-- and each name is stored once. The views keep the names.

-- Whoever rolls up moves a mark first.
lock table rollup_marks in exclusive mode;

create table event_types (
    no          int  generated always as identity primary key,
    event_type  text collate "C" not null unique
);

-- Only what has none gets a number: a conflict would burn one.
insert into event_types (event_type) select distinct event_type from object_counts_by_partition;
insert into objects (object_type, object_id)
select object_type, object_id from object_counts_by_partition
except
select object_type, object_id from objects
on conflict do nothing;
insert into users (id) select user_id from daily_users except select id from users
on conflict do nothing;

drop view object_counts;
alter table object_counts_by_partition rename to object_counts_by_name;
alter index object_counts_by_partition_pkey rename to object_counts_by_name_pkey;
create table object_counts_by_partition (
    object      int    not null,
    event_type  int    not null,
    source      int    not null,
    count       bigint not null,
    primary key (object, event_type, source)
) with (fillfactor = 80);
insert into object_counts_by_partition
select o.no, t.no, c.source, c.count
  from object_counts_by_name as c
  join objects as o using (object_type, object_id)
  join event_types as t using (event_type)
 order by 1, 2, 3;
drop table object_counts_by_name;

create view object_counts as
select o.object_type, o.object_id, t.event_type, sum(c.count)::bigint as count
  from object_counts_by_partition as c
  join objects as o on o.no = c.object
  join event_types as t on t.no = c.event_type
 group by o.object_type, o.object_id, t.event_type;

alter table daily_users rename to daily_users_by_name;
create table users_of_days (
    day      date not null,
    user_no  int  not null,
    primary key (day, user_no)
);
insert into users_of_days
select d.day, u.no from daily_users_by_name as d join users as u on u.id = d.user_id order by 1, 2;
drop table daily_users_by_name;

create view daily_users as
select d.day, u.id as user_id from users_of_days as d join users as u on u.no = d.user_no;
