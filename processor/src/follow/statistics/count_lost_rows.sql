-- Rows that were stored and are gone.
select (coalesce(sum(stored), 0) - (select count(*) from events))::bigint from consumer_ledger
