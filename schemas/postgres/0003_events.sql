-- The events, each once, and the keys that make it so.

-- Narrow and global: a table partitioned by day could not refuse a copy that crosses midnight.
create table event_keys (
    event_key  uuid primary key,
    stored_on  date not null
);

-- One leaf per day of storing, so that retention drops whole days. No unique index of its own:
-- event_keys has said already that the row is new.
create table events (
    event_id     text        not null,
    event_type   text        not null,
    user_id      text        not null,
    object_type  text,
    object_id    text,
    occurred_at  timestamptz not null,
    received_at  timestamptz not null,
    source       text        not null,
    session_id   text,
    properties   jsonb       not null,
    context      jsonb       not null,
    event_key    uuid        not null,
    -- Where it came from: source << 44 | offset. Followers read rows back by ranges of it.
    src          bigint      not null,
    stored_on    date        not null
) partition by range (stored_on);

-- A minmax-multi BRIN finds a range of offsets though several partitions interleave in the heap;
-- a plain one reads the whole table.
create index events_src on events
 using brin (src int8_minmax_multi_ops) with (pages_per_range = 16, autosummarize = on);
create index events_occurred_at on events using brin (occurred_at) with (autosummarize = on);

-- Makes sure that the leaves from yesterday to so many days ahead exist.
-- Create + attach: a plain "create … partition of" would wait behind every open transaction.
create function ensure_event_leaves(days_ahead int) returns void language plpgsql as $$
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
        execute format('alter table events attach partition %I for values from (%L) to (%L)',
                       leaf, day, day + 1);
    end loop;
end $$;
