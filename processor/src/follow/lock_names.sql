-- Becomes the only one to number names of a kind ($1) until this transaction ends. An advisory lock: one of the
-- table would keep the autovacuum from it.
select pg_advisory_xact_lock(hashtextextended('tallyman/number/' || $1 || '/' || current_schema(), 0))
