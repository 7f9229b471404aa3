-- One source: where it lies, how far its ledger and all that is rolled up from it reach, and since when.
select l.topic, l.partition, l.start_offset, l.next_offset, l.updated_at,
       least(coalesce(m.next_offset, l.start_offset), coalesce(s.next_offset, l.start_offset)) as rolled_up,
       s.moved_at
  from consumer_ledger as l
  left join rollup_marks as m using (source)
  left join statistics_marks as s using (source)
 where l.source = $1
