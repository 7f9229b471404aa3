-- Claims the keys of a batch; returns those that nobody had claimed before.
-- Sorted by the caller, so that two batches wait for each other instead of deadlocking.
insert into event_keys (event_key, stored_on)
select key, $2::date from unnest($1::uuid[]) as key
on conflict do nothing
returning event_key
