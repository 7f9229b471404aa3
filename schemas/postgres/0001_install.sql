-- Who this installation is, and in which life of its Postgres it runs.

create table install (
    singleton     boolean primary key default true check (singleton),
    install_id    uuid     not null default gen_random_uuid(),
    -- Event keys are hashed with this seed: all instances must agree, so it is data, not a setting.
    hash_seed     bigint   not null default ('x' || substr(md5(gen_random_uuid()::text), 1, 16))::bit(64)::bigint,
    hash_version  smallint not null default 1
);
insert into install default values;

-- The generation rises whenever Postgres may have forgotten something it had said (another
-- cluster, another timeline): every cache that rests on the older one is then void.
create table generation (
    singleton          boolean primary key default true check (singleton),
    n                  bigint not null,
    system_identifier  bigint not null,
    timeline           text   not null
);

-- Epochs of the Redis counters: each rebuild draws a new one.
create sequence counter_epoch;
