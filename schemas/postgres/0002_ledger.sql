-- The ledger: how far each source partition has been judged, by whom, and how each record ended.

create table consumer_ledger (
    -- Number of (topic, partition, incarnation); events carry `source << 44 | offset`.
    source                int generated always as identity primary key,
    topic                 text   not null,
    partition             int    not null,
    -- Rises when the topic is re-created or rewound: the same offset is then another record.
    incarnation           int    not null default 1,
    topic_id              uuid   not null,
    owner_epoch           bigint not null default 0,
    -- Where judging began, and how far it has come.
    start_offset          bigint not null,
    next_offset           bigint not null,
    -- Lazy mirror of the relay's mark, for the day its group offset is lost.
    relayed_to            bigint,
    -- The last judged record: a re-created topic is recognised by its absence.
    witness_offset        bigint,
    witness_timestamp_ms  bigint,
    witness_hash          bigint,
    consumed              bigint not null default 0,
    stored                bigint not null default 0,
    duplicate             bigint not null default 0,
    dead_lettered         bigint not null default 0,
    erased                bigint not null default 0,
    -- Offsets without a record: control records and aborted transactions.
    skipped               bigint not null default 0,
    updated_at            timestamptz not null default now(),
    unique (topic, partition, incarnation)
) with (fillfactor = 50);

-- Moves the ledger of a source and returns the generation this happens in; raises TM001 when the
-- caller no longer owns the source or it has moved.
-- It must raise: in a pipeline an update of zero rows would not stop the COMMIT behind it.
create function advance_ledger(p_source int, p_owner_epoch bigint, p_from bigint, p_to bigint)
returns bigint language plpgsql as $$
begin
    update consumer_ledger set next_offset = p_to, updated_at = now()
     where source = p_source and owner_epoch = p_owner_epoch and next_offset = p_from;
    if not found then
        raise exception 'source % is not at offset % under owner epoch %', p_source, p_from, p_owner_epoch
            using errcode = 'TM001';
    end if;
    return (select n from generation);
end $$;

create table dead_letters (
    id              bigint generated always as identity primary key,
    src             bigint not null,
    topic           text   not null,
    partition       int    not null,
    record_offset   bigint not null,
    record_key      bytea,
    record_value    bytea,
    -- [["name", "base64 of the value" | null], …], as they came.
    record_headers  jsonb  not null default '[]',
    error_code      text   not null,
    error_detail    text   not null,
    error_pointer   text   not null default '',
    received_at     timestamptz not null,
    created_at      timestamptz not null default now()
);
create unique index dead_letters_src on dead_letters (src);
create index dead_letters_code on dead_letters (error_code, id);

-- Every consumed record ended in exactly one way: consumed is the sum of the others, always.
create view accounting as
select topic, partition,
       sum(consumed)::bigint      as consumed,
       sum(stored)::bigint        as stored,
       sum(duplicate)::bigint     as duplicate,
       sum(dead_lettered)::bigint as dead_lettered,
       sum(erased)::bigint        as erased
  from consumer_ledger
 group by topic, partition;
