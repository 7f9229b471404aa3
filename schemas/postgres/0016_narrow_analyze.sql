-- Nothing is planned by how properties and contexts are distributed, yet to sort a sample of them was most of
-- what autovacuum's ANALYZE of a growing day costs.
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
        -- Not inherited.
        execute format('alter table %I alter properties set statistics 0, alter context set statistics 0', leaf);
        execute format('alter table events attach partition %I for values from (%L) to (%L)',
                       leaf, day, day + 1);
    end loop;
end $$;

-- With the leaves that are there.
alter table events alter properties set statistics 0, alter context set statistics 0;
