-- Becomes the one rebuilder until this transaction ends, or says that there is one.
select pg_try_advisory_xact_lock(hashtextextended('tallyman/rebuild/' || current_schema(), 0))
