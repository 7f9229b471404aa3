-- Every partition in its last incarnation: where its ledger and what is rolled up from it stand.
select distinct on (l.topic, l.partition)
       l.source, l.topic, l.partition, l.start_offset, l.next_offset,
       coalesce(m.next_offset, l.start_offset) as rollups,
       coalesce(s.next_offset, l.start_offset) as statistics
  from consumer_ledger as l
  left join rollup_marks as m using (source)
  left join statistics_marks as s using (source)
 order by l.topic, l.partition, l.incarnation desc
