-- Sets every mark back to where judging began, and takes away what was added since. The folder is waited
-- for; marks come first, as with those who add.
select pg_advisory_xact_lock(hashtextextended('tallyman/fold/' || current_schema(), 0));
update statistics_marks as m set next_offset = l.start_offset, moved_at = now()
  from consumer_ledger as l where l.source = m.source;
truncate statistics_deltas, statistics_cells, statistics_days
