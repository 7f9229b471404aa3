-- By when everything that was judged is in the statistics: now, or when the source that trails most
-- came where it stands.
select coalesce(min(coalesce(s.moved_at, to_timestamp(0)))
                    filter (where coalesce(s.next_offset, l.start_offset) < l.next_offset),
                now())
  from consumer_ledger as l
  left join statistics_marks as s using (source)
