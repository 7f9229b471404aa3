-- Closed windows of the topic `action-aggregates`; a later record of a window has corrected the row.

create table action_aggregates (
    window_start  timestamptz not null,
    window_end    timestamptz not null,
    source        text collate "C" not null,
    event_type    text collate "C" not null,
    object_type   text collate "C",
    -- Present where windows tell single objects apart (AGGREGATE_BY=object).
    object_id     text collate "C",
    count         bigint not null,
    users         bigint not null,
    -- Relative standard error of users; 0 is exact.
    users_error   double precision not null,
    updated_at    timestamptz not null default now(),
    unique nulls not distinct
        (window_start, window_end, source, event_type, object_type, object_id)
);

-- How far each partition was copied, in the transaction of its rows. A topic that was re-created has
-- another id.
create table sink_offsets (
    topic_id     uuid not null,
    partition    int not null,
    topic        text not null,
    next_offset  bigint not null,
    updated_at   timestamptz not null default now(),
    primary key (topic_id, partition)
) with (fillfactor = 50);
