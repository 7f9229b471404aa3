-- What the ledger says was stored and dead-lettered, and what is there, in one snapshot.
select coalesce(sum(stored), 0)::bigint,
       (select count(*) from events),
       (select count(*) from event_keys),
       coalesce(sum(dead_lettered), 0)::bigint,
       (select count(*) from dead_letters)
  from consumer_ledger
