-- One source: where it lies, how far its ledger and what is rolled up from it reach, and since when.
select l.topic, l.partition, l.start_offset, l.next_offset, l.updated_at,
       coalesce(s.next_offset, l.start_offset) as statistics, s.moved_at
  from consumer_ledger as l
  left join statistics_marks as s using (source)
 where l.source = $1
