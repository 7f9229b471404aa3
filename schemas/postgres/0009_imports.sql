-- Uploaded files that are imported as jobs. The upload lies with the instance that took it; everybody sees here how
-- far it is.

create table imports (
    id            uuid primary key,
    name          text,
    -- Who sent it: the job shows rows of the file, so nobody else sees it but admins.
    owner         text not null,
    state         text not null default 'queued'
                  check (state in ('queued', 'running', 'done', 'failed')),
    dry_run       boolean not null,
    -- Format, delimiter, and what each column becomes.
    reading       jsonb not null,
    bytes         bigint not null,
    bytes_read    bigint not null default 0,
    accepted      bigint not null default 0,
    rejected      bigint not null default 0,
    -- Rows a second, and the seconds that are left.
    rate          bigint not null default 0,
    eta           bigint,
    -- The first of each.
    rejects       jsonb not null default '[]',
    first_events  jsonb,
    -- Why it failed, or why it waits.
    detail        text,
    created_at    timestamptz not null default now(),
    finished_at   timestamptz,
    as_of         timestamptz not null default now()
);
