-- Statistics, rolled up behind the judge: who did what to what and when, in numbers, packed by quarters of an hour and
-- by days. The packed forms are described in common/src/stats.

-- Users by number: bitmaps need small ones. An erasure overwrites the id and keeps the number, so that
-- who is counted stays counted.
create table users (
    no  int  generated always as identity primary key,
    id  text collate "C" not null unique
);

create table objects (
    no           int  generated always as identity primary key,
    object_type  text collate "C" not null,
    object_id    text collate "C" not null,
    unique (object_type, object_id)
);

-- What actions are told apart by, but for users and objects; number 0 stands for all of them. An
-- object type of '' and no object are told apart by `has_object`.
create table action_kinds (
    no           int  generated always as identity primary key,
    event_type   text    collate "C" not null,
    source       text    collate "C" not null,
    object_type  text    collate "C" not null,
    has_object   boolean not null,
    unique (event_type, source, object_type, has_object)
);

-- How far the statistics of each source reach, and when they came there.
create table statistics_marks (
    source       int primary key references consumer_ledger,
    next_offset  bigint not null,
    moved_at     timestamptz not null default now()
) with (fillfactor = 50);

-- Where the mark of each source stood when an event of that UTC day was last added: the sum over the
-- days an answer rests on changes whenever the answer may.
create table statistics_days (
    day     date   not null,
    source  int    not null,
    mark    bigint not null,
    primary key (day, source)
) with (fillfactor = 50);

-- What has been added and is not folded into the cells yet: insert-only, so that a source writes as
-- little as possible behind each batch.
create table statistics_deltas (
    id        bigint generated always as identity primary key,
    events    int         not null,
    -- The first and the last quarter of an hour, counted from 1970.
    slot_min  int         not null,
    slot_max  int         not null,
    facts     bytea       not null,
    added_at  timestamptz not null default now()
);
-- Packed already.
alter table statistics_deltas alter column facts set storage external;

-- One cell: one facet of one kind of actions in one quarter of an hour or day. One writer folds.
create table statistics_cells (
    facet  smallint not null,
    at     int      not null,
    kind   int      not null,
    body   bytea    not null,
    primary key (facet, kind, at)
) partition by list (facet);

create table statistics_slot_minutes partition of statistics_cells for values in (1);
create table statistics_slot_users   partition of statistics_cells for values in (2);
create table statistics_slot_facts   partition of statistics_cells for values in (3);
create table statistics_day_counts   partition of statistics_cells for values in (4);
create table statistics_day_users    partition of statistics_cells for values in (5);
create table statistics_day_objects  partition of statistics_cells for values in (6);
create table statistics_first_slots  partition of statistics_cells for values in (7);
alter table statistics_slot_minutes alter column body set storage external;
alter table statistics_slot_users   alter column body set storage external;
alter table statistics_slot_facts   alter column body set storage external;
alter table statistics_day_counts   alter column body set storage external;
alter table statistics_day_users    alter column body set storage external;
alter table statistics_day_objects  alter column body set storage external;
alter table statistics_first_slots  alter column body set storage external;
