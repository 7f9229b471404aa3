-- Enters users of days, sorted by the caller and here: two sources that enter the same then wait for
-- each other in the same order.
insert into users_of_days as known (day, block, users)
select day, no / 4096, bit_or(set_bit(0::bit(4096), no % 4096, 1))
  from unnest($1::date[], $2::int[]) as it (day, no)
 group by 1, 2 order by 1, 2
on conflict (day, block) do update set users = known.users | excluded.users
