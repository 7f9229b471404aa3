-- What must be found is found by B-trees: an index of ranges (BRIN) can lose rows for good while a range is being
-- summarised. Measured with four sessions that insert beside one that summarises:
--   int8_minmax_multi_ops, 15.18 and 17.6: 6 of 585,480 and 12 of 365,442 rows. What others insert meanwhile is added to
--   the range's placeholder, and is missing in the summary that takes its place.
--   int8_minmax_ops, 17.6: 107 of 2,223,000 rows, when the last range is summarised before it is full and the map of
--   ranges grows by a page meanwhile, of which a running COPY does not learn. None in 15.18, and none of full ranges.
-- A follower that read such a range back counted too little.

drop index events_src;
create index events_src on events (src);

-- A number never has two names.
drop index users_no;
create unique index users_no on users (no);

-- The time only narrows what is shown. Autovacuum summarises full ranges; its queue has 256 places and is seen to once
-- a minute, hence many blocks to a range: enough for 50,000 events a second.
drop index events_occurred_at;
create index events_occurred_at on events
 using brin (occurred_at) with (pages_per_range = 1024, autosummarize = on);

drop function leave_summaries_to_the_processor(regclass);

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
    end loop;
end $$;
