-- Every source with its ledger and its rollup mark.
select l.source, l.topic, l.partition, l.start_offset, l.next_offset,
       coalesce(m.next_offset, l.start_offset) as rollups
  from consumer_ledger as l
  left join rollup_marks as m using (source)
 order by l.source
