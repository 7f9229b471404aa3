-- Sources whose outcomes do not sum to what was consumed; sources whose records and skipped
-- offsets do not sum to the range they judged; records consumed in all.
select count(*) filter (where consumed <> stored + duplicate + dead_lettered + erased),
       count(*) filter (where consumed + skipped <> next_offset - start_offset),
       coalesce(sum(consumed), 0)::bigint
  from consumer_ledger
