-- How every record that was ever consumed ended.
select coalesce(sum(consumed), 0)::bigint      as consumed,
       coalesce(sum(stored), 0)::bigint        as stored,
       coalesce(sum(duplicate), 0)::bigint     as duplicate,
       coalesce(sum(dead_lettered), 0)::bigint as dead_lettered,
       coalesce(sum(erased), 0)::bigint        as erased
  from accounting
