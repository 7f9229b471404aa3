-- How far the rollups of each source reach; one without a mark was not rolled up at all.
select l.source, coalesce(m.next_offset, l.start_offset)
  from consumer_ledger as l
  left join rollup_marks as m using (source)
