-- Rollups in few rows: nearly every action on an object and every user of a day had one of its own. Object counts
-- become a row an object, behind deltas that a source only appends; users of days become bits.

-- Whoever rolls up moves a mark first.
lock table rollup_marks in exclusive mode;

-- What has been counted and is not folded yet: insert-only, like statistics_deltas.
create table object_count_deltas (
    id           bigint generated always as identity primary key,
    pairs        int   not null,
    -- So many numbers of an object and of an event type, and how often.
    objects      int[] not null,
    event_types  int[] not null,
    counts       int[] not null,
    added_at     timestamptz not null default now()
);
-- To compress them would cost more than to write them; they are gone soon.
alter table object_count_deltas alter column objects set storage external;
alter table object_count_deltas alter column event_types set storage external;
alter table object_count_deltas alter column counts set storage external;

-- What is folded. One writer folds.
create table object_counts_by_object (
    object       int primary key,
    -- Of one length.
    event_types  int[]    not null,
    counts       bigint[] not null
) with (fillfactor = 70);
insert into object_counts_by_object
select object, array_agg(event_type), array_agg(count)
  from (select object, event_type, sum(count)::bigint as count
          from object_counts_by_partition group by object, event_type) as it
 group by object order by object;

drop view object_counts;
drop table object_counts_by_partition;
-- Each half joins by itself: what is asked of one object then reaches the index of objects, not all of them.
create view object_counts as
select object_type, object_id, event_type, sum(count)::bigint as count
  from (select o.object_type, o.object_id, t.event_type, it.count
          from objects as o
          join object_counts_by_object as c on c.object = o.no
         cross join unnest(c.event_types, c.counts) as it (event_type, count)
          join event_types as t on t.no = it.event_type
         union all
        select o.object_type, o.object_id, t.event_type, it.count
          from object_count_deltas as d
         cross join unnest(d.objects, d.event_types, d.counts) as it (object, event_type, count)
          join objects as o on o.no = it.object
          join event_types as t on t.no = it.event_type) as counted
 group by object_type, object_id, event_type;

drop view daily_users;
alter table users_of_days rename to users_of_days_by_row;
-- Bit n of a block stands for user number 4,096 × block + n: half a KiB, so that a row never leaves its page.
create table users_of_days (
    day    date not null,
    block  int  not null,
    users  bit(4096) not null,
    primary key (day, block)
) with (fillfactor = 50);
insert into users_of_days
select day, user_no / 4096, bit_or(set_bit(0::bit(4096), user_no % 4096, 1))
  from users_of_days_by_row group by 1, 2 order by 1, 2;
drop table users_of_days_by_row;

create view daily_user_numbers as
select d.day, 4096 * d.block + n as user_no
  from users_of_days as d cross join generate_series(0, 4095) as n
 where get_bit(d.users, n) = 1;

create view daily_users as
select d.day, u.id as user_id from daily_user_numbers as d join users as u on u.no = d.user_no;

drop view daily_active;
drop table daily_active_by_partition;
create view daily_active as
select day, sum(bit_count(users))::bigint as users from users_of_days group by day;
