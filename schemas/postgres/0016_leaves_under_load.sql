-- What a day that grows quickly costs Postgres besides its rows.

-- Nothing is planned by how properties and contexts are distributed, yet to sort a sample of them was a third of
-- what autovacuum's ANALYZE of a leaf costs.
create function narrow_analyze(leaf regclass) returns void language plpgsql as $$
begin
    execute format('alter table %s alter properties set statistics 0, alter context set statistics 0', leaf);
end $$;

-- The processor summarises new blocks. Autovacuum's queue of them has 256 places and is seen to once a minute: above
-- some 700 events a second the rest is not summarised, and each request for it is a line in Postgres' log.
create function leave_summaries_to_the_processor(leaf regclass) returns void language plpgsql as $$
declare
    index regclass;
begin
    for index in select indexrelid from pg_index where indrelid = leaf loop
        execute format('alter index %s reset (autosummarize)', index);
    end loop;
end $$;

-- Neither is inherited.
create or replace function ensure_event_leaves(days_ahead int) returns void language plpgsql as $$
declare
    today date := (now() at time zone 'utc')::date;
    day date;
    leaf text;
begin
    perform pg_advisory_xact_lock(hashtextextended('event_leaves/' || current_schema(), 0));
    for day in select generate_series(today - 1, today + days_ahead, interval '1 day')::date loop
        leaf := 'events_' || to_char(day, 'YYYY_MM_DD');
        continue when to_regclass(leaf) is not null;
        execute format('create table %I (like events including defaults including constraints)', leaf);
        perform narrow_analyze(leaf);
        execute format('alter table events attach partition %I for values from (%L) to (%L)',
                       leaf, day, day + 1);
        perform leave_summaries_to_the_processor(leaf);
    end loop;
end $$;

select narrow_analyze(relid), leave_summaries_to_the_processor(relid) from pg_partition_tree('events') where isleaf;
alter index users_no reset (autosummarize);
