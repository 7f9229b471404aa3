-- Enters users of days: days, blocks, the bits of their users. Sorted by the caller: two sources that enter the
-- same then wait for each other in the same order. The bits come as bytes, since to set each here costs as much
-- as to number its user.
insert into users_of_days as known (day, block, users)
select day, block, ('x' || encode(bits, 'hex'))::bit(4096)
  from unnest($1::date[], $2::int[], $3::bytea[]) as it (day, block, bits)
on conflict (day, block) do update set users = known.users | excluded.users
