-- Summarises the new blocks of what grows: users, and the leaves of today and yesterday. Returns how many ranges.
select coalesce(sum(brin_summarize_new_values(index.indexrelid)), 0)::bigint
  from pg_index as index
  join pg_class as it on it.oid = index.indexrelid
  join pg_am as method on method.oid = it.relam and method.amname = 'brin'
 where index.indrelid in (
           to_regclass('users'),
           to_regclass('events_' || to_char(now() at time zone 'utc', 'YYYY_MM_DD')),
           to_regclass('events_' || to_char(now() at time zone 'utc' - interval '1 day', 'YYYY_MM_DD')))
