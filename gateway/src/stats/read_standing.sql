-- The generation, by when everything that was judged is in the statistics, and how far they are of each
-- source of which they have any.
select coalesce((select n from generation), 0),
       coalesce(min(coalesce(s.moved_at, to_timestamp(0)))
                    filter (where coalesce(s.next_offset, l.start_offset) < l.next_offset),
                now()),
       coalesce(array_agg(l.source) filter (where s.next_offset > l.start_offset), '{}'),
       coalesce(array_agg(s.next_offset) filter (where s.next_offset > l.start_offset), '{}')
  from consumer_ledger as l
  left join statistics_marks as s using (source)
