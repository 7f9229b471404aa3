-- Becomes the one folder until this transaction ends, or says that there is one.
select pg_try_advisory_xact_lock(hashtextextended('tallyman/fold/' || current_schema(), 0))
