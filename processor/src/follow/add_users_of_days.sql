-- Enters users of days, sorted by the caller, and counts those nobody had entered before for the
-- source ($1) that was first.
with entered as (
    insert into users_of_days (day, user_no)
    select * from unnest($2::date[], $3::int[])
    on conflict do nothing
    returning day
)
insert into daily_active_by_partition as active (source, day, users)
select $1, day, count(*) from entered group by day
on conflict (day, source) do update set users = active.users + excluded.users
